//! When differences wait: a peer that tells a whole table is better taken as one set than as a hundred batches.

use std::collections::BTreeSet;
use std::time::Duration;

use mailgate_model::Timestamp;

use crate::merge::Origin;

/// So long after its last routes a peer may be in the middle of its table.
const PAUSE: Duration = Duration::from_millis(100);

/// Longest wait for more.
const LONGEST: Duration = Duration::from_secs(2);

/// Who is in the middle of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rush {
    peers: BTreeSet<Origin>,
    began: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Rush {
    /// A peer has told routes, and not yet that they are all.
    pub(crate) fn goes_on(&mut self, peer: Origin, now: Timestamp) {
        self.peers.insert(peer);
        let began = *self.began.get_or_insert(now);
        self.until = Some(now.plus(PAUSE).min(began.plus(LONGEST)));
    }

    /// A peer has told all, or is gone; the others' tables may go on.
    pub(crate) fn ends(&mut self, peer: Origin) {
        if self.peers.remove(&peer) && self.peers.is_empty() {
            self.told();
        }
    }

    /// The edge is told what there is.
    pub(crate) fn told(&mut self) {
        (self.began, self.until) = (None, None);
    }

    /// Until when what is pending waits. A clock that was set back ends the wait.
    pub(crate) fn until(&self, now: Timestamp) -> Option<Timestamp> {
        self.until.filter(|until| *until > now && *until <= now.plus(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rush_waits_for_the_next_routes_but_not_for_ever() {
        let at = |millis: i64| Timestamp::from_millis(1_000_000 + millis);
        let mut rush = Rush::default();
        assert_eq!(rush.until(at(0)), None);
        rush.goes_on(4, at(0));
        assert_eq!(rush.until(at(50)), Some(at(100)));
        assert_eq!(rush.until(at(100)), None, "nothing came for a while");
        (1..=199).for_each(|n: i64| rush.goes_on(4, at(n * 10)));
        assert_eq!(rush.until(at(1990)), Some(at(2000)), "two seconds are the longest");
        assert_eq!(rush.until(at(2000)), None);
        assert_eq!(rush.until(at(-5000)), None, "the clock was set back");
        rush.told();
        rush.goes_on(4, at(3000));
        rush.goes_on(5, at(3000));
        rush.ends(6);
        rush.ends(4);
        assert_eq!(rush.until(at(3000)), Some(at(3100)), "another peer goes on");
        rush.ends(5);
        assert_eq!(rush.until(at(3000)), None);
    }
}
