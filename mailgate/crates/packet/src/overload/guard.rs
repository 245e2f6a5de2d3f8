//! Keeps the counts true: what the sockets themselves say, against what was counted.
//!
//! A count goes wrong when its source was forgotten for want of room, when another program on the control group took
//! our callback away, or when nothing was attached while a connection ended.

use std::collections::HashMap;
use std::io;

use mailgate_common::limit::{Counts, SourceKey};

use super::Accounting;

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Corrected {
    /// Sources looked at.
    pub sources: usize,
    /// Sources whose count was wrong.
    pub wrong: usize,
}

/// One round. A source whose connections come and go meanwhile is corrected only by what that cannot explain.
///
/// # Errors
/// Those of the kernel.
pub fn correct(accounting: &dyn Accounting) -> io::Result<Corrected> {
    let before: HashMap<SourceKey, Counts> = accounting.sources()?.into_iter().collect();
    let mut said: HashMap<SourceKey, u64> = HashMap::new();
    for counted in accounting.counted()? {
        counted.keys().for_each(|source| *said.entry(source).or_default() += 1);
    }
    // Sources with no connection and none counted are right.
    for (source, _) in before.iter().filter(|(_, counts)| counts.connections != 0) {
        said.entry(*source).or_default();
    }
    let mut done = Corrected { sources: said.len(), wrong: 0 };
    for (source, there) in said {
        let then = before.get(&source).copied().unwrap_or_default();
        let now = accounting.counts(&source)?.unwrap_or_default();
        if let Some(connections) = corrected(&then, &now, there) {
            let total = now.total.max(connections);
            accounting.correct(&source, Counts { connections, total, ..now })?;
            done.wrong += 1;
        }
    }
    Ok(done)
}

/// The right count, when `now` is wrong: `there` sockets were seen at some moment between `then` and `now`.
fn corrected(then: &Counts, now: &Counts, there: u64) -> Option<u64> {
    // Forgotten and come anew between: the next round knows more.
    let opened = now.total.checked_sub(then.total)?;
    let closed = (then.connections + opened).checked_sub(now.connections)?;
    let most = then.connections + opened;
    let least = then.connections.saturating_sub(closed);
    if there > most {
        Some(now.connections + (there - most))
    } else if there < least {
        Some(now.connections.saturating_sub(least - there))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(connections: u64, total: u64) -> Counts {
        Counts { connections, total, ..Counts::default() }
    }

    #[test]
    fn a_quiet_source_gets_exactly_what_its_sockets_say() {
        for (counted, there) in [(5, 5), (7, 5), (0, 5), (5, 0)] {
            let same = counts(counted, 100);
            let want = (counted != there).then_some(there);
            assert_eq!(corrected(&same, &same, there), want, "{counted} counted, {there} there");
        }
    }

    #[test]
    fn a_source_that_came_anew_is_left_to_the_next_round() {
        assert_eq!(corrected(&counts(5, 100), &counts(1, 1), 9), None);
    }

    proptest! {
        /// Whatever happens during a round, it never makes a count that was right wrong, and never a wrong one worse.
        #[test]
        fn a_round_never_does_harm(
            true_then in 0_u64..50,
            drift in -20_i64..20,
            events in prop::collection::vec(any::<bool>(), 0..40),
            seen_after in 0_usize..40,
        ) {
            let at = |truth: u64| truth.checked_add_signed(drift);
            let (mut truth, mut opened, mut there) = (true_then, 0, true_then);
            for (n, open) in events.iter().enumerate() {
                if n == seen_after {
                    there = truth;
                }
                if *open {
                    truth += 1;
                    opened += 1;
                } else {
                    // Nothing ends below what the count can follow.
                    truth = if at(truth).is_some_and(|count| count > 0) { truth.saturating_sub(1) } else { truth };
                }
            }
            if events.len() <= seen_after {
                there = truth;
            }
            if let (Some(then), Some(now)) = (at(true_then), at(truth)) {
                let after = corrected(&counts(then, 1000), &counts(now, 1000 + opened), there).unwrap_or(now);
                prop_assert!(after.abs_diff(truth) <= now.abs_diff(truth), "{now} became {after}, {truth} is right");
                if events.is_empty() {
                    prop_assert_eq!(after, truth);
                }
            }
        }
    }
}
