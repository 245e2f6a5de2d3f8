//! How often networks were trapped before: who steps into a trap again stays longer, and who behaves is forgiven.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::Timestamp;

/// Without a trap for so long, a network begins anew.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(30 * 86_400);
/// Networks remembered; about 100 MB. Beyond it newcomers are trapped for the shortest time.
const LIMIT: usize = 1_000_000;

/// For how long a network is trapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The first time; doubled with each further time.
    pub first: Duration,
    /// At most.
    pub longest: Duration,
}

impl Terms {
    /// The span for somebody who was trapped `before` times.
    #[must_use]
    pub fn span(&self, before: u32) -> Duration {
        let doubled = 1_u32.checked_shl(before).filter(|factor| *factor > 0);
        let span = doubled.and_then(|factor| self.first.checked_mul(factor)).unwrap_or(self.longest);
        span.min(self.longest.max(self.first))
    }
}

/// How often a network was trapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) count: u32,
    pub(super) last: Timestamp,
}

#[derive(Default)]
pub(super) struct Past(Mutex<HashMap<IpNet, Times>>);

impl Past {
    pub(super) fn put(&self, network: IpNet, times: Times) {
        self.lock().insert(network, times);
    }

    /// How often `network` was trapped and is not forgiven.
    pub(super) fn times(&self, network: IpNet, now: Timestamp) -> u32 {
        let found = self.lock().get(&network).copied();
        found.filter(|times| now.since(times.last) < FORGIVEN_AFTER).map_or(0, |times| times.count)
    }

    /// Counts one more; `None` when there is no room.
    pub(super) fn add(&self, network: IpNet, now: Timestamp) -> Option<Times> {
        let before = self.times(network, now);
        let mut past = self.lock();
        if past.len() >= LIMIT && !past.contains_key(&network) {
            return None;
        }
        let times = Times { count: before.saturating_add(1), last: now };
        past.insert(network, times);
        Some(times)
    }

    /// A hit while trapped: forgiveness is counted from here.
    pub(super) fn again(&self, network: IpNet, now: Timestamp) -> Option<Times> {
        let mut past = self.lock();
        let times = past.get_mut(&network)?;
        times.last = times.last.max(now);
        Some(*times)
    }

    /// Forgives every network that `inside` names; says which had something to forgive.
    pub(super) fn forgive(&self, inside: impl Fn(&IpNet) -> bool) -> Vec<IpNet> {
        let mut past = self.lock();
        if past.is_empty() {
            return Vec::new();
        }
        let forgiven: Vec<IpNet> = past.keys().filter(|network| inside(network)).copied().collect();
        past.retain(|network, _| !inside(network));
        forgiven
    }

    /// Forgives exactly this network; says whether there was something to forgive.
    pub(super) fn forgive_one(&self, network: IpNet) -> bool {
        self.lock().remove(&network).is_some()
    }

    pub(super) fn sweep(&self, forgiven: Timestamp) {
        self.lock().retain(|_, times| times.last > forgiven);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpNet, Times>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_span_doubles_up_to_the_longest() {
        let day = Duration::from_secs(86_400);
        let terms = Terms { first: day, longest: 7 * day };
        let spans: Vec<u32> =
            (0..5).map(|before| u32::try_from(terms.span(before).as_secs() / 86_400).unwrap()).collect();
        assert_eq!(spans, [1, 2, 4, 7, 7]);
        assert_eq!(terms.span(u32::MAX), 7 * day);
        assert_eq!(Terms { first: 9 * day, longest: 7 * day }.span(0), 9 * day);
    }
}
