//! The firewall beside the path: protected networks, and changes of rules that nobody confirmed.

use std::sync::Arc;
use std::time::Duration;

use mailgate_model::Clock;
use mailgate_packet::PacketFilter;
use mailgate_packet::firewall::{Control, Parts};
use tokio_util::sync::CancellationToken;

use super::system;
use crate::admin::Failure;
use crate::config::Config;

/// How often a change that nobody confirmed is looked for.
const TICK: Duration = Duration::from_secs(1);
/// How many ticks between two looks at who is protected: a new gateway or session counts after ten seconds.
const REFRESH: u32 = 10;

/// Which host mode was confirmed on this host, below the folder of the state.
const CONFIRMED: &str = "firewall.confirmed";

/// Gives the filter its rules and the networks that nothing keeps out.
pub(super) fn start(
    config: &Config,
    filter: &Arc<dyn PacketFilter>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<Control>, Failure> {
    let parts = Parts {
        filter: Arc::clone(filter),
        config: config.firewall.clone(),
        around: config.surroundings(),
        local: config.edge.local.clone(),
        confirmed: config.state_dir.join(CONFIRMED),
        clock: Arc::clone(clock),
    };
    Control::start(parts).map(Arc::new).map_err(system)
}

/// Once the tables are in force: host mode that nobody confirmed on this host comes into force for a time.
pub(super) fn begin(control: &Control) {
    match control.begin() {
        Ok(None) => {}
        Ok(Some(until)) => tracing::warn!(target: "edge", event = "firewall", %until,
            "host mode was never confirmed on this host: it is taken back then, unless `mailgate firewall confirm` comes before"),
        Err(error) => {
            tracing::error!(target: "edge", event = "firewall", %error, "host mode is not in force")
        }
    }
}

/// Keeps the firewall up to date until `shutdown`.
pub(super) async fn watch(control: Arc<Control>, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    let mut ticks = 0_u32;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = clock.sleep(TICK) => ticks = ticks.wrapping_add(1),
        }
        let is_time = ticks.is_multiple_of(REFRESH);
        let control = Arc::clone(&control);
        let done = tokio::task::spawn_blocking(move || {
            control.tick()?;
            if is_time { control.refresh() } else { Ok(()) }
        });
        match done.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(target: "edge", event = "firewall", %error),
            Err(error) => tracing::error!(target: "edge", event = "firewall", %error, "a bug"),
        }
    }
}
