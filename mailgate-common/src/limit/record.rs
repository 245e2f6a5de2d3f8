//! What kernel and user space tell each other about connections, and how it lies in memory.

use super::{LIMITS_PER_CONNECTION, SourceKey};

/// Under which limits a connection was counted; kept with its socket, so that its end is counted under the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Counted {
    /// The peer's address, first half, host order; IPv4 is IPv4-mapped.
    pub high: u64,
    /// The peer's address, second half.
    pub low: u64,
    /// [`LimitSpec::id`](super::LimitSpec::id)s; 0 for none.
    pub limits: [u32; LIMITS_PER_CONNECTION],
    /// Bits of the source network, for each limit.
    pub bits: [u8; LIMITS_PER_CONNECTION],
    /// 0.
    pub reserved: u32,
}

impl Counted {
    /// Size in bytes, as it lies in the kernel.
    pub const SIZE: usize = size_of::<Self>();

    /// Not yet counted anywhere.
    #[must_use]
    #[inline(always)]
    pub const fn new(high: u64, low: u64) -> Self {
        Self { high, low, limits: [0; 4], bits: [0; 4], reserved: 0 }
    }

    /// From what lies in the kernel.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [high, low, one, two, last] = words_of(bytes)?;
        let ([a, b], [c, d]) = (split(one), split(two));
        let [bits, reserved] = split(last);
        Some(Self { high, low, limits: [a, b, c, d], bits: bits.to_ne_bytes(), reserved })
    }

    /// The sources under which it counts.
    pub fn keys(&self) -> impl Iterator<Item = SourceKey> + '_ {
        let each = self.limits.iter().zip(&self.bits).filter(|(limit, _)| **limit != 0);
        each.map(|(limit, bits)| SourceKey::new(self.high, self.low, *limit, *bits))
    }
}

/// A connection over a limit, as the kernel tells the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Overrun {
    /// The peer's address, first half, host order; IPv4 is IPv4-mapped.
    pub high: u64,
    /// The peer's address, second half.
    pub low: u64,
    /// Our address, first half.
    pub local_high: u64,
    /// Our address, second half.
    pub local_low: u64,
    /// The socket's cookie (sock_diag(7)).
    pub cookie: u64,
    /// [`LimitSpec::id`](super::LimitSpec::id).
    pub limit: u32,
    /// [`Excess`](super::Excess) as a number.
    pub excess: u32,
    /// Connections of the source, this one included.
    pub connections: u32,
    /// Rate of the source in [`UNIT`](super::UNIT)s.
    pub rate: u32,
    /// The peer's port.
    pub source_port: u16,
    /// Our port.
    pub local_port: u16,
    /// 1 when the source was not reported within [`REPORT_INTERVAL_MS`](super::REPORT_INTERVAL_MS).
    pub first: u32,
}

impl Overrun {
    /// Size in bytes, as it lies in the ring.
    pub const SIZE: usize = size_of::<Self>();

    /// From what lies in the ring.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [high, low, local_high, local_low, cookie, one, two, three] = words_of(bytes)?;
        let ([limit, excess], [connections, rate], [ports, first]) = (split(one), split(two), split(three));
        let [a, b, c, d] = ports.to_ne_bytes();
        let (source_port, local_port) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
        Some(Self {
            high,
            low,
            local_high,
            local_low,
            cookie,
            limit,
            excess,
            connections,
            rate,
            source_port,
            local_port,
            first,
        })
    }
}

const _: () = assert!(Counted::SIZE == 40 && Overrun::SIZE == 64);

/// Two neighbours as one word, and back.
pub(super) const fn halves(first: u32, second: u32) -> u64 {
    if cfg!(target_endian = "little") {
        first as u64 | (second as u64) << 32
    } else {
        (first as u64) << 32 | second as u64
    }
}

pub(super) const fn split(word: u64) -> [u32; 2] {
    let (low, high) = (word as u32, (word >> 32) as u32);
    if cfg!(target_endian = "little") { [low, high] } else { [high, low] }
}

pub(super) fn words_of<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let mut words = [0; N];
    for (n, word) in words.iter_mut().enumerate() {
        *word = u64::from_ne_bytes(bytes.get(8 * n..8 * n + 8)?.try_into().ok()?);
    }
    Some(words)
}

pub(super) fn bytes_of<const N: usize, const BYTES: usize>(words: [u64; N]) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}
