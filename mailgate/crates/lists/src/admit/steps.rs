//! Sources that announce and withdraw single prefixes: BGP peers.

use ipnet::IpNet;
use mailgate_model::Timestamp;

use super::{Desk, Effect, Reason};
use crate::config::Priority;
use crate::merge::{Claim, Origin, TableIndex};
use crate::prefix::Sense;
use crate::shared::State;

/// A difference to what a source says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) table: TableIndex,
    pub(crate) prefix: IpNet,
    pub(crate) kind: StepKind,
}

/// Of which kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepKind {
    Announce,
    Withdraw,
}

/// Whether the feed has to have earned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// As the rules of growth say.
    Judged,
    /// Believed.
    Believed,
}

/// Takes what a source announces and withdraws, in order.
pub(crate) fn offer_steps(state: &mut State, origin: Origin, steps: &[Step], now: Timestamp) {
    offer(state, origin, steps, Pace::Judged, now);
}

/// The same for what was in the tables before a restart: it need not be earned again.
pub(crate) fn offer_kept(state: &mut State, origin: Origin, steps: &[Step], now: Timestamp) {
    offer(state, origin, steps, Pace::Believed, now);
}

fn offer(state: &mut State, origin: Origin, steps: &[Step], pace: Pace, now: Timestamp) {
    let Some(mut desk) = state.desk(origin, now) else { return };
    if !steps.is_empty() {
        desk.gate.seen(now);
    }
    for step in steps {
        match step.kind {
            StepKind::Announce => desk.announce(step.table, step.prefix, pace),
            StepKind::Withdraw => desk.withdraw(step.table, step.prefix),
        }
    }
}

impl Desk<'_> {
    pub(super) fn announce(&mut self, table: TableIndex, prefix: IpNet, pace: Pace) {
        if !self.gate.aside.is_empty() && self.gate.aside.contains_key(&(table, prefix)) {
            // Said again, and judged again.
            self.take_back(table, prefix);
        }
        match self.judge(table, prefix, pace) {
            Some(reason) => self.put_aside(table, prefix, reason),
            None => {
                let claim = Claim::new(Sense::Listed, self.now, None);
                let before = self.merged.set(table, prefix, self.origin, Some(claim));
                self.gate.installed += usize::from(before.is_none());
            }
        }
    }

    fn withdraw(&mut self, table: TableIndex, prefix: IpNet) {
        let was_aside = !self.gate.aside.is_empty() && self.take_back(table, prefix).is_some();
        if !was_aside && self.merged.set(table, prefix, self.origin, None).is_some() {
            self.gate.installed = self.gate.installed.saturating_sub(1);
            if self.effect(table, Sense::Listed) == Effect::Blocks {
                self.gate.growth.withdrew((table, prefix), self.gate.installed, self.now);
            }
        }
        if self.gate.is_mixed {
            self.reconcile(prefix);
        }
    }

    /// Why an announced prefix is not taken.
    fn judge(&mut self, table: TableIndex, prefix: IpNet, pace: Pace) -> Option<Reason> {
        if let Some(reason) = self.wrong(table, prefix, Sense::Listed) {
            return Some(reason);
        }
        if self.gate.is_mixed && self.contradicts(table, prefix) {
            return Some(Reason::Contradiction);
        }
        let reason = self.full().or_else(|| self.paced(table, prefix, pace))?;
        // Asked last, because it costs most: what is there already stays.
        self.merged.claim(table, prefix, self.origin).is_none().then_some(reason)
    }

    fn full(&self) -> Option<Reason> {
        if self.merged.room() == 0 {
            Some(Reason::NoRoom)
        } else if self.gate.received() >= self.gate.limits.max_entries {
            Some(Reason::TooMany)
        } else {
            None
        }
    }

    /// Whether the feed has earned it.
    fn paced(&mut self, table: TableIndex, prefix: IpNet, pace: Pace) -> Option<Reason> {
        if self.gate.observed_until(self.now).is_some() {
            return Some(Reason::Observed);
        }
        if pace == Pace::Believed || self.effect(table, Sense::Listed) == Effect::Frees {
            return None;
        }
        let is_counted = self.gate.freeze.is_none()
            && (!self.gate.growth.is_settled || self.merged.claim(table, prefix, self.origin).is_none());
        if is_counted {
            let (held, limits) = (self.gate.installed, self.gate.limits);
            if let Some(freeze) = self.gate.growth.announced((table, prefix), held, &limits, self.now) {
                self.freeze(freeze);
            }
        }
        self.gate.freeze.is_some().then_some(Reason::Frozen)
    }

    /// Whether the feed has the prefix in a table of the other effect, and that counts for more or as much; what counts
    /// for less there is put aside.
    fn contradicts(&mut self, table: TableIndex, prefix: IpNet) -> bool {
        let effect = self.effect(table, Sense::Listed);
        let others: Vec<TableIndex> = self.others(table, effect, prefix);
        if others.is_empty() {
            return false;
        }
        let wins = match self.gate.limits.priority {
            Priority::Block => effect == Effect::Blocks,
            Priority::Bypass => effect == Effect::Frees,
            Priority::None => false,
        };
        if wins || self.gate.limits.priority == Priority::None {
            for other in others {
                if self.merged.set(other, prefix, self.origin, None).is_some() {
                    self.gate.installed = self.gate.installed.saturating_sub(1);
                    self.put_aside(other, prefix, Reason::Contradiction);
                }
            }
        }
        !wins
    }

    /// Tables of the other effect in which the feed has the prefix, if only a contradiction keeps it out there.
    fn others(&self, table: TableIndex, effect: Effect, prefix: IpNet) -> Vec<TableIndex> {
        let has = |other: &TableIndex| {
            *other != table
                && self.effect(*other, Sense::Listed) != effect
                && (self.merged.claim(*other, prefix, self.origin).is_some()
                    || self.gate.aside.get(&(*other, prefix)) == Some(&Reason::Contradiction))
        };
        self.gate.tables.iter().copied().filter(has).collect()
    }

    /// A prefix was withdrawn from one table: what contradicted it elsewhere may count now.
    fn reconcile(&mut self, prefix: IpNet) {
        let waits =
            |table: &TableIndex| self.gate.aside.get(&(*table, prefix)) == Some(&Reason::Contradiction);
        let waiting: Vec<TableIndex> = self.gate.tables.iter().copied().filter(waits).collect();
        for table in waiting {
            self.announce(table, prefix, Pace::Judged);
        }
    }

    pub(super) fn put_aside(&mut self, table: TableIndex, prefix: IpNet, reason: Reason) {
        let is_first = self.gate.refusals.of(reason) == 0;
        self.gate.refusals.add(reason, prefix);
        self.gate.aside.insert((table, prefix), reason);
        if is_first {
            // The first at once, the others with the next tick.
            self.gate.tell(self.source);
        }
    }

    pub(super) fn take_back(&mut self, table: TableIndex, prefix: IpNet) -> Option<Reason> {
        let reason = self.gate.aside.remove(&(table, prefix))?;
        self.gate.refusals.less(reason, prefix);
        Some(reason)
    }
}
