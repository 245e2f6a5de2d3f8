//! Waiting for a condition, never for a length of time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Set once: the person at the keyboard has seen enough.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends every wait of this process with an error, so that what was begun is cleaned up on the way out.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// How many times longer than said anything is waited for: where qemu translates every instruction, the machine is that
/// much slower (`cargo xtask test --kernels` sets it).
const PATIENCE: &str = "MAILGATE_PATIENCE";

/// A limit of time as it is on this machine.
fn patient(limit: Duration) -> Duration {
    let times = std::env::var(PATIENCE).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    limit.saturating_mul(times)
}

/// Set where qemu translates every instruction (`cargo xtask test --kernels` does so).
const TRANSLATED: &str = "MAILGATE_TRANSLATED";
/// The share of rounds there.
const SHARE: u32 = 10;

/// How often a test is to repeat what it does `count` times; less often where every instruction is translated.
#[must_use]
pub fn rounds(count: u32) -> u32 {
    if std::env::var_os(TRANSLATED).is_some() { count.div_ceil(SHARE) } else { count }
}

/// Looks at `condition` until it gives a value; the time that took beside it.
///
/// # Errors
/// When `limit` is over; the message names `what` was waited for.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<(T, Duration)> {
    let begun = Instant::now();
    let limit = patient(limit);
    loop {
        if let Some(value) = condition() {
            return Ok((value, begun.elapsed()));
        }
        if INTERRUPTED.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        if begun.elapsed() >= limit {
            bail!("waited {:.1} s in vain: {what}", limit.as_secs_f64());
        }
        std::thread::sleep(LOOK);
    }
}
