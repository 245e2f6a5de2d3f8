//! Memory for message contents of all sessions together.

use std::sync::Arc;
use std::time::Duration;

use mailgate_model::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One permit stands for so many octets.
const UNIT: usize = 16 * 1024;

/// How long a message waits for memory that others use.
const PATIENCE: Duration = Duration::from_secs(60);

/// Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    permits: Arc<Semaphore>,
    total: usize,
}

impl Budget {
    pub(crate) fn new(octets: usize) -> Self {
        let total = octets.div_ceil(UNIT).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self { permits: Arc::new(Semaphore::new(total)), total }
    }

    /// As [`share`](Self::share), but for a minute at most: a client is better told to come again than kept waiting.
    pub(crate) async fn share_soon(&self, octets: u64, clock: &dyn Clock) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            share = self.share(octets) => share,
            () = clock.sleep(PATIENCE) => None,
        }
    }

    /// Waits until there is room for `octets`; what is larger than all of it gets all of it. Given back when dropped.
    async fn share(&self, octets: u64) -> Option<OwnedSemaphorePermit> {
        let units = usize::try_from(octets).unwrap_or(usize::MAX).div_ceil(UNIT).clamp(1, self.total);
        Arc::clone(&self.permits).acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX)).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_content_larger_than_the_budget_waits_for_all_of_it() {
        let budget = Budget::new(64 * 1024);
        let small = budget.share(1).await.unwrap();
        let mut all = Box::pin(budget.share(u64::MAX));
        assert!(futures_poll(&mut all).await.is_none());
        drop(small);
        assert_eq!(all.await.unwrap().num_permits(), 4);
    }

    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }
}
