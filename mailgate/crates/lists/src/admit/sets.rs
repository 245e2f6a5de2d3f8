//! Sources that bring whole sets: files, URLs, commands.

use std::fmt;

use mailgate_model::Timestamp;

use super::growth::Step;
use super::{Desk, Effect, Reason, Refusals, sift};
use crate::Error;
use crate::config::Priority;
use crate::merge::{Difference, Origin, TableIndex};
use crate::prefix::{PrefixSet, Sense};
use crate::shared::State;

/// Where a set comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// What the feed says now.
    Fresh,
    /// What it said before a restart and was taken then: nothing about it is new.
    Kept,
    /// What it said before, after something else has changed: judged anew, but not for its pace.
    Again,
    /// Believed: by command, or by time.
    Believed,
}

/// What was taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    /// What changed in the tables.
    pub(crate) difference: Difference,
    /// Whether nothing waits: the text may be kept as the last good copy. What is wrong with single entries is wrong
    /// again when the copy is read.
    pub(crate) is_whole: bool,
}

/// Why nothing was taken; the set of before stays.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// More entries than `lists.entries_limit` leaves room for.
    Full(Error),
    /// Nobody knows this source.
    Stopped,
    /// More entries than one source may bring.
    TooMany(usize),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(error) => error.fmt(f),
            Self::Stopped => Error::Stopped.fmt(f),
            Self::TooMany(most) => write!(
                f,
                "found more than {most} entries, expected at most that: nothing was taken; raise admission.max_entries \
                 of the source if it means them (and lists.entries_limit)"
            ),
        }
    }
}

/// Takes the sets that a source has now for all its tables; a table that is not named is meant to be empty.
///
/// # Errors
/// [`Refusal`]; nothing was changed.
pub(crate) fn offer_sets(
    state: &mut State,
    origin: Origin,
    sets: Vec<(TableIndex, PrefixSet)>,
    told: Told,
    now: Timestamp,
) -> Result<Offered, Refusal> {
    let mut desk = state.desk(origin, now).ok_or(Refusal::Stopped)?;
    desk.gate.seen(now);
    let offered = desk.offer(sets, told);
    desk.gate.tell(desk.source);
    offered
}

impl Desk<'_> {
    pub(super) fn offer(
        &mut self,
        mut sets: Vec<(TableIndex, PrefixSet)>,
        told: Told,
    ) -> Result<Offered, Refusal> {
        for table in self.gate.tables.clone() {
            if !sets.iter().any(|(other, _)| *other == table) {
                sets.push((table, PrefixSet::default()));
            }
        }
        let found: usize = sets.iter().map(|(_, set)| set.len()).sum();
        let most = self.gate.limits.max_entries;
        if found > most || sets.iter().any(|(_, set)| set.is_overfull()) {
            self.gate.offered = found;
            self.gate.refusals = Refusals::default();
            self.gate.refusals.add_all(Reason::TooMany, found);
            return Err(Refusal::TooMany(most));
        }
        let mut refusals = Refusals::default();
        let sifted = self.sift(&sets, &mut refusals);
        let wanted: Vec<(TableIndex, &PrefixSet)> = sets
            .iter()
            .zip(&sifted)
            .map(|((table, set), sifted)| (*table, sifted.as_ref().unwrap_or(set)))
            .collect();
        let taken = self.earned(&wanted, told, &mut refusals);
        let taken: Vec<(TableIndex, PrefixSet)> = match taken {
            Some(taken) => taken,
            None => {
                let owned = |(table, set): (TableIndex, &PrefixSet)| (table, set.clone());
                wanted.into_iter().map(owned).collect()
            }
        };
        self.expect_room(&taken)?;
        let is_whole = refusals.waiting() == 0;
        let size = taken.iter().map(|(_, set)| set.len()).sum();
        let mut difference = Difference::default();
        for (table, set) in taken {
            difference += self.merged.replace(table, self.origin, set, self.now);
        }
        if is_whole {
            if self.gate.growth.usual != size {
                self.gate.is_dirty = true;
            }
            self.gate.growth.took(size, self.now);
        }
        // What was refused because of who is protected now may be taken when that changes.
        let may_yet = !is_whole || refusals.of(Reason::Protected) > 0;
        self.gate.last = may_yet.then_some(sets);
        self.gate.offered = found;
        self.gate.refusals = refusals;
        Ok(Offered { difference, is_whole })
    }

    /// What is left of each set without what is wrong by itself; `None` where that is all.
    fn sift(&self, sets: &[(TableIndex, PrefixSet)], refusals: &mut Refusals) -> Vec<Option<PrefixSet>> {
        let clashes = if self.gate.is_mixed { self.clashes(sets) } else { Vec::new() };
        let each = |(table, set): &(TableIndex, PrefixSet)| {
            let loses = self.loses(self.effect(*table, Sense::Listed));
            sift::sift(set, refusals, |prefix, sense| {
                let contradicts =
                    || loses && sense == Sense::Listed && clashes.iter().any(|one| sift::lists(one, prefix));
                self.wrong(*table, prefix, sense).or_else(|| contradicts().then_some(Reason::Contradiction))
            })
        };
        sets.iter().map(each).collect()
    }

    /// Prefixes that are listed both in tables that keep out and in tables that let in, and wrong in neither.
    fn clashes(&self, sets: &[(TableIndex, PrefixSet)]) -> Vec<PrefixSet> {
        let of = |effect: Effect| {
            sets.iter().filter(move |(table, _)| self.effect(*table, Sense::Listed) == effect)
        };
        let mut clashes = Vec::new();
        for (blocking, blocked) in of(Effect::Blocks) {
            for (freeing, freed) in of(Effect::Frees) {
                let is_wrong = |prefix, sense| {
                    let wrong = |table: &TableIndex| self.wrong(*table, prefix, sense);
                    wrong(blocking).or_else(|| wrong(freeing))
                };
                let both = sift::common(blocked, freed);
                let both = sift::sift(&both, &mut Refusals::default(), is_wrong).unwrap_or(both);
                if !both.is_empty() {
                    clashes.push(both);
                }
            }
        }
        clashes
    }

    /// Whether an entry of this effect is refused when the feed contradicts itself.
    fn loses(&self, effect: Effect) -> bool {
        match self.gate.limits.priority {
            Priority::Block => effect == Effect::Frees,
            Priority::Bypass => effect == Effect::Blocks,
            Priority::None => true,
        }
    }

    /// What of `wanted` the feed has earned; `None` when that is all of it.
    fn earned(
        &mut self,
        wanted: &[(TableIndex, &PrefixSet)],
        told: Told,
        refusals: &mut Refusals,
    ) -> Option<Vec<(TableIndex, PrefixSet)>> {
        let is_observed = self.gate.observed_until(self.now).is_some();
        let is_idle = self.gate.freeze.is_none() && !is_observed && !self.gate.limits.judges_growth();
        if is_idle || matches!(told, Told::Believed | Told::Kept) {
            return None;
        }
        let held: Vec<PrefixSet> =
            wanted.iter().map(|(table, _)| self.merged.set_of(*table, self.origin)).collect();
        let is_frozen = !is_observed && self.is_frozen(wanted, &held, told);
        let reason = match (is_observed, is_frozen) {
            (true, _) => Reason::Observed,
            (_, true) => Reason::Frozen,
            _ => return None,
        };
        let step = self.step(wanted, &held);
        if is_frozen && self.gate.growth.shrinks(step, &self.gate.limits).is_some() {
            refusals.add_all(Reason::Frozen, step.held.saturating_sub(step.wanted));
            return Some(wanted.iter().zip(held).map(|((table, _), held)| (*table, held)).collect());
        }
        let left = |((table, set), held): (&(TableIndex, &PrefixSet), &PrefixSet)| {
            let waits = |sense| is_observed || self.effect(*table, sense) == Effect::Blocks;
            (*table, sift::without_news(held, set, reason, refusals, waits))
        };
        Some(wanted.iter().zip(&held).map(left).collect())
    }

    /// Whether the feed is frozen, now that it says this.
    fn is_frozen(&mut self, wanted: &[(TableIndex, &PrefixSet)], held: &[PrefixSet], told: Told) -> bool {
        if told == Told::Fresh {
            self.judge_growth(wanted, held);
        }
        self.gate.freeze.is_some()
    }

    /// Freezes the feed, or believes it again.
    fn judge_growth(&mut self, wanted: &[(TableIndex, &PrefixSet)], held: &[PrefixSet]) {
        let step = self.step(wanted, held);
        let verdict = self.gate.growth.judge(step, &self.gate.limits, self.now);
        match (verdict, &mut self.gate.freeze) {
            (None, None) => {}
            (None, Some(_)) => self.unfreeze("the feed is as before"),
            (Some(freeze), None) => self.freeze(freeze),
            (Some(again), Some(freeze)) => {
                freeze.confirmed += 1;
                freeze.why = again.why;
                self.gate.is_dirty = true;
                let confirmed = freeze.confirmed;
                if self.gate.limits.confirm.is_some_and(|times| confirmed >= times) {
                    self.unfreeze(format_args!("said by {} fetches in a row", confirmed + 1));
                }
            }
        }
    }

    fn step(&self, wanted: &[(TableIndex, &PrefixSet)], held: &[PrefixSet]) -> Step {
        let news = |((table, set), held): (&(TableIndex, &PrefixSet), &PrefixSet)| {
            sift::news(held, set, |sense| self.effect(*table, sense) == Effect::Blocks)
        };
        Step {
            held: held.iter().map(PrefixSet::len).sum(),
            wanted: wanted.iter().map(|(_, set)| set.len()).sum(),
            new: wanted.iter().zip(held).map(news).sum(),
        }
    }

    /// Whether the sets fit into all tables.
    fn expect_room(&self, taken: &[(TableIndex, PrefixSet)]) -> Result<(), Refusal> {
        let asked: usize = taken.iter().map(|(_, set)| set.len()).sum();
        let held: usize = taken.iter().map(|(table, _)| self.merged.count(*table, self.origin)).sum();
        self.merged.expect_room(asked.saturating_sub(held)).map_err(Refusal::Full)
    }
}
