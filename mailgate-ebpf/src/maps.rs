//! The maps. Names and sizes are those of `mailgate_common`; user space puts generations and rulesets into the arrays of
//! maps.

use aya_ebpf::btf_maps::{Array, ArrayOfMaps, PerCpuArray};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{LruHashMap, PerCpuArray as LegacyPerCpuArray, ProgramArray, RingBuf, SockMap};
use mailgate_common::ruleset::{self, RULESET_WORDS};
use mailgate_common::{
    CHUNK_WORDS, CHUNKS, LINE_WORDS, LISTENER_SLOTS, Line, Lines, PAGE_WORDS, PROGRAM_SLOTS, Packet, RULES,
    Reason, Ruling, setting,
};

/// `BPF_F_MMAPABLE`. Without `BPF_F_INNER_MAP`, though it would allow arrays of any size: those of one size the kernel
/// looks into without a call.
const MMAPABLE: usize = 0x400;
const SLOTS: usize = setting::SLOTS as usize;

/// A part of a generation.
pub type Chunk = Array<[u64; CHUNK_WORDS as usize], 1, MMAPABLE>;
/// The chunks of both slots, those of one slot side by side.
pub type Tables = ArrayOfMaps<Chunk, { SLOTS * CHUNKS as usize }>;
/// A ruleset.
pub type Ruleset = Array<[u64; RULESET_WORDS as usize], 1, MMAPABLE>;

#[btf_map]
pub static TABLES4: ArrayOfMaps<Chunk, { SLOTS * CHUNKS as usize }> = ArrayOfMaps::new();

#[btf_map]
pub static TABLES6: ArrayOfMaps<Chunk, { SLOTS * CHUNKS as usize }> = ArrayOfMaps::new();

#[btf_map]
pub static RULESETS: ArrayOfMaps<Ruleset, SLOTS> = ArrayOfMaps::new();

#[btf_map]
pub static SETTINGS: Array<u64, { setting::WORDS as usize }> = Array::new();

/// Packets and bytes of each reason.
#[btf_map]
pub static REASONS: PerCpuArray<[u64; 2], { Reason::ROOM as usize }> = PerCpuArray::new();

/// Packets and bytes of each rule.
#[btf_map]
pub static RULE_HITS: PerCpuArray<[u64; 2], { RULES as usize }> = PerCpuArray::new();

/// Packets, bytes and last time (monotonic nanoseconds) of a source; user space sets the size.
#[map]
pub static HITS: LruHashMap<[u64; 2], [u64; 3]> = LruHashMap::with_max_entries(1, 0);

#[map]
pub static LISTENERS: SockMap = SockMap::with_max_entries(LISTENER_SLOTS, 0);

#[map]
pub static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(PROGRAM_SLOTS, 0);

#[map]
pub static TRACE: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// What a program keeps for itself while it runs: place 0 is `ingress`'s, place 1 `steer`'s, which may interrupt it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Scratch {
    /// See [`forget`].
    pub word: u64,
    /// Not 0 while `ingress` asks for a socket: that runs `steer` too, for a packet that is no new connection.
    pub asking: u64,
    /// The packet as parsed.
    pub packet: Packet,
    /// The verdict.
    pub ruling: Ruling,
}

#[map]
static SCRATCH: LegacyPerCpuArray<Scratch> = LegacyPerCpuArray::with_max_entries(2, 0);

/// This processor's scratch of a program.
#[inline(always)]
pub fn scratch(program: u32) -> Option<*mut Scratch> {
    SCRATCH.get_ptr_mut(program)
}

/// The same value, of which the verifier knows nothing any more: it does not follow what is kept in maps.
#[inline(always)]
pub fn forget(scratch: *mut Scratch, value: u64) -> u64 {
    // SAFETY: a present value of this processor; see `scratch`.
    unsafe {
        let word = &raw mut (*scratch).word;
        word.write_volatile(value);
        word.read_volatile()
    }
}

/// A value of a generation.
#[derive(Clone, Copy)]
pub struct Words<const N: usize>(*const [u64; N]);

impl<const N: usize> Line for Words<N> {
    #[inline(always)]
    fn word(self, n: u32) -> u64 {
        let at = n as usize & (N - 1);
        // SAFETY: the pointer is a present value of N words, and `at` is below N. Volatile: user space writes.
        unsafe { self.0.cast::<u64>().add(at).read_volatile() }
    }

    #[inline(always)]
    fn four_from(self, n: u32) -> u32 {
        core::hint::black_box(n) & (N as u32 - 4)
    }
}

/// Memory in lines of `N` words.
pub struct Memory<const N: usize> {
    tables: &'static Tables,
    /// The first chunk of the slot.
    first: u32,
}

/// Memory of an IPv4 generation.
pub type Memory4 = Memory<{ LINE_WORDS as usize }>;
/// Memory of an IPv6 generation.
pub type Memory6 = Memory<{ PAGE_WORDS as usize }>;
/// Memory of a ruleset.
pub struct Rules(*const [u64; RULESET_WORDS as usize]);

impl ruleset::Words for Rules {
    #[inline(always)]
    fn word(&self, at: u32) -> u64 {
        if at >= RULESET_WORDS {
            return 0;
        }
        // SAFETY: the pointer is a present value of so many words, and `at` is below. Volatile: user space writes.
        unsafe { self.0.cast::<u64>().add(at as usize).read_volatile() }
    }
}

impl<const N: usize> Lines for Memory<N> {
    type Line = Words<N>;
    const WORDS: u32 = N as u32;

    #[inline(always)]
    fn line(&self, index: u32) -> Option<Self::Line> {
        const {
            assert!(CHUNK_WORDS % Self::WORDS == 0);
        }
        let lines = CHUNK_WORDS / Self::WORDS;
        let (chunk, within) = (index / lines, index % lines);
        if chunk >= CHUNKS {
            return None;
        }
        let words = self.tables.get(self.first + chunk)?.get_ptr(0)?;
        // SAFETY: a value is a chunk, and the line is inside it.
        Some(Words(unsafe { words.cast::<[u64; N]>().add(within as usize) }))
    }
}

/// What a lookup sees: the tables and rules of their slots, chosen once.
#[derive(Clone, Copy)]
pub struct Slot(setting::Slots);

impl Slot {
    /// The one in force.
    #[inline(always)]
    pub fn current() -> Self {
        let word = setting(setting::SLOT);
        // SAFETY: the helper has no preconditions.
        Self(setting::slots(word, || unsafe { aya_ebpf::helpers::bpf_ktime_get_ns() }))
    }

    /// The IPv4 generation, empty when there is none.
    #[inline(always)]
    pub fn tables4(self) -> Memory4 {
        Memory { tables: &TABLES4, first: self.0.tables * CHUNKS }
    }

    /// The IPv6 generation, empty when there is none.
    #[inline(always)]
    pub fn tables6(self) -> Memory6 {
        Memory { tables: &TABLES6, first: self.0.tables * CHUNKS }
    }

    /// The rules.
    #[inline(always)]
    pub fn rules(self) -> Option<Rules> {
        RULESETS.get(self.0.rules)?.get_ptr(0).map(Rules)
    }
}

/// A word of the settings.
#[inline(always)]
pub fn setting(index: u32) -> u64 {
    match SETTINGS.get_ptr(index) {
        // SAFETY: a present value. Volatile: user space writes.
        Some(word) => unsafe { word.read_volatile() },
        None => 0,
    }
}

/// Counts a packet, or a connection with 0 bytes.
#[inline(always)]
pub fn count(reason: Reason, bytes: u64) {
    if let Some(place) = REASONS.get_ptr_mut(reason as u32) {
        // SAFETY: the value is this processor's, and an XDP program is not interrupted by another one on it.
        unsafe {
            (*place)[0] += 1;
            (*place)[1] += bytes;
        }
    }
}

/// Counts a packet for its rule.
#[inline(always)]
pub fn count_rule(rule: u32, bytes: u64) {
    if let Some(place) = RULE_HITS.get_ptr_mut(rule) {
        // SAFETY: as above.
        unsafe {
            (*place)[0] += 1;
            (*place)[1] += bytes;
        }
    }
}
