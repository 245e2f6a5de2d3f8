//! When a deferred recipient is tried again, and when it is given up.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use mailgate_model::{QueueId, Timestamp};

use crate::Config;

/// What follows a deferral.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try again then.
    At(Timestamp),
    /// The lifetime is over.
    GiveUp,
}

impl Config {
    /// When a message is given up that arrived then.
    pub(crate) fn expiry(&self, arrived: Timestamp) -> Timestamp {
        arrived.plus(self.lifetime.duration())
    }

    /// What follows a deferral at `now`, the `attempts`th (from 1) of recipients of this message. The last attempt
    /// falls on the end of the lifetime, so that nobody is given up after a long untried stretch.
    pub(crate) fn after_deferral(
        &self,
        id: QueueId,
        arrived: Timestamp,
        attempts: u32,
        now: Timestamp,
    ) -> Next {
        let expiry = self.expiry(arrived);
        if now >= expiry {
            return Next::GiveUp;
        }
        let step = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        let wait = self
            .retry
            .get(step)
            .or(self.retry.last())
            .map_or(Duration::from_secs(300), |wait| wait.duration());
        let next = now.plus(wait).plus(self.jitter(id, attempts, wait));
        Next::At(next.min(expiry))
    }

    /// Spread by message and attempt. A hash is random enough for that, and a test can foresee it.
    fn jitter(&self, id: QueueId, attempts: u32, wait: Duration) -> Duration {
        let mut hasher = DefaultHasher::new();
        (id, attempts).hash(&mut hasher);
        let most = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) / 100 * u64::from(self.jitter_percent);
        Duration::from_millis(hasher.finish() % most.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use mailgate_model::Span;

    use super::*;

    const ARRIVED: Timestamp = Timestamp::from_secs(1_700_000_000);

    #[test]
    fn waits_grow_repeat_the_last_and_stay_within_the_jitter() {
        let config = Config::default();
        let minutes = [5, 10, 20, 40, 60, 120, 240, 240, 240];
        for (attempts, minutes) in (1..).zip(minutes) {
            let wait = Duration::from_secs(minutes * 60);
            for bits in 0..50 {
                let Next::At(at) =
                    config.after_deferral(QueueId::from_bits(bits), ARRIVED, attempts, ARRIVED)
                else {
                    panic!("given up at once")
                };
                assert!(at >= ARRIVED.plus(wait) && at <= ARRIVED.plus(wait + wait / 10), "{attempts}");
            }
        }
    }

    #[test]
    fn messages_deferred_together_come_back_apart() {
        let config = Config::default();
        let times: std::collections::HashSet<_> = (0..100)
            .map(|bits| match config.after_deferral(QueueId::from_bits(bits), ARRIVED, 1, ARRIVED) {
                Next::At(at) => at,
                Next::GiveUp => panic!("given up at once"),
            })
            .collect();
        assert!(times.len() > 50, "{}", times.len());
    }

    #[test]
    fn the_last_attempt_falls_on_the_expiry_and_then_it_is_over() {
        let config = Config { lifetime: Span::from_secs(600), ..Config::default() };
        let id = QueueId::from_bits(1);
        let expiry = ARRIVED.plus(Duration::from_secs(600));
        let late = ARRIVED.plus(Duration::from_secs(599));
        assert_eq!(config.after_deferral(id, ARRIVED, 2, late), Next::At(expiry));
        assert_eq!(config.after_deferral(id, ARRIVED, 3, expiry), Next::GiveUp);
    }
}
