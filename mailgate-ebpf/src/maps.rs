//! The maps. Names and sizes are those of `mailgate_common`; user space puts generations into the two arrays of maps.

use aya_ebpf::btf_maps::{Array, ArrayOfMaps, PerCpuArray};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::SockMap;
use mailgate_common::{
    Counter, LINE_WORDS, LISTENER_SLOTS, Line, Lines, PAGE_WORDS, PORT_WORDS, SETTING_WORDS,
};

/// `BPF_F_MMAPABLE | BPF_F_INNER_MAP`: written through mmap, and of any size.
const GENERATION_FLAGS: usize = 0x400 | 0x1000;

/// An IPv4 generation; the size is that of the template only.
pub type Generation4 = Array<[u64; LINE_WORDS as usize], 1, GENERATION_FLAGS>;
/// An IPv6 generation; the size is that of the template only.
pub type Generation6 = Array<[u64; PAGE_WORDS as usize], 1, GENERATION_FLAGS>;

#[btf_map]
pub static TABLES4: ArrayOfMaps<Generation4, 1> = ArrayOfMaps::new();

#[btf_map]
pub static TABLES6: ArrayOfMaps<Generation6, 1> = ArrayOfMaps::new();

#[btf_map]
pub static PORTS: Array<u64, { PORT_WORDS as usize }> = Array::new();

#[btf_map]
pub static SETTINGS: Array<u64, { SETTING_WORDS as usize }> = Array::new();

#[btf_map]
pub static COUNTERS: PerCpuArray<u64, { Counter::COUNT as usize }> = PerCpuArray::new();

#[map]
pub static LISTENERS: SockMap = SockMap::with_max_entries(LISTENER_SLOTS, 0);

/// Memory of an IPv4 generation.
pub struct Memory4(&'static Generation4);

/// Memory of an IPv6 generation.
pub struct Memory6(&'static Generation6);

impl Memory4 {
    /// The current one.
    #[inline(always)]
    pub fn current() -> Option<Self> {
        TABLES4.get(0).map(Self)
    }
}

impl Memory6 {
    /// The current one.
    #[inline(always)]
    pub fn current() -> Option<Self> {
        TABLES6.get(0).map(Self)
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
}

impl Lines for Memory4 {
    type Line = Words<{ LINE_WORDS as usize }>;
    const WORDS: u32 = LINE_WORDS;

    #[inline(always)]
    fn line(&self, index: u32) -> Option<Self::Line> {
        self.0.get_ptr(index).map(Words)
    }
}

impl Lines for Memory6 {
    type Line = Words<{ PAGE_WORDS as usize }>;
    const WORDS: u32 = PAGE_WORDS;

    #[inline(always)]
    fn line(&self, index: u32) -> Option<Self::Line> {
        self.0.get_ptr(index).map(Words)
    }
}

/// Counts one.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(word) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the word is this processor's, and an XDP program is not interrupted by another one on it.
        unsafe { *word += 1 }
    }
}
