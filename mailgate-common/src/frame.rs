//! Reading a frame, whoever holds it: the kernel's packet memory, a slice in a test or in a fuzz target.

use crate::packet::{self, Packet};
use crate::reason::Reason;

/// Bytes of one frame, from the Ethernet header on. Whatever lies beyond the end is none.
pub trait Frame {
    /// The byte at `at`.
    fn byte(&self, at: usize) -> Option<u8>;
    /// Two bytes at `at`, as a number in network order.
    fn be16(&self, at: usize) -> Option<u16>;
    /// Four bytes at `at`, as a number in network order.
    fn be32(&self, at: usize) -> Option<u32>;
    /// Eight bytes at `at`, as a number in network order.
    fn be64(&self, at: usize) -> Option<u64>;
    /// Two bytes at `at`, in their order.
    fn pair(&self, at: usize) -> Option<[u8; 2]>;
    /// What [`crate::packet::ipv6`] reads; where that is to be a function of its own, another way to it.
    ///
    /// # Errors
    /// As [`crate::packet::read`].
    #[inline(always)]
    fn ipv6(&self, packet: &mut Packet, network: usize) -> Result<(), Reason>
    where
        Self: Sized,
    {
        packet::ipv6(self, packet, network)
    }
    /// The same place, below 16 KiB; where the kernel's verifier has to be shown that it is.
    #[inline(always)]
    fn place(&self, at: usize) -> usize {
        at
    }
}

impl Frame for &[u8] {
    fn byte(&self, at: usize) -> Option<u8> {
        self.get(at).copied()
    }

    fn be16(&self, at: usize) -> Option<u16> {
        self.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn be32(&self, at: usize) -> Option<u32> {
        self.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn be64(&self, at: usize) -> Option<u64> {
        self.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes)
    }

    fn pair(&self, at: usize) -> Option<[u8; 2]> {
        self.get(at..at + 2)?.try_into().ok()
    }
}
