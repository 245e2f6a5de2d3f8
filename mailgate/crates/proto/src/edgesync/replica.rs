//! All records of one host: what happens here goes in by [`Replica::local`], what others saw by [`Replica::merge`].

mod look;

use std::collections::{BTreeMap, HashMap, VecDeque};

use ipnet::IpNet;

use super::record::{Body, Key, Kind, Origin, Record, Stamp, State, version};
use super::{DELETION_LIMIT, KEY_LIMIT};

/// Tuples kept: about 300 MB. More are in the greylist of each host all the same, but not shared.
const TUPLES_LIMIT: usize = 1_000_000;
/// Keys of every kind kept.
const KEYS_LIMIT: usize = 1_500_000;
/// Local changes kept for peers that come back soon.
const LOG_LIMIT: usize = 200_000;
/// Traps that friends told and we did not see ourselves.
const HEARSAY_LIMIT: usize = 100_000;
/// A trap that a friend tells lasts so long at most: 7 days, the longest that ours last.
const HEARSAY_LASTS: i64 = 7 * 86_400_000;
/// The widest networks that a friend may have trapped.
const HEARSAY_WIDEST: (u8, u8) = (24, 48);
/// What is over is kept for another hour, so that a clock that jumps ahead and back destroys nothing.
const GRACE: i64 = 3_600_000;
/// States of the store that we know to be older than ours; each is gone with the next change of its key.
const SHADOWS_LIMIT: usize = 10_000;
/// Bits of a hash that choose its leaf.
const LEAF_BITS: u32 = 16;

/// A stamp to be stored, so that it is known after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Its key.
    pub key: Key,
    /// The stamp.
    pub stamp: Stamp,
    /// Until when it is needed; 0 when it is not needed any more.
    pub until: i64,
}

/// A change that the store has to make: from a state to another. Where the store has another state than `was`, a change
/// was made there that we will hear of; then nothing is to be done but [`Replica::missed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its key.
    pub key: Key,
    /// The state before.
    pub was: Option<Body>,
    /// The state now.
    pub is: Option<Body>,
}

/// Why a record of a peer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Refused {
    /// It is from the future.
    Early,
    /// There is no room.
    Full,
    /// This peer may not say that.
    Untrusted,
}

/// Sizes and counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys with a state, expired ones included until they are swept.
    pub keys: usize,
    /// Deletions that are remembered.
    pub deletions: usize,
    /// Traps known only from friends.
    pub hearsay: usize,
    /// Local changes so far.
    pub log: u64,
    /// Changes left out because there are too many keys.
    pub left_out: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Slot {
    key: Key,
    stamp: Stamp,
    until: i64,
    body: Option<Body>,
}

impl Slot {
    fn version(&self, hash: u64) -> u64 {
        version(hash, self.stamp, self.body.as_ref())
    }

    fn is_hearsay(&self) -> bool {
        self.key.kind == Kind::NETWORK
            && self.body.is_some_and(|body| {
                body.state == State::Trapped && body.origin == Origin::Learned && body.blocked == 0
            })
    }

    pub(super) fn record(&self) -> Record {
        Record { key: self.key.clone(), stamp: self.stamp, until: self.until, body: self.body }
    }

    /// Whether it says anything to others.
    pub(super) fn is_worth_telling(&self, now: i64) -> bool {
        self.until > now || self.body.is_some_and(|body| !body.is_over(now))
    }

    /// Whether it is a trap that we saw ourselves.
    pub(super) fn is_own_trap(&self, now: i64) -> bool {
        self.key.kind == Kind::NETWORK
            && self.body.is_some_and(|body| {
                body.state == State::Trapped
                    && body.origin == Origin::Learned
                    && body.blocked > 0
                    && !body.is_over(now)
            })
    }
}

/// All records of one host.
#[derive(Debug)]
pub struct Replica {
    incarnation: u64,
    slots: BTreeMap<u64, Slot>,
    /// Sums of the versions of each leaf.
    leaves: Vec<u64>,
    /// Hashes of what changed here; the first has this position.
    log: VecDeque<u64>,
    log_start: u64,
    clock: Stamp,
    /// States that the store had when it was changed by others than us.
    shadows: HashMap<u64, Option<Body>>,
    /// By hash, so that they are never more than keys.
    marks: HashMap<u64, Mark>,
    tuples: usize,
    deletions: usize,
    hearsay: usize,
    left_out: u64,
    swept: u64,
}

impl Replica {
    /// Empty. `incarnation` is another number after each start, not zero.
    #[must_use]
    pub fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            slots: BTreeMap::new(),
            leaves: vec![0; 1 << LEAF_BITS],
            log: VecDeque::new(),
            log_start: 1,
            clock: Stamp::default(),
            shadows: HashMap::new(),
            marks: HashMap::new(),
            tuples: 0,
            deletions: 0,
            hearsay: 0,
            left_out: 0,
            swept: 0,
        }
    }

    /// Takes in what is stored: a state, or a stamp, or in two calls both.
    pub fn load(&mut self, key: Key, body: Option<Body>, stamp: Stamp, until: i64) {
        let hash = key.hash();
        let (known_stamp, known_until, known) =
            self.slots.get(&hash).map_or((Stamp::default(), 0, None), |s| (s.stamp, s.until, s.body));
        self.clock = self.clock.max(stamp);
        let slot =
            Slot { key, stamp: stamp.max(known_stamp), until: until.max(known_until), body: body.or(known) };
        self.set(hash, slot);
    }

    /// The store has a new state of `key`, `None` when it was deleted. Gives what the store has to make of it, where
    /// others know more.
    pub fn local(&mut self, key: Key, new: Option<Body>, now: i64) -> Option<Applied> {
        if key.text.len() > KEY_LIMIT {
            self.left_out += 1;
            return None;
        }
        let hash = key.hash();
        let shadow = self.shadows.remove(&hash);
        let known = self.slots.get(&hash);
        if known.is_some_and(|slot| slot.key != key) || (known.is_none() && !self.has_room(key.kind)) {
            self.left_out += 1;
            return None;
        }
        let (stamp, until, old) = known.map_or((Stamp::default(), 0, None), |s| (s.stamp, s.until, s.body));
        let continues = |from: Body, to: Body| from.join(to) == to;
        let is_said = |from: Option<Body>, to: Option<Body>| {
            let said = |body: Body| (body.origin == Origin::Admin).then_some(body.state);
            to.and_then(said).is_some() && from.and_then(said) != to.and_then(said)
        };
        let (stamp, until, body) = match (old, new) {
            (None, None) => return None,
            // Of two commands the later one holds, wherever they were given.
            (old, new) if is_said(old, new) => self.take_back(stamp, until, old, new, now),
            (None, Some(new)) => (stamp, until, Some(new)),
            // It had ended: what begins now forgets it, under the same stamp on every host that knew it.
            (Some(old), new) if old.is_over(now) => {
                (stamp.max(Stamp::of_millis(old.expires)), until.max(now.saturating_add(GRACE)), new)
            }
            (Some(old), Some(new)) if continues(old, new) => (stamp, until, Some(new)),
            // Others' news and a change here crossed.
            (Some(old), Some(new)) if shadow.is_some_and(|was| was.is_none_or(|was| continues(was, new))) => {
                (stamp, until, Some(old.join(new)))
            }
            (old, new) => self.take_back(stamp, until, old, new, now),
        };
        self.set_and_log(hash, Slot { key: key.clone(), stamp, until, body });
        (body != new).then_some(Applied { key, was: new, is: body })
    }

    /// A state that forgets all before: it gets a stamp of its own.
    fn take_back(
        &mut self,
        stamp: Stamp,
        until: i64,
        old: Option<Body>,
        new: Option<Body>,
        now: i64,
    ) -> (Stamp, i64, Option<Body>) {
        // Later than what it takes back, however fast the clock runs of who saw that begin.
        let began = old.map_or(Stamp::default(), |old| Stamp::of_millis(old.first));
        self.clock = self.clock.max(stamp).max(began).next(now);
        let memory = old.map_or(0, |old| old.expires.min(now.saturating_add(DELETION_LIMIT)));
        (self.clock, until.max(memory).max(now.saturating_add(GRACE)), new)
    }

    /// The store did not have the state that [`Applied::was`] says: a change there is not yet told.
    pub fn missed(&mut self, applied: &Applied) {
        if self.shadows.len() < SHADOWS_LIMIT {
            self.shadows.entry(applied.key.hash()).or_insert(applied.was);
        }
    }

    /// Takes what a peer of the same owner says; gives what the store has to change.
    pub(super) fn merge(&mut self, record: Record, now: i64, skew: i64) -> Result<Option<Applied>, Refused> {
        let latest = now.saturating_add(skew);
        if record.stamp.millis() > latest || record.body.is_some_and(|body| body.first > latest) {
            return Err(Refused::Early);
        }
        let hash = record.key.hash();
        let known = self.slots.get(&hash);
        if known.is_some_and(|slot| slot.key != record.key)
            || (known.is_none() && !self.has_room(record.key.kind))
        {
            self.left_out += 1;
            return Err(Refused::Full);
        }
        let until = record.until.min(latest.saturating_add(DELETION_LIMIT));
        let record = Record { until, ..record };
        let was = known.and_then(|slot| slot.body);
        let same = known.map(|slot| (slot.stamp, slot.body));
        let joined = match known {
            Some(slot) => slot.record().join(record, now),
            None => {
                let nothing =
                    Record { key: record.key.clone(), stamp: Stamp::default(), until: 0, body: None };
                nothing.join(record, now)
            }
        };
        let Record { key, stamp, until, body } = joined;
        self.clock = self.clock.max(stamp);
        if same == Some((stamp, body)) {
            return Ok(None);
        }
        let slot = Slot { key: key.clone(), stamp, until, body };
        self.set(hash, slot);
        Ok((was != body).then_some(Applied { key, was, is: body }))
    }

    /// Takes the trap of a friend, who may say nothing else: as seen by others, never for long, never wide, and never
    /// against the administrator.
    pub(super) fn hear(&mut self, record: &Record, now: i64) -> Result<Option<Applied>, Refused> {
        let Some(said) = record.body.filter(|body| {
            body.state == State::Trapped && body.origin == Origin::Learned && !body.is_over(now)
        }) else {
            return Err(Refused::Untrusted);
        };
        let network: IpNet = record.key.text.parse().map_err(|_| Refused::Untrusted)?;
        let widest = if network.addr().is_ipv4() { HEARSAY_WIDEST.0 } else { HEARSAY_WIDEST.1 };
        if record.key.kind != Kind::NETWORK || network.prefix_len() < widest || network.trunc() != network {
            return Err(Refused::Untrusted);
        }
        let hash = record.key.hash();
        let known = self.slots.get(&hash);
        let was = known.and_then(|slot| slot.body);
        let live = was.filter(|body| !body.is_over(now));
        if live.is_some_and(|body| body.origin == Origin::Admin) {
            return Ok(None);
        }
        if live.is_none() && (self.hearsay >= HEARSAY_LIMIT || !self.has_room(Kind::NETWORK)) {
            return Err(Refused::Full);
        }
        let expires = said.expires.min(now.saturating_add(HEARSAY_LASTS));
        let heard = Body { first: now, pass: now, expires, blocked: 0, passed: 0, ..said };
        let body = live.map_or(heard, |live| live.join(heard));
        if live == Some(body) {
            return Ok(None);
        }
        let ended = was.filter(|body| body.is_over(now)).map_or(0, |body| body.expires);
        let (stamp, until) = known.map_or((Stamp::default(), 0), |slot| (slot.stamp, slot.until));
        let (stamp, until) = if ended > 0 {
            (stamp.max(Stamp::of_millis(ended)), until.max(now.saturating_add(GRACE)))
        } else {
            (stamp, until)
        };
        let key = record.key.clone();
        self.set_and_log(hash, Slot { key: key.clone(), stamp, until, body: Some(body) });
        Ok(Some(Applied { key, was, is: Some(body) }))
    }

    /// Forgets some of what is over; false when it has been through all. To be called until it says so, every minute.
    pub fn sweep(&mut self, now: i64, bite: usize) -> bool {
        let looked: Vec<u64> = self.slots.range(self.swept..).take(bite).map(|(hash, _)| *hash).collect();
        for hash in &looked {
            let Some(slot) = self.slots.get(hash) else { continue };
            let is_over = slot.body.is_some_and(|body| body.expires.saturating_add(GRACE) <= now);
            if is_over || (slot.body.is_none() && slot.until <= now) {
                let body = if is_over { None } else { slot.body };
                let until = if slot.until <= now { 0 } else { slot.until };
                let stamp = if until == 0 && body.is_none() { Stamp::default() } else { slot.stamp };
                let slot = Slot { key: slot.key.clone(), stamp, until, body };
                self.set(*hash, slot);
            }
        }
        self.swept = match looked.last() {
            Some(last) if looked.len() == bite => last.saturating_add(1),
            _ => 0,
        };
        self.swept != 0
    }

    /// Stamps to be stored since the last call.
    pub fn take_marks(&mut self) -> Vec<Mark> {
        std::mem::take(&mut self.marks).into_values().collect()
    }

    fn has_room(&self, kind: Kind) -> bool {
        self.slots.len() < KEYS_LIMIT && (kind != Kind::TUPLE || self.tuples < TUPLES_LIMIT)
    }

    fn set_and_log(&mut self, hash: u64, slot: Slot) {
        if !self.set(hash, slot) {
            return;
        }
        self.log.push_back(hash);
        if self.log.len() > LOG_LIMIT {
            self.log.pop_front();
            self.log_start += 1;
        }
    }

    /// Whether anything changed.
    fn set(&mut self, hash: u64, slot: Slot) -> bool {
        let old = self.slots.remove(&hash);
        let same = old.as_ref().is_some_and(|old| old.stamp == slot.stamp && old.body == slot.body);
        if let Some(old) = &old {
            self.count(old, hash, false);
        }
        let was_marked = old.as_ref().map_or((Stamp::default(), 0), |old| (old.stamp, old.until));
        if was_marked != (slot.stamp, slot.until) {
            let until = if slot.stamp == Stamp::default() { 0 } else { slot.until.max(1) };
            self.marks.insert(hash, Mark { key: slot.key.clone(), stamp: slot.stamp, until });
        }
        if slot.body.is_some() || slot.until != 0 {
            self.count(&slot, hash, true);
            self.slots.insert(hash, slot);
        }
        !same
    }

    fn count(&mut self, slot: &Slot, hash: u64, comes: bool) {
        let version = slot.version(hash);
        let leaf = usize::try_from(hash >> (64 - LEAF_BITS)).unwrap_or(0);
        if let Some(leaf) = self.leaves.get_mut(leaf) {
            *leaf = if comes { leaf.wrapping_add(version) } else { leaf.wrapping_sub(version) };
        }
        let change = |count: &mut usize, concerns: bool| {
            if concerns {
                *count = if comes { count.saturating_add(1) } else { count.saturating_sub(1) };
            }
        };
        change(&mut self.tuples, slot.key.kind == Kind::TUPLE);
        change(&mut self.deletions, slot.body.is_none());
        change(&mut self.hearsay, slot.is_hearsay());
    }
}
