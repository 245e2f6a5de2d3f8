//! The judgement of one attempt: a pure function of the time, what is known of the tuple, and the timings.

use std::time::Duration;

use mailgate_model::Timestamp;
use mailgate_store::greylist::{Grey, Origin, Peer, PeerKind};

use crate::config::GreylistConfig;

/// The three spans of spamd(8) `-G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// From the first attempt until a retry passes.
    pub pass_after: Duration,
    /// Until when a retry is not the first again.
    pub keep: Keep,
    /// How long a client stays passed.
    pub passed_for: Duration,
}

/// For how long a tuple is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// From the first attempt, as spamd(8).
    FromFirst(Duration),
    /// From the last attempt; the second figure from the first one, at most. Some honest senders come again only after
    /// half a day.
    FromLast(Duration, Duration),
}

impl Keep {
    fn until(self, first: Timestamp, now: Timestamp) -> Timestamp {
        match self {
            Self::FromFirst(keep) => first.plus(keep),
            Self::FromLast(keep, most) => now.plus(keep).min(first.plus(most)),
        }
    }
}

impl From<&GreylistConfig> for Timings {
    fn from(config: &GreylistConfig) -> Self {
        Self {
            pass_after: config.pass_after.duration(),
            keep: Keep::FromFirst(config.keep_for.duration()),
            passed_for: config.passed_for.duration(),
        }
    }
}

/// What waiting comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Come again after `wait`.
    Defer {
        /// What is to be remembered.
        grey: Grey,
        /// From now until an attempt passes; more than zero.
        wait: Duration,
    },
    /// The attempt passes; it is so long since the first one.
    Pass(Duration),
}

/// Judges one attempt (RFC 6647 §2.3, spamd(8)):
/// unknown or expired: deferred, and its clock starts;
/// before `pass_after`: deferred and counted, and its clock is not restarted;
/// later: passes.
///
/// A tuple from the future (the clock was set back) starts now, so that nobody waits longer than `pass_after`.
#[must_use]
pub fn wait_or_pass(now: Timestamp, known: Option<Grey>, timings: &Timings) -> Waited {
    let fresh = |blocked| Grey {
        first: now,
        pass: now.plus(timings.pass_after),
        expires: timings.keep.until(now, now),
        blocked,
        passed: 0,
    };
    let defer = |grey: Grey| Waited::Defer { grey, wait: grey.pass.since(now) };
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
        return defer(Grey { pass, blocked, expires: timings.keep.until(grey.first, now), ..grey });
    }
    Waited::Pass(now.since(grey.first))
}

/// What is remembered in classic mode of a client whose tuple passed.
#[must_use]
pub(super) fn passed(now: Timestamp, grey: &Grey, timings: &Timings) -> Peer {
    Peer {
        kind: PeerKind::Passed,
        origin: Origin::Learned,
        first: grey.first,
        pass: now,
        expires: now.plus(timings.passed_for),
        blocked: grey.blocked,
        passed: 0,
    }
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
        match wait_or_pass(START, None, &spamd()) {
            Waited::Defer { grey, .. } => grey,
            Waited::Pass(_) => panic!("nobody passes at first sight"),
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
            match wait_or_pass(at(seconds), Some(after_first()), &spamd()) {
                Waited::Defer { grey, wait } => {
                    assert_eq!((Some(wait.as_secs()), grey.first), (want, at(first)), "{name}");
                    assert_eq!(grey.expires, at(first + KEEP), "{name}");
                }
                Waited::Pass(waited) => {
                    assert_eq!((want, waited.as_secs()), (None, seconds), "{name}");
                    let peer = passed(at(seconds), &after_first(), &spamd());
                    assert_eq!(peer.expires, at(seconds + 36 * 86_400), "{name}");
                }
            }
        }
    }

    #[test]
    fn a_retry_inside_the_delay_counts_and_does_not_restart_the_clock() {
        let mut known = after_first();
        for minute in 1..25 {
            let Waited::Defer { grey, .. } = wait_or_pass(at(minute * 60), Some(known), &spamd()) else {
                panic!("minute {minute} is before the passtime")
            };
            assert_eq!((grey.first, grey.blocked), (START, u32::try_from(minute).unwrap() + 1));
            known = grey;
        }
        assert!(matches!(wait_or_pass(at(1500), Some(known), &spamd()), Waited::Pass(_)));
    }

    #[test]
    fn a_shorter_delay_acts_on_tuples_already_known() {
        let short = Timings { pass_after: Duration::from_secs(120), ..spamd() };
        assert!(matches!(wait_or_pass(at(121), Some(after_first()), &short), Waited::Pass(_)));
    }

    #[test]
    fn a_clock_set_back_by_an_hour_makes_nobody_wait_longer_than_the_delay() {
        let hour_before = Timestamp::from_secs(START.secs() - 3600);
        let Waited::Defer { grey, wait } = wait_or_pass(hour_before, Some(after_first()), &spamd()) else {
            panic!("the delay is not over")
        };
        assert_eq!((wait, grey.first), (spamd().pass_after, hour_before));
    }

    #[test]
    fn a_slow_retrier_is_waited_for_from_its_last_attempt_and_three_days_in_all() {
        const HOUR: u64 = 3600;
        let keep = Keep::FromLast(Duration::from_secs(24 * HOUR), Duration::from_secs(72 * HOUR));
        let timings = Timings { pass_after: Duration::from_secs(71 * HOUR), keep, ..spamd() };
        let mut known = None;
        for hours in [0, 20, 40, 60] {
            let Waited::Defer { grey, .. } = wait_or_pass(at(hours * HOUR), known, &timings) else {
                panic!()
            };
            assert_eq!(grey.first, START, "{hours} h");
            assert_eq!(grey.expires, at((hours + 24).min(72) * HOUR), "{hours} h");
            known = Some(grey);
        }
        assert!(matches!(wait_or_pass(at(71 * HOUR), known, &timings), Waited::Pass(_)));
        let Waited::Defer { grey, .. } = wait_or_pass(at(72 * HOUR), known, &timings) else { panic!() };
        assert_eq!(grey.first, at(72 * HOUR));
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
                keep: Keep::FromFirst(Duration::from_secs(pass + more)),
                passed_for: Duration::from_secs(1),
            };
            let (mut now, mut known, mut first) = (0_u64, None, None);
            for gap in gaps {
                now += gap;
                let start = first.filter(|start| now - start < pass + more);
                let decision = wait_or_pass(at(now), known, &timings);
                match (start, decision) {
                    (Some(start), Waited::Pass(_)) => {
                        proptest::prop_assert!(now - start >= pass);
                        (known, first) = (None, None);
                    }
                    (start, Waited::Defer { grey, wait }) => {
                        let start = start.unwrap_or(now);
                        proptest::prop_assert_eq!(grey.first, at(start));
                        proptest::prop_assert_eq!(wait, Duration::from_secs(start + pass - now));
                        proptest::prop_assert!(wait > Duration::ZERO);
                        (known, first) = (Some(grey), Some(start));
                    }
                    (None, Waited::Pass(_)) => proptest::prop_assert!(false, "passed at first sight"),
                }
            }
        }
    }
}
