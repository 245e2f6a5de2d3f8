//! When differences wait: a peer that tells a whole table is better taken as one set than as a hundred batches.

use std::collections::BTreeSet;
use std::time::Duration;

use mailgate_model::Timestamp;

use crate::merge::Origin;

/// Longest wait for more of a table.
const LONGEST: Duration = Duration::from_secs(2);

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tells {
    /// A peer that tells its table for the first time: half of it is of little use, and costs as much as all.
    Table,
    /// A peer whose routes come and go by the thousand: what comes and goes within the wait costs nothing.
    Flap,
}

impl Tells {
    /// How long nothing more has to come, and the longest wait.
    fn waits(self) -> (Duration, Duration) {
        match self {
            Self::Table => (Duration::from_millis(100), LONGEST),
            Self::Flap => (Duration::from_millis(20), Duration::from_millis(20)),
        }
    }
}

/// Who is in the middle of a table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rush {
    peers: BTreeSet<Origin>,
    began: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Rush {
    /// A peer has told routes, and not yet that they are all.
    pub(crate) fn goes_on(&mut self, peer: Origin, tells: Tells, now: Timestamp) {
        self.peers.insert(peer);
        let began = *self.began.get_or_insert(now);
        let (pause, longest) = tells.waits();
        // Who flaps does not end the wait for another's table.
        self.until = self.until.max(Some(now.plus(pause).min(began.plus(longest))));
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
        rush.goes_on(4, Tells::Table, at(0));
        assert_eq!(rush.until(at(50)), Some(at(100)));
        assert_eq!(rush.until(at(100)), None, "nothing came for a while");
        (1..=199).for_each(|n: i64| rush.goes_on(4, Tells::Table, at(n * 10)));
        assert_eq!(rush.until(at(1990)), Some(at(2000)), "two seconds are the longest");
        assert_eq!(rush.until(at(2000)), None);
        assert_eq!(rush.until(at(-5000)), None, "the clock was set back");
        rush.told();
        rush.goes_on(4, Tells::Table, at(3000));
        rush.goes_on(5, Tells::Table, at(3000));
        rush.ends(6);
        rush.ends(4);
        assert_eq!(rush.until(at(3000)), Some(at(3100)), "another peer goes on");
        rush.ends(5);
        assert_eq!(rush.until(at(3000)), None);
    }

    #[test]
    fn who_flaps_is_heard_soon_and_ends_nobody_elses_wait() {
        let at = |millis: i64| Timestamp::from_millis(1_000_000 + millis);
        let mut rush = Rush::default();
        (0..=15).for_each(|millis| rush.goes_on(4, Tells::Flap, at(millis)));
        assert_eq!(rush.until(at(15)), Some(at(20)), "however much comes");
        rush.goes_on(5, Tells::Table, at(16));
        rush.goes_on(4, Tells::Flap, at(17));
        assert_eq!(rush.until(at(17)), Some(at(116)));
        rush.told();
        rush.goes_on(4, Tells::Flap, at(200));
        assert_eq!(rush.until(at(200)), Some(at(220)));
    }
}
