//! When a source fetches next: every interval give or take a tenth, so that a thousand daemons do not come at the same
//! second; sooner after a failure, then at pauses that double up to the interval.

use std::time::Duration;

use mailgate_model::{Span, Timestamp};

/// First pause after a failure.
const RETRY: Duration = Duration::from_secs(60);

/// Longest pause that a server may ask for.
const ASKED_LIMIT: Duration = Duration::from_secs(86_400);

/// The timetable of one source.
#[derive(Debug)]
pub(crate) struct Plan {
    interval: Duration,
    due: Timestamp,
    failures: u32,
    random: Random,
}

impl Plan {
    /// Begins at once, or, when the last set is younger than the interval, when that is over: who restarts ten times in
    /// an hour does not fetch ten times.
    pub(crate) fn new(name: &str, interval: Span, now: Timestamp, fetched: Option<Timestamp>) -> Self {
        let interval = interval.duration();
        let due = fetched.filter(|at| *at <= now).map_or(now, |at| at.plus(interval).max(now));
        Self { interval, due, failures: 0, random: Random::of(name, now) }
    }

    /// When the next fetch is due.
    pub(crate) fn due(&self) -> Timestamp {
        self.due
    }

    /// A list came, or still holds.
    pub(crate) fn succeeded(&mut self, now: Timestamp) {
        self.failures = 0;
        self.due = now.plus(self.random.about(self.interval));
    }

    /// None came; the other side may have said when to ask again.
    pub(crate) fn failed(&mut self, now: Timestamp, asked: Option<Duration>) {
        let pause = RETRY.saturating_mul(1_u32 << self.failures.min(16)).min(self.interval);
        self.failures = self.failures.saturating_add(1);
        let pause = self.random.about(pause).max(asked.unwrap_or_default().min(ASKED_LIMIT));
        self.due = now.plus(pause);
    }
}

/// Spreads fetches; nobody is kept out by it, so it need not be secret. SplitMix64, as it was published by Steele,
/// Lea and Flood (2014).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn of(name: &str, now: Timestamp) -> Self {
        Self(super::copy::hash(name.as_bytes()) ^ now.millis().unsigned_abs())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between nine and eleven tenths.
    fn about(&mut self, span: Duration) -> Duration {
        let thousandth = u32::try_from(900 + self.next() % 201).unwrap_or(1000);
        span / 1000 * thousandth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Timestamp = Timestamp::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn plan(fetched: Option<Timestamp>) -> Plan {
        Plan::new("feed", Span::from_secs(3600), T0, fetched)
    }

    #[test]
    fn fetches_are_an_hour_apart_give_or_take_a_tenth() {
        let mut plan = plan(None);
        assert_eq!(plan.due(), T0);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            plan.succeeded(T0);
            let pause = plan.due().since(T0);
            assert!((HOUR * 9 / 10..=HOUR * 11 / 10).contains(&pause), "{pause:?}");
            seen.insert(pause);
        }
        assert!(seen.len() > 50, "only {} different pauses", seen.len());
    }

    #[test]
    fn failures_wait_longer_each_time_and_never_longer_than_the_interval() {
        let mut plan = plan(None);
        let mut last = Duration::ZERO;
        for nth in 0..40 {
            plan.failed(T0, None);
            let pause = plan.due().since(T0);
            assert!(pause <= HOUR * 11 / 10, "{pause:?}");
            assert!(nth > 5 || pause > last, "{nth}: {pause:?} after {last:?}");
            last = pause;
        }
        assert!(last >= HOUR * 9 / 10);
        plan.succeeded(T0);
        plan.failed(T0, None);
        assert!(plan.due().since(T0) <= RETRY * 11 / 10, "a success forgets the failures");
    }

    #[test]
    fn a_server_that_asks_for_patience_gets_it_up_to_a_day() {
        let mut plan = plan(None);
        plan.failed(T0, Some(HOUR * 5));
        assert_eq!(plan.due().since(T0), HOUR * 5);
        plan.failed(T0, Some(HOUR * 500));
        assert_eq!(plan.due().since(T0), ASKED_LIMIT);
    }

    #[test]
    fn a_restart_does_not_fetch_what_is_fresh() {
        let fetched = Timestamp::from_secs(T0.secs() - 600);
        assert_eq!(plan(Some(fetched)).due().since(T0), HOUR - Duration::from_secs(600));
        assert_eq!(plan(Some(Timestamp::from_secs(T0.secs() - 9000))).due(), T0);
        assert_eq!(plan(Some(T0.plus(HOUR))).due(), T0, "a copy from the future says nothing");
    }
}
