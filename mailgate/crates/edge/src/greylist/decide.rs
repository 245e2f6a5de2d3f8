//! The judgement of one attempt: a pure function of the time, what is known of the tuple, and the timings.

use std::time::Duration;

use mailgate_model::Timestamp;
use mailgate_store::greylist::{Grey, Next, Origin, Peer, PeerKind};

use crate::config::GreylistConfig;

/// The three spans of spamd(8) `-G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// From the first attempt until a retry passes.
    pub pass_after: Duration,
    /// From the first attempt until a retry is the first again.
    pub keep_for: Duration,
    /// How long a client stays passed.
    pub passed_for: Duration,
}

impl From<&GreylistConfig> for Timings {
    fn from(config: &GreylistConfig) -> Self {
        Self {
            pass_after: config.pass_after.duration(),
            keep_for: config.keep_for.duration(),
            passed_for: config.passed_for.duration(),
        }
    }
}

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Come again after `wait`.
    Defer {
        /// What is to be remembered.
        grey: Grey,
        /// From now until an attempt passes; more than zero.
        wait: Duration,
    },
    /// The client passed, now and with this very attempt.
    Pass {
        /// What is to be remembered of the client.
        peer: Peer,
        /// From the first attempt until now.
        waited: Duration,
    },
}

impl Decision {
    /// The change that the store is to make.
    #[must_use]
    pub fn next(&self) -> Next {
        match self {
            Self::Defer { grey, .. } => Next::Defer(*grey),
            Self::Pass { peer, .. } => Next::Pass(*peer),
        }
    }
}

/// Judges one attempt (RFC 6647 §2.3, spamd(8)):
/// unknown or expired: deferred, and its clock starts;
/// before `pass_after`: deferred and counted, and its clock is not restarted;
/// later: passes.
///
/// A tuple from the future (the clock was set back) starts now, so that nobody waits longer than `pass_after`.
#[must_use]
pub fn decide(now: Timestamp, known: Option<Grey>, timings: &Timings) -> Decision {
    let fresh = |blocked| Grey {
        first: now,
        pass: now.plus(timings.pass_after),
        expires: now.plus(timings.keep_for),
        blocked,
        passed: 0,
    };
    let defer = |grey: Grey| Decision::Defer { grey, wait: grey.pass.since(now) };
    let Some(grey) = known.filter(|grey| now < grey.expires) else {
        return defer(fresh(1));
    };
    let blocked = grey.blocked.saturating_add(1);
    if grey.first > now {
        return defer(fresh(blocked));
    }
    // From the timings of today, not of the day it was recorded: who shortens the delay wants it to act at once.
    let pass = grey.first.plus(timings.pass_after);
    if now < pass {
        return defer(Grey { pass, blocked, ..grey });
    }
    let peer = Peer {
        kind: PeerKind::Passed,
        origin: Origin::Learned,
        first: grey.first,
        pass: now,
        expires: now.plus(timings.passed_for),
        blocked: grey.blocked,
        passed: 0,
    };
    Decision::Pass { peer, waited: now.since(grey.first) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn spamd() -> Timings {
        Timings::from(&GreylistConfig::default())
    }

    fn at(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    fn after_first() -> Grey {
        match decide(START, None, &spamd()) {
            Decision::Defer { grey, .. } => grey,
            Decision::Pass { .. } => panic!("nobody passes at first sight"),
        }
    }

    #[test]
    fn attempts_are_judged_as_spamd_does() {
        struct Case {
            name: &'static str,
            seconds: u64,
            /// Seconds to wait, or `None` for a pass.
            want: Option<u64>,
            /// Start of the clock after it.
            first: u64,
        }
        const PASS: u64 = 25 * 60;
        const KEEP: u64 = 4 * 3600;
        let cases = [
            Case { name: "retry at once", seconds: 0, want: Some(PASS), first: 0 },
            Case { name: "retry one second before passtime", seconds: PASS - 1, want: Some(1), first: 0 },
            Case { name: "retry at passtime", seconds: PASS, want: None, first: 0 },
            Case { name: "retry one second after passtime", seconds: PASS + 1, want: None, first: 0 },
            Case { name: "retry in the last second", seconds: KEEP - 1, want: None, first: 0 },
            Case { name: "retry at expiry", seconds: KEEP, want: Some(PASS), first: KEEP },
            Case { name: "retry after a week", seconds: 604_800, want: Some(PASS), first: 604_800 },
        ];
        for Case { name, seconds, want, first } in cases {
            match decide(at(seconds), Some(after_first()), &spamd()) {
                Decision::Defer { grey, wait } => {
                    assert_eq!((Some(wait.as_secs()), grey.first), (want, at(first)), "{name}");
                    assert_eq!(grey.expires, at(first + KEEP), "{name}");
                }
                Decision::Pass { peer, waited } => {
                    assert_eq!((want, waited.as_secs()), (None, seconds), "{name}");
                    assert_eq!(peer.expires, at(seconds + 36 * 86_400), "{name}");
                }
            }
        }
    }

    #[test]
    fn a_retry_inside_the_delay_counts_and_does_not_restart_the_clock() {
        let mut known = after_first();
        for minute in 1..25 {
            let Decision::Defer { grey, .. } = decide(at(minute * 60), Some(known), &spamd()) else {
                panic!("minute {minute} is before the passtime")
            };
            assert_eq!((grey.first, grey.blocked), (START, u32::try_from(minute).unwrap() + 1));
            known = grey;
        }
        assert!(matches!(decide(at(1500), Some(known), &spamd()), Decision::Pass { .. }));
    }

    #[test]
    fn a_shorter_delay_acts_on_tuples_already_known() {
        let short = Timings { pass_after: Duration::from_secs(120), ..spamd() };
        assert!(matches!(decide(at(121), Some(after_first()), &short), Decision::Pass { .. }));
    }

    #[test]
    fn a_clock_set_back_by_an_hour_makes_nobody_wait_longer_than_the_delay() {
        let hour_before = Timestamp::from_secs(START.secs() - 3600);
        let Decision::Defer { grey, wait } = decide(hour_before, Some(after_first()), &spamd()) else {
            panic!("the delay is not over")
        };
        assert_eq!((wait, grey.first), (spamd().pass_after, hour_before));
    }

    proptest::proptest! {
        /// Whatever the times of the attempts: a pass comes exactly when the first attempt of the running window is at
        /// least `pass_after` and less than `keep_for` ago.
        #[test]
        fn a_pass_comes_exactly_inside_the_window(
            gaps in proptest::collection::vec(0_u64..20_000, 1..12),
            pass in 1_u64..5_000,
            more in 1_u64..20_000,
        ) {
            let timings = Timings {
                pass_after: Duration::from_secs(pass),
                keep_for: Duration::from_secs(pass + more),
                passed_for: Duration::from_secs(1),
            };
            let (mut now, mut known, mut first) = (0_u64, None, None);
            for gap in gaps {
                now += gap;
                let start = first.filter(|start| now - start < pass + more);
                let decision = decide(at(now), known, &timings);
                match (start, decision) {
                    (Some(start), Decision::Pass { .. }) => {
                        proptest::prop_assert!(now - start >= pass);
                        (known, first) = (None, None);
                    }
                    (start, Decision::Defer { grey, wait }) => {
                        let start = start.unwrap_or(now);
                        proptest::prop_assert_eq!(grey.first, at(start));
                        proptest::prop_assert_eq!(wait, Duration::from_secs(start + pass - now));
                        proptest::prop_assert!(wait > Duration::ZERO);
                        (known, first) = (Some(grey), Some(start));
                    }
                    (None, Decision::Pass { .. }) => proptest::prop_assert!(false, "passed at first sight"),
                }
            }
        }
    }
}
