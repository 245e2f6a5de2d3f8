//! Writes IPv4 generations: whole ones, and changes of single prefixes that the next packet sees.

use std::collections::HashMap;
use std::sync::Arc;

use mailgate_common::{
    Geometry, Key4, Kind4, L1_BASE, L1_LINES, LINE_WORDS, Policy, STASH_LINE, buckets4, header, l1_place,
};

use super::Error;
use super::area::Area;
use super::classes::{Classes, Full};
use super::engine::{Backing, Family, Stamp, write_header};
use super::shadow::{Prefix, Shadow};

const WORDS: usize = LINE_WORDS as usize;
/// The largest bucket table: 2^26 slots are 512 MiB at half load.
const SLOT_LIMIT: u64 = 1 << 25;
/// Fewest buckets, so that a small table need not grow at its first changes.
const BUCKETS_MIN: u64 = 1024;
/// Classes that fit into a nibble.
const SMALL: u32 = 6;
/// The nibble's class that sends the lookup to a slot.
const BY_SLOT: u32 = 7;

/// A generation and what is needed to change it.
#[derive(Debug)]
pub(super) struct Generation4 {
    area: Arc<Area>,
    classes: Classes,
    seed: u64,
    buckets: Geometry,
    used: u64,
    stashed: u32,
}

impl Generation4 {
    /// Compiles all of `shadow`.
    pub(super) fn build(
        shadow: &Shadow<u32>,
        policy: &Policy,
        stamp: Stamp,
        backing: &dyn Backing,
    ) -> Result<Self, Error> {
        let mut seed = stamp.seed;
        let plan = Plan::of(shadow);
        let mut spare = 1;
        loop {
            let mut new = Self::sized(&plan, seed, spare, backing)?;
            if new.fill(shadow, &plan).is_ok() {
                write_header(&new.area, policy, stamp, shadow.len(), new.buckets, seed);
                return Ok(new);
            }
            // Both buckets of more keys than the stash holds were full: another secret, more room.
            seed = seed.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            spare *= 2;
        }
    }

    fn sized(plan: &Plan, seed: u64, spare: u64, backing: &dyn Backing) -> Result<Self, Error> {
        if plan.slots > SLOT_LIMIT {
            return Err(Error::TooLarge { slots: plan.slots, limit: SLOT_LIMIT });
        }
        // Eight slots in a bucket, half of them filled at most.
        let buckets = (plan.slots * spare / 4).next_power_of_two().max(BUCKETS_MIN);
        let room = Classes::room_for(plan.order.len());
        let class_line = L1_BASE + L1_LINES;
        let bucket_line = class_line + room.div_ceil(LINE_WORDS);
        let lines = u64::from(bucket_line) + buckets;
        let area = backing.area(Family::V4, lines as usize * WORDS)?;
        area.store(header::CLASSES as usize, Geometry { base: class_line, extent: room }.pack());
        Ok(Self {
            area: Arc::new(area),
            classes: Classes::new(class_line as usize * WORDS, room),
            seed,
            buckets: Geometry { base: bucket_line, extent: (buckets - 1) as u32 },
            used: 0,
            stashed: 0,
        })
    }

    /// Everything into a generation that nobody reads yet.
    fn fill(&mut self, shadow: &Shadow<u32>, plan: &Plan) -> Result<(), Full> {
        for set in &plan.order {
            self.classes.id(&self.area, *set)?;
        }
        let mut hosts: Vec<(u32, u8, u32)> = Vec::new();
        for (address, length, set) in shadow.sweep_all() {
            let class = self.classes.id(&self.area, set)?;
            if hosts.first().is_some_and(|(first, ..)| first >> 8 != address >> 8) {
                self.fill_hosts(&hosts)?;
                hosts.clear();
            }
            if length > 24 {
                hosts.push((address, length, class));
                continue;
            }
            let blocks = 1_u32 << (24 - length);
            self.fill_blocks(address >> 8, blocks, class.min(BY_SLOT));
            if class > SMALL {
                for block in 0..blocks {
                    self.put(Key4::new(address + (block << 8), Kind4::Block), class)?;
                }
            }
        }
        self.fill_hosts(&hosts)
    }

    /// `count` nibbles from /24 number `first` on; of fresh memory, so whole words are set at once.
    fn fill_blocks(&self, first: u32, count: u32, nibble: u32) {
        let pattern = u64::from(nibble) * 0x1111_1111_1111_1111;
        let mut at = first;
        let end = first + count;
        while at < end {
            let word = L1_BASE as usize * WORDS + (at >> 4) as usize;
            if at.is_multiple_of(16) && end - at >= 16 {
                self.area.store(word, pattern);
                at += 16;
            } else {
                let shift = (at & 15) * 4;
                let cleared = self.area.load(word) & !(15 << shift);
                self.area.store(word, cleared | u64::from(nibble) << shift);
                at += 1;
            }
        }
    }

    /// The prefixes longer than /24 of one /24, in order.
    fn fill_hosts(&mut self, hosts: &[(u32, u8, u32)]) -> Result<(), Full> {
        let Some((first, ..)) = hosts.first() else { return Ok(()) };
        if hosts.iter().all(|(_, length, _)| *length == 32) {
            for (address, _, class) in hosts {
                self.insert(Key4::new(*address, Kind4::Host), *class)?;
            }
        } else {
            let block = first & !0xff;
            for (host, class) in cells(hosts.iter().copied()).iter().enumerate() {
                if let Some(class) = class {
                    self.insert(Key4::new(block + host as u32, Kind4::Host), *class)?;
                }
            }
        }
        let (line, word, shift) = l1_place(*first);
        let at = (line * LINE_WORDS + word) as usize;
        self.area.store(at, self.area.load(at) | 8 << shift);
        Ok(())
    }

    /// Brings everything inside `prefix`, whose entry just changed in `shadow`, up to date.
    pub(super) fn refresh(&mut self, shadow: &Shadow<u32>, prefix: Prefix<u32>) -> Result<(), Full> {
        if prefix.1 > 24 { self.refresh_hosts(shadow, prefix) } else { self.refresh_blocks(shadow, prefix) }
    }

    fn refresh_hosts(&mut self, shadow: &Shadow<u32>, (address, length): Prefix<u32>) -> Result<(), Full> {
        let block = address & !0xff;
        let mut hosts = Vec::new();
        for (host, length, set) in shadow.sweep((block, 24)).filter(|(_, length, _)| *length > 24) {
            hosts.push((host, length, self.classes.id(&self.area, set)?));
        }
        let cells = cells(hosts.iter().copied());
        let any = !hosts.is_empty();
        if !any {
            self.set_nibble(block, self.nibble(block) & 7);
        }
        let inside = (address & 0xff) as usize;
        let count = 1_usize << (32 - length);
        for (host, class) in cells.iter().enumerate().skip(inside).take(count) {
            let key = Key4::new(block + host as u32, Kind4::Host);
            match class {
                Some(class) => self.put(key, *class)?,
                None => self.remove(key),
            }
        }
        if any {
            self.set_nibble(block, self.nibble(block) | 8);
        }
        Ok(())
    }

    fn refresh_blocks(&mut self, shadow: &Shadow<u32>, (address, length): Prefix<u32>) -> Result<(), Full> {
        let base = self.classes.id(&self.area, shadow.around((address, length)))?;
        let mut blocks = vec![base; 1 << (24 - length)];
        let mut hosts: Vec<(u32, u8, u32)> = Vec::new();
        let mut with_hosts: Vec<u32> = Vec::new();
        for (inner, length, set) in shadow.sweep((address, length)) {
            let class = self.classes.id(&self.area, set)?;
            if hosts.first().is_some_and(|(first, ..)| first >> 8 != inner >> 8) {
                self.put_hosts(&hosts)?;
                hosts.clear();
            }
            if length > 24 {
                if hosts.is_empty() {
                    with_hosts.push(inner >> 8);
                }
                hosts.push((inner, length, class));
            } else {
                let first = ((inner - address) >> 8) as usize;
                blocks.iter_mut().skip(first).take(1 << (24 - length)).for_each(|block| *block = class);
            }
        }
        self.put_hosts(&hosts)?;
        let mut with_hosts = with_hosts.into_iter().peekable();
        for (n, class) in blocks.into_iter().enumerate() {
            let block = address + ((n as u32) << 8);
            let mark = if with_hosts.next_if_eq(&(block >> 8)).is_some() { 8 } else { 0 };
            let key = Key4::new(block, Kind4::Block);
            let before = self.nibble(block);
            if class > SMALL {
                self.put(key, class)?;
            }
            let nibble = mark | class.min(BY_SLOT);
            if nibble != before {
                self.set_nibble(block, nibble);
            }
            if before & 7 == BY_SLOT && class <= SMALL {
                self.remove(key);
            }
        }
        Ok(())
    }

    /// Hosts of one /24 that are all in place already, with new classes.
    fn put_hosts(&mut self, hosts: &[(u32, u8, u32)]) -> Result<(), Full> {
        let Some((first, ..)) = hosts.first() else { return Ok(()) };
        let block = first & !0xff;
        for (host, class) in cells(hosts.iter().copied()).iter().enumerate() {
            if let Some(class) = class {
                self.put(Key4::new(block + host as u32, Kind4::Host), *class)?;
            }
        }
        Ok(())
    }

    fn nibble(&self, address: u32) -> u32 {
        let (line, word, shift) = l1_place(address);
        (self.area.load((line * LINE_WORDS + word) as usize) >> shift) as u32 & 15
    }

    fn set_nibble(&self, address: u32, nibble: u32) {
        let (line, word, shift) = l1_place(address);
        let at = (line * LINE_WORDS + word) as usize;
        self.area.store(at, self.area.load(at) & !(15 << shift) | u64::from(nibble) << shift);
    }

    /// First words of the two buckets of a key.
    fn places(&self, key: Key4) -> [usize; 2] {
        let (one, other) = buckets4(key, self.seed, self.buckets.extent);
        [one, other].map(|bucket| (self.buckets.base + bucket) as usize * WORDS)
    }

    fn find(&self, key: Key4) -> Option<usize> {
        let stash = (self.stashed != 0).then_some(STASH_LINE as usize * WORDS);
        self.places(key)
            .into_iter()
            .chain(stash)
            .flat_map(|first| first..first + WORDS)
            .find(|at| key.owns(self.area.load(*at)))
    }

    /// Sets the class of a key, present or not.
    fn put(&mut self, key: Key4, class: u32) -> Result<(), Full> {
        match self.find(key) {
            Some(at) => {
                self.area.store(at, key.slot(class));
                Ok(())
            }
            None => self.insert(key, class),
        }
    }

    /// Adds a key that is not there.
    fn insert(&mut self, key: Key4, class: u32) -> Result<(), Full> {
        let free = |first: usize| (first..first + WORDS).filter(|at| self.area.load(*at) == 0);
        let [one, other] = self.places(key);
        let fuller = free(one).count() < free(other).count();
        let (first, second) = if fuller { (other, one) } else { (one, other) };
        let place = free(first).next().or_else(|| free(second).next());
        let place = match place {
            Some(at) => at,
            None => {
                let at = free(STASH_LINE as usize * WORDS).next().ok_or(Full)?;
                self.stashed += 1;
                self.area.store(header::STASHED as usize, u64::from(self.stashed));
                at
            }
        };
        self.used += 1;
        // Beyond three quarters the stash would fill soon.
        if self.used * 4 > (u64::from(self.buckets.extent) + 1) * 8 * 3 {
            return Err(Full);
        }
        self.area.store(place, key.slot(class));
        Ok(())
    }

    fn remove(&mut self, key: Key4) {
        if let Some(at) = self.find(key) {
            self.area.store(at, 0);
            self.used = self.used.saturating_sub(1);
        }
    }

    /// The memory.
    pub(super) fn area(&self) -> &Arc<Area> {
        &self.area
    }
}

/// The class of each address of a /24, as far as a prefix longer than /24 says it; `hosts` in order.
fn cells(hosts: impl Iterator<Item = (u32, u8, u32)>) -> [Option<u32>; 256] {
    let mut cells = [None; 256];
    for (address, length, class) in hosts {
        let first = (address & 0xff) as usize;
        cells.iter_mut().skip(first).take(1 << (32 - length.min(32))).for_each(|cell| *cell = Some(class));
    }
    cells
}

/// What a generation will need.
struct Plan {
    /// Sets of tables, those that cover most /24 first: the first six fit into nibbles.
    order: Vec<u64>,
    /// Slots, at most.
    slots: u64,
}

impl Plan {
    fn of(shadow: &Shadow<u32>) -> Self {
        let mut cover: HashMap<u64, u64> = HashMap::new();
        let mut slots = 0;
        let mut last = None;
        for (_, length, set) in shadow.sweep_all() {
            let blocks = if length > 24 {
                slots += 1_u64 << (32 - length);
                0
            } else {
                1_u64 << (24 - length)
            };
            // Most prefixes say the same as the one before: no look into the table for those.
            match &mut last {
                Some((before, sum)) if *before == set => *sum += blocks,
                _ => {
                    if let Some((before, sum)) = last.replace((set, blocks)) {
                        *cover.entry(before).or_default() += sum;
                    }
                }
            }
        }
        if let Some((before, sum)) = last {
            *cover.entry(before).or_default() += sum;
        }
        cover.remove(&0);
        let mut order: Vec<(u64, u64)> = cover.into_iter().collect();
        order.sort_unstable_by_key(|(set, blocks)| (std::cmp::Reverse(*blocks), *set));
        // Of all blocks there are 2^24, however often prefixes overlap.
        let by_slot: u64 = order.iter().skip(SMALL as usize).map(|(_, blocks)| *blocks).sum();
        slots += by_slot.min(1 << 24);
        Self { order: order.into_iter().map(|(set, _)| set).collect(), slots }
    }
}
