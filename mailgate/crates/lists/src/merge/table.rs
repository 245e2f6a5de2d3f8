//! One table: its layers, its counts, and what the edge sees of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use ipnet::IpNet;
use mailgate_model::Timestamp;

use super::layers::Layers;
use super::{Claim, Fold, Origin, Tally};
use crate::config::TableConfig;
use crate::prefix::{Key, Key4, Key6};
use crate::table::{Action, Entries, Entry};

/// One table.
pub(super) struct State {
    pub(super) config: TableConfig,
    pub(super) v4: Layers<Key4>,
    pub(super) v6: Layers<Key6>,
    /// Claims of each origin.
    pub(super) counts: BTreeMap<Origin, usize>,
    /// What the daemon says of its entries.
    pub(super) notes: HashMap<IpNet, Arc<str>>,
    pub(super) tally: Tally,
    /// The origins that are feeds.
    pub(super) feeds: BTreeSet<Origin>,
    /// The last snapshot, while nothing has changed and somebody still holds it.
    pub(super) cache: Weak<Entries>,
}

/// An entry with its origins.
pub(crate) struct Found {
    pub(crate) entry: Entry,
    /// By rank.
    pub(crate) claims: Vec<(Origin, Claim)>,
}

impl Found {
    /// Since when somebody claims it.
    pub(crate) fn added(&self) -> Timestamp {
        self.claims.iter().map(|(_, claim)| claim.added).min().unwrap_or_default()
    }
}

impl State {
    pub(super) fn new(config: TableConfig, now: Timestamp) -> Self {
        let tally = Tally { since: config.counters.then_some(now), ..Tally::default() };
        Self {
            config,
            v4: Layers::new(),
            v6: Layers::new(),
            counts: BTreeMap::new(),
            notes: HashMap::new(),
            tally,
            feeds: BTreeSet::new(),
            cache: Weak::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether it is a bypass that feeds fill.
    pub(super) fn is_fed(&self) -> bool {
        self.config.action == Action::Bypass && !self.feeds.is_empty()
    }

    /// Whether what this origin says has to be told apart from what feeds say.
    pub(super) fn is_own(&self, origin: Origin) -> bool {
        self.is_fed() && !self.feeds.contains(&origin)
    }

    pub(super) fn recount(&mut self, origin: Origin, was: bool, is: bool) {
        if was == is {
            return;
        }
        let count = self.counts.entry(origin).or_default();
        *count = if is { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.counts.remove(&origin);
        }
    }

    /// An entry that is gone has counted nothing when it comes again.
    pub(super) fn uncount(&mut self, prefix: IpNet) {
        self.tally.counts.remove(&prefix);
    }

    pub(super) fn uncount_missing(&mut self) {
        let mut counts = std::mem::take(&mut self.tally.counts);
        counts.retain(|prefix, _| self.shown(*prefix).is_some());
        self.tally.counts = counts;
    }

    pub(super) fn shown(&self, prefix: IpNet) -> Option<Entry> {
        let shown = match prefix {
            IpNet::V4(net) => self.v4.shown(Key4::of(net)),
            IpNet::V6(net) => self.v6.shown(Key6::of(net)),
        };
        shown.map(|shown| shown.entry(prefix))
    }

    /// The same without what feeds say.
    pub(super) fn own_shown(&self, prefix: IpNet) -> Option<Entry> {
        let mut fold = Fold::default();
        let mut take = |origin, claim| {
            if !self.feeds.contains(&origin) {
                fold.take(origin, claim);
            }
        };
        match prefix {
            IpNet::V4(net) => self.v4.each(Key4::of(net), &mut take),
            IpNet::V6(net) => self.v6.each(Key6::of(net), &mut take),
        }
        fold.shown().map(|shown| shown.entry(prefix))
    }

    pub(super) fn find(&self, prefix: IpNet) -> Option<Found> {
        let mut claims = Vec::new();
        let mut take = |origin, claim| claims.push((origin, claim));
        match prefix {
            IpNet::V4(net) => self.v4.each(Key4::of(net), &mut take),
            IpNet::V6(net) => self.v6.each(Key6::of(net), &mut take),
        }
        found(prefix, claims)
    }

    pub(super) fn covering(&self, address: IpAddr, lengths: &[u8]) -> Option<Entry> {
        lengths.iter().find_map(|length| self.shown(IpNet::new(address, *length).ok()?.trunc()))
    }

    pub(super) fn found(&self, after: Option<IpNet>) -> impl Iterator<Item = Found> {
        fn walked<K: Key>(layers: &Layers<K>, after: Option<K>) -> impl Iterator<Item = Found> {
            let mut walk = layers.walk(after);
            std::iter::from_fn(move || {
                let mut claims = Vec::new();
                let key = walk.step(&mut |origin, claim| claims.push((origin, claim)))?;
                found(key.prefix(), claims)
            })
        }
        let v4 = match after {
            Some(IpNet::V6(_)) => None,
            Some(IpNet::V4(net)) => Some(walked(&self.v4, Some(Key4::of(net)))),
            None => Some(walked(&self.v4, None)),
        };
        let v6 = walked(&self.v6, after.and_then(Key6::of_net));
        v4.into_iter().flatten().chain(v6)
    }

    /// Everything that is of no feed.
    pub(super) fn own_entries(&self) -> Entries {
        let mut entries = Entries::default();
        // Nothing of it to be found, of a million entries, is the rule.
        if self.counts.keys().any(|origin| !self.feeds.contains(origin)) {
            let is_own = |origin: Origin| !self.feeds.contains(&origin);
            push(&self.v4, is_own, &mut entries);
            push(&self.v6, is_own, &mut entries);
        }
        entries
    }

    pub(super) fn entries(&mut self) -> Arc<Entries> {
        if let Some(entries) = self.cache.upgrade() {
            return entries;
        }
        self.v4.compact();
        self.v6.compact();
        let mut entries = Entries::with_room(self.v4.len(), self.v6.len());
        match self.v4.only_set() {
            Some(set) => entries.extend4(set.iter().copied()),
            None => push(&self.v4, |_| true, &mut entries),
        }
        match self.v6.only_set() {
            Some(set) => entries.extend6(set.iter().copied()),
            None => push(&self.v6, |_| true, &mut entries),
        }
        let entries = Arc::new(entries);
        self.cache = Arc::downgrade(&entries);
        entries
    }
}

/// What the edge sees of one family by these origins.
fn push<K: Key>(layers: &Layers<K>, counts: impl Fn(Origin) -> bool, entries: &mut Entries) {
    let mut walk = layers.walk(None);
    let mut fold = Fold::default();
    let mut next = |fold: &mut Fold| {
        walk.step(&mut |origin, claim| {
            if counts(origin) {
                fold.take(origin, claim);
            }
        })
    };
    while let Some(key) = next(&mut fold) {
        if let Some(shown) = std::mem::take(&mut fold).shown() {
            entries.push(key.prefix(), shown.sense, shown.expires());
        }
    }
}

fn found(prefix: IpNet, mut claims: Vec<(Origin, Claim)>) -> Option<Found> {
    let mut fold = Fold::default();
    claims.iter().for_each(|(origin, claim)| fold.take(*origin, *claim));
    claims.sort_unstable_by_key(|(origin, _)| *origin);
    Some(Found { entry: fold.shown()?.entry(prefix), claims })
}
