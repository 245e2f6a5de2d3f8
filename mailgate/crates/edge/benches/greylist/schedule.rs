//! When a deferred message is tried again.

use crate::world::{DAY, Random};

/// The habits of sending programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schedule {
    /// At this interval, in seconds.
    Every(u64),
    /// Every quarter of an hour for two hours, then longer and longer.
    Exim,
    /// Six times within half an hour, then every quarter of an hour.
    Exchange,
    /// Four times within a minute, then never again.
    Hasty,
    /// Once after some four minutes, then every three hours.
    Provider,
    /// After five minutes, then after as long as it has waited already, at most 4000 s.
    Postfix,
    /// 400 s times the square of the number of the try.
    Qmail,
    /// Not at all.
    Never,
}

impl Schedule {
    /// One of the usual programs, by their share among mail servers as far as we could guess it.
    pub(crate) fn usual(random: &mut Random) -> Self {
        match random.below(100) {
            0..45 => Self::Postfix,
            45..65 => Self::Exim,
            65..75 => Self::Exchange,
            75..85 => Self::Provider,
            85..95 => Self::Every(30 * 60),
            _ => Self::Qmail,
        }
    }

    /// Seconds from the first attempt to the `nth` retry (from 1); `None` when the sender has given up.
    pub(crate) fn retry(self, nth: u64) -> Option<u64> {
        let (at, gives_up) = match self {
            Self::Every(interval) => (nth * interval, 5 * DAY),
            Self::Exchange if nth <= 6 => (nth * 300, 2 * DAY),
            Self::Exchange => (1800 + (nth - 6) * 900, 2 * DAY),
            Self::Exim if nth <= 8 => (nth * 900, 4 * DAY),
            Self::Exim => (7200 + (nth - 8) * 5400, 4 * DAY),
            Self::Hasty => (*[5, 15, 30, 60].get(usize::try_from(nth).ok()?.checked_sub(1)?)?, DAY),
            Self::Never => return None,
            Self::Postfix => (postfix(nth), 5 * DAY),
            Self::Provider if nth == 1 => (240, 2 * DAY),
            Self::Provider => (240 + (nth - 1) * 10_800, 2 * DAY),
            Self::Qmail => (400 * nth * nth, 7 * DAY),
        };
        (at <= gives_up).then_some(at)
    }
}

/// 300, 600, 1200, 2400, 4800, then every 4000 s.
fn postfix(nth: u64) -> u64 {
    match nth {
        0..=5 => 300 << nth.saturating_sub(1),
        _ => 4800 + (nth - 5) * 4000,
    }
}
