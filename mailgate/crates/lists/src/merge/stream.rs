//! What one peer claims in one table and family: a million routes that come one by one, in any order.
//!
//! A tree would look for the place of each of them. Here a route goes into a small hash table; when that is full it becomes
//! a sorted run, and runs of like length are merged into one (O'Neil and others, *The Log-Structured Merge-Tree*, 1996).
//! That is one sort of a few thousand keys at a time, then reading and writing memory from front to back, and the table is
//! in order as soon as the last route is there. A claim takes the bytes of its key and six for its time.
//!
//! Most keys that are asked for are not there yet: a [`Filter`] says so without a look at the runs.

mod filter;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;
use mailgate_model::Timestamp;

use super::{Claim, Origin, SOURCES};
use crate::prefix::{Key, Sense};
use filter::Filter;

/// Keys that wait to be sorted: these and their times stay in the processor's cache.
const TAIL: usize = 8192;

/// A run is merged with the one before it unless that is longer by this factor.
const LONGER: usize = 2;

/// When a claim was made, in milliseconds since 1970: 48 bits last for nine thousand years.
type Time = [u8; 6];

/// No time: the claim was withdrawn. It keeps its place until the run is written anew.
const GONE: Time = [0xff; 6];

/// Listed, without an end, by one origin. Each key is in one place.
pub(super) struct Stream<K> {
    pub(super) origin: Origin,
    /// Longest first.
    runs: Vec<Run<K>>,
    tail: HashMap<K, Time, RandomState>,
    filter: Filter,
    /// Claims.
    len: usize,
    /// Places in runs whose claim was withdrawn.
    gone: usize,
    /// How many claims have each length of prefix.
    lengths: BTreeMap<u8, usize>,
}

/// Sorted keys, and a time for each.
struct Run<K> {
    keys: Vec<K>,
    times: Vec<Time>,
}

fn time(claim: Claim) -> Option<Time> {
    let [0, 0, time @ ..] = u64::try_from(claim.added.millis()).ok()?.to_be_bytes() else { return None };
    (time != GONE).then_some(time)
}

fn claim(time: Time) -> Claim {
    let [a, b, c, d, e, f] = time;
    let millis = i64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    Claim::new(Sense::Listed, Timestamp::from_millis(millis), None)
}

impl<K: Copy + Ord> Run<K> {
    fn with_capacity(capacity: usize) -> Self {
        Self { keys: Vec::with_capacity(capacity), times: Vec::with_capacity(capacity) }
    }

    fn len(&self) -> usize {
        self.keys.len()
    }

    fn push(&mut self, key: K, time: Time) {
        if time != GONE {
            self.keys.push(key);
            self.times.push(time);
        }
    }

    fn place(&mut self, key: K) -> Option<&mut Time> {
        let at = self.keys.binary_search(&key).ok()?;
        self.times.get_mut(at)
    }

    fn get(&self, key: K) -> Option<Time> {
        let at = self.keys.binary_search(&key).ok()?;
        self.times.get(at).copied().filter(|time| *time != GONE)
    }

    /// What is left without the keys before those that are `wanted`.
    fn from(&self, wanted: impl Fn(K) -> bool) -> Rest<'_, K> {
        let at = self.keys.partition_point(|key| !wanted(*key));
        Rest {
            keys: self.keys.get(at..).unwrap_or_default(),
            times: self.times.get(at..).unwrap_or_default(),
        }
    }

    /// Both in one, without what is gone.
    fn merge(self, other: Self) -> Self {
        let mut merged = Self::with_capacity(self.len() + other.len());
        let (mut a, mut b) = (self.from(|_| true), other.from(|_| true));
        while let (Some(left), Some(right)) = (a.key(), b.key()) {
            let first = if left < right { &mut a } else { &mut b };
            if let Some((key, time)) = first.take() {
                merged.push(key, time);
            }
        }
        for rest in [a, b] {
            rest.keys.iter().zip(rest.times).for_each(|(key, time)| merged.push(*key, *time));
        }
        merged
    }
}

/// What is left of a run.
struct Rest<'a, K> {
    keys: &'a [K],
    times: &'a [Time],
}

impl<K: Copy> Rest<'_, K> {
    fn key(&self) -> Option<K> {
        self.keys.first().copied()
    }

    fn take(&mut self) -> Option<(K, Time)> {
        let (key, keys) = self.keys.split_first()?;
        let (time, times) = self.times.split_first()?;
        (self.keys, self.times) = (keys, times);
        Some((*key, *time))
    }

    /// Leaves out what is gone.
    fn skip_gone(&mut self) {
        let gone = self.times.iter().take_while(|time| **time == GONE).count();
        self.keys = self.keys.get(gone..).unwrap_or_default();
        self.times = self.times.get(gone..).unwrap_or_default();
    }
}

impl<K: Key> Stream<K> {
    pub(super) fn new(origin: Origin) -> Self {
        Self {
            origin,
            runs: Vec::new(),
            tail: HashMap::default(),
            filter: Filter::default(),
            len: 0,
            gone: 0,
            lengths: BTreeMap::new(),
        }
    }

    /// Whether a claim can be kept here: what sources say of single prefixes is all alike but for its time.
    pub(super) fn takes(origin: Origin, claim: Claim) -> bool {
        origin >= SOURCES
            && claim.sense == Sense::Listed
            && claim.expires().is_none()
            && time(claim).is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lengths that its prefixes have.
    pub(super) fn lengths(&self) -> impl Iterator<Item = u8> {
        self.lengths.keys().copied()
    }

    /// Bytes, about.
    pub(super) fn bytes(&self) -> usize {
        let run =
            |run: &Run<K>| run.keys.capacity() * size_of::<K>() + run.times.capacity() * size_of::<Time>();
        let tail = self.tail.capacity() * (size_of::<(K, Time)>() + 1) * 8 / 7;
        self.runs.iter().map(run).sum::<usize>() + tail + self.filter.bytes()
    }

    pub(super) fn claim(&self, key: K) -> Option<Claim> {
        if let Some(time) = self.tail.get(&key) {
            return Some(claim(*time));
        }
        if !self.filter.may_have(&key) {
            return None;
        }
        self.runs.iter().find_map(|run| run.get(key)).map(claim)
    }

    /// Makes, renews or, with `None`, withdraws the claim on a prefix. What [`Stream::takes`] does not take is withdrawn.
    pub(super) fn set(&mut self, key: K, wanted: Option<Claim>) {
        let time = wanted.and_then(time);
        let had = match self.in_runs(key) {
            Some(place) => {
                let before = std::mem::replace(place, time.unwrap_or(GONE));
                let (was, is) = (usize::from(before == GONE), usize::from(time.is_none()));
                self.gone = self.gone + is - was;
                before != GONE
            }
            None => match time {
                Some(time) => self.tail.insert(key, time).is_some(),
                None => self.tail.remove(&key).is_some(),
            },
        };
        match (had, time.is_some()) {
            (false, true) => {
                self.len += 1;
                *self.lengths.entry(key.length()).or_default() += 1;
            }
            (true, false) => {
                self.len -= 1;
                super::layers::forget(&mut self.lengths, key.length());
            }
            _ => {}
        }
        if self.tail.len() >= TAIL {
            self.flush();
        }
        if self.len == 0 || self.gone > TAIL.max(self.len) {
            self.compact();
        }
    }

    fn in_runs(&mut self, key: K) -> Option<&mut Time> {
        if !self.filter.may_have(&key) {
            return None;
        }
        self.runs.iter_mut().find_map(|run| run.place(key))
    }

    /// Makes a run of what waits, and keeps runs few.
    fn flush(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let run = sorted(self.tail.drain().collect());
        let places = run.len() + self.runs.iter().map(Run::len).sum::<usize>();
        if self.filter.has_room(places) {
            run.keys.iter().for_each(|key| self.filter.add(key));
            self.runs.push(run);
        } else {
            self.runs.push(run);
            self.refilter(places * 2);
        }
        while let [.., longer, last] = self.runs.as_slice()
            && longer.len() <= last.len() * LONGER
        {
            self.join();
        }
    }

    /// Merges the last two runs.
    fn join(&mut self) {
        let (Some(last), Some(other)) = (self.runs.pop(), self.runs.pop()) else { return };
        let places = last.len() + other.len();
        let run = other.merge(last);
        self.gone -= places - run.len();
        self.runs.push(run);
    }

    /// A new filter for so many keys.
    fn refilter(&mut self, room: usize) {
        self.filter = Filter::with_room(room);
        self.runs.iter().flat_map(|run| &run.keys).for_each(|key| self.filter.add(key));
    }

    /// Everything in one run, for whoever reads it all.
    pub(super) fn compact(&mut self) {
        self.flush();
        // The shortest first, so that each is written as seldom as can be.
        while self.runs.len() > 1 {
            self.join();
        }
        if self.gone > 0 {
            let whole = self.runs.pop().map(|run| run.merge(Run::with_capacity(0)));
            self.runs.extend(whole);
            self.gone = 0;
            self.refilter(self.len);
        }
        if self.len == 0 {
            *self = Self::new(self.origin);
        }
    }

    /// The claims after one, in order.
    pub(super) fn walk(&self, after: Option<K>) -> StreamWalk<'_, K> {
        self.walk_wanted(|key| after.is_none_or(|after| key > after))
    }

    /// The claims from a key on.
    pub(super) fn walk_from(&self, first: K) -> StreamWalk<'_, K> {
        self.walk_wanted(|key| key >= first)
    }

    fn walk_wanted(&self, wanted: impl Fn(K) -> bool + Copy) -> StreamWalk<'_, K> {
        let waiting = self.tail.iter().filter(|(key, _)| wanted(**key));
        let tail = sorted(waiting.map(|(key, time)| (*key, *time)).collect());
        let mut runs: Vec<Rest<'_, K>> = self.runs.iter().map(|run| run.from(wanted)).collect();
        runs.iter_mut().for_each(Rest::skip_gone);
        StreamWalk { runs, tail, at: 0 }
    }
}

fn sorted<K: Copy + Ord>(mut pairs: Vec<(K, Time)>) -> Run<K> {
    pairs.sort_unstable_by_key(|(key, _)| *key);
    let (keys, times) = pairs.into_iter().unzip();
    Run { keys, times }
}

/// Goes through the claims in order.
pub(super) struct StreamWalk<'a, K> {
    runs: Vec<Rest<'a, K>>,
    tail: Run<K>,
    /// How far in `tail`.
    at: usize,
}

impl<K: Copy + Ord> StreamWalk<'_, K> {
    /// The next key.
    pub(super) fn key(&self) -> Option<K> {
        let waiting = self.tail.keys.get(self.at).copied();
        self.runs.iter().filter_map(Rest::key).chain(waiting).min()
    }

    /// The claim on this key, if it is the next one.
    pub(super) fn take(&mut self, key: K) -> Option<Claim> {
        for rest in &mut self.runs {
            if rest.key() == Some(key) {
                let taken = rest.take();
                rest.skip_gone();
                return taken.map(|(_, time)| claim(time));
            }
        }
        if self.tail.keys.get(self.at) != Some(&key) {
            return None;
        }
        let time = self.tail.times.get(self.at).copied();
        self.at += 1;
        time.map(claim)
    }
}
