//! Memory of one generation: anonymous, or the values of BPF arrays.
#![expect(unsafe_code, reason = "mmap; the one invariant is stated at `Area`")]

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use mailgate_common::{CHUNK_WORDS, Line, Lines};

/// Bytes of so many words in whole chunks.
pub(super) fn chunked(words: u64) -> u64 {
    words.next_multiple_of(CHUNK_WORDS.into()) * size_of::<u64>() as u64
}

/// Words that the kernel or other threads read while we write.
///
/// **Invariant**: `start` is the beginning of a mapping of `words` * 8 bytes (rounded up to pages) that lives until
/// drop, is page-aligned, zeroed at birth, and is only ever accessed as 64-bit atomics on our side.
#[derive(Debug)]
pub(super) struct Area {
    start: NonNull<AtomicU64>,
    words: usize,
    /// The BPF maps behind it, if any, in the order of the words.
    maps: Vec<OwnedFd>,
}

// SAFETY: the mapping belongs to no thread, and all access is atomic.
unsafe impl Send for Area {}
// SAFETY: as above.
unsafe impl Sync for Area {}

impl Area {
    /// Zeroed memory of our own.
    pub(super) fn anonymous(words: usize) -> io::Result<Self> {
        Self::reserve(words, libc::PROT_READ | libc::PROT_WRITE)
    }

    /// The values of BPF arrays made with `BPF_F_MMAPABLE`, `words` of each, one behind the other.
    ///
    /// # Errors
    /// Those of mmap(2); `EINVAL` when `words` are not whole pages and there is more than one array.
    #[cfg_attr(not(feature = "ebpf"), expect(dead_code, reason = "the kernel side is compiled out"))]
    pub(super) fn of_maps(words: usize, maps: Vec<OwnedFd>) -> io::Result<Self> {
        let mut area = Self::reserve(words * maps.len(), libc::PROT_NONE)?;
        let bytes = words * size_of::<u64>();
        for (n, map) in maps.iter().enumerate() {
            // SAFETY: the place is inside the mapping that was just reserved, which nobody uses yet.
            let done = unsafe {
                libc::mmap(
                    area.start.as_ptr().cast::<u8>().add(n * bytes).cast(),
                    bytes,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED | libc::MAP_FIXED,
                    map.as_raw_fd(),
                    0,
                )
            };
            if done == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
        }
        area.maps = maps;
        Ok(area)
    }

    fn reserve(words: usize, access: libc::c_int) -> io::Result<Self> {
        let bytes = words.max(1) * size_of::<u64>();
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice; nothing of ours is touched.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { start, words, maps: Vec::new() })
    }

    /// The words.
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the invariant of `Area`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }

    /// Word `at`; 0 beyond the end.
    pub(super) fn load(&self, at: usize) -> u64 {
        self.words().get(at).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Stores word `at`, seen after everything stored before it; nothing beyond the end.
    pub(super) fn store(&self, at: usize, value: u64) {
        if let Some(word) = self.words().get(at) {
            word.store(value, Ordering::Release);
        }
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> u64 {
        (self.words * size_of::<u64>()) as u64
    }

    /// The maps behind it, in the order of the words; none behind memory of our own.
    #[cfg_attr(not(feature = "ebpf"), expect(dead_code, reason = "the kernel side is compiled out"))]
    pub(super) fn maps(&self) -> &[OwnedFd] {
        &self.maps
    }

    /// As the lookups want it, in lines of `WORDS` words.
    pub(super) fn view<const WORDS: usize>(&self) -> View<'_, WORDS> {
        View(self.words())
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours by the invariant, and no reference to it outlives `self`.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.words.max(1) * size_of::<u64>());
        }
    }
}

/// An area in lines of `WORDS` words.
#[derive(Clone, Copy)]
pub(super) struct View<'a, const WORDS: usize>(&'a [AtomicU64]);

/// One of them.
#[derive(Clone, Copy)]
pub(super) struct ViewLine<'a, const WORDS: usize>(&'a [AtomicU64; WORDS]);

impl<const WORDS: usize> Line for ViewLine<'_, WORDS> {
    #[inline(always)]
    fn word(self, n: u32) -> u64 {
        self.0.get(n as usize % WORDS).map_or(0, |word| word.load(Ordering::Acquire))
    }
}

impl<'a, const WORDS: usize> Lines for View<'a, WORDS> {
    type Line = ViewLine<'a, WORDS>;
    const WORDS: u32 = WORDS as u32;

    #[inline(always)]
    fn line(&self, index: u32) -> Option<Self::Line> {
        let start = index as usize * WORDS;
        self.0.get(start..start + WORDS).and_then(|line| line.try_into().ok()).map(ViewLine)
    }
}
