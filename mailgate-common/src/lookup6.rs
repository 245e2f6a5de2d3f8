//! IPv6: one bucket table for prefixes of every fourth length, asked from long to short, behind a gate.
//!
//! Prefixes of other lengths are stored as several of the next fourth length. The gate is a bitmap over the first
//! 32 bits: where its bit is clear nothing of length 32 or more is stored, so that a stranger costs one line. Each
//! entry carries the class of the longest prefix, so the first hit is the answer.

use crate::Geometry;
use crate::layout::{Line, Lines, header, table_set};

/// Words of a page, the line of this family: 128 bytes.
pub const PAGE_WORDS: u32 = 16;
/// Page of the stash.
pub const STASH_PAGE: u32 = 1;
/// Entries of three words in a page.
pub const ENTRIES_PER_PAGE: u32 = 5;
/// Stored lengths are multiples of this.
pub const LENGTH_STEP: u32 = 4;
/// Prefixes of this length and longer are announced by the gate.
pub const GATED_FROM: u32 = 32;
/// Bits of the word of lengths for lengths the gate does not cover.
const UNGATED: u64 = (1 << (GATED_FROM / LENGTH_STEP)) - 1;

/// A prefix, as two halves in host order, and its length (0 to 128, a multiple of [`LENGTH_STEP`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key6 {
    /// First 64 bits.
    pub high: u64,
    /// Last 64 bits.
    pub low: u64,
    /// Length in bits.
    pub length: u32,
}

/// The third word of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry6(pub u64);

impl Entry6 {
    /// A present entry; `turn` differs from use to use of its place, so that a reader notices a change under its eyes.
    #[must_use]
    pub const fn new(class: u32, length: u32, turn: u8) -> Self {
        Self(1 << 63 | (turn as u64) << 32 | (length as u64 & 0xff) << 24 | (class as u64 & 0xff_ffff))
    }

    /// Is it present and of this length?
    #[must_use]
    #[inline(always)]
    pub const fn is_of(self, length: u32) -> bool {
        self.0 >> 63 == 1 && (self.0 >> 24) as u32 & 0xff == length
    }

    /// Its class.
    #[must_use]
    #[inline(always)]
    pub const fn class(self) -> u32 {
        self.0 as u32 & 0xff_ffff
    }

    /// Its turn.
    #[must_use]
    pub const fn turn(self) -> u8 {
        (self.0 >> 32) as u8
    }
}

/// The first `length` bits of an address.
#[must_use]
#[inline(always)]
pub const fn mask6(high: u64, low: u64, length: u32) -> (u64, u64) {
    if length == 0 {
        (0, 0)
    } else if length <= 64 {
        (high & (u64::MAX << (64 - length)), 0)
    } else if length >= 128 {
        (high, low)
    } else {
        (high, low & (u64::MAX << (128 - length)))
    }
}

/// The two buckets of a key, each below `mask + 1`.
#[must_use]
#[inline(always)]
pub const fn buckets6(key: &Key6, seed: u64, mask: u32) -> (u32, u32) {
    let mut hash = (key.high ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^= hash >> 32;
    hash = (hash ^ key.low).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^= hash >> 29;
    hash = (hash ^ key.length as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^= hash >> 32;
    (hash as u32 & mask, (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 & mask)
}

/// Page, word and bit of the gate for an address.
#[must_use]
#[inline(always)]
pub const fn gate_place(high: u64, seed: u64, gate: Geometry) -> (u32, u32, u64) {
    let mut hash = ((high >> 32) ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^= hash >> 32;
    let page = gate.base.wrapping_add((hash >> 10) as u32 & gate.extent);
    (page, (hash >> 6) as u32 & 15, 1 << (hash & 63))
}

#[inline(always)]
fn find_in<L: Line>(page: L, key: &Key6) -> Option<u32> {
    let mut n = 0;
    while n < ENTRIES_PER_PAGE {
        let entry = Entry6(page.word(3 * n + 2));
        if entry.is_of(key.length) && page.word(3 * n) == key.high && page.word(3 * n + 1) == key.low {
            // The place may have been given to another prefix meanwhile; then this one is gone.
            return if page.word(3 * n + 2) == entry.0 { Some(entry.class()) } else { None };
        }
        n += 1;
    }
    None
}

/// The class of a key in the bucket table.
#[inline(always)]
pub fn find6<M: Lines>(memory: &M, first: M::Line, key: &Key6) -> Option<u32> {
    let place = Geometry::unpack(first.word(header::BUCKETS));
    let (one, other) = buckets6(key, first.word(header::SEED), place.extent);
    if let Some(class) = find_in(memory.line(place.base.wrapping_add(one))?, key) {
        return Some(class);
    }
    if let Some(class) = find_in(memory.line(place.base.wrapping_add(other))?, key) {
        return Some(class);
    }
    if first.word(header::STASHED) != 0 {
        return find_in(memory.line(STASH_PAGE)?, key);
    }
    None
}

/// The set of tables that hold an address (two halves in host order).
// In the kernel a function of its own, as `ipv6` of `packet.rs`.
#[cfg_attr(target_arch = "bpf", inline(never))]
#[cfg_attr(not(target_arch = "bpf"), inline(always))]
pub fn lookup6<M: Lines>(memory: &M, high: u64, low: u64) -> u64 {
    let Some(first) = memory.line(0) else { return 0 };
    let mut lengths = first.word(header::LENGTHS);
    if lengths & !UNGATED != 0 {
        let (page, word, bit) =
            gate_place(high, first.word(header::SEED), Geometry::unpack(first.word(header::GATE)));
        let Some(page) = memory.line(page) else { return 0 };
        if page.word(word) & bit == 0 {
            lengths &= UNGATED;
        }
    }
    let mut n = 128 / LENGTH_STEP + 1;
    while n > 0 && lengths != 0 {
        n -= 1;
        if lengths >> n & 1 == 0 {
            continue;
        }
        let length = n * LENGTH_STEP;
        let (high, low) = mask6(high, low, length);
        if let Some(class) = find6(memory, first, &Key6 { high, low, length }) {
            return if class == 0 { 0 } else { table_set(memory, first, class) };
        }
    }
    0
}
