//! What one peer announces (RFC 4271 §3.2, Adj-RIB-In), and which tables that means. Pure.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use ipnet::IpNet;
use mailgate_proto::bgp::{Attributes, Family, Update};

use super::Pattern;
use crate::admit::{Step, StepKind};
use crate::config::{BgpConfig, FirstAs};
use crate::merge::TableIndex;

/// A set of tables, one bit each.
type Tables = u64;

/// What is taken from a peer, and as what.
pub(crate) struct Policy {
    pub(crate) local_as: u32,
    pub(crate) peer_as: u32,
    pub(crate) first_as: FirstAs,
    pub(crate) max_prefix: usize,
    pub(crate) communities: Vec<(Pattern, TableIndex)>,
}

/// One route.
struct Route {
    /// The session that announced it last.
    session: u32,
    fate: Fate,
}

/// What became of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Within the limits; in these tables, perhaps none.
    Accepted(Tables),
    /// Kept only so that it can be counted and withdrawn.
    Refused,
}

/// The peer announces more prefixes than it may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyPrefixes;

/// Everything one peer announces, and what is left of its last session.
pub(crate) struct Rib {
    policy: Policy,
    routes: HashMap<IpNet, Route>,
    session: u32,
    counts: Counts,
}

/// How many routes, those of a lost session included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// All.
    pub(crate) received: usize,
    /// Within the limits.
    pub(crate) accepted: usize,
    /// In a table.
    pub(crate) installed: usize,
    /// Not announced in this session.
    pub(crate) stale: usize,
    /// In each table.
    pub(crate) tables: Vec<(TableIndex, usize)>,
}

impl Policy {
    /// From the configuration; `index` finds tables by name.
    pub(crate) fn new(config: &BgpConfig, index: impl Fn(&crate::TableName) -> Option<TableIndex>) -> Self {
        let community = |(pattern, table): (&Pattern, _)| Some((*pattern, index(table)?));
        Self {
            local_as: config.local_as,
            peer_as: config.peer_as,
            first_as: config.first_as,
            max_prefix: usize::try_from(config.max_prefix).unwrap_or(usize::MAX),
            communities: config.communities.iter().filter_map(community).collect(),
        }
    }

    /// What the attributes mean for all prefixes that carry them.
    fn judge(&self, attributes: &Attributes) -> Fate {
        let path = attributes.path();
        // RFC 4271 §9.1.2: a path with our AS has been here before.
        if path.contains(self.local_as) && self.local_as != self.peer_as {
            return Fate::Refused;
        }
        // RFC 4271 §6.3. In an internal session the path begins elsewhere.
        let is_external = self.local_as != self.peer_as;
        if self.first_as == FirstAs::Enforce && is_external && path.first() != Some(self.peer_as) {
            return Fate::Refused;
        }
        let (plain, large) = (&attributes.communities, &attributes.large_communities);
        let meant = self.communities.iter().filter(|(pattern, _)| pattern.matches(plain, large));
        Fate::Accepted(meant.fold(0, |tables, (_, table)| tables | bit(*table)))
    }
}

fn bit(table: TableIndex) -> Tables {
    1_u64.checked_shl(table.into()).unwrap_or(0)
}

fn each(tables: Tables) -> impl Iterator<Item = TableIndex> {
    (0..64).filter(move |table| tables & bit(*table) != 0)
}

impl Fate {
    fn tables(self) -> Tables {
        match self {
            Self::Accepted(tables) => tables,
            Self::Refused => 0,
        }
    }
}

impl Rib {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { policy, routes: HashMap::new(), session: 0, counts: Counts::default() }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// A session is over or a new one begins: what there is has to be announced anew.
    pub(crate) fn begin(&mut self) {
        self.session = self.session.wrapping_add(1);
        self.counts.stale = self.routes.len();
    }

    /// Takes an UPDATE: withdrawals first, so that a prefix in both is announced (RFC 4271 §3.1).
    pub(crate) fn apply(&mut self, update: &Update, steps: &mut Vec<Step>) -> Result<(), TooManyPrefixes> {
        for prefix in update.all_withdrawn() {
            self.remove(prefix, steps);
        }
        let fate = self.policy.judge(&update.attributes);
        for prefix in update.all_announced() {
            self.insert(prefix, fate, steps);
            if self.routes.len() - self.counts.stale > self.policy.max_prefix {
                return Err(TooManyPrefixes);
            }
        }
        // Sessions that never reach the end of their routes must not pile up leavings.
        if self.routes.len() > self.policy.max_prefix.saturating_mul(2) {
            self.purge(|_| true, steps);
        }
        Ok(())
    }

    /// All routes of a family are there: what was not announced anew is gone.
    pub(crate) fn end(&mut self, family: Family, steps: &mut Vec<Step>) {
        self.purge(|prefix| matches!(prefix, IpNet::V4(_)) == (family == Family::Ipv4Unicast), steps);
    }

    /// Drops what was not announced in this session.
    pub(crate) fn age_out(&mut self, steps: &mut Vec<Step>) {
        self.purge(|_| true, steps);
    }

    fn purge(&mut self, chosen: impl Fn(IpNet) -> bool, steps: &mut Vec<Step>) {
        if self.counts.stale == 0 {
            return;
        }
        let old: Vec<IpNet> = self
            .routes
            .iter()
            .filter(|(prefix, route)| route.session != self.session && chosen(**prefix))
            .map(|(prefix, _)| *prefix)
            .collect();
        for prefix in old {
            self.remove(prefix, steps);
        }
    }

    fn insert(&mut self, prefix: IpNet, fate: Fate, steps: &mut Vec<Step>) {
        let route = Route { session: self.session, fate };
        let before = match self.routes.entry(prefix) {
            Slot::Occupied(mut slot) => Some(slot.insert(route)),
            Slot::Vacant(slot) => {
                slot.insert(route);
                None
            }
        };
        self.account(prefix, before, Some(fate), steps);
    }

    fn remove(&mut self, prefix: IpNet, steps: &mut Vec<Step>) {
        if let Some(before) = self.routes.remove(&prefix) {
            self.account(prefix, Some(before), None, steps);
        }
    }

    /// Counts, and says what changes in the tables.
    fn account(&mut self, prefix: IpNet, before: Option<Route>, after: Option<Fate>, steps: &mut Vec<Step>) {
        let counts = &mut self.counts;
        if before.as_ref().is_some_and(|route| route.session != self.session) {
            counts.stale -= 1;
        }
        let before = before.map(|route| route.fate);
        counts.received = self.routes.len();
        let accepted = |fate: Option<Fate>| usize::from(matches!(fate, Some(Fate::Accepted(_))));
        counts.accepted = counts.accepted + accepted(after) - accepted(before);
        let (old, new) = (before.map_or(0, Fate::tables), after.map_or(0, Fate::tables));
        counts.installed = counts.installed + usize::from(new != 0) - usize::from(old != 0);
        for table in each(old & !new) {
            counts.withdraw(table);
            steps.push(Step { table, prefix, kind: StepKind::Withdraw });
        }
        for table in each(new & !old) {
            counts.announce(table);
            steps.push(Step { table, prefix, kind: StepKind::Announce });
        }
    }
}

impl Counts {
    fn announce(&mut self, table: TableIndex) {
        match self.tables.iter_mut().find(|(other, _)| *other == table) {
            Some((_, count)) => *count += 1,
            None => self.tables.push((table, 1)),
        }
    }

    fn withdraw(&mut self, table: TableIndex) {
        if let Some((_, count)) = self.tables.iter_mut().find(|(other, _)| *other == table) {
            *count = count.saturating_sub(1);
        }
    }
}
