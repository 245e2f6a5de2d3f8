//! A cap on how often something is done, in one word: the time from which the next one is due if they came evenly
//! (the generic cell rate algorithm of ITU-T I.371, a token bucket without a token counter).

/// How often, and how many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds for each; 0 allows none.
    pub interval: u64,
    /// Nanoseconds that may be used up in advance: the burst less one, times the interval.
    pub ahead: u64,
}

impl Rate {
    /// So many a second, `burst` (at least one) at once. A rate of 0 allows none.
    #[must_use]
    pub const fn per_second(rate: u32, burst: u32) -> Self {
        if rate == 0 {
            return Self { interval: 0, ahead: 0 };
        }
        let interval = 1_000_000_000 / rate as u64;
        let interval = if interval == 0 { 1 } else { interval };
        Self { interval, ahead: interval * burst.saturating_sub(1) as u64 }
    }
}

/// Takes one at `now` (nanoseconds) from a bucket; its new word, or none when that is over the cap. A new bucket is 0.
#[must_use]
#[inline(always)]
pub const fn take(bucket: u64, now: u64, rate: Rate) -> Option<u64> {
    let due = if bucket > now { bucket } else { now };
    if rate.interval == 0 || due - now > rate.ahead { None } else { Some(due + rate.interval) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut u64, now: u64, rate: Rate, tries: u32) -> u32 {
        (0..tries).map(|_| take(*bucket, now, rate).map(|after| *bucket = after).is_some() as u32).sum()
    }

    #[test]
    fn a_burst_passes_then_the_rate() {
        let rate = Rate::per_second(100, 10);
        let (mut bucket, start) = (0, 5_000_000_000);
        assert_eq!(taken(&mut bucket, start, rate, 1000), 10, "the burst");
        assert_eq!(taken(&mut bucket, start + 9_999_999, rate, 5), 0, "not yet");
        assert_eq!(taken(&mut bucket, start + 10_000_000, rate, 5), 1, "one every 10 ms");
        assert_eq!(taken(&mut bucket, start + 60_000_000, rate, 50), 5);
        assert_eq!(
            taken(&mut bucket, start + 60_000_000_000, rate, 50),
            10,
            "an hour saves no more than a burst"
        );
    }

    #[test]
    fn a_rate_of_nothing_allows_nothing_and_no_number_overflows() {
        assert_eq!(take(0, 1, Rate::per_second(0, 10)), None);
        assert_eq!(take(0, 7, Rate { interval: 0, ahead: u64::MAX }), None);
        let fast = Rate::per_second(u32::MAX, u32::MAX);
        assert_eq!(taken(&mut 0, u64::MAX / 2, fast, 3), 3);
        assert_eq!(taken(&mut 0, 1, Rate::per_second(1, 0), 3), 1, "a burst is one at least");
    }
}
