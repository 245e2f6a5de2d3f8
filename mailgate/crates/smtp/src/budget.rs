//! How much memory all contents together may take.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One permit stands for so many octets; a semaphore counts at most 2^29 of them on small machines.
const UNIT: usize = 4096;
/// Taken in steps of this many octets, so that a message of 50 MiB does not ask thousands of times.
const STEP: usize = 64 * 1024;

/// Memory for contents in flight, shared by all sessions.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

impl Budget {
    /// `octets` in all.
    pub(crate) fn new(octets: usize) -> Self {
        Self(Arc::new(Semaphore::new((octets / UNIT).min(Semaphore::MAX_PERMITS))))
    }

    /// A share that holds nothing yet.
    pub(crate) fn share(&self) -> Share {
        Share { budget: self.clone(), held: None }
    }

    /// Whether `octets` could be had just now.
    pub(crate) fn has_room_for(&self, octets: usize) -> bool {
        self.0.available_permits() >= octets.div_ceil(UNIT)
    }
}

/// What one content holds; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    held: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Makes the share at least `octets` large; false when the budget is used up. Never waits: a peer is better told to
    /// come again than kept in line.
    pub(crate) fn cover(&mut self, octets: usize) -> bool {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) * UNIT;
        if octets <= held {
            return true;
        }
        let missing = (octets - held).next_multiple_of(STEP) / UNIT;
        let Ok(missing) = u32::try_from(missing) else { return false };
        let Ok(permit) = Arc::clone(&self.budget.0).try_acquire_many_owned(missing) else { return false };
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        true
    }

    /// Gives everything back.
    pub(crate) fn release(&mut self) {
        self.held = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_until_the_budget_is_used_up_and_gives_back() {
        let budget = Budget::new(256 * 1024);
        let mut first = budget.share();
        assert!(first.cover(100_000) && first.cover(131_072) && first.cover(1));
        let mut second = budget.share();
        assert!(second.cover(65_536));
        assert!(!second.cover(200_000), "only one step is left");
        assert!(!budget.has_room_for(65_537) && budget.has_room_for(65_536));
        drop(first);
        assert!(second.cover(200_000));
    }
}
