//! BGP peers as sources.

mod community;
mod peer;
mod rib;
#[cfg(test)]
mod tests;

use mailgate_model::Timestamp;

use crate::config::BgpConfig;
use crate::rows::BgpRow;

pub use community::Pattern;
pub(crate) use peer::run;

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
