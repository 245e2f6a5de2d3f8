//! Content on its way out after DATA: dots doubled, CRLF checked (RFC 5321 §4.5.2).

use super::Flaw;

/// What ends content.
const END: &[u8] = b".\r\n";

/// Gives the pieces to write after the peer's go-ahead, the end included; borrows the content and copies nothing.
#[derive(Debug, Clone)]
pub struct DataEncoder<'a> {
    rest: &'a [u8],
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    LineStart,
    InLine,
    Ended,
}

impl<'a> DataEncoder<'a> {
    /// Takes content whose lines all end with CRLF; the last may lack it.
    ///
    /// # Errors
    /// [`Flaw::BareCarriageReturn`] or [`Flaw::BareLineFeed`]: sent as they are they could be an end for the peer.
    pub fn new(content: &'a [u8]) -> Result<Self, Flaw> {
        let mut after_cr = false;
        for byte in content {
            match (after_cr, *byte == b'\n') {
                (true, false) => return Err(Flaw::BareCarriageReturn),
                (false, true) => return Err(Flaw::BareLineFeed),
                _ => after_cr = *byte == b'\r',
            }
        }
        if after_cr {
            return Err(Flaw::BareCarriageReturn);
        }
        Ok(Self { rest: content, place: Place::LineStart })
    }

    /// All pieces in one buffer, for small content and tests.
    #[must_use]
    pub fn to_vec(self) -> Vec<u8> {
        let mut wire = Vec::with_capacity(self.rest.len() + END.len());
        self.for_each(|piece| wire.extend_from_slice(piece));
        wire
    }
}

impl<'a> Iterator for DataEncoder<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            let end = match self.place {
                Place::LineStart => END,
                Place::InLine => b"\r\n.\r\n",
                Place::Ended => return None,
            };
            self.place = Place::Ended;
            return Some(end);
        }
        if self.place == Place::LineStart && self.rest.first() == Some(&b'.') {
            self.place = Place::InLine;
            return Some(b".");
        }
        // Up to and with the next CRLF that a dot follows: few pieces for ordinary content.
        let cut =
            self.rest.windows(3).position(|three| three == b"\r\n.").map_or(self.rest.len(), |at| at + 2);
        let (piece, rest) = self.rest.split_at_checked(cut).unwrap_or((self.rest, &[]));
        self.place = if piece.ends_with(b"\r\n") { Place::LineStart } else { Place::InLine };
        self.rest = rest;
        Some(piece)
    }
}
