//! How long to wait before the next try.

use std::time::Duration;

use super::Patience;

/// A session that lasted this long was a good one: the next pause is the shortest again.
pub(super) const STABLE: Duration = Duration::from_secs(60);

/// Doublings after which a pause grows no more, whatever its limit.
const DOUBLINGS: u32 = 16;

/// Short sessions in a row that are forgiven: a peer that is being set up comes and goes once.
const FORGIVEN: u32 = 1;

/// What happened lately.
#[derive(Debug)]
pub(super) struct Pause {
    patience: Patience,
    /// Tries in a row without a session.
    failures: u32,
    /// Sessions in a row that did not last.
    flaps: u32,
    /// Whether the pause also keeps the neighbour out.
    pub(super) is_damped: bool,
    random: u64,
}

impl Pause {
    pub(super) fn new(patience: Patience, seed: u64) -> Self {
        Self { patience, failures: 0, flaps: 0, is_damped: false, random: seed | 1 }
    }

    /// The pause after a session that lasted so long, or after a try that led to none.
    pub(super) fn after(&mut self, lasted: Option<Duration>) -> Duration {
        match lasted {
            Some(lasted) if lasted >= STABLE => self.forget(),
            Some(_) => self.flaps = self.flaps.saturating_add(1),
            None => {}
        }
        let Patience { retry_min, retry_max, damping_min, damping_max } = self.patience;
        self.is_damped = lasted.is_some() && self.flaps > FORGIVEN;
        let pause = if self.is_damped {
            doubled(damping_min, self.flaps - FORGIVEN - 1, damping_max)
        } else {
            let pause = doubled(retry_min, self.failures, retry_max);
            self.failures = self.failures.saturating_add(1);
            pause
        };
        self.jittered(pause)
    }

    /// The pause after a session that we ended: whatever that was for will not be over soon.
    pub(super) fn ended(&mut self, after: Option<Duration>) -> Duration {
        self.failures = DOUBLINGS;
        self.is_damped = after.is_some();
        let usual = self.jittered(self.patience.retry_max);
        after.unwrap_or(usual)
    }

    pub(super) fn forget(&mut self) {
        (self.failures, self.flaps, self.is_damped) = (0, 0, false);
    }

    /// Three quarters to the whole of a span (RFC 4271 §10).
    pub(super) fn jittered(&mut self, span: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let quarter = span / 4;
        let part = u32::try_from(self.random % 1024).unwrap_or(0);
        span - quarter + quarter * part / 1024
    }
}

fn doubled(least: Duration, times: u32, most: Duration) -> Duration {
    least.saturating_mul(1 << times.min(DOUBLINGS)).min(most)
}
