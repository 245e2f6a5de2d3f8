//! The one place where what a source brought becomes its entries in the tables.

use std::sync::Arc;

use ipnet::IpNet;

use super::Reading;
use crate::Error;
use crate::admit::{self, Offered, Told};
use crate::merge::{Origin, TableIndex};
use crate::prefix::{Key as _, Packed, PrefixSet, Sense};
use crate::rows::{Diff, SourceState};
use crate::shared::{Shared, State, source_mut};

/// Entries of a difference that are named; the others are only counted.
const NAMED: usize = 1000;

/// Makes a reading the set of its source.
///
/// # Errors
/// The inner one is a sentence why it is refused as a whole; then nothing was changed.
pub(super) async fn take(
    shared: &Arc<Shared>,
    origin: Origin,
    table: TableIndex,
    reading: Reading,
) -> Result<Result<Offered, String>, Error> {
    let now = shared.clock.now();
    let take = move |state: &mut State| {
        let offered = admit::offer_sets(state, origin, vec![(table, reading.set)], Told::Fresh, now);
        let offered = offered.map_err(|refusal| refusal.to_string())?;
        let difference = offered.difference;
        if let Some(status) = source_mut(state, origin) {
            status.state = SourceState::Good;
            status.error = None;
            status.refused = reading.refused;
            status.problems = reading.problems;
            status.bytes = reading.bytes;
            status.format = Some(reading.format);
            status.etag = reading.validators.etag;
            status.partly = reading.partly;
            status.voice.notes = reading.notes;
            status.voice.told = reading.message;
            if !difference.is_empty() || status.last_change.is_none() {
                status.last_change = Some(now);
            }
        }
        // A first reading without any entry changes nothing but ends the waiting of `emit`.
        Ok(offered)
    };
    shared.with_blocking(take).await
}

/// What taking a reading would change; `refused` is why it would not be taken.
pub(super) fn diff(
    state: &State,
    origin: Origin,
    table: TableIndex,
    reading: &Reading,
    refused: Option<String>,
) -> Diff {
    let before = state.merged.set_of(table, origin);
    let mut diff = Diff { would_be_refused: refused, refused_lines: reading.refused, ..Diff::default() };
    if reading.set.is_overfull() {
        let most = reading.set.len();
        diff.would_be_refused = Some(format!("found more than {most} entries, expected at most that"));
    }
    let more = reading.set.len().saturating_sub(before.len());
    if let Err(full) = state.expect_room(more) {
        diff.would_be_refused.get_or_insert_with(|| full.to_string());
    }
    diff.entries_before = before.len();
    diff.entries_after = reading.set.len();
    compare(&before, &reading.set, |sense, prefix| {
        diff.added += 1;
        name(&mut diff.new, sense, prefix);
    });
    compare(&reading.set, &before, |sense, prefix| {
        diff.deleted += 1;
        name(&mut diff.gone, sense, prefix);
    });
    diff
}

fn name(names: &mut Vec<String>, sense: Sense, prefix: IpNet) {
    if names.len() < NAMED {
        names.push(format!("{}{prefix}", if sense == Sense::Hole { "!" } else { "" }));
    }
}

/// Tells what is in `b` and not in `a`.
fn compare(a: &PrefixSet, b: &PrefixSet, mut told: impl FnMut(Sense, IpNet)) {
    fn family<P: Packed>(a: &[P], b: &[P], told: &mut impl FnMut(Sense, IpNet)) {
        for entry in b {
            let at = a.binary_search_by_key(&entry.key(), |other| other.key()).ok();
            let same = at.and_then(|at| a.get(at)).is_some_and(|other| other.sense() == entry.sense());
            if !same {
                told(entry.sense(), entry.key().prefix());
            }
        }
    }
    family(&a.v4, &b.v4, &mut told);
    family(&a.v6, &b.v6, &mut told);
}
