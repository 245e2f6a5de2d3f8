//! Waiting for a condition, never for a length of time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

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
    loop {
        if let Some(value) = condition() {
            return Ok((value, begun.elapsed()));
        }
        if begun.elapsed() >= limit {
            bail!("waited {:.1} s in vain: {what}", limit.as_secs_f64());
        }
        std::thread::sleep(LOOK);
    }
}
