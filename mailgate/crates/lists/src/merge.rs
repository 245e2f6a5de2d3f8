//! The merged tables: which origin claims which prefix, what the edge therefore sees, and what changed.
//!
//! An *origin* is the administrator or one source. Every origin may claim a prefix in a table, as listed or as
//! a hole; the entry that the edge sees is that of the highest-ranking origin: entries by hand before files
//! before peers, each in the order of configuration. When an origin withdraws, the others' claims stay.

mod slot;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use mailgate_model::Timestamp;

use crate::prefix::{Key, Key4, Key6, PrefixSet};
use crate::table::{Action, Change, Entry, Snapshot, Table, TableName};
pub(crate) use slot::Claim;
use slot::Slot;

/// Who claims: the rank, zero for entries made by hand.
pub(crate) type Origin = u16;

/// The administrator, and whoever else uses `Lists::add`.
pub(crate) const MANUAL: Origin = 0;

/// Position of a table in the configuration.
pub(crate) type TableIndex = u8;

/// Fewer differences than this are always sent one by one.
const DELTA_MIN: usize = 4096;

/// Above [`DELTA_MIN`], differences are sent one by one up to this part of all entries; more cost less as a reload.
const DELTA_PART: usize = 4;

/// A set replaced in more than this part of a table is merged by rebuilding the table: one pass instead of many
/// searches.
const REBUILD_PART: usize = 8;

/// All tables.
pub(crate) struct Merged {
    tables: Vec<State>,
    pending: Pending,
    /// Entries by hand that end, soonest first.
    expiries: BTreeSet<(Timestamp, TableIndex, IpNet)>,
}

/// One table.
struct State {
    name: TableName,
    action: Action,
    v4: BTreeMap<Key4, Slot>,
    v6: BTreeMap<Key6, Slot>,
    /// Claims of each origin.
    counts: BTreeMap<Origin, usize>,
    /// The last snapshot, while nothing has changed.
    cache: Option<Arc<Vec<Entry>>>,
}

/// What the edge has not yet been told.
enum Pending {
    Delta(HashSet<(TableIndex, IpNet)>),
    Reload,
}

/// An entry with its origins.
pub(crate) struct Found {
    pub(crate) entry: Entry,
    pub(crate) origins: Vec<Origin>,
}

/// What replacing one origin's set did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) added: usize,
    pub(crate) changed: usize,
    pub(crate) deleted: usize,
}

impl Difference {
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn count(&mut self, before: Option<Claim>, after: Option<Claim>) {
        match (before, after) {
            (None, Some(_)) => self.added += 1,
            (Some(_), None) => self.deleted += 1,
            _ => self.changed += 1,
        }
    }
}

impl Merged {
    /// Empty tables; the edge has to be told everything.
    pub(crate) fn new(tables: impl IntoIterator<Item = (TableName, Action)>) -> Self {
        let tables = tables.into_iter().map(|(name, action)| State {
            name,
            action,
            v4: BTreeMap::new(),
            v6: BTreeMap::new(),
            counts: BTreeMap::new(),
            cache: None,
        });
        Self { tables: tables.collect(), pending: Pending::Reload, expiries: BTreeSet::new() }
    }

    /// The position of a table.
    pub(crate) fn index(&self, name: &TableName) -> Option<TableIndex> {
        self.tables.iter().position(|table| table.name == *name).and_then(|at| TableIndex::try_from(at).ok())
    }

    /// Names, actions and numbers of different prefixes, in order.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (&TableName, Action, usize)> {
        self.tables.iter().map(|table| (&table.name, table.action, table.len()))
    }

    /// How many claims each origin has in a table.
    pub(crate) fn counts(&self, table: TableIndex) -> impl Iterator<Item = (Origin, usize)> {
        self.tables.get(usize::from(table)).into_iter().flat_map(|table| &table.counts).map(|(o, n)| (*o, *n))
    }

    /// How many claims an origin has in one table.
    pub(crate) fn count(&self, table: TableIndex, origin: Origin) -> usize {
        self.counts(table).find(|(other, _)| *other == origin).map_or(0, |(_, count)| count)
    }

    /// Makes, changes or, with `None`, withdraws one claim. Returns the claim before.
    pub(crate) fn set(
        &mut self,
        table: TableIndex,
        prefix: IpNet,
        origin: Origin,
        claim: Option<Claim>,
    ) -> Option<Claim> {
        let state = self.tables.get_mut(usize::from(table))?;
        let changed = match prefix {
            IpNet::V4(net) => state.set(Key4::of(net), origin, claim),
            IpNet::V6(net) => state.set(Key6::of(net), origin, claim),
        };
        self.schedule(table, prefix, changed.before, claim);
        if changed.visible {
            self.mark(table, prefix);
        }
        changed.before
    }

    /// Replaces all claims of one origin in a table by a sorted set.
    pub(crate) fn replace<S>(&mut self, table: TableIndex, origin: Origin, set: &PrefixSet<S>) -> Difference
    where
        S: Copy + Into<Claim>,
    {
        let mut seen = Seen::default();
        let all = self.len();
        let Some(state) = self.tables.get_mut(usize::from(table)) else { return seen.difference };
        replace_family(state, origin, &set.v4, &mut seen);
        replace_family(state, origin, &set.v6, &mut seen);
        if seen.visible.len() > delta_limit(all) {
            self.pending = Pending::Reload;
        } else {
            seen.visible.into_iter().for_each(|prefix| self.mark(table, prefix));
        }
        for (prefix, before, after) in seen.expiring {
            self.schedule(table, prefix, before, after);
        }
        seen.difference
    }

    /// Withdraws what has ended by `now`, and says when the next entry ends.
    pub(crate) fn expire(&mut self, now: Timestamp) -> Option<Timestamp> {
        while let Some((at, table, prefix)) = self.expiries.first().copied() {
            if at > now {
                return Some(at);
            }
            // `set` takes it out of `expiries`; removing it here too keeps the loop finite whatever happens.
            self.expiries.pop_first();
            self.set(table, prefix, MANUAL, None);
        }
        None
    }

    /// Whether there is something to tell the edge.
    pub(crate) fn is_pending(&self) -> bool {
        match &self.pending {
            Pending::Delta(marks) => !marks.is_empty(),
            Pending::Reload => true,
        }
    }

    /// What the edge has to be told; never an empty batch.
    pub(crate) fn take_changes(&mut self) -> Option<Vec<Change>> {
        match std::mem::replace(&mut self.pending, Pending::Delta(HashSet::new())) {
            Pending::Reload => Some(vec![Change::Reload(self.snapshot())]),
            Pending::Delta(marks) if marks.is_empty() => None,
            Pending::Delta(marks) => {
                let change = |(index, prefix): (TableIndex, IpNet)| {
                    let table = self.tables.get(usize::from(index))?;
                    Some(match table.find(prefix) {
                        Some(found) => Change::Add(table.name.clone(), found.entry),
                        None => Change::Delete(table.name.clone(), prefix),
                    })
                };
                Some(marks.into_iter().filter_map(change).collect())
            }
        }
    }

    /// All tables as they are now; tables that have not changed share their entries with the last snapshot.
    pub(crate) fn snapshot(&mut self) -> Snapshot {
        let table = |state: &mut State| Table {
            name: state.name.clone(),
            action: state.action,
            entries: state.entries(),
        };
        Snapshot { tables: self.tables.iter_mut().map(table).collect() }
    }

    /// Every entry of a table with its origins, sorted by prefix.
    pub(crate) fn entries(&self, table: TableIndex) -> impl Iterator<Item = Found> {
        self.tables.get(usize::from(table)).into_iter().flat_map(State::found)
    }

    /// The entries of a table that were made by hand, as they were made.
    pub(crate) fn manual(&self, table: TableIndex) -> Vec<Entry> {
        let Some(state) = self.tables.get(usize::from(table)) else { return Vec::new() };
        let v4 = state.v4.iter().filter_map(|(key, slot)| Some((key.prefix(), slot.claim(MANUAL)?)));
        let v6 = state.v6.iter().filter_map(|(key, slot)| Some((key.prefix(), slot.claim(MANUAL)?)));
        v4.chain(v6).map(|(prefix, claim)| claim.entry(prefix)).collect()
    }

    /// Who claims exactly this prefix.
    pub(crate) fn origins(&self, table: TableIndex, prefix: IpNet) -> Vec<Origin> {
        let state = self.tables.get(usize::from(table));
        state.and_then(|state| state.find(prefix)).map(|found| found.origins).unwrap_or_default()
    }

    /// The most specific entry of a table that covers an address.
    pub(crate) fn covering(&self, table: TableIndex, address: IpAddr) -> Option<Found> {
        let state = self.tables.get(usize::from(table))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        (0..=most).rev().find_map(|length| state.find(IpNet::new(address, length).ok()?.trunc()))
    }

    /// Entries of all tables.
    fn len(&self) -> usize {
        self.tables.iter().map(State::len).sum()
    }

    /// Keeps `expiries` in step with a claim by hand.
    fn schedule(&mut self, table: TableIndex, prefix: IpNet, before: Option<Claim>, after: Option<Claim>) {
        if let Some(at) = before.and_then(Claim::expires) {
            self.expiries.remove(&(at, table, prefix));
        }
        if let Some(at) = after.and_then(Claim::expires) {
            self.expiries.insert((at, table, prefix));
        }
    }

    /// Remembers that the edge has to be told about a prefix.
    fn mark(&mut self, table: TableIndex, prefix: IpNet) {
        let limit = match &self.pending {
            Pending::Delta(marks) if marks.len() >= DELTA_MIN => delta_limit(self.len()),
            _ => DELTA_MIN,
        };
        if let Pending::Delta(marks) = &mut self.pending {
            if marks.len() < limit {
                marks.insert((table, prefix));
            } else {
                self.pending = Pending::Reload;
            }
        }
    }
}

/// What replacing a set brought about.
#[derive(Default)]
struct Seen {
    difference: Difference,
    /// Prefixes of which the edge has to be told.
    visible: Vec<IpNet>,
    /// Prefixes whose end changes.
    expiring: Vec<(IpNet, Option<Claim>, Option<Claim>)>,
}

fn delta_limit(entries: usize) -> usize {
    DELTA_MIN.max(entries / DELTA_PART)
}

/// What setting one claim did.
struct Changed {
    before: Option<Claim>,
    /// Whether the edge sees a difference.
    visible: bool,
}

impl State {
    fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    fn set<K: Key>(&mut self, key: K, origin: Origin, claim: Option<Claim>) -> Changed
    where
        Self: Family<K>,
    {
        let changed = set_one(self.map(), key, origin, claim);
        self.count(origin, changed.before, claim);
        if changed.visible {
            self.cache = None;
        }
        changed
    }

    fn count(&mut self, origin: Origin, before: Option<Claim>, after: Option<Claim>) {
        let count = self.counts.entry(origin).or_default();
        match (before, after) {
            (None, Some(_)) => *count += 1,
            (Some(_), None) => *count = count.saturating_sub(1),
            _ => {}
        }
        if *count == 0 {
            self.counts.remove(&origin);
        }
    }

    fn found(&self) -> impl Iterator<Item = Found> {
        let v4 = self.v4.iter().map(|(key, slot)| slot.found(key.prefix()));
        v4.chain(self.v6.iter().map(|(key, slot)| slot.found(key.prefix())))
    }

    fn find(&self, prefix: IpNet) -> Option<Found> {
        let slot = match prefix {
            IpNet::V4(net) => self.v4.get(&Key4::of(net)),
            IpNet::V6(net) => self.v6.get(&Key6::of(net)),
        };
        slot.map(|slot| slot.found(prefix))
    }

    fn entries(&mut self) -> Arc<Vec<Entry>> {
        if let Some(entries) = &self.cache {
            return Arc::clone(entries);
        }
        let mut entries = Vec::with_capacity(self.len());
        entries.extend(self.v4.iter().map(|(key, slot)| slot.entry(key.prefix())));
        entries.extend(self.v6.iter().map(|(key, slot)| slot.entry(key.prefix())));
        Arc::clone(self.cache.insert(Arc::new(entries)))
    }
}

/// The map of one address family, so that both go the same way.
trait Family<K> {
    fn map(&mut self) -> &mut BTreeMap<K, Slot>;
}

impl Family<Key4> for State {
    fn map(&mut self) -> &mut BTreeMap<Key4, Slot> {
        &mut self.v4
    }
}

impl Family<Key6> for State {
    fn map(&mut self) -> &mut BTreeMap<Key6, Slot> {
        &mut self.v6
    }
}

fn set_one<K: Key>(map: &mut BTreeMap<K, Slot>, key: K, origin: Origin, claim: Option<Claim>) -> Changed {
    match (map.get_mut(&key), claim) {
        (None, None) => Changed { before: None, visible: false },
        (None, Some(claim)) => {
            map.insert(key, Slot::new(origin, claim));
            Changed { before: None, visible: true }
        }
        (Some(slot), claim) => {
            let shown = slot.shown();
            let before = slot.set(origin, claim);
            let visible = if slot.is_empty() {
                map.remove(&key);
                true
            } else {
                slot.shown() != shown
            };
            Changed { before, visible }
        }
    }
}

/// Brings one family of one origin from what it was to `wanted` (sorted, without duplicates).
fn replace_family<K, S>(state: &mut State, origin: Origin, wanted: &[(K, S)], seen: &mut Seen)
where
    K: Key,
    S: Copy + Into<Claim>,
    State: Family<K>,
{
    let steps = steps(state.map(), origin, wanted);
    for (key, before, after) in &steps {
        seen.difference.count(*before, *after);
        state.count(origin, *before, *after);
        if before.iter().chain(after).any(|claim| claim.expires().is_some()) {
            seen.expiring.push((key.prefix(), *before, *after));
        }
    }
    if steps.is_empty() {
        return;
    }
    let map = state.map();
    let shown_before = seen.visible.len();
    if steps.len() * REBUILD_PART > map.len() {
        *map = rebuilt(std::mem::take(map), origin, &steps, &mut seen.visible);
    } else {
        for (key, _, after) in steps {
            if set_one(map, key, origin, after).visible {
                seen.visible.push(key.prefix());
            }
        }
    }
    if seen.visible.len() > shown_before {
        state.cache = None;
    }
}

/// A claim to change: key, before, after.
type Step<K> = (K, Option<Claim>, Option<Claim>);

/// What has to change so that `origin` claims exactly `wanted`: one walk along both, in order.
fn steps<K, S>(map: &BTreeMap<K, Slot>, origin: Origin, wanted: &[(K, S)]) -> Vec<Step<K>>
where
    K: Key,
    S: Copy + Into<Claim>,
{
    let mut steps = Vec::new();
    let held = map.iter().filter_map(|(key, slot)| Some((*key, slot.claim(origin)?)));
    let mut held = held.peekable();
    let mut wanted = wanted.iter().peekable();
    loop {
        match (held.peek().copied(), wanted.peek().copied()) {
            (None, None) => return steps,
            (Some((key, before)), Some((other, _))) if key < *other => {
                steps.push((key, Some(before), None));
                held.next();
            }
            (Some((key, before)), None) => {
                steps.push((key, Some(before), None));
                held.next();
            }
            (Some((key, before)), Some((other, sense))) if key == *other => {
                let after: Claim = (*sense).into();
                if before != after {
                    steps.push((key, Some(before), Some(after)));
                }
                held.next();
                wanted.next();
            }
            (_, Some((key, sense))) => {
                steps.push((*key, None, Some((*sense).into())));
                wanted.next();
            }
        }
    }
}

/// The map with all steps done, built in one pass.
fn rebuilt<K: Key>(
    map: BTreeMap<K, Slot>,
    origin: Origin,
    steps: &[Step<K>],
    visible: &mut Vec<IpNet>,
) -> BTreeMap<K, Slot> {
    let mut slots: Vec<(K, Slot)> = Vec::with_capacity(map.len() + steps.len());
    let mut steps = steps.iter().peekable();
    let create = |step: &Step<K>, slots: &mut Vec<(K, Slot)>, visible: &mut Vec<IpNet>| {
        if let (key, _, Some(claim)) = step {
            slots.push((*key, Slot::new(origin, *claim)));
            visible.push(key.prefix());
        }
    };
    for (key, mut slot) in map {
        while let Some(step) = steps.next_if(|step| step.0 < key) {
            create(step, &mut slots, visible);
        }
        if let Some((_, _, after)) = steps.next_if(|step| step.0 == key) {
            let shown = slot.shown();
            slot.set(origin, *after);
            if slot.is_empty() || slot.shown() != shown {
                visible.push(key.prefix());
            }
        }
        if !slot.is_empty() {
            slots.push((key, slot));
        }
    }
    steps.for_each(|step| create(step, &mut slots, visible));
    slots.into_iter().collect()
}
