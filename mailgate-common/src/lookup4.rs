//! IPv4: a nibble for each /24, then a table of hosts in buckets of one cache line.
//!
//! The nibble's low three bits are the class of the block (0 none, 1 to 6 that class, 7 "a slot of the bucket table
//! says it"), its high bit says that some hosts of the block differ. A slot is one aligned word, so that every
//! change is one store: address, kind, class. A key lies in one of two buckets of eight slots, or in the stash.

use crate::layout::{Line, Lines, header, table_set};
use crate::{Geometry, Policy};

/// Words of a line: 64 bytes.
pub const LINE_WORDS: u32 = 8;
/// Line of the stash: slots that found both of their buckets full.
pub const STASH_LINE: u32 = 2;
/// First line of the nibbles.
pub const L1_BASE: u32 = 4;
/// Lines of the nibbles: 2^24 of them, 128 in a line.
pub const L1_LINES: u32 = 1 << 17;

/// What a slot stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind4 {
    /// One address.
    Host = 1,
    /// A /24 whose class does not fit into the nibble.
    Block = 2,
}

/// The key of a slot: 40 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key4(u64);

impl Key4 {
    /// Bits of the class, below the key.
    pub const CLASS_BITS: u32 = 24;

    /// The key of an address (in host order) and kind.
    #[must_use]
    #[inline(always)]
    pub const fn new(address: u32, kind: Kind4) -> Self {
        Self((address as u64) << 8 | kind as u64)
    }

    /// The slot that says: this key has this class (below 2^24).
    #[must_use]
    #[inline(always)]
    pub const fn slot(self, class: u32) -> u64 {
        self.0 << Self::CLASS_BITS | (class & 0xff_ffff) as u64
    }

    /// Does this slot belong to this key?
    #[must_use]
    #[inline(always)]
    pub const fn owns(self, slot: u64) -> bool {
        slot >> Self::CLASS_BITS == self.0
    }
}

/// The two buckets of a key, each below `mask + 1`.
#[must_use]
#[inline(always)]
pub const fn buckets4(key: Key4, seed: u64, mask: u32) -> (u32, u32) {
    let mut hash = (key.0 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^= hash >> 32;
    (hash as u32 & mask, (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 & mask)
}

/// Line, word and shift of the nibble of an address.
#[must_use]
#[inline(always)]
pub const fn l1_place(address: u32) -> (u32, u32, u32) {
    (L1_BASE + (address >> 15), (address >> 12) & 7, ((address >> 8) & 15) * 4)
}

#[inline(always)]
fn find_in<L: Line>(line: L, key: Key4) -> Option<u32> {
    let mut n = 0;
    while n < LINE_WORDS {
        let slot = line.word(n);
        if key.owns(slot) {
            return Some(slot as u32 & 0xff_ffff);
        }
        n += 1;
    }
    None
}

/// The class of a key in the bucket table.
#[inline(always)]
pub fn find4<M: Lines>(memory: &M, first: M::Line, key: Key4) -> Option<u32> {
    let place = Geometry::unpack(first.word(header::BUCKETS));
    let (one, other) = buckets4(key, first.word(header::SEED), place.extent);
    if let Some(class) = find_in(memory.line(place.base.wrapping_add(one))?, key) {
        return Some(class);
    }
    if let Some(class) = find_in(memory.line(place.base.wrapping_add(other))?, key) {
        return Some(class);
    }
    if first.word(header::STASHED) != 0 {
        return find_in(memory.line(STASH_LINE)?, key);
    }
    None
}

/// The set of tables that hold `address` (host order). Memory that is no generation holds nothing.
#[inline(always)]
pub fn lookup4<M: Lines>(memory: &M, address: u32) -> u64 {
    let (line, word, shift) = l1_place(address);
    let Some(line) = memory.line(line) else { return 0 };
    let nibble = (line.word(word) >> shift) as u32 & 15;
    if nibble == 0 {
        return 0;
    }
    let Some(first) = memory.line(0) else { return 0 };
    let host = if nibble & 8 == 0 { None } else { find4(memory, first, Key4::new(address, Kind4::Host)) };
    let class = match host {
        Some(class) => class,
        None if nibble & 7 == 7 => {
            find4(memory, first, Key4::new(address & !0xff, Kind4::Block)).unwrap_or(0)
        }
        None => nibble & 7,
    };
    if class == 0 { 0 } else { table_set(memory, first.word(header::CLASSES), class) }
}

/// What the tables of this generation mean.
#[inline(always)]
pub fn policy4<M: Lines>(memory: &M) -> Policy {
    match memory.line(header::POLICY / LINE_WORDS) {
        Some(line) => {
            Policy { bypass: line.word(0), drop: line.word(1), reject: line.word(2), tarpit: line.word(3) }
        }
        None => Policy { bypass: 0, drop: 0, reject: 0, tarpit: 0 },
    }
}
