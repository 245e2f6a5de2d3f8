//! What a verb would do, and doing it.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::Timestamp;

use super::verbs::{Age, How};
use super::view;
use crate::Error;
use crate::manual::Record;
use crate::merge::{Claim, MANUAL, OVERLOAD, Origin, TableIndex};
use crate::prefix::{Sense, canonical};
use crate::rows::{Done, Feedback, Letter};
use crate::shared::State;
use crate::table::{Addition, By, Entry};

/// Origins whose entries commands may take away.
const EDITED: [Origin; 2] = [MANUAL, OVERLOAD];

/// Edits beyond which a table is written as a whole instead of line by line.
const JOURNAL_LIMIT: usize = 10_000;

/// What is to be done to one table.
#[derive(Default)]
pub(super) struct Plan {
    records: Vec<Record>,
    /// Claims more than before.
    added: usize,
    /// Claims less than before.
    deleted: usize,
    /// Whether the edge gets it as a whole.
    is_atomic: bool,
    /// Whether somebody wants to know what became of each entry.
    is_verbose: bool,
    /// Whether nothing changes; to be read after [`carry_out`](Self::carry_out).
    pub(super) is_empty: bool,
    pub(super) done: Done,
}

impl Plan {
    fn new(how: How) -> Self {
        Self { is_verbose: how.verbose, ..Self::default() }
    }

    fn set(&mut self, by: Origin, prefix: IpNet, claim: Claim, note: Option<Arc<str>>, is_new: bool) {
        self.added += usize::from(is_new);
        self.records.push(Record { by, prefix, claim: Some(claim), note });
    }

    fn withdraw(&mut self, by: Origin, prefix: IpNet) {
        self.deleted += 1;
        self.records.push(Record { by, prefix, claim: None, note: None });
    }

    fn tell(&mut self, letter: Letter, prefix: IpNet, sense: Sense) {
        let done = &mut self.done;
        *match letter {
            Letter::Added => &mut done.added,
            Letter::Changed => &mut done.changed,
            Letter::Deleted => &mut done.deleted,
            Letter::Cleared => &mut done.cleared,
            Letter::Duplicate => &mut done.duplicates,
            Letter::Conflict => &mut done.conflicts,
            Letter::Matched => return,
        } += 1;
        if self.is_verbose {
            done.feedback.push(Feedback { letter, prefix, negated: sense == Sense::Hole });
        }
    }

    /// By how many claims the tables grow.
    pub(super) fn growth(&self) -> usize {
        self.added.saturating_sub(self.deleted)
    }

    /// Does it, and remembers that it has to be saved.
    pub(super) fn carry_out(&mut self, state: &mut State, table: TableIndex) {
        self.is_empty = self.records.is_empty();
        if self.is_empty {
            return;
        }
        let records = std::mem::take(&mut self.records);
        if self.is_atomic && records.len() > 1 {
            state.merged.reload();
        }
        let whole = records.len() > JOURNAL_LIMIT;
        for record in records {
            state.merged.set(table, record.prefix, record.by, record.claim);
            if record.by == OVERLOAD {
                state.merged.annotate(table, record.prefix, record.note.clone());
            }
            if !whole {
                state.journal.push((table, record));
            }
        }
        if whole {
            state.unsaved.insert(table);
        }
        state.edits += 1;
    }
}

fn note(text: Option<String>) -> Option<Arc<str>> {
    let tidy = |text: String| -> String {
        let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        plain.take(Addition::NOTE_LIMIT).collect::<String>().trim().to_owned()
    };
    text.map(tidy).filter(|text| !text.is_empty()).map(Arc::from)
}

pub(super) fn add(
    state: &State,
    table: TableIndex,
    by: By,
    entries: Vec<Addition>,
    now: Timestamp,
    how: How,
) -> Plan {
    let mut plan = Plan::new(how);
    let mut named = HashSet::new();
    let origin = match by {
        By::Hand => MANUAL,
        By::Overload => OVERLOAD,
    };
    plan.done.asked = entries.len();
    for Addition { entry, note: text } in entries {
        let prefix = canonical(entry.prefix);
        let claim = Claim::of(&entry, now);
        if !named.insert(prefix) {
            plan.tell(Letter::Duplicate, prefix, claim.sense);
            continue;
        }
        match state.merged.claim(table, prefix, origin) {
            None => {
                plan.set(origin, prefix, claim, note(text), true);
                plan.tell(Letter::Added, prefix, claim.sense);
            }
            Some(before) if before.sense != claim.sense => plan.tell(Letter::Conflict, prefix, claim.sense),
            Some(before) if before.says_as(claim) => {}
            Some(before) => {
                plan.set(origin, prefix, claim.since(before.added), note(text), false);
                plan.tell(Letter::Changed, prefix, claim.sense);
            }
        }
    }
    plan
}

pub(super) fn delete(state: &State, table: TableIndex, entries: Vec<Entry>, how: How) -> Plan {
    let mut plan = Plan::new(how);
    let (mut named, mut sources) = (HashSet::new(), BTreeSet::new());
    plan.done.asked = entries.len();
    for entry in entries {
        let prefix = canonical(entry.prefix);
        let sense = if entry.negated { Sense::Hole } else { Sense::Listed };
        if !named.insert(prefix) {
            plan.tell(Letter::Duplicate, prefix, sense);
            continue;
        }
        let held = EDITED.map(|by| (by, state.merged.claim(table, prefix, by)));
        let held = held.into_iter().filter_map(|(by, claim)| Some((by, claim?)));
        let (same, opposite): (Vec<_>, Vec<_>) = held.partition(|(_, claim)| claim.sense == sense);
        same.iter().for_each(|(by, _)| plan.withdraw(*by, prefix));
        match (same.is_empty(), opposite.is_empty()) {
            (false, _) => plan.tell(Letter::Deleted, prefix, sense),
            (true, false) => plan.tell(Letter::Conflict, prefix, sense),
            (true, true) => {}
        }
        let others: Vec<Origin> =
            state.merged.origins(table, prefix).into_iter().filter(|by| !EDITED.contains(by)).collect();
        plan.done.still += usize::from(!others.is_empty());
        sources.extend(others);
    }
    plan.done.still_from = view::names(state, sources);
    plan
}

pub(super) fn replace(
    state: &State,
    table: TableIndex,
    entries: Vec<Entry>,
    now: Timestamp,
    how: How,
) -> Plan {
    let mut plan = Plan { is_atomic: true, ..Plan::new(how) };
    let mut named = HashSet::with_capacity(entries.len());
    plan.done.asked = entries.len();
    for entry in entries {
        let prefix = canonical(entry.prefix);
        let claim = Claim::of(&entry, now);
        if !named.insert(prefix) {
            plan.tell(Letter::Duplicate, prefix, claim.sense);
            continue;
        }
        let [by_hand, by_daemon] = EDITED.map(|by| state.merged.claim(table, prefix, by));
        if by_daemon.is_some() {
            plan.withdraw(OVERLOAD, prefix);
        }
        let added = by_hand.or(by_daemon).map_or(now, |before| before.added);
        if by_hand.is_none_or(|before| !before.says_as(claim)) {
            plan.set(MANUAL, prefix, claim.since(added), None, by_hand.is_none());
        }
        match by_hand.or(by_daemon) {
            None => plan.tell(Letter::Added, prefix, claim.sense),
            Some(before) if !before.says_as(claim) => plan.tell(Letter::Changed, prefix, claim.sense),
            Some(_) => {}
        }
    }
    take_away(state, table, &mut plan, |prefix, _, _| !named.contains(&prefix));
    plan
}

pub(super) fn flush(state: &State, table: TableIndex, how: How) -> Plan {
    let mut plan = Plan { is_atomic: true, ..Plan::new(how) };
    take_away(state, table, &mut plan, |_, _, _| true);
    plan.done.asked = plan.done.deleted;
    plan
}

/// # Errors
/// [`Error::NotCounted`].
pub(super) fn expire(
    state: &State,
    table: TableIndex,
    age: Age,
    now: Timestamp,
    how: How,
) -> Result<Plan, Error> {
    let mut plan = Plan::new(how);
    let Some(tally) = state.merged.tally(table) else { return Ok(plan) };
    let since = match (age, tally.since) {
        (Age::Older(_), _) => None,
        (Age::Idle(_), Some(since)) => Some(since),
        (Age::Idle(_), None) => {
            let name = state.merged.config(table).map(|config| config.name.clone());
            return name.map_or(Ok(plan), |name| Err(Error::NotCounted(name)));
        }
    };
    let mut asked = BTreeSet::new();
    let is_old = |prefix, added, _: Origin| {
        asked.insert(prefix);
        let cleared = tally.cleared(prefix, added);
        let hit = tally.counts.get(&prefix).and_then(|count| count.last);
        let (last, span): (Timestamp, Duration) = match age {
            Age::Older(span) => (cleared, span),
            // Nobody was counted before counting began.
            Age::Idle(span) => (cleared.max(hit.max(since).unwrap_or(cleared)), span),
        };
        last.plus(span) <= now
    };
    take_away(state, table, &mut plan, is_old);
    plan.done.asked = asked.len();
    Ok(plan)
}

/// Withdraws the edited claims that are `chosen` by prefix, age and origin.
fn take_away(
    state: &State,
    table: TableIndex,
    plan: &mut Plan,
    mut chosen: impl FnMut(IpNet, Timestamp, Origin) -> bool,
) {
    let mut told = HashSet::new();
    let (mut still, mut sources) = (0, BTreeSet::new());
    for by in EDITED {
        for (prefix, claim, _) in state.merged.claimed(table, by) {
            if !chosen(prefix, claim.added, by) {
                continue;
            }
            plan.withdraw(by, prefix);
            if told.insert(prefix) {
                plan.tell(Letter::Deleted, prefix, claim.sense);
                let others = state.merged.origins(table, prefix).into_iter();
                let others: Vec<Origin> = others.filter(|by| !EDITED.contains(by)).collect();
                still += usize::from(!others.is_empty());
                sources.extend(others);
            }
        }
    }
    plan.done.still = still;
    plan.done.still_from = view::names(state, sources);
}

pub(super) fn zero(
    state: &mut State,
    table: TableIndex,
    entries: Option<Vec<Entry>>,
    now: Timestamp,
    how: How,
) -> Done {
    let mut plan = Plan::new(how);
    match entries {
        None => {
            plan.done.cleared = state.merged.tables().nth(usize::from(table)).map_or(0, |(.., count)| count);
            plan.done.asked = plan.done.cleared;
            if let Some(tally) = state.merged.tally_mut(table).filter(|_| !how.dry_run) {
                tally.clear(now);
            }
        }
        Some(entries) => {
            plan.done.asked = entries.len();
            for entry in entries {
                let prefix = canonical(entry.prefix);
                let Some(found) = state.merged.find(table, prefix) else { continue };
                let sense = if found.entry.negated { Sense::Hole } else { Sense::Listed };
                plan.tell(Letter::Cleared, prefix, sense);
                if let Some(tally) = state.merged.tally_mut(table).filter(|_| !how.dry_run) {
                    tally.clear_one(prefix, now);
                }
            }
        }
    }
    plan.done
}
