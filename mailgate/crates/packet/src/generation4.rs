//! Writes IPv4 generations: whole ones, and changes of single prefixes that the next packet sees.

use std::sync::Arc;
use std::thread;

use mailgate_common::{
    BY_SLOT, GATE_BASE, Geometry, Kind4, L1_BASE, LINE_WORDS, gate4_place, header, l1_place,
};

use super::Error;
use super::area::Area;
use super::classes::{Classes, Full};
use super::engine::{Backing, Part, Stamp, write_header};
use super::plan4::Plan;
use super::shadow::{Prefix, Shadow};
use super::slots4::Slots4;

const WORDS: usize = LINE_WORDS as usize;
/// Hosts from which on a second thread pays.
const MANY: u64 = 32 * 1024;

/// A generation and what is needed to change it.
#[derive(Debug)]
pub(super) struct Generation4 {
    area: Arc<Area>,
    classes: Classes,
    slots: Slots4,
}

impl Generation4 {
    /// Compiles all of `shadow`, of which `plan` is.
    pub(super) fn build(
        shadow: &Shadow<u32>,
        mut plan: Plan,
        stamp: Stamp,
        backing: &dyn Backing,
    ) -> Result<Self, Error> {
        let mut seed = stamp.seed;
        loop {
            let mut new = Self::sized(&plan, seed, backing)?;
            if new.fill(shadow, &plan).is_ok() {
                write_header(&new.area, stamp, shadow.len());
                return Ok(new);
            }
            // All buckets of more keys than the stash holds were full: another secret, more room.
            seed = seed.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            plan.slots *= 2;
        }
    }

    fn sized(plan: &Plan, seed: u64, backing: &dyn Backing) -> Result<Self, Error> {
        let layout = plan.layout()?;
        let area = backing.area(Part::V4, layout.lines as usize * WORDS)?;
        let classes = Geometry { base: layout.class_word, extent: layout.class_room };
        area.store(header::CLASSES as usize, classes.pack());
        let slots = Slots4::new(&area, layout.bucket_line, layout.rows, seed);
        let classes = Classes::new(layout.class_word as usize, layout.class_room);
        Ok(Self { area: Arc::new(area), classes, slots })
    }

    /// Everything into a generation that nobody reads yet.
    fn fill(&mut self, shadow: &Shadow<u32>, plan: &Plan) -> Result<(), Full> {
        for set in &plan.order {
            self.classes.id(&self.area, *set)?;
        }
        let mut filler = Filler::new(plan.slots);
        let mut hosts: Vec<(u32, u8, u32)> = Vec::new();
        let mut last = (0, 0);
        for (address, length, set) in shadow.sweep_all() {
            if last.0 != set {
                last = (set, self.classes.id(&self.area, set)?);
            }
            let class = last.1;
            if hosts.first().is_some_and(|(first, ..)| first >> 8 != address >> 8) {
                self.fill_hosts(&hosts, &mut filler);
                hosts.clear();
            }
            if length > 24 {
                hosts.push((address, length, class));
                continue;
            }
            let blocks = 1_u32 << (24 - length);
            self.fill_blocks(address >> 8, blocks, class.min(BY_SLOT));
            if class >= BY_SLOT {
                (0..blocks).for_each(|block| filler.block(address + (block << 8), class));
            }
        }
        self.fill_hosts(&hosts, &mut filler);
        filler.done(&mut self.slots, &self.area)
    }

    /// `count` nibbles and bits of the gate from /24 number `first` on; of a generation that nobody reads, so whole
    /// words are set at once.
    fn fill_blocks(&self, first: u32, count: u32, nibble: u32) {
        let fill = |base: u32, per_word: u32, pattern: u64| {
            let bits = 64 / per_word;
            let (mut at, end) = (first, first + count);
            while at < end {
                let word = base as usize * WORDS + (at / per_word) as usize;
                let step = (per_word - at % per_word).min(end - at);
                let mask = u64::MAX >> (64 - step * bits) << (at % per_word * bits);
                self.area.store(word, self.area.load(word) & !mask | pattern & mask);
                at += step;
            }
        };
        fill(L1_BASE, 16, u64::from(nibble) * 0x1111_1111_1111_1111);
        // A hole inside a larger prefix: hosts of it come later and set the bit again.
        fill(GATE_BASE, 64, if nibble == 0 { 0 } else { u64::MAX });
    }

    /// The prefixes longer than /24 of one /24, in order.
    fn fill_hosts(&self, hosts: &[(u32, u8, u32)], filler: &mut Filler) {
        let Some((first, ..)) = hosts.first() else { return };
        if hosts.iter().all(|(_, length, _)| *length == 32) {
            for (address, _, class) in hosts {
                filler.host(&self.slots, *address, *class);
            }
        } else {
            let block = first & !0xff;
            for (host, class) in cells(hosts.iter().copied()).iter().enumerate() {
                if let Some(class) = class {
                    filler.host(&self.slots, block + host as u32, *class);
                }
            }
        }
        self.set_gate(*first, true);
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
        let inside = (address & 0xff) as usize;
        let count = 1_usize << (32 - length);
        for (host, class) in cells(hosts.iter().copied()).iter().enumerate().skip(inside).take(count) {
            let host = block + host as u32;
            match class {
                Some(class) => self.slots.put(&self.area, host, Kind4::Host, *class)?,
                None => self.slots.remove(&self.area, host, Kind4::Host),
            }
        }
        self.set_gate(block, !hosts.is_empty() || self.nibble(block) != 0);
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
            let hosts = with_hosts.next_if_eq(&(block >> 8)).is_some();
            let (before, nibble) = (self.nibble(block), class.min(BY_SLOT));
            if nibble == BY_SLOT {
                self.slots.put(&self.area, block, Kind4::Block, class)?;
            }
            if nibble != before {
                self.set_nibble(block, nibble);
            }
            self.set_gate(block, hosts || nibble != 0);
            if before == BY_SLOT && nibble != BY_SLOT {
                self.slots.remove(&self.area, block, Kind4::Block);
            }
        }
        Ok(())
    }

    /// The hosts of one /24 inside a larger prefix that changed.
    fn put_hosts(&mut self, hosts: &[(u32, u8, u32)]) -> Result<(), Full> {
        let Some((first, ..)) = hosts.first() else { return Ok(()) };
        let block = first & !0xff;
        for (host, class) in cells(hosts.iter().copied()).iter().enumerate() {
            if let Some(class) = class {
                self.slots.put(&self.area, block + host as u32, Kind4::Host, *class)?;
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

    /// Whether anything of the /24 of an address is held.
    fn set_gate(&self, address: u32, held: bool) {
        let (line, word, bit) = gate4_place(address);
        let at = (line * LINE_WORDS + word) as usize;
        let before = self.area.load(at);
        let after = if held { before | bit } else { before & !bit };
        if after != before {
            self.area.store(at, after);
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

/// Keys on their way into a table that nobody reads yet, hosts sorted by where they will stand: each part fits into the
/// processor's nearer memory.
struct Filler {
    /// Address and class.
    parts: Vec<Vec<(u32, u32)>>,
    blocks: Vec<(u32, u32)>,
    slots: u64,
}

impl Filler {
    fn new(slots: u64) -> Self {
        // More than the mean, so that few parts grow.
        let each = slots as usize / Slots4::PARTS;
        let parts = (0..Slots4::PARTS).map(|_| Vec::with_capacity(each + each / 4)).collect();
        Self { parts, blocks: Vec::new(), slots }
    }

    fn host(&mut self, slots: &Slots4, address: u32, class: u32) {
        if let Some(part) = self.parts.get_mut(slots.part(address)) {
            part.push((address, class));
        }
    }

    fn block(&mut self, address: u32, class: u32) {
        self.blocks.push((address, class));
    }

    fn done(self, slots: &mut Slots4, area: &Area) -> Result<(), Full> {
        let parts: Vec<(usize, Vec<(u32, u32)>)> = self.parts.into_iter().enumerate().collect();
        let seat = |parts: &[(usize, Vec<(u32, u32)>)]| {
            let (mut left, mut seated) = (Vec::new(), 0);
            for (part, hosts) in parts {
                seated += slots.seat(area, *part, hosts, &mut left)?;
            }
            Ok((left, seated))
        };
        let filled = parts.iter().rposition(|(_, hosts)| !hosts.is_empty()).map_or(0, |last| last + 1);
        let (one, other) = parts.split_at(if self.slots < MANY { 0 } else { filled / 2 });
        let (one, other) = thread::scope(|scope| {
            let one = scope.spawn(|| seat(one));
            let other = seat(other);
            (one.join().unwrap_or(Err(Full)), other)
        });
        for (left, seated) in [one?, other?] {
            slots.seated(area, seated);
            left.into_iter()
                .try_for_each(|(address, class)| slots.insert(area, address, Kind4::Host, class))?;
        }
        // A prefix inside another one says its blocks again; the later one is the longer one.
        self.blocks.into_iter().try_for_each(|(address, class)| slots.put(area, address, Kind4::Block, class))
    }
}
