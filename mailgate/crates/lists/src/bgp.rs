//! BGP peers as sources.

mod community;

use std::sync::Arc;

use mailgate_model::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::config::BgpConfig;
use crate::merge::Origin;
use crate::rows::BgpRow;
use crate::shared::Shared;

pub use community::Pattern;

/// The row of a peer that has not yet been spoken to.
pub(crate) fn row(config: &BgpConfig, now: Timestamp) -> BgpRow {
    BgpRow {
        name: config.name.clone().unwrap_or_else(|| config.peer.to_string()),
        neighbor: config.peer,
        remote_as: config.peer_as,
        received_messages: 0,
        sent_messages: 0,
        state: "Idle",
        since: now,
        received: 0,
        accepted: 0,
        installed: 0,
        tables: Vec::new(),
        stale: 0,
        error: None,
    }
}

/// Speaks with one peer until `shutdown`.
pub(crate) async fn run(
    _shared: Arc<Shared>,
    origin: Origin,
    config: BgpConfig,
    shutdown: CancellationToken,
) {
    tracing::warn!(target: "lists", event = "bgp", origin, peer = %config.peer, "the speaker is not there yet");
    shutdown.cancelled().await;
}
