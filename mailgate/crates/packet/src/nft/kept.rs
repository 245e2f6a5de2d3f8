//! What the kernel has, and what it is to have.

use std::collections::BTreeMap;

use ipnet::IpNet;
use mailgate_common::hidden;
use mailgate_lists::{Change, TableName};
use mailgate_model::Timestamp;

use super::super::{Error, Standing};
use super::hits::Hits;
use super::ranges::Ranges;
use super::script::{Of, Stations};
use crate::firewall::{Effective, RuleSet};

/// Entries over all tables that are taken.
const ENTRIES: usize = 1_000_000;

/// Of IPv4 and of IPv6.
pub(super) type Both = [Ranges; 2];

/// The sets, the rules, and what they are made from.
#[derive(Default)]
pub(super) struct Kept {
    tables: BTreeMap<TableName, Both>,
    pub(super) protected: Both,
    /// By bit; none where the edge weighs behaviour itself.
    behaviour: BTreeMap<u8, Both>,
    pub(super) stations: Stations,
    pub(super) hits: Hits,
    /// The rules in force; `None` until the first tables are.
    pub(super) rules: Option<String>,
    /// The rules to go back to when those in force are not confirmed.
    pub(super) confirmed: Option<(Vec<Effective>, RuleSet)>,
    /// Detached: nothing is put there any more.
    pub(super) ended: bool,
    /// What another backend left, removed once we are in force.
    pub(super) before: Option<Box<dyn FnOnce() + Send>>,
}

impl Kept {
    /// Nothing yet; with or without sets for behaviour.
    pub(super) fn new(heeds_behaviour: bool, before: Box<dyn FnOnce() + Send>) -> Self {
        let bits = [hidden::ADMITTED, hidden::TRAPPED, hidden::PASSED];
        let behaviour = if heeds_behaviour { bits.map(|bit| (bit, empty())).into() } else { BTreeMap::new() };
        Self { protected: empty(), behaviour, before: Some(before), ..Self::default() }
    }

    /// Whether there are no tables yet.
    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// All sets, in an order that stays.
    pub(super) fn sets(&self) -> impl Iterator<Item = (Of<'_>, &Both)> {
        let tables = self.tables.iter().map(|(name, both)| (Of::Table(name), both));
        let behaviour = self.behaviour.iter().map(|(bit, both)| (Of::Behaviour(*bit), both));
        tables.chain([(Of::Protected, &self.protected)]).chain(behaviour)
    }

    /// The same, to be changed.
    pub(super) fn sets_mut(&mut self) -> impl Iterator<Item = (Of<'_>, &mut Both)> {
        let tables = self.tables.iter_mut().map(|(name, both)| (Of::Table(name), both));
        let behaviour = self.behaviour.iter_mut().map(|(bit, both)| (Of::Behaviour(*bit), both));
        tables.chain([(Of::Protected, &mut self.protected)]).chain(behaviour)
    }

    /// Notes changes of the tables.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub(super) fn take(&mut self, changes: &[Change], now: Timestamp) -> Result<(), Error> {
        for change in changes {
            match change {
                Change::Add(table, entry) => {
                    let live = entry.expires.is_none_or(|at| at > now);
                    self.note(table, entry.prefix, live.then_some(entry.negated));
                }
                Change::Delete(table, prefix) => self.note(table, *prefix, None),
                Change::Reload(snapshot) => {
                    let found: usize = snapshot.tables.iter().map(|table| table.entries.len()).sum();
                    check_size(found)?;
                    let mut earlier = std::mem::take(&mut self.tables);
                    let same = earlier.len() == snapshot.tables.len()
                        && snapshot.tables.iter().all(|table| earlier.contains_key(&table.name));
                    if !same {
                        // Other sets: everything anew, in one transaction.
                        self.rules = None;
                    }
                    for table in &snapshot.tables {
                        let mut ranges = earlier.remove(&table.name).unwrap_or_else(empty);
                        ranges.iter_mut().for_each(Ranges::clear);
                        for entry in
                            table.entries.iter().filter(|entry| entry.expires.is_none_or(|at| at > now))
                        {
                            set(&mut ranges, entry.prefix, Some(entry.negated));
                        }
                        self.tables.insert(table.name.clone(), ranges);
                    }
                }
            }
        }
        self.fits()
    }

    /// Notes one entry (`None`: it goes).
    fn note(&mut self, table: &TableName, prefix: IpNet, hole: Option<bool>) {
        let Some(ranges) = self.tables.get_mut(table) else { return };
        set(ranges, prefix, hole);
    }

    /// Notes what behaviour says.
    ///
    /// # Errors
    /// [`Error::NoBehaviour`] where the kernel does not act on it, [`Error::TooLarge`].
    pub(super) fn stand(&mut self, standings: &[Standing]) -> Result<(), Error> {
        for standing in standings {
            for (bit, entry) in standing.marks() {
                let ranges = self.behaviour.get_mut(&bit).ok_or(Error::NoBehaviour)?;
                set(ranges, standing.network, entry);
            }
        }
        self.fits()
    }

    fn fits(&self) -> Result<(), Error> {
        check_size(self.sets().flat_map(|(_, ranges)| ranges).map(Ranges::len).sum())
    }
}

fn empty() -> Both {
    [Ranges::new(32), Ranges::new(128)]
}

fn check_size(found: usize) -> Result<(), Error> {
    let limit = ENTRIES as u64;
    if found > ENTRIES { Err(Error::TooLarge { slots: found as u64, limit }) } else { Ok(()) }
}

/// Sets or (`None`) deletes an entry of the set that it belongs to.
pub(super) fn set(ranges: &mut Both, prefix: IpNet, hole: Option<bool>) {
    let [v4, v6] = ranges;
    match prefix.trunc() {
        IpNet::V4(net) => v4.set(u32::from(net.network()).into(), net.prefix_len(), hole),
        IpNet::V6(net) => v6.set(net.network().into(), net.prefix_len(), hole),
    };
}
