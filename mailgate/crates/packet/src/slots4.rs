//! Slots of IPv4 keys in buckets: finds, adds, moves, removes, under the eyes of readers.
//!
//! A reader asks the choices of a key in order. A slot therefore only ever moves to a later choice, and is there
//! before it leaves the earlier one: no reader misses it.

use mailgate_common::{
    BUCKET_WORDS, Buckets4, CHOICES, Geometry, Key4, Kind4, LINE_WORDS, ROWS_MAX, ROWS_MIN, ROWS_PER_LINE,
    SPILLED, STASH_WORD, STASH_WORDS, header,
};

use super::area::Area;
use super::classes::Full;

/// Slots filled when built, of the sixteen of a row: fuller, more keys miss their first row (2 of 100 do); emptier, the table takes more memory
/// than stays near the processor.
const BUILT: u64 = 12;
/// Slots filled at most by changes in place, of a row.
const GROWN: u64 = 14;

/// The buckets of one generation.
#[derive(Debug)]
pub(super) struct Slots4 {
    table: Buckets4,
    used: u64,
    hosts: u64,
    stashed: u64,
}

/// Where a slot stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Word and shift in a bucket, number of the choice.
    Bucket(usize, u32, u32),
    /// Word of the stash.
    Stash(usize),
}

impl Slots4 {
    /// Slots of the largest table.
    pub(super) const MOST: u64 = ROWS_MAX as u64 * BUILT;
    /// Most parts that a table is filled in, a power of two.
    pub(super) const PARTS: usize = 256;

    /// Rows for `slots` slots and classes up to `class_limit`; `None` beyond the largest table.
    pub(super) fn rows_for(slots: u64, class_limit: u32) -> Option<u32> {
        let whole_lines = slots.div_ceil(BUILT).next_multiple_of(1 << ROWS_PER_LINE);
        let rows = u32::try_from(whole_lines).ok()?.max(ROWS_MIN);
        // Whoever has very many classes gets more rows, so that less of a slot goes to the key.
        let more = (0..)
            .map_while(|n| if n == 0 { Some(rows) } else { rows.next_power_of_two().checked_shl(n - 1) });
        more.take_while(|rows| (ROWS_MIN..=ROWS_MAX).contains(rows))
            .find(|rows| class_limit <= Self::table(0, *rows, 0).class_limit())
    }

    /// Lines of a table of so many rows.
    pub(super) fn lines(rows: u32) -> u32 {
        rows.div_ceil(1 << ROWS_PER_LINE)
    }

    const fn table(base: u32, rows: u32, seed: u64) -> Buckets4 {
        Buckets4 { base, rows, shift: Buckets4::shift_for(rows), seed: seed | 1 << 32 | 1 }
    }

    /// An empty table from line `base` on; told to readers by the header.
    pub(super) fn new(area: &Area, base: u32, rows: u32, seed: u64) -> Self {
        let table = Self::table(base, rows, seed);
        area.store(header::BUCKETS as usize, Geometry { base, extent: rows }.pack());
        area.store(header::KEY_SHIFT as usize, u64::from(table.shift));
        area.store(header::SEED as usize, table.seed);
        Self { table, used: 0, hosts: 0, stashed: 0 }
    }

    /// The buckets of a generation that somebody else built and that readers use.
    #[cfg(feature = "ebpf")]
    pub(super) fn of(area: &Area) -> Self {
        let place = Geometry::unpack(area.load(header::BUCKETS as usize));
        let seed = area.load(header::SEED as usize);
        Self {
            table: Self::table(place.base, place.extent, seed),
            // Not told; the buckets themselves say where there is room.
            used: 0,
            hosts: area.load(header::HOSTS as usize),
            stashed: area.load(header::STASHED as usize),
        }
    }

    /// Sets the class of a key, present or not.
    pub(super) fn put(&mut self, area: &Area, address: u32, kind: Kind4, class: u32) -> Result<(), Full> {
        self.fits(class)?;
        let key = self.table.key(address, kind);
        match self.find(area, key) {
            Some(Place::Bucket(at, shift, n)) => {
                let slot = key.slot(n, class);
                let kept = area.load(at) & !(0x7fff_ffff << shift);
                area.store(at, kept | u64::from(slot) << shift);
                Ok(())
            }
            Some(Place::Stash(at)) => {
                area.store(at, key.stashed(class));
                Ok(())
            }
            None => self.insert(area, address, kind, class),
        }
    }

    /// Adds a key that is not there.
    pub(super) fn insert(&mut self, area: &Area, address: u32, kind: Kind4, class: u32) -> Result<(), Full> {
        self.fits(class)?;
        if self.used >= u64::from(self.table.rows) * GROWN {
            return Err(Full);
        }
        let key = self.table.key(address, kind);
        let chosen = (0..CHOICES).find_map(|n| {
            let (at, shift) = self.free(area, self.table.homes(key).bucket(n))?;
            Some((n, at, shift))
        });
        let chosen = chosen.or_else(|| self.make_room(area, key));
        match chosen {
            Some((n, at, shift)) => {
                if n > 0 {
                    self.mark(area, self.table.homes(key).bucket(0));
                }
                area.store(at, area.load(at) | u64::from(key.slot(n, class)) << shift);
            }
            None => self.stash(area, key, class)?,
        }
        self.used += 1;
        if kind == Kind4::Host {
            self.hosts += 1;
            if self.hosts == 1 {
                area.store(header::HOSTS as usize, 1);
            }
        }
        Ok(())
    }

    /// Removes a key, if it is there.
    pub(super) fn remove(&mut self, area: &Area, address: u32, kind: Kind4) {
        match self.find(area, self.table.key(address, kind)) {
            Some(Place::Bucket(at, shift, _)) => area.store(at, area.load(at) & !(0x7fff_ffff << shift)),
            Some(Place::Stash(at)) => area.store(at, 0),
            None => return,
        }
        self.used = self.used.saturating_sub(1);
        if kind == Kind4::Host {
            self.hosts = self.hosts.saturating_sub(1);
        }
    }

    /// To fill a table part by part: its parts are 2^this rows each, at most [`Slots4::PARTS`] of them.
    pub(super) fn part_rows(&self) -> u32 {
        self.table.rows.ilog2().saturating_sub(Self::PARTS.ilog2() - 1)
    }

    /// The part of the first row of a host.
    pub(super) fn part(&self, address: u32) -> usize {
        let first = self.table.homes(self.table.key(address, Kind4::Host)).bucket(0);
        (first >> 1 >> self.part_rows()) as usize
    }

    /// Seats the hosts of part `part` of a table that nobody reads yet, with their classes, in their first rows, which
    /// have to be empty. Those whose row is full are put into `left`. Parts share no memory, so each may be filled by a
    /// thread of its own.
    pub(super) fn seat(
        &self,
        area: &Area,
        part: usize,
        hosts: &[(u32, u32)],
        left: &mut Vec<(u32, u32)>,
    ) -> Result<u64, Full> {
        let first = (part as u32) << (self.part_rows() + 1);
        let mut taken = vec![0_u8; 2 << self.part_rows()];
        let mut seated = 0;
        for (address, class) in hosts {
            self.fits(*class)?;
            let key = self.table.key(*address, Kind4::Host);
            let homes = self.table.homes(key);
            let chosen = (0..2).find_map(|n| {
                let bucket = homes.bucket(n);
                let place = taken.get_mut(bucket.wrapping_sub(first) as usize)?;
                (u32::from(*place) < 2 * BUCKET_WORDS).then(|| {
                    *place += 1;
                    (n, bucket, usize::from(*place - 1))
                })
            });
            let Some((n, bucket, place)) = chosen else {
                left.push((*address, *class));
                continue;
            };
            if n > 0 {
                self.mark(area, homes.bucket(0));
            }
            let at = self.words(bucket).start + place / 2;
            area.store(at, area.load(at) | u64::from(key.slot(n, *class)) << (place % 2 * 32));
            seated += 1;
        }
        Ok(seated)
    }

    /// So many hosts were seated.
    pub(super) fn seated(&mut self, area: &Area, hosts: u64) {
        self.used += hosts;
        self.hosts += hosts;
        if hosts > 0 {
            area.store(header::HOSTS as usize, 1);
        }
    }

    fn fits(&self, class: u32) -> Result<(), Full> {
        if class < self.table.class_limit() { Ok(()) } else { Err(Full) }
    }

    fn words(&self, bucket: u32) -> std::ops::Range<usize> {
        let (line, word) = self.table.place(bucket);
        let first = (line * LINE_WORDS + word) as usize;
        first..first + BUCKET_WORDS as usize
    }

    fn find(&self, area: &Area, key: Key4) -> Option<Place> {
        let class_field = self.table.class_field();
        for n in 0..CHOICES {
            let wanted = key.slot(n, 0) & !class_field;
            for at in self.words(self.table.homes(key).bucket(n)) {
                let word = area.load(at);
                for shift in [0, 32] {
                    let slot = (word >> shift) as u32 & 0x7fff_ffff;
                    if slot & !class_field == wanted && slot & class_field != 0 {
                        return Some(Place::Bucket(at, shift, n));
                    }
                }
            }
            if n == 0 && area.load(self.words(self.table.homes(key).bucket(0)).start) & SPILLED == 0 {
                return None;
            }
        }
        let stash = STASH_WORD as usize..(STASH_WORD + STASH_WORDS) as usize;
        stash.into_iter().find(|at| key.owns_stashed(area.load(*at))).map(Place::Stash)
    }

    /// A free slot of a bucket: word and shift.
    fn free(&self, area: &Area, bucket: u32) -> Option<(usize, u32)> {
        let class_field = u64::from(self.table.class_field());
        self.words(bucket).find_map(|at| {
            let word = area.load(at);
            [0, 32].into_iter().find(|shift| word >> shift & class_field == 0).map(|shift| (at, shift))
        })
    }

    /// Tells readers that a key of this bucket stands elsewhere.
    fn mark(&self, area: &Area, bucket: u32) {
        let at = self.words(bucket).start;
        area.store(at, area.load(at) | SPILLED);
    }

    /// All buckets of a key are full: moves a slot of one of them to a later choice of its own. The place that
    /// became free, with the number of the key's choice.
    fn make_room(&self, area: &Area, key: Key4) -> Option<(u32, usize, u32)> {
        for n in 0..CHOICES {
            for at in self.words(self.table.homes(key).bucket(n)) {
                for shift in [0, 32] {
                    if self.move_on(area, self.table.homes(key).bucket(n), at, shift) {
                        return Some((n, at, shift));
                    }
                }
            }
        }
        None
    }

    /// Moves the slot at a place of `bucket` to a later choice of its own, if one has room.
    fn move_on(&self, area: &Area, bucket: u32, at: usize, shift: u32) -> bool {
        let slot = (area.load(at) >> shift) as u32 & 0x7fff_ffff;
        let (homes, n) = self.table.origin(slot, bucket);
        for later in n + 1..CHOICES {
            let Some((to, to_shift)) = self.free(area, homes.bucket(later)) else { continue };
            self.mark(area, homes.bucket(0));
            let moved = slot & !(CHOICES - 1) | later;
            area.store(to, area.load(to) | u64::from(moved) << to_shift);
            area.store(at, area.load(at) & !(0x7fff_ffff << shift));
            return true;
        }
        false
    }

    fn stash(&mut self, area: &Area, key: Key4, class: u32) -> Result<(), Full> {
        let mut stash = STASH_WORD as usize..(STASH_WORD + STASH_WORDS) as usize;
        let at = stash.find(|at| area.load(*at) == 0).ok_or(Full)?;
        self.mark(area, self.table.homes(key).bucket(0));
        self.stashed += 1;
        area.store(header::STASHED as usize, self.stashed);
        area.store(at, key.stashed(class));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicBool, Ordering};

    use mailgate_common::{LINE_WORDS, find4};

    use super::super::tests::Random;
    use super::*;

    /// No power of two.
    const ROWS: u32 = ROWS_MIN + 1088;
    const VIEW: usize = LINE_WORDS as usize;

    fn small() -> (Area, Slots4) {
        let area = Area::anonymous(VIEW * (1 + Slots4::lines(ROWS)) as usize).unwrap();
        let slots = Slots4::new(&area, 1, ROWS, 0x0123_4567_89ab_cdef);
        (area, slots)
    }

    fn class(area: &Area, address: u32, kind: Kind4) -> Option<u32> {
        let view = area.view::<VIEW>();
        find4(&view, mailgate_common::Lines::line(&view, 0).unwrap(), address, kind)
    }

    /// Adds random keys until the table says that it is full.
    fn fill(area: &Area, slots: &mut Slots4, random: &mut Random) -> HashMap<u32, u32> {
        let mut all = HashMap::new();
        loop {
            let (address, class) = (random.next() as u32, random.next() as u32 % 500);
            if slots.put(area, address, Kind4::Host, class).is_err() {
                return all;
            }
            all.insert(address, class);
        }
    }

    #[test]
    fn a_table_filled_to_its_limit_holds_every_key_and_no_other() {
        let (area, mut slots) = small();
        let mut random = Random(3);
        let mut all = fill(&area, &mut slots, &mut random);
        let limit = u64::from(ROWS) * GROWN;
        assert_eq!(all.len() as u64, limit, "full before its time: keys found no room");
        for (n, address) in all.keys().copied().collect::<Vec<_>>().into_iter().enumerate() {
            if n % 2 == 0 {
                slots.remove(&area, address, Kind4::Host);
                all.remove(&address);
            }
        }
        // The key of a block is another one, though the address is the same.
        for address in all.keys() {
            assert_eq!(class(&area, *address, Kind4::Block), None);
        }
        while (all.len() as u64) < limit {
            let (address, class) = (random.next() as u32, random.next() as u32 % 500);
            slots.put(&area, address, Kind4::Host, class).unwrap();
            all.insert(address, class);
        }
        for (address, expected) in &all {
            assert_eq!(class(&area, *address, Kind4::Host), Some(*expected));
        }
        for _ in 0..200_000 {
            let address = random.next() as u32;
            assert_eq!(class(&area, address, Kind4::Host), all.get(&address).copied(), "{address}");
        }
    }

    #[test]
    fn a_reader_misses_no_key_while_others_come_and_go_and_push_it_aside() {
        let (area, mut slots) = small();
        let mut random = Random(5);
        let stable: Vec<u32> = (0..2000).map(|_| random.next() as u32).collect();
        for address in &stable {
            slots.put(&area, *address, Kind4::Host, 7).unwrap();
        }
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut rounds = 0;
                while !done.load(Ordering::Relaxed) || rounds == 0 {
                    for address in &stable {
                        assert_eq!(class(&area, *address, Kind4::Host), Some(7), "{address}");
                    }
                    rounds += 1;
                }
            });
            for _ in 0..4 {
                for address in fill(&area, &mut slots, &mut random).into_keys() {
                    if !stable.contains(&address) {
                        slots.remove(&area, address, Kind4::Host);
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
    }
}
