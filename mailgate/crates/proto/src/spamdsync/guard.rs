//! What the protocol lacks: a datagram counts once, and only while it is fresh.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use mailgate_model::Timestamp;

use super::{Datagram, TAG_LENGTH};

/// Datagrams remembered. Above this the oldest are forgotten and everything as old as they are is refused, so a flood
/// of genuine datagrams narrows the window and opens nothing.
const SEEN_LIMIT: usize = 65_536;

/// Why a genuine datagram is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Stale {
    /// The same datagram was taken before.
    #[error("it came before")]
    Replayed,
    /// It says a time too long ago.
    #[error("it is too old, or our clock is ahead of the sender's")]
    Old,
    /// It says a time too far ahead.
    #[error("it is from the future, or our clock is behind the sender's")]
    Early,
}

/// Remembers which datagrams came. Their order does not matter, as UDP keeps none.
#[derive(Debug)]
pub struct Guard {
    window: Duration,
    seen: HashSet<[u8; TAG_LENGTH]>,
    /// In the order in which they came, with the time they say in seconds.
    order: VecDeque<(i64, [u8; TAG_LENGTH])>,
    /// What says a time up to this one may have been forgotten.
    forgotten: i64,
}

impl Guard {
    /// Takes datagrams whose time is within `window` of ours, in both directions. The sender's clock may differ by this
    /// much at most.
    #[must_use]
    pub fn new(window: Duration) -> Self {
        Self { window, seen: HashSet::new(), order: VecDeque::new(), forgotten: i64::MIN }
    }

    /// Whether `datagram` counts now; the second time it does not.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&mut self, datagram: &Datagram, now: Timestamp) -> Result<(), Stale> {
        if datagram.events.is_empty() {
            return Ok(());
        }
        let span = i64::try_from(self.window.as_secs()).unwrap_or(i64::MAX);
        let (oldest, newest) = (now.secs().saturating_sub(span), now.secs().saturating_add(span));
        self.forget(oldest);
        let said = datagram.events.iter().map(|event| i64::from(event.at()));
        let (first, last) = said.fold((i64::MAX, i64::MIN), |(low, high), at| (low.min(at), high.max(at)));
        if first < oldest || first <= self.forgotten {
            return Err(Stale::Old);
        }
        if last > newest {
            return Err(Stale::Early);
        }
        if !self.seen.insert(datagram.tag) {
            return Err(Stale::Replayed);
        }
        self.order.push_back((first, datagram.tag));
        if self.order.len() > SEEN_LIMIT
            && let Some((at, tag)) = self.order.pop_front()
        {
            self.seen.remove(&tag);
            self.forgotten = self.forgotten.max(at);
        }
        Ok(())
    }

    /// What is older than the window is refused for its time and need not be remembered.
    fn forget(&mut self, oldest: i64) {
        while let Some((at, tag)) = self.order.front()
            && *at < oldest
        {
            self.seen.remove(tag);
            self.order.pop_front();
        }
    }
}
