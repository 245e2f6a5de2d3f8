//! What both families share: memory in lines, a header, classes.
//!
//! A *generation* is one BPF array whose values are *lines* (512 words in IPv4, 16 in IPv6). It holds everything a
//! lookup needs, so that one index, read once per packet, switches from one generation to the next. Words 0 to 15
//! are the header. A *class* is a number for a set of tables; the class table turns it back into the set.

/// One line of memory.
pub trait Line: Copy {
    /// Word `n`; `n` is taken modulo the words of a line.
    fn word(self, n: u32) -> u64;
    /// The same place, a multiple of four words. In the kernel its bound is made plain anew: the verifier of Linux 6.1 loses it
    /// between the arithmetic that led here and the access.
    #[inline(always)]
    fn four_from(self, n: u32) -> u32 {
        n
    }
}

/// Memory that holds a generation.
pub trait Lines {
    /// What one line looks like.
    type Line: Line;
    /// Words of a line: a power of two.
    const WORDS: u32;
    /// Line `index`; none beyond the end.
    fn line(&self, index: u32) -> Option<Self::Line>;
}

/// Words of a chunk, 1 MiB: the kernel holds a generation in as many arrays of this size as it takes. Arrays that are all of
/// one size it looks into without a call, which is a fifth of what a lookup costs.
pub const CHUNK_WORDS: u32 = 1 << 17;
/// Chunks of a generation at most.
pub const CHUNKS: u32 = 1 << 12;

/// Words of the header.
pub mod header {
    /// Version of the layout; anything else is an empty generation.
    pub const MAGIC_WORD: u32 = 0;
    /// Value of [`MAGIC_WORD`]: "mailgate", with the version in the last byte.
    pub const MAGIC: u64 = 0x6d61_696c_6761_7403;
    /// Number of the generation.
    pub const GENERATION: u32 = 1;
    /// Secret of the hash, so that a feed cannot aim at one bucket.
    pub const SEED: u32 = 2;
    /// First line of buckets (low half). High half: IPv4: number of rows; IPv6: number of buckets minus one.
    pub const BUCKETS: u32 = 3;
    /// First word of classes (low half) and room for classes (high half).
    pub const CLASSES: u32 = 4;
    /// Not 0 when the stash is in use.
    pub const STASHED: u32 = 5;
    /// Prefixes held.
    pub const ENTRIES: u32 = 6;
    /// IPv4: not 0 when single hosts are held.
    pub const HOSTS: u32 = 7;
    /// IPv6: bit n is set when prefixes of length 4n are present.
    pub const LENGTHS: u32 = 7;
    /// Sets of tables by action: bypass, drop, reject, tarpit.
    pub const POLICY: u32 = 8;
    /// IPv6: first page of the gate (low half), pages of it minus one (high half).
    pub const GATE: u32 = 12;
    /// IPv4: how far a key is moved up in its slot.
    pub const KEY_SHIFT: u32 = 12;
    /// Words of the header.
    pub const WORDS: u32 = 16;
}

/// A base line and a mask or number, packed into one word of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// First line.
    pub base: u32,
    /// Number of lines or entries, or that minus one.
    pub extent: u32,
}

impl Geometry {
    /// From a word of the header.
    #[must_use]
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self { base: word as u32, extent: (word >> 32) as u32 }
    }

    /// As a word of the header.
    #[must_use]
    pub const fn pack(self) -> u64 {
        (self.extent as u64) << 32 | self.base as u64
    }
}

/// Is this line 0 of a generation of this layout?
#[must_use]
#[inline(always)]
pub fn is_generation<L: Line>(first: L) -> bool {
    first.word(header::MAGIC_WORD) == header::MAGIC
}

/// The set of tables of class `class`; 0 for a class that is not there.
#[inline(always)]
pub fn table_set<M: Lines>(memory: &M, first: M::Line, class: u32) -> u64 {
    let place = Geometry::unpack(first.word(header::CLASSES));
    if class >= place.extent {
        return 0;
    }
    let at = place.base.wrapping_add(class);
    let line = if at < M::WORDS { Some(first) } else { memory.line(at / M::WORDS) };
    match line {
        // One masked index for both: the kernel's verifier follows no bound through a copy of it.
        Some(line) => line.word(at % M::WORDS),
        None => 0,
    }
}
