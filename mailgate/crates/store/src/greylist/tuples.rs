//! Tuples in memory: 26 bytes each, ten million of them in about 330 MB, and no text.
//!
//! A tuple is found by a keyed 64-bit hash. The secret belongs to the database, so nobody outside can search for two
//! tuples with one hash; by chance there is a pair among ten million once in 370,000 databases, and then one client is
//! taken for another that was deferred, and passes early.
//!
//! At the start rows come into memory bit by bit ([`Tuples::take_in`]); until its part is there, a tuple is looked up
//! on disk, so that answers are right from the first moment on.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mailgate_model::Timestamp;
use rusqlite::Connection;
use siphasher::sip::SipHasher13;

use super::{Grey, Tuple, rows};

/// Octets of the secret that keys the hash.
pub(super) const SECRET: usize = 16;
/// The sign of a row's number: row numbers are signed, and memory follows their order.
const SIGN: u64 = 1 << 63;

/// What a tuple is found by, in memory and on disk. Ordered as the rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(u64);

impl Key {
    pub(super) fn of_row(row: i64) -> Self {
        Self(row.cast_unsigned() ^ SIGN)
    }

    pub(super) fn row(self) -> i64 {
        (self.0 ^ SIGN).cast_signed()
    }

    /// Shards hold ranges of keys, in order.
    fn shard(self) -> usize {
        let scaled = (u128::from(self.0) * Tuples::SHARDS as u128) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }
}

/// Keys are hashes already; but those of one shard begin alike, and the table looks at the beginning first.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0.rotate_left(32)
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Ok(bytes) = bytes.try_into() {
            self.0 = u64::from_le_bytes(bytes);
        }
    }

    /// Of the array's length, which says nothing.
    fn write_usize(&mut self, _: usize) {}
}

/// A tuple's state in 17 octets: beginning (6, milliseconds), from there to the pass (4) and to the end (4), deferred
/// (2) and passed attempts (1). What does not fit counts as the most that does: 49 days, 65535 and 255 attempts.
#[derive(Clone, Copy)]
struct Packed([u8; 17]);

impl Packed {
    fn of(grey: &Grey) -> Self {
        let mut bytes = [0; 17];
        let first = u64::try_from(grey.first.millis()).unwrap_or(0).min((1 << 48) - 1);
        let span =
            |to: Timestamp| u32::try_from(to.since(grey.first).as_millis()).unwrap_or(u32::MAX).to_le_bytes();
        let blocked = u16::try_from(grey.blocked).unwrap_or(u16::MAX).to_le_bytes();
        let parts = first.to_le_bytes().into_iter().take(6).chain(span(grey.pass)).chain(span(grey.expires));
        let counts = blocked.into_iter().chain([u8::try_from(grey.passed).unwrap_or(u8::MAX)]);
        bytes.iter_mut().zip(parts.chain(counts)).for_each(|(place, byte)| *place = byte);
        Self(bytes)
    }

    fn grey(&self) -> Grey {
        let [a, b, c, d, e, f, pass @ .., k0, k1, k2, k3, b0, b1, passed] = self.0;
        let first = Timestamp::from_millis(i64::from_le_bytes([a, b, c, d, e, f, 0, 0]));
        let plus = |span: [u8; 4]| first.plus(Duration::from_millis(u64::from(u32::from_le_bytes(span))));
        Grey {
            first,
            pass: plus(pass),
            expires: plus([k0, k1, k2, k3]),
            blocked: u32::from(u16::from_le_bytes([b0, b1])),
            passed: u32::from(passed),
        }
    }
}

impl Grey {
    /// As memory keeps it.
    pub(super) fn kept(self) -> Self {
        Packed::of(&self).grey()
    }
}

/// A part of the tuples, under a lock of its own.
#[derive(Default)]
struct Shard {
    known: HashMap<[u8; 8], Packed, BuildHasherDefault<Spread>>,
    /// While rows of this part may still be on disk only: those that were removed since the start.
    unread: Option<HashSet<Key>>,
}

impl Shard {
    fn get(&self, key: Key) -> Option<Grey> {
        self.known.get(&key.0.to_le_bytes()).map(Packed::grey)
    }
}

/// All tuples.
pub(super) struct Tuples {
    secret: [u8; SECRET],
    shards: Vec<Mutex<Shard>>,
    count: AtomicUsize,
    /// For looking at rows that are not in memory yet; gone when all are.
    disk: Mutex<Option<Connection>>,
}

impl Tuples {
    /// Parts with a lock of their own. So many that none ever takes long to grow, and so chosen that their tables are
    /// nearly full at the limit of ten million.
    pub(super) const SHARDS: usize = 768;

    /// Nothing is in memory yet; `disk` reads the rows, `None` where that is not needed because all come at once.
    pub(super) fn new(secret: [u8; SECRET], disk: Option<Connection>) -> Self {
        let unread = || Mutex::new(Shard { unread: Some(HashSet::new()), ..Shard::default() });
        Self {
            secret,
            shards: (0..Self::SHARDS).map(|_| unread()).collect(),
            count: AtomicUsize::new(0),
            disk: Mutex::new(disk),
        }
    }

    pub(super) fn key(&self, tuple: &Tuple) -> Key {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        let client = tuple.client.to_string();
        for part in [&client, &tuple.reverse_path, &tuple.forward_path] {
            hasher.write_u64(part.len() as u64);
            hasher.write(part.as_bytes());
        }
        Key(hasher.finish())
    }

    /// Changes or looks at one tuple under its lock. Waits for the disk only during the first moments of the daemon.
    pub(super) fn change<T>(&self, tuple: &Tuple, change: impl FnOnce(Key, &mut Option<Grey>) -> T) -> T {
        let key = self.key(tuple);
        let Some(mut shard) = self.shard(key.shard()) else { return change(key, &mut None) };
        let in_memory = shard.get(key);
        let mut state = in_memory;
        if in_memory.is_none()
            && let Some(removed) = &shard.unread
            && !removed.contains(&key)
        {
            state = self.on_disk(key);
        }
        let answer = change(key, &mut state);
        match state {
            Some(grey) => drop(shard.known.insert(key.0.to_le_bytes(), Packed::of(&grey))),
            None => {
                shard.known.remove(&key.0.to_le_bytes());
                if let Some(removed) = &mut shard.unread {
                    removed.insert(key);
                }
            }
        }
        match (in_memory.is_some(), state.is_some()) {
            (false, true) => drop(self.count.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.count.fetch_sub(1, Ordering::Relaxed)),
            (true, true) | (false, false) => {}
        }
        answer
    }

    /// Takes in a row that was read; what happened since the start holds.
    pub(super) fn take_in(&self, key: Key, grey: &Grey) {
        let Some(mut shard) = self.shard(key.shard()) else { return };
        let removed = shard.unread.as_ref().is_none_or(|removed| removed.contains(&key));
        if removed || shard.get(key).is_some() {
            return;
        }
        shard.known.insert(key.0.to_le_bytes(), Packed::of(grey));
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Every row up to `reached` was taken in; `None` for all there are.
    pub(super) fn taken_in(&self, reached: Option<Key>) {
        let whole = reached.map_or(Self::SHARDS, Key::shard);
        for shard in self.shards.iter().take(whole) {
            shard.lock().unwrap_or_else(PoisonError::into_inner).unread = None;
        }
        if reached.is_none() {
            self.disk.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    /// Whether rows are still being read.
    pub(super) fn is_loading(&self) -> bool {
        self.shard(Self::SHARDS - 1).is_some_and(|shard| shard.unread.is_some())
    }

    /// Removes what ended at `until` or before and says which.
    pub(super) fn sweep(&self, shard: usize, until: Timestamp) -> Vec<Key> {
        let Some(mut shard) = self.shard(shard) else { return Vec::new() };
        let mut swept = Vec::new();
        shard.known.retain(|key, packed| {
            let ended = packed.grey().expires <= until;
            if ended {
                swept.push(Key(u64::from_le_bytes(*key)));
            }
            !ended
        });
        if shard.known.len() < shard.known.capacity() / 4 {
            shard.known.shrink_to_fit();
        }
        self.count.fetch_sub(swept.len(), Ordering::Relaxed);
        swept
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn on_disk(&self, key: Key) -> Option<Grey> {
        let disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        match rows::tuple_at(disk.as_ref()?, key) {
            Ok(found) => found,
            Err(error) => {
                // The client is deferred once more.
                tracing::warn!(target: "store", event = "greylist", result = "not read", reason = %error);
                None
            }
        }
    }

    fn shard(&self, shard: usize) -> Option<MutexGuard<'_, Shard>> {
        self.shards.get(shard).map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_fits_comes_back_as_it_was(
            first in 0_i64..(1 << 48), pass in 0_u32.., keep in 0_u32.., blocked in 0_u16.., passed in 0_u8..,
        ) {
            let first = Timestamp::from_millis(first);
            let plus = |span: u32| first.plus(Duration::from_millis(span.into()));
            let grey = Grey {
                first, pass: plus(pass), expires: plus(keep), blocked: blocked.into(), passed: passed.into(),
            };
            proptest::prop_assert_eq!(Packed::of(&grey).grey(), grey);
        }

        #[test]
        fn keys_are_ordered_as_rows_are_and_so_are_shards(one: i64, other: i64) {
            let (a, b) = (Key::of_row(one), Key::of_row(other));
            proptest::prop_assert_eq!(a.row(), one);
            proptest::prop_assert_eq!(a.cmp(&b), one.cmp(&other));
            proptest::prop_assert!(a > b || a.shard() <= b.shard());
            proptest::prop_assert!(a.shard() < Tuples::SHARDS);
        }
    }

    #[test]
    fn what_does_not_fit_counts_as_the_most_that_does() {
        let first = Timestamp::from_secs(1_700_000_000);
        let year = Duration::from_secs(365 * 86_400);
        let grey = Grey { first, pass: first, expires: first.plus(year), blocked: 1 << 20, passed: 1000 };
        let back = Packed::of(&grey).grey();
        assert_eq!(
            (back.expires.since(first).as_secs() / 86_400, back.blocked, back.passed),
            (49, 65_535, 255)
        );
    }

    #[test]
    fn a_tuple_costs_26_bytes_in_memory() {
        // One octet more is the table's own.
        assert_eq!(size_of::<([u8; 8], Packed)>(), 25);
    }
}
