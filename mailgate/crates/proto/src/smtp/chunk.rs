//! What follows BDAT: so many octets, whatever they are (RFC 3030 §2).

use super::{Content, Step};

/// Counts the octets of one chunk.
#[derive(Debug)]
pub struct ChunkReceiver {
    missing: u64,
}

impl ChunkReceiver {
    /// Awaits `size` octets.
    #[must_use]
    pub const fn new(size: u64) -> Self {
        Self { missing: size }
    }

    /// Whether all octets came.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Reads `input` up to the end of the chunk or of the input, and appends it.
    pub fn push(&mut self, input: &[u8], content: &mut Content) -> Step {
        let step = self.skip(input);
        content.append(input.get(..step.consumed).unwrap_or_default());
        step
    }

    /// Reads past `input` up to the end of the chunk or of the input, for a chunk that is refused.
    pub fn skip(&mut self, input: &[u8]) -> Step {
        let count = usize::try_from(self.missing).unwrap_or(usize::MAX).min(input.len());
        self.missing -= count as u64;
        Step { consumed: count, ended: self.missing == 0 }
    }
}
