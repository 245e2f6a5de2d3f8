//! Connections over a limit: the kernel's counts, the rules in force and the tables, joined.

use std::sync::Arc;

use mailgate_lists::Lists;
use mailgate_model::Clock;
use mailgate_packet::PacketFilter;
use mailgate_packet::overload::{InForce, Overload, Parts};
use tokio_util::sync::CancellationToken;

use super::system;
use crate::admin::Failure;
use crate::config::Config;

/// Begins to act on limits; `None` where the kernel does not count connections.
pub(super) fn start(
    config: &Config,
    filter: &Arc<dyn PacketFilter>,
    lists: &Lists,
    clock: &Arc<dyn Clock>,
    shutdown: &CancellationToken,
) -> Result<Option<Arc<Overload>>, Failure> {
    let Some(accounting) = filter.accounting() else { return Ok(None) };
    let parts = Parts {
        config: config.edge.overload.clone(),
        accounting,
        policy: Arc::new(InForce::new(Arc::clone(filter), lists.clone())),
        state_dir: config.state_dir.clone(),
        clock: Arc::clone(clock),
        shutdown: shutdown.clone(),
    };
    Overload::start(parts).map(Some).map_err(|error| system(format!("limits of connections: {error}")))
}
