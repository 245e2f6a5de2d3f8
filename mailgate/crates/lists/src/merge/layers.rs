//! One table and one address family: a map for what people and the daemon say of single prefixes, a [`Stream`] for each
//! peer, a sorted array for each origin that brings whole sets.
//!
//! A file of a million lines is then 8 MB here (24 MB of IPv6), and replacing it is one walk along both sets.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::iter::Peekable;
use std::ops::Bound;

use ipnet::IpNet;
use mailgate_model::Timestamp;

use super::bulk::{Bulk, Epochs, lengths_of};
use super::slot::{Claim, Fold, Shown, Slot};
use super::stream::{Stream, StreamWalk};
use super::{Difference, Origin};
use crate::prefix::{Key, Packed, Sense};

/// All claims of one table and family.
pub(super) struct Layers<K: Key> {
    live: BTreeMap<K, Slot>,
    /// By rank; none is empty.
    streams: Vec<Stream<K>>,
    /// By rank; none is empty.
    bulk: Vec<Bulk<K>>,
    /// Different prefixes.
    len: usize,
    /// How many prefixes of `live` have each length.
    lengths: BTreeMap<u8, usize>,
}

/// What replacing a set brought about.
pub(super) struct Seen {
    pub(super) difference: Difference,
    /// Prefixes of which the edge has to be told; `None` when there are more than `limit`.
    pub(super) visible: Option<Vec<IpNet>>,
    limit: usize,
}

/// What setting one claim did.
pub(super) struct Changed {
    pub(super) before: Option<Claim>,
    /// Whether the edge sees a difference.
    pub(super) visible: bool,
}

impl Seen {
    pub(super) fn new(limit: usize) -> Self {
        Self { difference: Difference::default(), visible: Some(Vec::new()), limit }
    }

    fn see(&mut self, prefix: IpNet) {
        match &mut self.visible {
            Some(visible) if visible.len() < self.limit => visible.push(prefix),
            _ => self.visible = None,
        }
    }

    /// Each of these is new.
    fn see_all<P: Packed>(&mut self, entries: &[P]) {
        self.difference.added += entries.len();
        match &mut self.visible {
            Some(visible) if visible.len() + entries.len() <= self.limit => {
                visible.extend(entries.iter().map(|entry| entry.key().prefix()));
            }
            _ if entries.is_empty() => {}
            _ => self.visible = None,
        }
    }
}

impl<K: Key> Layers<K> {
    pub(super) fn new() -> Self {
        Self {
            live: BTreeMap::new(),
            streams: Vec::new(),
            bulk: Vec::new(),
            len: 0,
            lengths: BTreeMap::new(),
        }
    }

    /// Different prefixes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes, about: a map of this kind fills its nodes to two thirds.
    pub(super) fn bytes(&self) -> usize {
        let live = self.live.len() * (size_of::<K>() + size_of::<Slot>()) * 3 / 2;
        let bulk = |bulk: &Bulk<K>| bulk.entries.capacity() * size_of::<K::Packed>();
        let streams = self.streams.iter().map(Stream::bytes).sum::<usize>();
        live + streams + self.bulk.iter().map(bulk).sum::<usize>()
    }

    /// What one origin claims.
    pub(super) fn claim(&self, key: K, origin: Origin) -> Option<Claim> {
        match self.single(key, origin) {
            Some(claim) => Some(claim),
            None => self.bulk.iter().find(|bulk| bulk.origin == origin)?.claim(key),
        }
    }

    /// The same of an origin that speaks of single prefixes.
    fn single(&self, key: K, origin: Origin) -> Option<Claim> {
        let stream = || self.streams.iter().find(|stream| stream.origin == origin)?.claim(key);
        self.live.get(&key).and_then(|slot| slot.claim(origin)).or_else(stream)
    }

    /// Everything that the administrator or the daemon claims, in order.
    pub(super) fn claimed(&self, origin: Origin) -> impl Iterator<Item = (IpNet, Claim)> {
        debug_assert!(origin < super::SOURCES, "sources have streams");
        self.live.iter().filter_map(move |(key, slot)| Some((key.prefix(), slot.claim(origin)?)))
    }

    /// The set that an origin has brought.
    pub(super) fn bulk_of(&self, origin: Origin) -> Vec<K::Packed> {
        let bulk = self.bulk.iter().find(|bulk| bulk.origin == origin);
        bulk.map(|bulk| bulk.entries.clone()).unwrap_or_default()
    }

    /// The set of the only origin that claims anything, if it brings sets.
    pub(super) fn only_set(&self) -> Option<&[K::Packed]> {
        match self.bulk.as_slice() {
            [bulk] if self.live.is_empty() && self.streams.is_empty() => Some(&bulk.entries),
            _ => None,
        }
    }

    /// What an origin claims that covers `network` or lies inside it: a search for each length, and one range.
    pub(super) fn overlapping(&self, network: IpNet, origin: Origin) -> Vec<(IpNet, Sense)> {
        let mut found = Vec::new();
        let shorter = self.lengths().into_iter().filter(|length| *length < network.prefix_len());
        for length in shorter {
            let wider = IpNet::new(network.addr(), length).ok().and_then(|net| K::of_net(net.trunc()));
            let claim = wider.and_then(|key| Some((key, self.claim(key, origin)?)));
            found.extend(claim.map(|(key, claim)| (key.prefix(), claim.sense)));
        }
        let last = IpNet::new(network.broadcast(), network.max_prefix_len()).ok();
        let (Some(first), Some(last)) = (K::of_net(network), last.and_then(K::of_net)) else { return found };
        let live = self.live.range(first..=last);
        found.extend(live.filter_map(|(key, slot)| Some((key.prefix(), slot.claim(origin)?.sense))));
        if let Some(stream) = self.streams.iter().find(|stream| stream.origin == origin) {
            let mut walk = stream.walk_from(first);
            let mut next =
                || walk.key().filter(|key| *key <= last).and_then(|key| Some((key, walk.take(key)?)));
            found.extend(std::iter::from_fn(|| next().map(|(key, claim)| (key.prefix(), claim.sense))));
        }
        if let Some(bulk) = self.bulk.iter().find(|bulk| bulk.origin == origin) {
            let begin = bulk.entries.partition_point(|entry| entry.key() < first);
            let inside = bulk.entries.iter().skip(begin).take_while(|entry| entry.key() <= last);
            found.extend(inside.map(|entry| (entry.key().prefix(), entry.sense())));
        }
        found
    }

    /// Tells every claim on a prefix.
    pub(super) fn each(&self, key: K, told: &mut impl FnMut(Origin, Claim)) {
        if let Some(slot) = self.live.get(&key) {
            slot.each(told);
        }
        for stream in &self.streams {
            if let Some(claim) = stream.claim(key) {
                told(stream.origin, claim);
            }
        }
        for bulk in &self.bulk {
            if let Some(claim) = bulk.claim(key) {
                told(bulk.origin, claim);
            }
        }
    }

    /// What the edge sees of a prefix.
    pub(super) fn shown(&self, key: K) -> Option<Shown> {
        let mut fold = Fold::default();
        self.each(key, &mut |origin, claim| fold.take(origin, claim));
        fold.shown()
    }

    /// The lengths that prefixes have, longest first.
    pub(super) fn lengths(&self) -> Vec<u8> {
        let mut lengths: BTreeSet<u8> = self.lengths.keys().copied().collect();
        self.streams.iter().for_each(|stream| lengths.extend(stream.lengths()));
        self.bulk.iter().for_each(|bulk| lengths.extend(&bulk.lengths));
        lengths.into_iter().rev().collect()
    }

    /// Makes, changes or withdraws the claim of an origin that speaks of single prefixes.
    pub(super) fn set(&mut self, key: K, origin: Origin, claim: Option<Claim>) -> Changed {
        let before = self.single(key, origin);
        if before.is_none() && claim.is_none() {
            return Changed { before, visible: false };
        }
        let mut others = Fold::default();
        if let Some(slot) = self.live.get(&key) {
            slot.each(&mut |other, claim| {
                if other != origin {
                    others.take(other, claim);
                }
            });
        }
        for stream in self.streams.iter().filter(|stream| stream.origin != origin) {
            stream.claim(key).into_iter().for_each(|claim| others.take(stream.origin, claim));
        }
        for bulk in &self.bulk {
            bulk.claim(key).into_iter().for_each(|claim| others.take(bulk.origin, claim));
        }
        match claim.filter(|claim| Stream::<K>::takes(origin, *claim)) {
            Some(claim) => {
                self.set_live(key, origin, None);
                self.stream(key, origin, claim);
            }
            None => {
                self.unstream(key, origin);
                self.set_live(key, origin, claim);
            }
        }
        self.differs(others, origin, before, claim)
    }

    fn stream(&mut self, key: K, origin: Origin, claim: Claim) {
        let at = self.streams.partition_point(|stream| stream.origin < origin);
        if self.streams.get(at).is_none_or(|stream| stream.origin != origin) {
            self.streams.insert(at, Stream::new(origin));
        }
        self.streams.get_mut(at).into_iter().for_each(|stream| stream.set(key, Some(claim)));
    }

    fn unstream(&mut self, key: K, origin: Origin) {
        let Some(at) = self.streams.iter().position(|stream| stream.origin == origin) else { return };
        self.streams.get_mut(at).into_iter().for_each(|stream| stream.set(key, None));
        if self.streams.get(at).is_some_and(Stream::is_empty) {
            self.streams.remove(at);
        }
    }

    fn set_live(&mut self, key: K, origin: Origin, claim: Option<Claim>) {
        if claim.is_none() && self.live.is_empty() {
            return;
        }
        match (self.live.entry(key), claim) {
            (btree_map::Entry::Vacant(_), None) => {}
            (btree_map::Entry::Vacant(vacant), Some(claim)) => {
                vacant.insert(Slot::new(origin, claim));
                *self.lengths.entry(key.length()).or_default() += 1;
            }
            (btree_map::Entry::Occupied(mut occupied), claim) => {
                let slot = occupied.get_mut();
                slot.set(origin, claim);
                if slot.is_empty() {
                    occupied.remove();
                    forget(&mut self.lengths, key.length());
                }
            }
        }
    }

    /// Replaces the whole set of an origin; entries that were there keep their time.
    pub(super) fn replace_bulk(
        &mut self,
        origin: Origin,
        mut wanted: Vec<K::Packed>,
        now: Timestamp,
        seen: &mut Seen,
    ) {
        let at = self.bulk.partition_point(|bulk| bulk.origin < origin);
        let is_there = self.bulk.get(at).is_some_and(|bulk| bulk.origin == origin);
        let mut old = if is_there {
            self.bulk.remove(at)
        } else {
            Bulk { origin, entries: Vec::new(), epochs: Epochs::default(), lengths: BTreeSet::new() }
        };
        let epoch = old.epochs.of(now, &mut old.entries);
        if old.entries.is_empty() && self.bulk.is_empty() && self.live.is_empty() && self.streams.is_empty() {
            // Nobody else says anything, and nothing was said before: all of it is new.
            seen.see_all(&wanted);
            self.len += wanted.len();
            wanted.iter_mut().for_each(|entry| *entry = entry.of_epoch(epoch));
            self.put(at, Bulk { entries: wanted, ..old });
            return;
        }
        let mut held = old.entries.iter().copied().peekable();
        // The old set is out of the way: what `differ` asks for are the claims of all others.
        for entry in &mut wanted {
            let key = entry.key();
            let claim = Claim::new(entry.sense(), now, None);
            while let Some(gone) = held.next_if(|held| held.key() < key) {
                self.differ(gone.key(), origin, Some(old.said(gone)), None, seen);
            }
            let before = held.next_if(|held| held.key() == key);
            if before.is_none_or(|before| before.sense() != entry.sense()) {
                self.differ(key, origin, before.map(|before| old.said(before)), Some(claim), seen);
            }
            let since = before.filter(|before| before.sense() == entry.sense());
            *entry = entry.of_epoch(since.map_or(epoch, |before| before.epoch()));
        }
        for gone in held {
            self.differ(gone.key(), origin, Some(old.said(gone)), None, seen);
        }
        self.put(at, Bulk { entries: wanted, ..old });
    }

    /// Keeps a set at its place among the others, unless it is empty.
    fn put(&mut self, at: usize, bulk: Bulk<K>) {
        if !bulk.entries.is_empty() {
            let lengths = lengths_of(&bulk.entries);
            self.bulk.insert(at, Bulk { lengths, ..bulk });
        }
    }

    /// Accounts for a claim that changes, and says whether the edge sees that; the claims of all others are in place,
    /// those of `origin` are not.
    fn differ(
        &mut self,
        key: K,
        origin: Origin,
        before: Option<Claim>,
        after: Option<Claim>,
        seen: &mut Seen,
    ) {
        seen.difference.count(before.is_some(), after.is_some());
        let mut others = Fold::default();
        self.each(key, &mut |other, claim| others.take(other, claim));
        if self.differs(others, origin, before, after).visible {
            seen.see(key.prefix());
        }
    }

    /// Counts what the edge sees, beside the claims of all others.
    fn differs(
        &mut self,
        others: Fold,
        origin: Origin,
        before: Option<Claim>,
        after: Option<Claim>,
    ) -> Changed {
        let with = |claim: Option<Claim>| {
            let mut fold = others;
            claim.into_iter().for_each(|claim| fold.take(origin, claim));
            fold.shown()
        };
        let (shown, shows) = (with(before), with(after));
        self.len = self.len + usize::from(shows.is_some()) - usize::from(shown.is_some());
        Changed { before, visible: shows != shown }
    }

    /// Puts what streams hold in order, for whoever reads it all.
    pub(super) fn compact(&mut self) {
        self.streams.iter_mut().for_each(Stream::compact);
    }

    /// All prefixes after one, in order.
    pub(super) fn walk(&self, after: Option<K>) -> Walk<'_, K> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let bulk = |bulk| {
            let Bulk { entries, .. }: &Bulk<K> = bulk;
            let at = after.map_or(0, |key| entries.partition_point(|entry| entry.key() <= key));
            (bulk, entries.get(at..).unwrap_or_default())
        };
        Walk {
            live: self.live.range((from, Bound::Unbounded)).peekable(),
            streams: self.streams.iter().map(|stream| (stream.origin, stream.walk(after))).collect(),
            bulk: self.bulk.iter().map(bulk).collect(),
        }
    }
}

pub(super) fn forget(lengths: &mut BTreeMap<u8, usize>, length: u8) {
    if let btree_map::Entry::Occupied(mut count) = lengths.entry(length) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

/// Goes through a table in the order of its prefixes.
pub(super) struct Walk<'a, K: Key> {
    live: Peekable<btree_map::Range<'a, K, Slot>>,
    streams: Vec<(Origin, StreamWalk<'a, K>)>,
    bulk: Vec<(&'a Bulk<K>, &'a [K::Packed])>,
}

impl<K: Key> Walk<'_, K> {
    /// The next prefix, after its claims have been told; by rank, except that files come after peers.
    pub(super) fn step(&mut self, told: &mut impl FnMut(Origin, Claim)) -> Option<K> {
        let live = self.live.peek().map(|(key, _)| **key);
        let bulk = self.bulk.iter().filter_map(|(_, rest)| rest.first().map(|entry| entry.key()));
        let streams = self.streams.iter().filter_map(|(_, walk)| walk.key());
        let key = bulk.chain(streams).chain(live).min()?;
        if let Some((_, slot)) = self.live.next_if(|(other, _)| **other == key) {
            slot.each(told);
        }
        for (origin, walk) in &mut self.streams {
            if let Some(claim) = walk.take(key) {
                told(*origin, claim);
            }
        }
        for (bulk, rest) in &mut self.bulk {
            if let Some((entry, others)) = rest.split_first().filter(|(entry, _)| entry.key() == key) {
                told(bulk.origin, bulk.said(*entry));
                *rest = others;
            }
        }
        Some(key)
    }
}
