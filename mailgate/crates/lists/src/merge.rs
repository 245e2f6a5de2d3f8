//! The merged tables: which origin claims which prefix, what the edge therefore sees, and what changed.
//!
//! An *origin* is the administrator, the daemon itself, or one source. Every origin may claim a prefix in a table, as
//! listed or as a hole; the entry that the edge sees is that of the highest-ranking origin: entries by hand before
//! those of the daemon, of the configuration, of files and of peers, each in the order of configuration. When an origin
//! withdraws, the others' claims stay.
//!
//! A bypass that feeds fill is two tables to the edge: all of it, which counts less than any block, and what is of no
//! feed, which counts more. So an administrator's block beats a feed's bypass, and his bypass beats every block.

mod ask;
mod bulk;
mod layers;
mod slot;
mod stream;
mod table;
mod tally;
mod tell;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use ipnet::IpNet;
use mailgate_model::Timestamp;

use crate::Error;
use crate::config::TableConfig;
use crate::prefix::{Key4, Key6, PrefixSet, Sense};
use crate::table::{Action, TableName};
use layers::Seen;
pub(crate) use slot::{Claim, Fold};
pub(crate) use table::Found;
use table::State;
pub use tally::Hit;
pub(crate) use tally::{Baseline, Count, Tally};
use tell::{Pending, delta_limit};

/// Who claims: the rank, zero for entries made by hand.
pub(crate) type Origin = u16;

/// The administrator.
pub(crate) const MANUAL: Origin = 0;

/// The daemon itself, when a source exceeds a limit.
pub(crate) const OVERLOAD: Origin = 1;

/// Entries that stand in the configuration.
pub(crate) const CONFIG: Origin = 2;

/// The first of the files and peers.
pub(crate) const SOURCES: Origin = 3;

/// Position of a table in the configuration.
pub(crate) type TableIndex = u8;

/// Beside the position of a bypass that feeds fill: what the administrator says in it, which the edge is told as a table
/// of its own. Above all positions.
const OWN: TableIndex = 1 << 7;

/// All tables.
pub(crate) struct Merged {
    tables: Vec<State>,
    pending: Pending,
    /// Counts what the edge has to be told.
    revision: u64,
    /// Entries that end, soonest first.
    expiries: BTreeSet<(Timestamp, TableIndex, Origin, IpNet)>,
    /// Claims of all origins in all tables.
    claims: usize,
    /// Most of them.
    limit: usize,
    baseline: Baseline,
}

/// What replacing one origin's set did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) added: usize,
    pub(crate) changed: usize,
    pub(crate) deleted: usize,
}

impl std::ops::AddAssign for Difference {
    fn add_assign(&mut self, other: Self) {
        self.added += other.added;
        self.changed += other.changed;
        self.deleted += other.deleted;
    }
}

impl Difference {
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn count(&mut self, was: bool, is: bool) {
        match (was, is) {
            (false, true) => self.added += 1,
            (true, false) => self.deleted += 1,
            _ => self.changed += 1,
        }
    }
}

impl Merged {
    /// Empty tables; the edge has to be told everything.
    pub(crate) fn new(tables: impl IntoIterator<Item = TableConfig>, limit: usize, now: Timestamp) -> Self {
        let tables = tables.into_iter().map(|config| State::new(config, now));
        Self {
            tables: tables.collect(),
            pending: Pending::Reload,
            revision: 1,
            expiries: BTreeSet::new(),
            claims: 0,
            limit,
            baseline: Baseline::default(),
        }
    }

    /// The position of a table.
    pub(crate) fn index(&self, name: &TableName) -> Option<TableIndex> {
        self.tables
            .iter()
            .position(|table| table.config.name == *name)
            .and_then(|at| TableIndex::try_from(at).ok())
    }

    /// Names, actions and numbers of different prefixes, in order.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (&TableName, Action, usize)> {
        self.tables.iter().map(|table| (&table.config.name, table.config.action, table.len()))
    }

    /// How a table is configured.
    pub(crate) fn config(&self, table: TableIndex) -> Option<&TableConfig> {
        self.tables.get(usize::from(table)).map(|table| &table.config)
    }

    /// What a table does.
    pub(crate) fn action(&self, table: TableIndex) -> Option<Action> {
        self.config(table).map(|config| config.action)
    }

    /// This origin is a feed of the table. To be said before anything comes from it.
    pub(crate) fn fed_by(&mut self, table: TableIndex, origin: Origin) {
        if let Some(state) = self.tables.get_mut(usize::from(table)) {
            state.feeds.insert(origin);
        }
    }

    /// What a table does on behalf of an origin: the bypass of a feed comes behind every block, the administrator's
    /// before.
    pub(crate) fn action_of(&self, table: TableIndex, origin: Origin) -> Option<Action> {
        let state = self.tables.get(usize::from(table))?;
        let is_feeds = state.is_fed() && state.feeds.contains(&origin);
        Some(if is_feeds { Action::FeedBypass } else { state.config.action })
    }

    /// What a table does with an address that it holds.
    pub(crate) fn meaning(&self, table: TableIndex, address: IpAddr) -> Option<Action> {
        let state = self.tables.get(usize::from(table))?;
        if !state.is_fed() {
            return Some(state.config.action);
        }
        let is_own = self.own_covering(table, address).is_some_and(|entry| !entry.negated);
        Some(if is_own { Action::Bypass } else { Action::FeedBypass })
    }

    /// What an origin that brings sets has brought.
    pub(crate) fn set_of(&self, table: TableIndex, origin: Origin) -> PrefixSet {
        let state = self.tables.get(usize::from(table));
        state
            .map(|state| PrefixSet::of(state.v4.bulk_of(origin), state.v6.bulk_of(origin)))
            .unwrap_or_default()
    }

    /// What an origin claims that has an address of a network.
    pub(crate) fn overlapping(
        &self,
        table: TableIndex,
        network: IpNet,
        origin: Origin,
    ) -> Vec<(IpNet, Sense)> {
        let Some(state) = self.tables.get(usize::from(table)) else { return Vec::new() };
        match network {
            IpNet::V4(_) => state.v4.overlapping(network, origin),
            IpNet::V6(_) => state.v6.overlapping(network, origin),
        }
    }

    /// Whether `asked` more entries fit.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub(crate) fn expect_room(&self, asked: usize) -> Result<(), Error> {
        let (room, held, limit) = (self.room(), self.claims(), self.limit);
        if asked <= room { Ok(()) } else { Err(Error::Full { asked, held, limit, room }) }
    }

    /// How many claims each origin has in a table.
    pub(crate) fn counts(&self, table: TableIndex) -> impl Iterator<Item = (Origin, usize)> {
        self.tables.get(usize::from(table)).into_iter().flat_map(|table| &table.counts).map(|(o, n)| (*o, *n))
    }

    /// How many claims an origin has in one table.
    pub(crate) fn count(&self, table: TableIndex, origin: Origin) -> usize {
        self.counts(table).find(|(other, _)| *other == origin).map_or(0, |(_, count)| count)
    }

    /// Claims of all origins in all tables.
    pub(crate) fn claims(&self) -> usize {
        self.claims
    }

    /// Most of them.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// How many more there may be.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.claims())
    }

    /// Bytes of a table, about.
    pub(crate) fn bytes(&self, table: TableIndex) -> usize {
        self.tables.get(usize::from(table)).map_or(0, |table| table.v4.bytes() + table.v6.bytes())
    }

    /// Makes, changes or, with `None`, withdraws one claim of a live origin. Returns the claim before.
    pub(crate) fn set(
        &mut self,
        table: TableIndex,
        prefix: IpNet,
        origin: Origin,
        claim: Option<Claim>,
    ) -> Option<Claim> {
        let state = self.tables.get_mut(usize::from(table))?;
        let is_own = state.is_own(origin);
        let changed = match prefix {
            IpNet::V4(net) => state.v4.set(Key4::of(net), origin, claim),
            IpNet::V6(net) => state.v6.set(Key6::of(net), origin, claim),
        };
        let (was, is) = (changed.before.is_some(), claim.is_some());
        state.recount(origin, was, is);
        self.claims = self.claims + usize::from(is) - usize::from(was);
        if claim.is_none() && origin == OVERLOAD {
            state.notes.remove(&prefix);
        }
        if changed.visible {
            state.cache = Weak::new();
            if claim.is_none() && state.shown(prefix).is_none() {
                state.uncount(prefix);
            }
        }
        self.schedule(table, prefix, origin, changed.before, claim);
        if changed.visible {
            self.mark(table, prefix);
        }
        if is_own {
            self.mark(table | OWN, prefix);
        }
        changed.before
    }

    /// Replaces all claims of an origin that brings sets by a sorted one.
    pub(crate) fn replace(
        &mut self,
        table: TableIndex,
        origin: Origin,
        set: PrefixSet,
        now: Timestamp,
    ) -> Difference {
        let mut seen = Seen::new(delta_limit(self.len()));
        let count = set.len();
        let Some(state) = self.tables.get_mut(usize::from(table)) else { return seen.difference };
        state.v4.replace_bulk(origin, set.v4, now, &mut seen);
        state.v6.replace_bulk(origin, set.v6, now, &mut seen);
        let before = state.counts.insert(origin, count).unwrap_or_default();
        state.counts.retain(|_, count| *count > 0);
        self.claims = self.claims + count - before;
        let is_own = state.is_own(origin);
        let difference = self.replaced(table, seen);
        if is_own && !difference.is_empty() {
            self.reload();
        }
        difference
    }

    fn replaced(&mut self, table: TableIndex, seen: Seen) -> Difference {
        let Seen { difference, visible, .. } = seen;
        if let Some(state) = self.tables.get_mut(usize::from(table)) {
            if visible.as_ref().is_none_or(|visible| !visible.is_empty()) {
                state.cache = Weak::new();
            }
            if difference.deleted > 0 {
                state.uncount_missing();
            }
        }
        match visible {
            Some(visible) => visible.into_iter().for_each(|prefix| self.mark(table, prefix)),
            None => self.reload(),
        }
        difference
    }

    /// Withdraws what has ended by `now`, and says when the next entry ends.
    pub(crate) fn expire(&mut self, now: Timestamp) -> Option<Timestamp> {
        while let Some((at, table, origin, prefix)) = self.expiries.first().copied() {
            if at > now {
                return Some(at);
            }
            // `set` takes it out of `expiries`; removing it here too keeps the loop finite whatever happens.
            self.expiries.pop_first();
            self.set(table, prefix, origin, None);
        }
        None
    }

    /// Says something of an entry of the daemon.
    pub(crate) fn annotate(&mut self, table: TableIndex, prefix: IpNet, note: Option<Arc<str>>) {
        let Some(state) = self.tables.get_mut(usize::from(table)) else { return };
        match note {
            Some(note) => state.notes.insert(prefix, note),
            None => state.notes.remove(&prefix),
        };
    }

    /// What a table has counted.
    pub(crate) fn tally(&self, table: TableIndex) -> Option<&Tally> {
        self.tables.get(usize::from(table)).map(|table| &table.tally)
    }

    /// The same, to clear or to restore it.
    pub(crate) fn tally_mut(&mut self, table: TableIndex) -> Option<&mut Tally> {
        self.tables.get_mut(usize::from(table)).map(|table| &mut table.tally)
    }

    /// What the kernel had counted when it was last asked.
    pub(crate) fn baseline(&mut self) -> &mut Baseline {
        &mut self.baseline
    }

    /// Gives what the kernel has counted to the most specific entries; a hole counts nothing, because the kernel counts
    /// only what a table holds. Says whether anything was new.
    pub(crate) fn take_hits(&mut self, hits: &[Hit]) -> bool {
        let news = self.baseline.news(hits);
        for state in &mut self.tables {
            if state.tally.since.is_none() {
                continue;
            }
            let mut tally = std::mem::take(&mut state.tally);
            let (v4, v6) = (state.v4.lengths(), state.v6.lengths());
            for hit in &news {
                let lengths = if hit.source.is_ipv4() { &v4 } else { &v6 };
                let entry = state.covering(hit.source, lengths).filter(|entry| !entry.negated);
                if let Some(entry) = entry {
                    tally.add(entry.prefix, hit.packets, hit.bytes, hit.last);
                }
            }
            state.tally = tally;
        }
        !news.is_empty()
    }

    /// Entries of all tables.
    fn len(&self) -> usize {
        self.tables.iter().map(State::len).sum()
    }

    /// Keeps `expiries` in step with a claim.
    fn schedule(
        &mut self,
        table: TableIndex,
        prefix: IpNet,
        origin: Origin,
        before: Option<Claim>,
        after: Option<Claim>,
    ) {
        if let Some(at) = before.and_then(Claim::expires) {
            self.expiries.remove(&(at, table, origin, prefix));
        }
        if let Some(at) = after.and_then(Claim::expires) {
            self.expiries.insert((at, table, origin, prefix));
        }
    }
}
