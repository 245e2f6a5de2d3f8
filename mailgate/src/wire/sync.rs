//! Beside the path: other MXs that share what the edge learns.

use std::sync::Arc;

use mailgate_edge::sync::Parts;
use mailgate_edge::{Edge, Sync};
use mailgate_model::Domain;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::system;
use crate::admin::Failure;
use crate::config::Config;

/// Begins where the configuration names anybody to share with.
pub(super) async fn start(
    config: &Config,
    edge: &Arc<Edge>,
    hostname: &Domain,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<Option<Sync>, Failure> {
    if !config.edge.sync.is_used() {
        return Ok(None);
    }
    let parts = Parts {
        config: config.edge.sync.clone(),
        edge: Arc::clone(edge),
        hostname: hostname.clone(),
        state_dir: config.state_dir.clone(),
        tasks: tasks.clone(),
        shutdown: shutdown.clone(),
    };
    Sync::start(parts).await.map(Some).map_err(system)
}
