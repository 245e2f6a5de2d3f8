//! The content of a message while it comes in: collected, checked and never larger than allowed.

use bytes::{Bytes, BytesMut};

/// Why content is refused after its real end. The first flaw found is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// CR without LF (RFC 5321 §2.3.8).
    #[error("bare carriage return")]
    BareCarriageReturn,
    /// LF without CR (RFC 5321 §2.3.8); usually because of a home-made client, or an attempt to smuggle.
    #[error("bare line feed")]
    BareLineFeed,
    /// A line longer than [`ContentLimits::line`].
    #[error("line too long")]
    LineTooLong,
    /// NUL, which no text has (RFC 5322 §3.5).
    #[error("NUL octet")]
    Nul,
    /// More octets than [`ContentLimits::size`] (RFC 1870 §6.3).
    #[error("message too big")]
    TooBig,
}

/// Bounds of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentLimits {
    /// Octets of the whole content, dot-stuffing removed.
    pub size: usize,
    /// Octets of one line with its CRLF; RFC 5321 §4.5.3.1.6 wants at least 1000.
    pub line: usize,
}

/// Collects content. After a flaw nothing more is kept, so that a flood costs no memory.
#[derive(Debug)]
pub struct Content {
    bytes: BytesMut,
    limits: ContentLimits,
    line: usize,
    after_cr: bool,
    flaw: Option<Flaw>,
}

impl Content {
    /// Empty.
    #[must_use]
    pub fn new(limits: ContentLimits) -> Self {
        Self { bytes: BytesMut::new(), limits, line: 0, after_cr: false, flaw: None }
    }

    /// Octets kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The first flaw, if one was found.
    #[must_use]
    pub fn flaw(&self) -> Option<Flaw> {
        self.flaw
    }

    /// Drops what was kept and keeps nothing more, for instance because memory ran out.
    pub fn abandon(&mut self, flaw: Flaw) {
        self.flaw.get_or_insert(flaw);
        self.bytes = BytesMut::new();
    }

    /// Appends octets of the message and checks them.
    pub fn append(&mut self, octets: &[u8]) {
        if self.flaw.is_some() {
            return;
        }
        match self.check(octets) {
            Ok(()) => self.bytes.extend_from_slice(octets),
            Err(flaw) => self.abandon(flaw),
        }
    }

    /// The whole content; a missing CRLF at the end is added (possible only with BDAT).
    ///
    /// # Errors
    /// The first flaw.
    pub fn finish(mut self) -> Result<Bytes, Flaw> {
        if let Some(flaw) = self.flaw {
            return Err(flaw);
        }
        if self.after_cr {
            return Err(Flaw::BareCarriageReturn);
        }
        if self.line > 0 {
            self.bytes.extend_from_slice(b"\r\n");
        }
        Ok(self.bytes.freeze())
    }

    /// Size first: octets that are not kept need not be looked at. The verdict must not depend on how the octets are
    /// split, so the limit of size is compared at the octet that breaks it.
    fn check(&mut self, octets: &[u8]) -> Result<(), Flaw> {
        let room = self.limits.size.saturating_sub(self.bytes.len());
        let within = octets.get(..room).unwrap_or(octets);
        for piece in within.split_inclusive(|b| matches!(b, b'\r' | b'\n' | 0)) {
            self.check_piece(piece)?;
        }
        if octets.len() > room { Err(Flaw::TooBig) } else { Ok(()) }
    }

    /// `piece` has at most one of CR, LF and NUL, at its end.
    fn check_piece(&mut self, piece: &[u8]) -> Result<(), Flaw> {
        let last = piece.last().copied();
        if self.after_cr {
            if piece.first() != Some(&b'\n') {
                return Err(Flaw::BareCarriageReturn);
            }
            self.after_cr = false;
            self.line = 0;
            return Ok(());
        }
        self.line += piece.len();
        let text = match last {
            Some(b'\r') => self.line - 1,
            _ => self.line,
        };
        if text + 2 > self.limits.line {
            return Err(Flaw::LineTooLong);
        }
        match last {
            Some(b'\r') => self.after_cr = true,
            Some(b'\n') => return Err(Flaw::BareLineFeed),
            Some(0) => return Err(Flaw::Nul),
            _ => {}
        }
        Ok(())
    }
}
