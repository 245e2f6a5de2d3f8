//! What a feed may do: the gate between what a source says and what the tables take.
//!
//! Every source has one [`Gate`], and only this module changes the tables on behalf of a source: [`offer_sets`] for
//! those that bring whole sets, [`offer_steps`] for those that announce and withdraw. An entry that the gate does not
//! take has a [`Reason`]; what only waits (a new feed that is watched, a feed that grew too fast) is taken later by
//! [`tick`] or [`thaw`], and what touches the protected follows [`protect`].

mod growth;
mod guarded;
mod keep;
mod reason;
mod reopen;
mod sets;
mod sift;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

use ipnet::IpNet;
use mailgate_model::Timestamp;

use crate::config::{Limits, SourceConfig};
use crate::merge::{Merged, Origin, TableIndex};
use crate::prefix::{PrefixSet, Sense};
use crate::rows::{AdmissionRow, AdmissionState};
use crate::table::Action;
use growth::{Freeze, Growth};
pub(crate) use guarded::Guarded;
pub use guarded::{Protected, Why};
pub(crate) use keep::{load, run};
pub use reason::Reason;
pub(crate) use reason::Refusals;
pub(crate) use reopen::{protect, thaw};
pub(crate) use sets::{Offered, Told, offer_sets};
pub(crate) use steps::{Step, StepKind, offer_kept, offer_steps};

/// What an entry does to whom it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Keeps out: an entry of a table that is no bypass, or a hole in a bypass.
    Blocks,
    /// Lets in.
    Frees,
}

impl Effect {
    fn of(action: Action, sense: Sense) -> Self {
        match (action, sense) {
            (Action::Bypass | Action::FeedBypass, Sense::Hole) => Self::Blocks,
            (Action::Bypass | Action::FeedBypass, Sense::Listed) | (_, Sense::Hole) => Self::Frees,
            (_, Sense::Listed) => Self::Blocks,
        }
    }
}

/// What one source may do, and what became of what it said.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: Limits,
    /// The tables that it may fill.
    tables: Vec<TableIndex>,
    /// Whether it announces and withdraws single prefixes, instead of bringing sets.
    announces: bool,
    /// Whether some of them let in and others keep out.
    is_mixed: bool,
    /// When it was seen for the first time, on this host, ever.
    first: Option<Timestamp>,
    freeze: Option<Freeze>,
    growth: Growth,
    /// Of a source that brings sets: entries of what it said last.
    offered: usize,
    refusals: Refusals,
    /// Of a source that announces: what is not in the tables.
    aside: HashMap<(TableIndex, IpNet), Reason>,
    /// Entries of a source that announces that are in the tables.
    installed: usize,
    /// Of a source that brings sets: what it said last, while some of that may yet be taken.
    last: Option<Vec<(TableIndex, PrefixSet)>>,
    /// What was last told in the log.
    told: Refusals,
    /// Whether what has to survive a restart has changed.
    is_dirty: bool,
}

impl Gate {
    pub(crate) fn new(source: &SourceConfig, merged: &Merged) -> Self {
        let mut tables: Vec<TableIndex> =
            source.tables().iter().filter_map(|name| merged.index(name)).collect();
        tables.sort_unstable();
        tables.dedup();
        let frees = |table: &TableIndex| merged.action(*table) == Some(Action::Bypass);
        let is_mixed = tables.iter().any(frees) && !tables.iter().all(frees);
        Self {
            limits: source.admission().limits(source.is_local(), merged.limit()),
            tables,
            announces: matches!(source, SourceConfig::Bgp(_)),
            is_mixed,
            first: None,
            freeze: None,
            growth: Growth::default(),
            offered: 0,
            refusals: Refusals::default(),
            aside: HashMap::new(),
            installed: 0,
            last: None,
            told: Refusals::default(),
            is_dirty: false,
        }
    }

    /// What is wrong with an entry whatever the feed has done before.
    fn form(&self, prefix: IpNet, sense: Sense) -> Option<Reason> {
        let (length, shortest) = match prefix {
            IpNet::V4(net) => (net.prefix_len(), self.limits.shortest_v4),
            IpNet::V6(net) => {
                if net.prefix_len() >= 96 && net.addr().to_ipv4_mapped().is_some() {
                    return Some(Reason::Mapped);
                }
                (net.prefix_len(), self.limits.shortest_v6)
            }
        };
        match sense {
            _ if length == 0 => Some(Reason::DefaultRoute),
            Sense::Listed if length < shortest => Some(Reason::TooShort),
            _ => None,
        }
    }

    /// Until when the feed is only watched, if it is.
    fn observed_until(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.first.unwrap_or(now).plus(self.limits.observe);
        (until > now).then_some(until)
    }

    /// It has said something.
    fn seen(&mut self, now: Timestamp) {
        if self.first.is_none() {
            self.first = Some(now);
            self.is_dirty = true;
        }
    }

    /// Says in the log what has become of entries since it last did.
    fn tell(&mut self, source: &str) {
        if self.told == self.refusals {
            return;
        }
        let told = self.told.rows();
        for row in self.refusals.rows() {
            if told.contains(&row) {
                continue;
            }
            let examples: Vec<String> = row.examples.iter().map(ToString::to_string).collect();
            tracing::warn!(target: "lists", event = "refused", source, reason = %row.reason, entries = row.entries,
                examples = examples.join(" "));
        }
        self.told = self.refusals.clone();
    }

    /// For `lists show`.
    pub(crate) fn row(&self, installed: usize, now: Timestamp) -> AdmissionRow {
        let thaws = |freeze: &Freeze| self.limits.thaw_after.map(|after| freeze.since.plus(after));
        let (state, since, until, why) = match (&self.freeze, self.observed_until(now)) {
            (Some(freeze), _) => {
                (AdmissionState::Frozen, Some(freeze.since), thaws(freeze), Some(freeze.why.clone()))
            }
            (None, Some(until)) if self.first.is_some() => {
                (AdmissionState::Observing, self.first, Some(until), None)
            }
            (None, _) => (AdmissionState::Open, None, None, None),
        };
        AdmissionRow {
            state,
            since,
            until,
            why,
            received: self.received(),
            accepted: self.received().saturating_sub(self.refusals.refused()),
            installed,
            waiting: self.refusals.waiting(),
            refused: self.refusals.rows(),
        }
    }

    /// Entries that the source has now.
    fn received(&self) -> usize {
        self.offered + self.installed + self.aside.len()
    }

    /// Entries that are not in the tables because something is wrong with them.
    pub(crate) fn refused(&self) -> usize {
        self.refusals.refused()
    }

    /// Most entries that it may bring.
    pub(crate) fn max_entries(&self) -> usize {
        self.limits.max_entries
    }
}

/// What the gate of one source works on.
pub(crate) struct Desk<'a> {
    pub(crate) merged: &'a mut Merged,
    pub(crate) gate: &'a mut Gate,
    pub(crate) guarded: &'a Guarded,
    pub(crate) origin: Origin,
    pub(crate) source: &'a str,
    pub(crate) now: Timestamp,
}

impl Desk<'_> {
    fn effect(&self, table: TableIndex, sense: Sense) -> Effect {
        Effect::of(self.merged.action(table).unwrap_or(Action::Drop), sense)
    }

    /// What is wrong with an entry by itself.
    fn wrong(&self, table: TableIndex, prefix: IpNet, sense: Sense) -> Option<Reason> {
        if let Some(reason) = self.gate.form(prefix, sense) {
            return Some(reason);
        }
        let blocks = self.effect(table, sense) == Effect::Blocks;
        (blocks && self.guarded.hit(prefix).is_some()).then_some(Reason::Protected)
    }

    /// Says that the feed is frozen from now on.
    fn freeze(&mut self, freeze: Freeze) {
        tracing::error!(target: "lists", event = "frozen", source = self.source, why = %freeze.why,
            "new entries wait; `mailgate lists thaw` takes them");
        self.gate.freeze = Some(freeze);
        self.gate.is_dirty = true;
    }

    /// Says that the feed is believed again.
    fn unfreeze(&mut self, why: impl fmt::Display) {
        if self.gate.freeze.take().is_some() {
            tracing::warn!(target: "lists", event = "thawed", source = self.source, %why);
            self.gate.is_dirty = true;
        }
    }
}
