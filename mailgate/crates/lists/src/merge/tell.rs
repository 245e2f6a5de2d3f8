//! What the edge is told: single differences, or everything where that costs less.

use std::collections::HashSet;
use std::sync::Arc;

use ipnet::IpNet;

use super::table::State;
use super::{Merged, OWN, TableIndex};
use crate::table::{Action, Change, Snapshot, Table};

/// Fewer differences than this are always sent one by one.
const DELTA_MIN: usize = 4096;

/// Above [`DELTA_MIN`], differences are sent one by one up to this part of all entries; more cost less as a reload.
const DELTA_PART: usize = 4;

/// What the edge has not yet been told.
pub(super) enum Pending {
    Delta(HashSet<(TableIndex, IpNet)>),
    Reload,
}

impl Merged {
    /// Whether there is something to tell the edge.
    pub(crate) fn is_pending(&self) -> bool {
        match &self.pending {
            Pending::Delta(marks) => !marks.is_empty(),
            Pending::Reload => true,
        }
    }

    /// Up to where the edge has something to be told, or has been.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// What the edge has to be told; never an empty batch.
    pub(crate) fn take_changes(&mut self) -> Option<Vec<Change>> {
        match std::mem::replace(&mut self.pending, Pending::Delta(HashSet::new())) {
            Pending::Reload => Some(vec![Change::Reload(self.snapshot())]),
            Pending::Delta(marks) if marks.is_empty() => None,
            Pending::Delta(marks) => {
                let change = |(index, prefix): (TableIndex, IpNet)| {
                    let table = self.tables.get(usize::from(index & !OWN))?;
                    let (name, shown) = if index & OWN == 0 {
                        (table.config.name.clone(), table.shown(prefix))
                    } else {
                        (table.config.name.own(), table.own_shown(prefix))
                    };
                    Some(match shown {
                        Some(entry) => Change::Add(name, entry),
                        None => Change::Delete(name, prefix),
                    })
                };
                Some(marks.into_iter().filter_map(change).collect())
            }
        }
    }

    /// All tables as they are now; tables that have not changed share their entries with the last snapshot, if anybody
    /// still holds it.
    pub(crate) fn snapshot(&mut self) -> Snapshot {
        let table = |state: &mut State| Table {
            name: state.config.name.clone(),
            action: if state.is_fed() { Action::FeedBypass } else { state.config.action },
            entries: state.entries(),
        };
        let own = |state: &State| Table {
            name: state.config.name.own(),
            action: Action::Bypass,
            entries: Arc::new(state.own_entries()),
        };
        let mut tables: Vec<Table> = self.tables.iter_mut().map(table).collect();
        tables.extend(self.tables.iter().filter(|state| state.is_fed()).map(own));
        Snapshot { tables }
    }

    /// Remembers that the edge has to be told about a prefix.
    pub(super) fn mark(&mut self, table: TableIndex, prefix: IpNet) {
        let limit = match &self.pending {
            Pending::Delta(marks) if marks.len() >= DELTA_MIN => delta_limit(self.len()),
            _ => DELTA_MIN,
        };
        self.revision += 1;
        if let Pending::Delta(marks) = &mut self.pending {
            if marks.len() < limit {
                marks.insert((table, prefix));
            } else {
                self.pending = Pending::Reload;
            }
        }
    }

    /// Remembers that the edge has to be told everything.
    pub(crate) fn reload(&mut self) {
        self.revision += 1;
        self.pending = Pending::Reload;
    }
}

pub(super) fn delta_limit(entries: usize) -> usize {
    DELTA_MIN.max(entries / DELTA_PART)
}
