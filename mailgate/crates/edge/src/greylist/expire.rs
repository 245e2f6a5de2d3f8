//! Sweeps the greylist. Lookups look at the time themselves, so this only keeps memory and disk small.

use std::sync::Arc;
use std::time::Duration;

use mailgate_model::Clock;
use mailgate_store::Greylist;
use tokio_util::sync::CancellationToken;

/// Between two sweeps; spamd(8) walks its database as often, but decides with it.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

pub(crate) async fn sweep_forever(greylist: Greylist, clock: Arc<dyn Clock>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = clock.sleep(SWEEP_INTERVAL) => {}
        }
        match greylist.sweep().await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(target: "edge", event = "sweep", count),
            Err(error) => {
                tracing::warn!(target: "edge", event = "sweep", result = "deferred", reason = %error);
            }
        }
    }
}
