//! What one peer announces (RFC 4271 §3.2, Adj-RIB-In), and which tables that means. Pure.
//!
//! A route is eight bytes beside its prefix and allocates nothing: what it carries stands once in [`Sets`]. With the room
//! that a hash table keeps free, that is 19 to 39 bytes for each IPv4 route and 38 to 75 for each of IPv6; routes with a
//! path identifier (RFC 7911) take 16 bytes more for each prefix, and 12 to 16 for each path.

mod half;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ipnet::IpNet;
use mailgate_proto::bgp::{Attributes, Families, Family, Nlri, Update};

use super::community::{Marks, Pattern, Speakers};
use super::sets::{Carried, Sets};
use crate::TableName;
use crate::admit::{Step, StepKind};
use crate::config::{BgpConfig, FirstAs};
use crate::merge::TableIndex;
use crate::prefix::{Key4, Key6};
pub(crate) use half::Seen;
use half::{Half, Route};

/// A set of tables, one bit each.
pub(super) type Tables = u64;

/// Most paths kept for one prefix (RFC 7911 has no limit); more are left out.
const PATHS_LIMIT: usize = 64;

/// What is taken from a peer, and as what.
#[derive(Clone)]
pub(crate) struct Policy {
    pub(crate) speakers: Speakers,
    pub(crate) first_as: FirstAs,
    pub(crate) max_prefix: usize,
    pub(crate) communities: Vec<(Pattern, TableIndex)>,
    /// The names of these tables.
    pub(crate) names: BTreeMap<TableIndex, TableName>,
}

/// What became of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    /// Within the limits; in these tables, perhaps none.
    Accepted(Tables),
    /// Kept only so that it can be counted, shown and withdrawn.
    Refused(Why),
}

/// Why a route is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Why {
    /// The first AS of the path is not the neighbour's (RFC 4271 §6.3).
    FirstAs,
    /// Our own AS is in the path (RFC 4271 §9.1.2).
    OwnAs,
}

impl Why {
    pub(crate) const ALL: [Self; 2] = [Self::FirstAs, Self::OwnAs];

    /// For people.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::FirstAs => "first AS is another",
            Self::OwnAs => "our AS in the path",
        }
    }
}

/// The peer announces more prefixes than it may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyPrefixes;

/// Everything one peer announces, and what is left of its last session.
pub(crate) struct Rib {
    policy: Policy,
    sets: Sets,
    v4: Half<Key4>,
    v6: Half<Key6>,
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
    /// Refused, by [`Why::ALL`].
    pub(crate) refused: [usize; Why::ALL.len()],
}

impl Policy {
    /// From the configuration; `index` finds tables by name.
    pub(crate) fn new(config: &BgpConfig, index: impl Fn(&crate::TableName) -> Option<TableIndex>) -> Self {
        let community = |(pattern, table): (&Pattern, _)| Some((*pattern, index(table)?));
        let named = config.communities.values().filter_map(|name| Some((index(name)?, name.clone())));
        Self {
            speakers: Speakers { local_as: config.local_as, peer_as: config.peer_as },
            first_as: config.first_as,
            max_prefix: usize::try_from(config.max_prefix).unwrap_or(usize::MAX),
            communities: config.communities.iter().filter_map(community).collect(),
            names: named.collect(),
        }
    }

    /// What the attributes mean for all prefixes that carry them.
    fn judge(&self, attributes: &Attributes, marks: &Marks) -> Fate {
        let Speakers { local_as, peer_as } = self.speakers;
        let path = attributes.path();
        if path.contains(local_as) && local_as != peer_as {
            return Fate::Refused(Why::OwnAs);
        }
        // In an internal session the path begins elsewhere.
        if self.first_as == FirstAs::Enforce && local_as != peer_as && path.first() != Some(peer_as) {
            return Fate::Refused(Why::FirstAs);
        }
        self.tables(marks)
    }

    /// The tables that communities mean.
    fn tables(&self, marks: &Marks) -> Fate {
        let meant = self.communities.iter().filter(|(pattern, _)| pattern.matches(marks, self.speakers));
        Fate::Accepted(meant.fold(0, |tables, (_, table)| tables | bit(*table)))
    }
}

fn bit(table: TableIndex) -> Tables {
    1_u64.checked_shl(table.into()).unwrap_or(0)
}

fn each(mut tables: Tables) -> impl Iterator<Item = TableIndex> {
    std::iter::from_fn(move || {
        let lowest = u8::try_from(tables.trailing_zeros()).ok().filter(|lowest| *lowest < 64)?;
        tables &= tables - 1;
        Some(lowest)
    })
}

impl Fate {
    pub(super) fn tables(self) -> Tables {
        match self {
            Self::Accepted(tables) => tables,
            Self::Refused(_) => 0,
        }
    }
}

impl Rib {
    pub(crate) fn new(policy: Policy) -> Self {
        Self {
            policy,
            sets: Sets::default(),
            v4: Half::default(),
            v6: Half::default(),
            counts: Counts::default(),
        }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Bytes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes() + self.sets.len() * 256
    }

    /// A session is over or a new one begins, or all routes of these families will be announced anew.
    pub(crate) fn begin(&mut self, families: Families) {
        if families.ipv4 {
            self.v4.begin();
        }
        if families.ipv6 {
            self.v6.begin();
        }
        self.counts.stale = self.v4.stale() + self.v6.stale();
    }

    /// Whether routes of a family are left of before.
    pub(crate) fn is_stale(&self, family: Family) -> bool {
        let stale = if family == Family::Ipv4Unicast { self.v4.stale() } else { self.v6.stale() };
        stale > 0
    }

    /// Takes an UPDATE: withdrawals first, so that a prefix in both is announced (RFC 4271 §3.1).
    pub(crate) fn apply(&mut self, update: &Update, steps: &mut Vec<Step>) -> Result<(), TooManyPrefixes> {
        for nlri in update.all_withdrawn() {
            self.remove(nlri, steps);
        }
        let mut announced = update.all_announced().peekable();
        if announced.peek().is_none() {
            return Ok(());
        }
        let marks = Marks::of(&update.attributes);
        let fate = self.policy.judge(&update.attributes, &marks);
        self.insert_all(announced, &marks, fate, steps)
    }

    /// Takes routes that were saved; their communities are judged anew.
    pub(crate) fn restore(
        &mut self,
        routes: impl Iterator<Item = Nlri>,
        marks: &Marks,
        steps: &mut Vec<Step>,
    ) -> Result<(), TooManyPrefixes> {
        let fate = self.policy.tables(marks);
        self.insert_all(routes, marks, fate, steps)
    }

    fn insert_all(
        &mut self,
        routes: impl Iterator<Item = Nlri>,
        marks: &Marks,
        fate: Fate,
        steps: &mut Vec<Step>,
    ) -> Result<(), TooManyPrefixes> {
        let usual = self.sets.number(Carried { marks: marks.clone(), fate });
        let mut is_full = false;
        for nlri in routes {
            if !self.is_crowded(nlri) {
                self.insert(nlri, usual, steps);
            }
            if self.len() - self.counts.stale > self.policy.max_prefix {
                is_full = true;
                break;
            }
        }
        self.sets.settle(usual);
        if is_full {
            return Err(TooManyPrefixes);
        }
        // Sessions that never reach the end of their routes must not pile up leavings.
        if self.len() > self.policy.max_prefix.saturating_mul(2) {
            self.age_out(steps);
        }
        Ok(())
    }

    /// All routes of a family are there: what was not announced anew is gone.
    pub(crate) fn end(&mut self, family: Family, steps: &mut Vec<Step>) {
        let gone = if family == Family::Ipv4Unicast { self.v4.left() } else { self.v6.left() };
        for nlri in gone {
            self.remove(nlri, steps);
        }
    }

    /// Drops what was not announced in this session.
    pub(crate) fn age_out(&mut self, steps: &mut Vec<Step>) {
        Family::ALL.into_iter().for_each(|family| self.end(family, steps));
    }

    /// All routes, in no order; with what each carries and what became of it.
    pub(crate) fn routes(&self) -> impl Iterator<Item = Seen<'_>> {
        self.v4.routes(&self.sets).chain(self.v6.routes(&self.sets))
    }

    /// The paths of one prefix.
    pub(crate) fn find(&self, prefix: IpNet) -> Vec<Seen<'_>> {
        match prefix {
            IpNet::V4(net) => self.v4.find(Key4::of(net), &self.sets),
            IpNet::V6(net) => self.v6.find(Key6::of(net), &self.sets),
        }
    }

    /// Whether no further path is kept for a prefix.
    fn is_crowded(&self, nlri: Nlri) -> bool {
        match nlri.prefix {
            IpNet::V4(net) => self.v4.is_crowded(Key4::of(net), nlri.path, PATHS_LIMIT),
            IpNet::V6(net) => self.v6.is_crowded(Key6::of(net), nlri.path, PATHS_LIMIT),
        }
    }

    fn insert(&mut self, nlri: Nlri, kind: u32, steps: &mut Vec<Step>) {
        let sets = &self.sets;
        let fates = |kind| sets.fate(kind).tables();
        let changed = match nlri.prefix {
            IpNet::V4(net) => self.v4.insert(Key4::of(net), nlri.path, kind, fates),
            IpNet::V6(net) => self.v6.insert(Key6::of(net), nlri.path, kind, fates),
        };
        self.sets.add(kind);
        self.account(nlri.prefix, changed, Some(kind), steps);
    }

    fn remove(&mut self, nlri: Nlri, steps: &mut Vec<Step>) {
        let sets = &self.sets;
        let fates = |kind| sets.fate(kind).tables();
        let changed = match nlri.prefix {
            IpNet::V4(net) => self.v4.remove(Key4::of(net), nlri.path, fates),
            IpNet::V6(net) => self.v6.remove(Key6::of(net), nlri.path, fates),
        };
        if changed.before.is_some() {
            self.account(nlri.prefix, changed, None, steps);
        }
    }

    /// Counts, and says what changes in the tables.
    fn account(&mut self, prefix: IpNet, changed: half::Changed, after: Option<u32>, steps: &mut Vec<Step>) {
        let half::Changed { before, old, new } = changed;
        let fate = |kind: Option<u32>| kind.map(|kind| self.sets.fate(kind));
        let (was, is) = (fate(before.map(|route: Route| route.kind)), fate(after));
        let counts = &mut self.counts;
        for (fate, count) in [(was, -1_isize), (is, 1)] {
            match fate {
                Some(Fate::Accepted(_)) => counts.accepted = counts.accepted.saturating_add_signed(count),
                Some(Fate::Refused(why)) => counts.refuse(why, count),
                None => {}
            }
        }
        counts.received = self.v4.len() + self.v6.len();
        counts.stale = self.v4.stale() + self.v6.stale();
        counts.installed = counts.installed + usize::from(new != 0) - usize::from(old != 0);
        for table in each(old & !new) {
            counts.withdraw(table);
            steps.push(Step { table, prefix, kind: StepKind::Withdraw });
        }
        for table in each(new & !old) {
            counts.announce(table);
            steps.push(Step { table, prefix, kind: StepKind::Announce });
        }
        if let Some(route) = before {
            self.sets.drop(route.kind);
        }
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The names of the tables of a route.
    pub(crate) fn names(&self, fate: Fate) -> Vec<TableName> {
        each(fate.tables()).filter_map(|table| self.policy.names.get(&table).cloned()).collect()
    }

    /// The tables of a route.
    pub(crate) fn tables_of(fate: Fate) -> impl Iterator<Item = TableIndex> {
        each(fate.tables())
    }
}

impl Counts {
    /// Routes of this session.
    pub(crate) fn fresh(&self) -> usize {
        self.received.saturating_sub(self.stale)
    }

    fn refuse(&mut self, why: Why, count: isize) {
        let place = Why::ALL.iter().position(|other| *other == why).and_then(|at| self.refused.get_mut(at));
        place.into_iter().for_each(|place| *place = place.saturating_add_signed(count));
    }

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
