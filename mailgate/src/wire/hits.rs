//! What the kernel has counted goes to the lists, so that it is not lost when the kernel forgets a source.

use std::sync::Arc;
use std::time::Duration;

use mailgate_lists::{Hit, Lists};
use mailgate_model::Clock;
use mailgate_packet::PacketFilter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;

/// How often. The kernel forgets the source that was seen longest ago when there are more than it has room for.
const INTERVAL: Duration = Duration::from_secs(10);

/// Sources that the kernel counts when tables do and nobody said how many: 30 MiB of kernel memory.
const COUNTED_SOURCES: u32 = 1 << 18;

/// The configuration of the filter, with room for counts if any table counts.
pub(super) fn with_room(config: &Config, mut packet: mailgate_packet::Config) -> mailgate_packet::Config {
    if packet.counted_sources == 0 && counts(config) {
        packet.counted_sources = COUNTED_SOURCES;
    }
    packet
}

/// What the kernel has counted. Blocks for as long as reading a map of the kernel takes.
pub(crate) fn hits(filter: &dyn PacketFilter) -> Vec<Hit> {
    let hit = |hit: mailgate_packet::Hit| {
        let mailgate_packet::Hit { source, packets, bytes, last } = hit;
        Hit { source, packets, bytes, last }
    };
    filter.hits().into_iter().map(hit).collect()
}

/// Carries counts over until `shutdown`, if any table counts; what comes after that the kernel keeps for the next start.
pub(super) fn start(
    config: &Config,
    filter: &Arc<dyn PacketFilter>,
    lists: &Lists,
    tasks: &TaskTracker,
    clock: &Arc<dyn Clock>,
    shutdown: &CancellationToken,
) {
    if !counts(config) {
        return;
    }
    let (filter, lists) = (Arc::clone(filter), lists.clone());
    let (clock, shutdown) = (Arc::clone(clock), shutdown.clone());
    tasks.spawn(async move {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = clock.sleep(INTERVAL) => {}
            }
            let filter = Arc::clone(&filter);
            let Ok(hits) = tokio::task::spawn_blocking(move || hits(&*filter)).await else { return };
            if lists.count(hits).await.is_err() {
                return;
            }
        }
    });
}

/// Whether any table counts.
fn counts(config: &Config) -> bool {
    config.lists.tables().iter().any(|table| table.counters)
}
