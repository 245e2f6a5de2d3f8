//! Cutting the stream into messages.

use bytes::{Bytes, BytesMut};

use super::cursor::Cursor;
use super::{HEADER_LENGTH, MESSAGE_LIMIT, Misbehaved};

/// Collects bytes until a message is whole. Holds what was pushed and not yet taken, so take until `None` before
/// pushing more: then it never holds a whole message besides the piece pushed last.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    limit: usize,
}

impl Default for Framer {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), limit: MESSAGE_LIMIT }
    }
}

impl Framer {
    /// Longest message from now on, header included; [`MESSAGE_LIMIT`] at first.
    pub fn allow(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Appends what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, header included; `None` until more bytes come.
    ///
    /// # Errors
    /// [`Misbehaved::BadMarker`], [`Misbehaved::BadLength`]; the stream is then of no more use.
    pub fn take(&mut self) -> Result<Option<Bytes>, Misbehaved> {
        let mut header = Cursor::new(&self.buffer);
        let (Some(marker), Some(length)) = (header.array::<16>(), header.u16()) else {
            // Garbage is noticed at its first byte instead of after nineteen.
            let wrong = self.buffer.iter().take(16).any(|byte| *byte != 0xff);
            return if wrong { Err(Misbehaved::BadMarker) } else { Ok(None) };
        };
        // RFC 4271 §6.1.
        if marker != [0xff; 16] {
            return Err(Misbehaved::BadMarker);
        }
        let whole = usize::from(length);
        if !(HEADER_LENGTH..=self.limit).contains(&whole) {
            return Err(Misbehaved::BadLength(length));
        }
        if self.buffer.len() < whole {
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(whole).freeze()))
    }
}
