//! Connections of a source under a limit: how many there are, how fast they come, and when that is too much.
//!
//! A connection counts from the end of its handshake, as `max-src-conn` and `max-src-conn-rate` of pf.conf(5) do: a
//! source that finished a handshake is not spoofed. The same functions count in the kernel and in tests. A value is
//! shared by all processors without a lock, so each of its words changes by one atomic step.

mod record;

pub use record::{Counted, Overrun};
use record::{bytes_of, halves, split, words_of};

/// Units of a rate per connection, as in PF's thresholds.
pub const UNIT: u32 = 1000;

/// Limits that count one connection at most; further ones that match it do not see it.
pub const LIMITS_PER_CONNECTION: usize = 4;

/// Sources that are remembered at most; the least recently seen one makes room. About 8 MiB of kernel memory.
pub const SOURCES: usize = 1 << 16;

/// Bytes of the ring of [`Overrun`]s: about three thousand of them.
pub const OVERRUN_RING: usize = 1 << 18;

/// Words that describe a limit in the kernel's memory.
pub const LIMIT_WORDS: usize = 4;

/// A source that stays over its limit is reported again after so many milliseconds.
pub const REPORT_INTERVAL_MS: u64 = 5_000;

/// Attempts at an atomic step that other processors keep from succeeding; the kernel wants a bound.
pub const ATTEMPTS: u32 = 8;

const NO_OVERLOAD: u8 = 255;
const FLAG_FLUSH: u8 = 1;
/// Bits before the address in an IPv4-mapped IPv6 address (RFC 4291 §2.5.5.2).
const MAPPED_BITS: u8 = 96;

/// What a limit allows each source network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitSpec {
    /// Connections at the same time; 0 for any number.
    pub connections: u32,
    /// Connections within [`window_ms`](Self::window_ms), up to [`RATE_LIMIT`](Self::RATE_LIMIT); 0 for any number.
    pub rate: u32,
    /// Milliseconds in which the rate decays to nothing.
    pub window_ms: u32,
    /// Bits of an IPv4 address that make a source, 0 to 32.
    pub prefix4: u8,
    /// Bits of an IPv6 address that make a source, 0 to 128.
    pub prefix6: u8,
    /// Table (bit of a set) that takes sources over the limit.
    pub overload: Option<u8>,
    /// Whether all connections of such a source are ended.
    pub flush: bool,
    /// Number that stays the same while rules before this one come and go; see [`identity`].
    pub id: u32,
}

impl LimitSpec {
    /// Largest rate whose units fit into a word.
    pub const RATE_LIMIT: u32 = u32::MAX / UNIT - 1;

    /// As words of the rule memory. Word 0: connections, rate; word 1: window, prefixes, overload, flags; word 2: id.
    #[must_use]
    pub const fn encode(self) -> [u64; LIMIT_WORDS] {
        let overload = match self.overload {
            Some(table) => table,
            None => NO_OVERLOAD,
        };
        let flags = if self.flush { FLAG_FLUSH } else { 0 };
        [
            self.connections as u64 | (self.rate as u64) << 32,
            self.window_ms as u64
                | (self.prefix4 as u64) << 32
                | (self.prefix6 as u64) << 40
                | (overload as u64) << 48
                | (flags as u64) << 56,
            self.id as u64,
            0,
        ]
    }

    /// From words of the rule memory; whatever they hold, a specification.
    #[must_use]
    #[inline(always)]
    pub const fn decode(words: [u64; LIMIT_WORDS]) -> Self {
        let [numbers, shape, id, _] = words;
        let overload = (shape >> 48) as u8;
        Self {
            connections: numbers as u32,
            rate: (numbers >> 32) as u32,
            window_ms: shape as u32,
            prefix4: (shape >> 32) as u8,
            prefix6: (shape >> 40) as u8,
            overload: if overload == NO_OVERLOAD { None } else { Some(overload) },
            flush: (shape >> 56) as u8 & FLAG_FLUSH != 0,
            id: id as u32,
        }
    }

    /// Bits of a 128-bit address that make a source of the family of this one.
    #[must_use]
    #[inline(always)]
    pub const fn bits(&self, high: u64, low: u64) -> u8 {
        if high == 0 && low >> 32 == 0xffff {
            // Words are of our own making, yet a value beyond the family must not reach a shift.
            MAPPED_BITS + if self.prefix4 > 32 { 32 } else { self.prefix4 }
        } else if self.prefix6 > 128 {
            128
        } else {
            self.prefix6
        }
    }

    /// Units in which the rate trips when it is above.
    const fn most(&self) -> u32 {
        self.rate.saturating_mul(UNIT)
    }
}

/// A number for a limit that depends on its rule's name only, so that counts outlive a change of the rules.
#[must_use]
pub const fn identity(name: &str) -> u32 {
    // FNV-1a, 32 bits.
    let bytes = name.as_bytes();
    let mut hash = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < bytes.len() {
        #[expect(
            clippy::indexing_slicing,
            reason = "the loop's condition; a constant function has no iterators"
        )]
        let byte = bytes[at];
        hash = (hash ^ byte as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    // 0 says that there is no limit.
    if hash == 0 { 1 } else { hash }
}

/// The first `bits` of a 128-bit address; the rest is zero.
#[must_use]
#[inline(always)]
pub const fn network(high: u64, low: u64, bits: u8) -> (u64, u64) {
    match bits {
        0 => (0, 0),
        1..=63 => (high & !(u64::MAX >> bits), 0),
        64 => (high, 0),
        65..=127 => (high, low & !(u64::MAX >> (bits - 64))),
        _ => (high, low),
    }
}

/// A source under a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct SourceKey {
    /// Network, first half, host order; IPv4 is IPv4-mapped.
    pub high: u64,
    /// Network, second half.
    pub low: u64,
    /// [`LimitSpec::id`].
    pub limit: u32,
    /// Bits of the network.
    pub bits: u32,
}

impl SourceKey {
    /// The source that an address belongs to.
    #[must_use]
    #[inline(always)]
    pub const fn new(high: u64, low: u64, limit: u32, bits: u8) -> Self {
        let (high, low) = network(high, low, bits);
        Self { high, low, limit, bits: bits as u32 }
    }

    /// Size in bytes, as it lies in the kernel.
    pub const SIZE: usize = size_of::<Self>();

    /// As it lies in the kernel.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let words = [self.high, self.low, halves(self.limit, self.bits)];
        bytes_of(words)
    }

    /// From what lies in the kernel.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [high, low, last] = words_of(bytes)?;
        let [limit, bits] = split(last);
        Some(Self { high, low, limit, bits })
    }
}

/// What became of a connection that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Excess {
    /// Within the limit.
    Fine = 0,
    /// One of more connections than allowed.
    Connections = 1,
    /// It came faster than allowed.
    Rate = 2,
}

/// The count after a connection was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Whether it is too much.
    pub excess: Excess,
    /// Connections now, this one included.
    pub connections: u32,
    /// Rate now in [`UNIT`]s, this one included.
    pub rate: u32,
}

/// A word that several processors change; the BPF target has no atomic types, so each side brings its own. Of 64 bits,
/// because the oldest instruction set that has atomic steps has no shorter ones.
pub trait Shared {
    /// Its value at some moment.
    fn load(&self) -> u64;
    /// Adds, wrapping; the value before.
    fn add(&self, more: u64) -> u64;
    /// Sets it to `to` if it is `from`.
    ///
    /// # Errors
    /// The value that it has instead.
    fn exchange(&self, from: u64, to: u64) -> Result<(), u64>;
}

#[cfg(not(target_arch = "bpf"))]
impl Shared for core::sync::atomic::AtomicU64 {
    fn load(&self) -> u64 {
        self.load(core::sync::atomic::Ordering::Relaxed)
    }

    fn add(&self, more: u64) -> u64 {
        self.fetch_add(more, core::sync::atomic::Ordering::Relaxed)
    }

    fn exchange(&self, from: u64, to: u64) -> Result<(), u64> {
        use core::sync::atomic::Ordering::Relaxed;
        self.compare_exchange(from, to, Relaxed, Relaxed).map(drop)
    }
}

/// What is known about a source under a limit.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Source<W> {
    connections: W,
    /// Units (low half) and when they were right (high half: milliseconds, wrapping after 49 days).
    rate: W,
    total: W,
    /// When an overrun was last reported (milliseconds; 0 for never).
    reported: W,
}

/// A [`Source`] with the standard library's words.
#[cfg(not(target_arch = "bpf"))]
pub type SourceState = Source<core::sync::atomic::AtomicU64>;

/// A [`SourceState`] at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Counts {
    /// Connections now.
    pub connections: u64,
    /// As in the state; see [`Counts::rate`].
    pub packed_rate: u64,
    /// Connections ever, since the source is remembered.
    pub total: u64,
    /// As in the state.
    pub reported: u64,
}

impl Counts {
    /// Size in bytes, as it lies in the kernel.
    pub const SIZE: usize = size_of::<Self>();

    /// As it lies in the kernel.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        bytes_of([self.connections, self.packed_rate, self.total, self.reported])
    }

    /// From what lies in the kernel.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [connections, packed_rate, total, reported] = words_of(bytes)?;
        Some(Self { connections, packed_rate, total, reported })
    }

    /// Rate at `now_ns` in [`UNIT`]s per window of `spec`.
    #[must_use]
    pub const fn rate(&self, spec: &LimitSpec, now_ns: u64) -> u32 {
        decayed(self.packed_rate, spec.window_ms, milliseconds(now_ns))
    }
}

/// Milliseconds of a clock that never goes back, wrapping after 49 days. A source that is silent for exactly that
/// long finds its old rate again: one connection may then trip too early.
#[inline(always)]
const fn milliseconds(ns: u64) -> u32 {
    (ns / 1_000_000) as u32
}

/// Units left at `now`: what there was, less the share of the window that went by (pf.conf(5), `max-src-conn-rate`).
#[inline(always)]
const fn decayed(packed: u64, window_ms: u32, now: u32) -> u32 {
    let (units, since) = (packed as u32, (packed >> 32) as u32);
    let elapsed = now.wrapping_sub(since);
    // Another processor's clock may be a moment ahead: nothing decays then.
    if elapsed > u32::MAX / 2 {
        return units;
    }
    if elapsed >= window_ms {
        return 0;
    }
    units - (units as u64 * elapsed as u64 / window_ms as u64) as u32
}

impl<W: Shared> Source<W> {
    /// A connection's handshake is over.
    #[inline(always)]
    pub fn opened(&self, spec: &LimitSpec, now_ns: u64) -> Opened {
        let connections = (self.connections.add(1) + 1) as u32;
        self.total.add(1);
        let rate = if spec.rate == 0 { 0 } else { self.hit(spec.window_ms, milliseconds(now_ns)) };
        let excess = if spec.connections != 0 && connections > spec.connections {
            Excess::Connections
        } else if rate > spec.most() {
            Excess::Rate
        } else {
            Excess::Fine
        };
        Opened { excess, connections, rate }
    }

    /// A connection counted before is over. One that is not known any more (its source was forgotten) changes nothing.
    #[inline(always)]
    pub fn closed(&self) {
        let mut seen = self.connections.load();
        for _ in 0..ATTEMPTS {
            if seen == 0 {
                return;
            }
            match self.connections.exchange(seen, seen - 1) {
                Ok(()) => return,
                Err(other) => seen = other,
            }
        }
    }

    /// Whether a new connection is refused before its handshake: it would be too much; or, where an overload table
    /// takes the source, what is there is too much already (the first one over the limit must come to be noticed).
    #[inline(always)]
    pub fn refuses_new(&self, spec: &LimitSpec, now_ns: u64) -> bool {
        let more = if spec.overload.is_some() { 0 } else { 1 };
        if spec.connections != 0 && self.connections.load() + more > spec.connections as u64 {
            return true;
        }
        if spec.rate == 0 {
            return false;
        }
        let rate = decayed(self.rate.load(), spec.window_ms, milliseconds(now_ns));
        rate as u64 + more * UNIT as u64 > spec.most() as u64
    }

    /// Whether an overrun at `now_ns` is to be reported: the first of [`REPORT_INTERVAL_MS`] is.
    #[inline(always)]
    pub fn report(&self, now_ns: u64) -> bool {
        let now = (now_ns / 1_000_000) | 1;
        let before = self.reported.load();
        if before != 0 && now < before + REPORT_INTERVAL_MS {
            return false;
        }
        // Whoever loses against another processor leaves the report to it.
        self.reported.exchange(before, now).is_ok()
    }

    /// All words, for listings; each of them was right at some moment.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            connections: self.connections.load(),
            reported: self.reported.load(),
            packed_rate: self.rate.load(),
            total: self.total.load(),
        }
    }

    /// Adds a connection to the rate; the rate then.
    #[inline(always)]
    fn hit(&self, window_ms: u32, now: u32) -> u32 {
        let mut seen = self.rate.load();
        for _ in 0..ATTEMPTS {
            let units = decayed(seen, window_ms, now).saturating_add(UNIT);
            match self.rate.exchange(seen, (now as u64) << 32 | units as u64) {
                Ok(()) => return units,
                Err(other) => seen = other,
            }
        }
        decayed(seen, window_ms, now).saturating_add(UNIT)
    }
}

const _: () = assert!(size_of::<SourceKey>() == 24);
const _: () = assert!(size_of::<Source<u64>>() == 32 && size_of::<Counts>() == 32);

#[cfg(test)]
mod tests;
