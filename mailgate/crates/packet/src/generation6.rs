//! Writes IPv6 generations: whole ones, and changes of single prefixes that the next packet sees.

use std::collections::HashSet;
use std::sync::Arc;

use mailgate_common::{
    ENTRIES_PER_PAGE, Entry6, GATED_FROM, Geometry, Key6, LENGTH_STEP, PAGE_WORDS, STASH_PAGE, buckets6,
    gate_place, header,
};

use super::Error;
use super::area::{Area, chunked};
use super::classes::{Classes, Full};
use super::engine::{Backing, Part, Stamp, write_header};
use super::shadow::{Address as _, Prefix, Shadow};

const WORDS: usize = PAGE_WORDS as usize;
/// The largest table: 2^24 entries are 1 GiB at the least load.
const ENTRY_LIMIT: u64 = 1 << 24;
/// Fewest buckets, so that a small table need not grow at its first changes.
const BUCKETS_MIN: u64 = 128;
/// Bits of the gate for each entry; the more, the fewer strangers pass it for nothing.
const GATE_BITS_PER_ENTRY: u64 = 16;

/// What a generation will need, from the counts alone.
pub(super) struct Plan6 {
    /// Prefixes of stored lengths.
    entries: u64,
    /// Different sets of tables.
    sets: usize,
}

impl Plan6 {
    pub(super) fn of(shadow: &Shadow<u128>) -> Result<Self, Error> {
        let mut sets = HashSet::new();
        let mut entries = 0;
        for (_, length, set) in shadow.sweep_all() {
            sets.insert(set);
            entries += 1_u64 << (stored_length(length) - length);
        }
        if entries > ENTRY_LIMIT {
            return Err(Error::TooLarge { slots: entries, limit: ENTRY_LIMIT });
        }
        Ok(Self { entries, sets: sets.len() })
    }

    /// Five entries in a bucket, two of them filled at most on average.
    fn buckets(&self) -> u64 {
        (self.entries / 2).next_power_of_two().max(BUCKETS_MIN)
    }

    /// Pages of the gate.
    fn gate(&self) -> u64 {
        (self.entries.max(self.buckets() * 2) * GATE_BITS_PER_ENTRY / 1024).next_power_of_two()
    }

    fn pages(&self) -> u64 {
        let classes = Classes::room_for(self.sets).div_ceil(PAGE_WORDS);
        u64::from(STASH_PAGE + 1 + classes) + self.gate() + self.buckets()
    }

    /// Bytes of the generation.
    pub(super) fn bytes(&self) -> u64 {
        chunked(self.pages() * u64::from(PAGE_WORDS))
    }
}

/// A generation and what is needed to change it.
#[derive(Debug)]
pub(super) struct Generation6 {
    area: Arc<Area>,
    classes: Classes,
    seed: u64,
    buckets: Geometry,
    gate: Geometry,
    used: u64,
    stashed: u32,
}

impl Generation6 {
    /// Compiles all of `shadow`, of which `plan` is.
    pub(super) fn build(
        shadow: &Shadow<u128>,
        mut plan: Plan6,
        stamp: Stamp,
        backing: &dyn Backing,
    ) -> Result<Self, Error> {
        let mut seed = stamp.seed;
        loop {
            let mut new = Self::sized(&plan, seed, backing)?;
            if new.fill(shadow).is_ok() {
                write_header(&new.area, stamp, shadow.len());
                return Ok(new);
            }
            seed = seed.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            plan.entries *= 2;
        }
    }

    fn sized(plan: &Plan6, seed: u64, backing: &dyn Backing) -> Result<Self, Error> {
        let (buckets, gate) = (plan.buckets(), plan.gate());
        let room = Classes::room_for(plan.sets);
        let class_page = STASH_PAGE + 1;
        let gate_page = class_page + room.div_ceil(PAGE_WORDS);
        let bucket_page = gate_page + gate as u32;
        let area = backing.area(Part::V6, plan.pages() as usize * WORDS)?;
        let gate = Geometry { base: gate_page, extent: gate as u32 - 1 };
        let classes = Geometry { base: class_page * PAGE_WORDS, extent: room };
        area.store(header::CLASSES as usize, classes.pack());
        area.store(header::SEED as usize, seed);
        area.store(header::GATE as usize, gate.pack());
        let buckets = Geometry { base: bucket_page, extent: (buckets - 1) as u32 };
        area.store(header::BUCKETS as usize, buckets.pack());
        Ok(Self {
            area: Arc::new(area),
            classes: Classes::new(class_page as usize * WORDS, room),
            seed,
            buckets,
            gate,
            used: 0,
            stashed: 0,
        })
    }

    /// One that somebody else built and that readers use, for changes of entries whose class is there.
    #[cfg(feature = "ebpf")]
    pub(super) fn of(area: Area) -> Self {
        let geometry = |word: u32| Geometry::unpack(area.load(word as usize));
        let classes = geometry(header::CLASSES);
        Self {
            classes: Classes::new(classes.base as usize, classes.extent),
            seed: area.load(header::SEED as usize),
            buckets: geometry(header::BUCKETS),
            gate: geometry(header::GATE),
            // Not told; the pages themselves say where there is room.
            used: 0,
            stashed: area.load(header::STASHED as usize) as u32,
            area: Arc::new(area),
        }
    }

    fn fill(&mut self, shadow: &Shadow<u128>) -> Result<(), Full> {
        for (address, length, set) in shadow.sweep_all() {
            let class = self.classes.id(&self.area, set)?;
            // In order: a longer prefix that shares a cell comes later and wins.
            for cell in cells((address, length)) {
                self.put(cell, class)?;
            }
        }
        Ok(())
    }

    /// Brings everything inside `prefix`, whose entry just changed in `shadow`, up to date.
    pub(super) fn refresh(&mut self, shadow: &Shadow<u128>, prefix: Prefix<u128>) -> Result<(), Full> {
        for (address, length, set) in shadow.sweep(prefix) {
            let class = self.classes.id(&self.area, set)?;
            for cell in cells((address, length)) {
                if !shared_with_longer(shadow, cell, length) {
                    self.put(cell, class)?;
                }
            }
        }
        if shadow.contains(prefix) {
            return Ok(());
        }
        let stored = stored_length(prefix.1);
        let heir = shadow.parent(prefix).filter(|(_, length)| stored_length(*length) == stored);
        let class = self.classes.id(&self.area, shadow.around(prefix))?;
        for cell in cells(prefix) {
            if shared_with_longer(shadow, cell, prefix.1) {
                continue;
            }
            match heir {
                Some(_) => self.put(cell, class)?,
                None => self.remove(cell),
            }
        }
        Ok(())
    }

    /// Announces a length and, for long ones, the first 32 bits, before the entry itself is there.
    fn announce(&self, key: &Key6) {
        let lengths = header::LENGTHS as usize;
        let bit = 1_u64 << (key.length / LENGTH_STEP);
        let before = self.area.load(lengths);
        if key.length >= GATED_FROM {
            let (page, word, bit) = gate_place(key.high, self.seed, self.gate);
            let at = (page * PAGE_WORDS + word) as usize;
            self.area.store(at, self.area.load(at) | bit);
        }
        if before & bit == 0 {
            self.area.store(lengths, before | bit);
        }
    }

    /// First words of the entries of a page.
    fn entries(page: u32) -> impl Iterator<Item = usize> {
        (0..ENTRIES_PER_PAGE).map(move |n| page as usize * WORDS + 3 * n as usize)
    }

    fn places(&self, key: &Key6) -> [u32; 2] {
        let (one, other) = buckets6(key, self.seed, self.buckets.extent);
        [self.buckets.base + one, self.buckets.base + other]
    }

    fn find(&self, key: &Key6) -> Option<usize> {
        let stash = (self.stashed != 0).then_some(STASH_PAGE);
        self.places(key).into_iter().chain(stash).flat_map(Self::entries).find(|at| {
            Entry6(self.area.load(at + 2)).is_of(key.length)
                && self.area.load(*at) == key.high
                && self.area.load(at + 1) == key.low
        })
    }

    /// Sets the class of a prefix of a stored length, present or not.
    pub(super) fn put(&mut self, (address, length): Prefix<u128>, class: u32) -> Result<(), Full> {
        let key = key(address, length);
        if let Some(at) = self.find(&key) {
            let turn = Entry6(self.area.load(at + 2)).turn();
            self.area.store(at + 2, Entry6::new(class, key.length, turn).0);
            return Ok(());
        }
        let free = |page: u32| Self::entries(page).filter(|at| self.area.load(at + 2) >> 63 == 0);
        let [one, other] = self.places(&key);
        let fuller = free(one).count() < free(other).count();
        let (first, second) = if fuller { (other, one) } else { (one, other) };
        let at = match free(first).next().or_else(|| free(second).next()) {
            Some(at) => at,
            None => {
                let at = free(STASH_PAGE).next().ok_or(Full)?;
                self.stashed += 1;
                self.area.store(header::STASHED as usize, u64::from(self.stashed));
                at
            }
        };
        self.used += 1;
        if self.used * 2 > (u64::from(self.buckets.extent) + 1) * u64::from(ENTRIES_PER_PAGE) {
            return Err(Full);
        }
        self.announce(&key);
        let turn = Entry6(self.area.load(at + 2)).turn().wrapping_add(1);
        self.area.store(at, key.high);
        self.area.store(at + 1, key.low);
        self.area.store(at + 2, Entry6::new(class, key.length, turn).0);
        Ok(())
    }

    fn remove(&mut self, (address, length): Prefix<u128>) {
        if let Some(at) = self.find(&key(address, length)) {
            // The turn stays, so that the next use of the place differs from this one.
            self.area.store(at + 2, self.area.load(at + 2) & !(1 << 63));
            self.used = self.used.saturating_sub(1);
        }
    }

    /// The memory.
    pub(super) fn area(&self) -> &Arc<Area> {
        &self.area
    }
}

/// The stored length of a prefix: its own, or the next multiple of four.
fn stored_length(length: u8) -> u8 {
    length.next_multiple_of(LENGTH_STEP as u8)
}

/// The prefixes of the stored length that a prefix consists of: 1, 2, 4 or 8.
fn cells((address, length): Prefix<u128>) -> impl Iterator<Item = Prefix<u128>> {
    let stored = stored_length(length);
    (0..1_u128 << (stored - length))
        .map(move |n| (address | n.checked_shl(u32::from(128 - stored)).unwrap_or(0), stored))
}

/// Does a prefix longer than `length` own this cell? Then its class stands there.
fn shared_with_longer(shadow: &Shadow<u128>, (address, stored): Prefix<u128>, length: u8) -> bool {
    (length + 1..=stored).any(|longer| shadow.contains((address.first(longer), longer)))
}

fn key(address: u128, length: u8) -> Key6 {
    Key6 { high: (address >> 64) as u64, low: address as u64, length: length.into() }
}
