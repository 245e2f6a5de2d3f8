//! IPv4: a gate of one bit for each /24, slots of four bytes for hosts, a nibble for each /24.
//!
//! A set bit of the gate says that something of its /24 is held, so that most strangers cost one line of cache of
//! 2 MiB in all. Hosts stand in *buckets* of eight slots, half a line of cache. A keyed permutation of the address
//! gives the bucket; what it does not give stands in the slot, so that a match is exact though a slot has only 32
//! bits. Nearly all hosts stand in their first bucket: a hit costs the gate's line and one more. The nibble tells the
//! class of a /24 as a whole.

use crate::layout::{Geometry, Line, Lines, header, table_set};

/// Words of a line of this family, a page of 4 KiB: the header, the stash and the first classes are one.
pub const LINE_WORDS: u32 = 512;
/// First line of the gate: 2^24 bits.
pub const GATE_BASE: u32 = 1;
/// Lines of the gate.
pub const GATE_LINES: u32 = 1 << 9;
/// First line of the nibbles.
pub const L1_BASE: u32 = GATE_BASE + GATE_LINES;
/// Lines of the nibbles: 2^24 of them.
pub const L1_LINES: u32 = 1 << 11;
/// First line whose use the header tells: more classes, then buckets.
pub const OPEN_BASE: u32 = L1_BASE + L1_LINES;
/// First word of the stash in line 0: keys whose buckets were all full, as [`Key4::stashed`].
pub const STASH_WORD: u32 = 32;
/// Words of the stash.
pub const STASH_WORDS: u32 = 16;
/// The nibble that sends the lookup to a slot, because the class of the /24 is larger.
pub const BY_SLOT: u32 = 15;

/// Words of a bucket: two slots in each.
pub const BUCKET_WORDS: u32 = 4;
/// Buckets of a line, as a power of two.
pub const BUCKETS_PER_LINE: u32 = 7;
/// Fewest bits of a bucket's number; the fewer, the more bits of a slot go to the key.
pub const BUCKET_BITS_MIN: u32 = 13;
/// Most of them: 2 GiB.
pub const BUCKET_BITS_MAX: u32 = 26;
/// In the first word of a bucket: a key of this bucket stands in another one.
pub const SPILLED: u64 = 1 << 31;
/// Buckets a key may stand in.
pub const CHOICES: u32 = 4;

/// The top bit of both slots of a word.
const TOPS: u64 = 0x8000_0000_8000_0000;

/// What a slot stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind4 {
    /// One address.
    Host = 0,
    /// A /24 whose class does not fit into the nibble.
    Block = 1,
}

/// Where the buckets are, and the secret of their permutation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets4 {
    /// First line.
    pub base: u32,
    /// Number of buckets minus one: that of [`BUCKET_BITS_MIN`] to [`BUCKET_BITS_MAX`] bits.
    pub mask: u32,
    /// Two factors; both are odd.
    pub seed: u64,
}

/// A key, ready to be looked for.
///
/// A slot is, from its top bit: one bit for [`SPILLED`], what the bucket's number leaves of the permuted address,
/// the class plus one, the kind, the number of the choice (of [`CHOICES`]). A slot of class field 0 is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key4 {
    /// The slot of this key at its first choice, class field 0.
    slot: u32,
    home: u32,
    step: u32,
    /// Bits of a slot that are no key.
    class_field: u32,
    /// As a word of the stash, class 0.
    stash: u64,
}

/// Bits of a slot below the class field: kind and choice.
const CLASS_SHIFT: u32 = 3;

impl Buckets4 {
    /// From the first line of a generation.
    #[must_use]
    #[inline(always)]
    pub fn of<L: Line>(first: L) -> Self {
        let place = Geometry::unpack(first.word(header::BUCKETS));
        Self { base: place.base, mask: place.extent, seed: first.word(header::SEED) }
    }

    /// Where the class plus one stands in a slot.
    #[must_use]
    #[inline(always)]
    pub const fn class_field(self) -> u32 {
        self.mask >> 1 & !((1 << CLASS_SHIFT) - 1)
    }

    /// Classes are below this.
    #[must_use]
    pub const fn class_limit(self) -> u32 {
        self.class_field() >> CLASS_SHIFT
    }

    /// The key of an address (in host order) and kind.
    #[must_use]
    #[inline(always)]
    pub const fn key(self, address: u32, kind: Kind4) -> Key4 {
        // Each step can be undone, so that different addresses never come out the same.
        let mut mixed = address.wrapping_mul(self.seed as u32);
        mixed ^= mixed >> 16;
        mixed = mixed.wrapping_mul((self.seed >> 32) as u32);
        mixed ^= mixed >> 15;
        let (home, rest) = (mixed & self.mask, mixed & !self.mask);
        Key4 {
            slot: rest >> 1 | (kind as u32) << 2,
            home,
            step: self.step(rest),
            class_field: self.class_field(),
            stash: 1 << 63 | (kind as u64) << 56 | (address as u64) << 24,
        }
    }

    /// Of a slot in `bucket`: the first bucket and step of its key, and the number of this choice.
    #[must_use]
    pub const fn origin(self, slot: u32, bucket: u32) -> (u32, u32, u32) {
        let n = slot & (CHOICES - 1);
        let step = self.step(slot << 1 & !self.mask);
        (Key4::bucket_of(bucket, step, n), step, n)
    }

    /// What the second pair of buckets differs by. Bit 1 is set: it is in another line of cache.
    #[inline(always)]
    const fn step(self, rest: u32) -> u32 {
        ((rest as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 38) as u32 & self.mask | 2
    }

    /// Line and first word of a bucket.
    #[must_use]
    #[inline(always)]
    pub const fn place(self, bucket: u32) -> (u32, u32) {
        let within = (bucket & ((1 << BUCKETS_PER_LINE) - 1)) * BUCKET_WORDS;
        (self.base.wrapping_add(bucket >> BUCKETS_PER_LINE), within)
    }
}

impl Key4 {
    /// The bucket of choice `n`: pairs share a line of cache.
    #[must_use]
    #[inline(always)]
    pub const fn bucket(self, n: u32) -> u32 {
        Self::bucket_of(self.home, self.step, n)
    }

    /// The bucket of choice `n` of a key with this first bucket and step. Its own inverse: from the bucket of choice
    /// `n` it gives the first one.
    #[must_use]
    #[inline(always)]
    pub const fn bucket_of(first: u32, step: u32, n: u32) -> u32 {
        first ^ (if n < 2 { 0 } else { step }) ^ (n & 1)
    }

    /// The slot that says: this key, at choice `n`, has this class.
    #[must_use]
    #[inline(always)]
    pub const fn slot(self, n: u32, class: u32) -> u32 {
        self.slot | n | class.wrapping_add(1) << CLASS_SHIFT
    }

    /// The word of the stash that says: this key has this class (below 2^24).
    #[must_use]
    #[inline(always)]
    pub const fn stashed(self, class: u32) -> u64 {
        self.stash | (class & 0xff_ffff) as u64
    }

    /// Does this word of the stash belong to this key?
    #[must_use]
    #[inline(always)]
    pub const fn owns_stashed(self, word: u64) -> bool {
        word >> 24 == self.stash >> 24
    }

    /// Class plus one of this key at choice `n`, in the bucket of `line` that begins at word `from`; 0 when it is not
    /// there.
    ///
    /// Without a branch: which slot matches cannot be predicted, and a wrong guess would cost more than all eight.
    #[inline(always)]
    fn class_in<L: Line>(self, line: L, from: u32, n: u32) -> u32 {
        const BOTH: u64 = 1 << 32 | 1;
        let wanted = (self.slot | n) as u64 * BOTH;
        let key = !((self.class_field as u64 * BOTH) | TOPS);
        let mut found = 0;
        let mut word = 0;
        while word < BUCKET_WORDS {
            let differs = line.word(from + word) ^ wanted;
            // The top bit of a half stays clear when no bit of the key differs; no carry leaves a half.
            let equal = !((differs & key).wrapping_add(!TOPS)) & TOPS;
            found |= equal.wrapping_sub(equal >> 31) & differs;
            word += 1;
        }
        (found | found >> 32) as u32 >> CLASS_SHIFT
    }
}

/// Line, word and bit of the gate for an address.
#[must_use]
#[inline(always)]
pub const fn gate4_place(address: u32) -> (u32, u32, u64) {
    (GATE_BASE + (address >> 23), (address >> 14) & (LINE_WORDS - 1), 1 << ((address >> 8) & 63))
}

/// Line, word and shift of the nibble of an address.
#[must_use]
#[inline(always)]
pub const fn l1_place(address: u32) -> (u32, u32, u32) {
    (L1_BASE + (address >> 21), (address >> 12) & (LINE_WORDS - 1), ((address >> 8) & 15) * 4)
}

/// The class of an address or /24 that has a slot of its own.
#[inline(always)]
pub fn find4<M: Lines>(memory: &M, first: M::Line, address: u32, kind: Kind4) -> Option<u32> {
    let table = Buckets4::of(first);
    let key = table.key(address, kind);
    let (line, from) = table.place(key.home);
    let line = memory.line(line)?;
    let class = key.class_in(line, from, 0);
    if class != 0 {
        return Some(class - 1);
    }
    if line.word(from) & SPILLED == 0 { None } else { find_spilled(memory, first, table, key) }
}

/// The class of a key that may stand anywhere but in its first bucket.
#[inline(always)]
fn find_spilled<M: Lines>(memory: &M, first: M::Line, table: Buckets4, key: Key4) -> Option<u32> {
    let mut n = 1;
    while n < CHOICES {
        let (line, from) = table.place(key.bucket(n));
        let class = key.class_in(memory.line(line)?, from, n);
        if class != 0 {
            return Some(class - 1);
        }
        n += 1;
    }
    if first.word(header::STASHED) == 0 {
        return None;
    }
    let mut n = 0;
    while n < STASH_WORDS {
        let word = first.word(STASH_WORD + n);
        if key.owns_stashed(word) {
            return Some(word as u32 & 0xff_ffff);
        }
        n += 1;
    }
    None
}

/// The set of tables that hold `address` (host order). Memory that is no generation holds nothing.
#[inline(always)]
pub fn lookup4<M: Lines>(memory: &M, address: u32) -> u64 {
    let (line, word, bit) = gate4_place(address);
    let Some(gate) = memory.line(line) else { return 0 };
    if gate.word(word) & bit == 0 {
        return 0;
    }
    let Some(first) = memory.line(0) else { return 0 };
    let host = if first.word(header::HOSTS) == 0 { None } else { find4(memory, first, address, Kind4::Host) };
    let class = match host {
        Some(class) => class,
        None => class_of_block(memory, first, address),
    };
    if class == 0 { 0 } else { table_set(memory, first, class) }
}

/// The class of the /24 around an address.
#[inline(always)]
fn class_of_block<M: Lines>(memory: &M, first: M::Line, address: u32) -> u32 {
    let (line, word, shift) = l1_place(address);
    let Some(line) = memory.line(line) else { return 0 };
    let nibble = (line.word(word) >> shift) as u32 & 15;
    if nibble != BY_SLOT {
        return nibble;
    }
    find4(memory, first, address & !0xff, Kind4::Block).unwrap_or(0)
}
