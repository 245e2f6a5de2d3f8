//! IPv4: a gate of one bit for each /24, slots of four bytes for hosts, a nibble for each /24.
//!
//! A set bit of the gate says that something of its /24 is held, so that most strangers cost one line of cache of
//! 2 MiB in all. Hosts stand in *buckets* of eight slots, two to a *row*, which is a line of cache. A keyed permutation
//! of the address gives row and bucket; what they do not give stands in the slot, so that a match is exact though a slot
//! has only 32 bits. There are as many rows as the hosts need, not a power of two of them: what is looked up at random is
//! as near as memory of its size can be. Nearly all hosts stand in their first row: a hit costs the gate's line and one
//! more. The nibble tells the class of a /24 as a whole.

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
/// Rows of a line, as a power of two.
pub const ROWS_PER_LINE: u32 = 6;
/// Fewest rows; the fewer, the more bits of a slot go to the key.
pub const ROWS_MIN: u32 = 1 << 12;
/// Most of them: 2 GiB.
pub const ROWS_MAX: u32 = 1 << 25;
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
    /// Number of rows, [`ROWS_MIN`] to [`ROWS_MAX`].
    pub rows: u32,
    /// How far the key is moved up in a slot; it follows from the rows, see [`Buckets4::shift_for`].
    pub shift: u32,
    /// Two factors; both are odd.
    pub seed: u64,
}

/// A key, ready to be looked for.
///
/// A slot is, from its top bit: one bit for [`SPILLED`], what row and bucket leave of the permuted address, the class
/// plus one, the kind, the number of the choice (of [`CHOICES`]). A slot of class field 0 is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key4 {
    /// The slot of this key at its first choice, class field 0.
    slot: u32,
    /// Its first bucket.
    first: u32,
    /// Bits of a slot that are no key.
    class_field: u32,
    /// As a word of the stash, class 0.
    stash: u64,
}

/// The buckets a key may stand in: two of a row, then two of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Homes {
    first: u32,
    other: u32,
}

impl Homes {
    /// The bucket of choice `n`.
    #[must_use]
    #[inline(always)]
    pub const fn bucket(self, n: u32) -> u32 {
        (if n < 2 { self.first } else { self.other }) ^ (n & 1)
    }
}

/// Bits of a slot below the class field: kind and choice.
const CLASS_SHIFT: u32 = 3;
/// All bits of a slot but [`SPILLED`].
const SLOT: u32 = 0x7fff_ffff;

impl Buckets4 {
    /// From the first line of a generation.
    #[must_use]
    #[inline(always)]
    pub fn of<L: Line>(first: L) -> Self {
        let place = Geometry::unpack(first.word(header::BUCKETS));
        let shift = first.word(header::KEY_SHIFT) as u32 & 31;
        Self { base: place.base, rows: place.extent, shift, seed: first.word(header::SEED) }
    }

    /// [`Buckets4::shift`] for so many rows.
    ///
    /// The addresses of one row are a run of the permuted ones, of 2^32 / rows. One bit more than `rows` has leading
    /// zeros tells them apart: the lowest chooses the bucket, the others stand at the top of the slot.
    #[must_use]
    pub const fn shift_for(rows: u32) -> u32 {
        30 - rows.leading_zeros()
    }

    /// Where the class plus one stands in a slot.
    #[must_use]
    #[inline(always)]
    pub const fn class_field(self) -> u32 {
        ((2 << self.shift) - 1) & !((1 << CLASS_SHIFT) - 1)
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
        let row = ((mixed as u64 * self.rows as u64) >> 32) as u32;
        let rest = (mixed & !1) << self.shift & SLOT;
        Key4 {
            slot: rest | (kind as u32) << 2,
            first: row << 1 | (mixed & 1),
            class_field: self.class_field(),
            stash: 1 << 63 | (kind as u64) << 56 | (address as u64) << 24,
        }
    }

    /// Where a key may stand.
    #[must_use]
    #[inline(always)]
    pub const fn homes(self, key: Key4) -> Homes {
        self.homes_by(key.first, key.slot & self.key_field())
    }

    /// Of a slot in `bucket`: where its key may stand, and the number of this choice.
    #[must_use]
    pub const fn origin(self, slot: u32, bucket: u32) -> (Homes, u32) {
        let n = slot & (CHOICES - 1);
        let Homes { first, other } = self.homes_by(bucket ^ (n & 1), slot & self.key_field());
        // What leads from the one row to the other leads back.
        (if n < 2 { Homes { first, other } } else { Homes { first: other, other: first } }, n)
    }

    /// Where the key stands in a slot.
    #[inline(always)]
    const fn key_field(self) -> u32 {
        SLOT & !((2 << self.shift) - 1)
    }

    /// The buckets of a key that may stand in `bucket` of one of its rows.
    #[inline(always)]
    const fn homes_by(self, bucket: u32, rest: u32) -> Homes {
        let (row, half) = (bucket >> 1, bucket & 1);
        // Both rows of a key are this sum, as far as there are rows.
        let sum = ((rest.wrapping_mul(0x9e37_79b1) as u64 * self.rows as u64) >> 32) as u32;
        let other = sum.wrapping_sub(row).wrapping_add(if sum < row { self.rows } else { 0 });
        Homes { first: bucket, other: other << 1 | half }
    }

    /// Line and first word of a bucket.
    #[must_use]
    #[inline(always)]
    pub const fn place(self, bucket: u32) -> (u32, u32) {
        let within = (bucket & ((2 << ROWS_PER_LINE) - 1)) * BUCKET_WORDS;
        (self.base.wrapping_add(bucket >> (ROWS_PER_LINE + 1)), within)
    }
}

impl Key4 {
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
    /// there. With it the first word of the bucket, for [`SPILLED`].
    ///
    /// Without a branch: which slot matches cannot be predicted, and a wrong guess would cost more than all eight.
    #[inline(always)]
    fn class_in<L: Line>(self, line: L, from: u32, n: u32) -> (u32, u64) {
        const BOTH: u64 = 1 << 32 | 1;
        let wanted = (self.slot | n) as u64 * BOTH;
        let key = !((self.class_field as u64 * BOTH) | TOPS);
        let from = line.four_from(from);
        let (mut found, mut first) = (0, 0);
        let mut n = 0;
        while n < BUCKET_WORDS {
            let word = line.word(from + n);
            if n == 0 {
                first = word;
            }
            let differs = word ^ wanted;
            // The top bit of a half stays clear when no bit of the key differs; no carry leaves a half.
            let equal = !((differs & key).wrapping_add(!TOPS)) & TOPS;
            found |= equal.wrapping_sub(equal >> 31) & differs;
            n += 1;
        }
        ((found | found >> 32) as u32 >> CLASS_SHIFT, first)
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
    let (line, from) = table.place(key.first);
    let line = memory.line(line)?;
    let (class, word) = key.class_in(line, from, 0);
    if class != 0 {
        return Some(class - 1);
    }
    if word & SPILLED == 0 { None } else { find_spilled(memory, first, table, key) }
}

/// The class of a key that may stand anywhere but in its first bucket.
#[inline(always)]
fn find_spilled<M: Lines>(memory: &M, first: M::Line, table: Buckets4, key: Key4) -> Option<u32> {
    let homes = table.homes(key);
    let mut n = 1;
    while n < CHOICES {
        let (line, from) = table.place(homes.bucket(n));
        let (class, _) = key.class_in(memory.line(line)?, from, n);
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
