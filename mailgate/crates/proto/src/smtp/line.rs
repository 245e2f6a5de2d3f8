//! Lines that end with CRLF and with nothing else.

use bytes::{Buf as _, BytesMut};

use super::Misbehaved;

/// Longest command line in octets with its CRLF: 512 of RFC 5321 §4.5.3.1.4, and what the extensions add to MAIL and
/// RCPT: 26 for SIZE (RFC 1870 §3), 17 for 8BITMIME (RFC 6152 §2), 10 for SMTPUTF8 (RFC 6531 §3.4), 500 for AUTH
/// (RFC 4954 §3), 500 for ORCPT and NOTIFY (RFC 3461 §4), 200 for longer paths in UTF-8 (RFC 6531 §3.1).
pub const COMMAND_LINE_LIMIT: usize = 512 + 26 + 17 + 10 + 500 + 500 + 200;

/// Longest AUTH line, and longest answer to a challenge, in octets with its CRLF (RFC 4954 §4).
pub const SASL_LINE_LIMIT: usize = 12_288;

/// Takes lines off the front of a buffer. A line ends with CRLF (RFC 5321 §2.3.8); what breaks that is reported once
/// and skipped, and memory stays below the limit plus what the caller reads at once.
#[derive(Debug, Clone)]
pub struct LineSplitter {
    limit: usize,
    sasl_limit: usize,
    /// Octets of the buffer already looked at without finding an end.
    scanned: usize,
    /// The line was reported already; its rest is thrown away.
    skipping: Option<Skipping>,
}

/// State while the rest of a reported line is thrown away.
#[derive(Debug, Clone, Copy)]
struct Skipping {
    after_cr: bool,
}

impl LineSplitter {
    /// For commands: [`COMMAND_LINE_LIMIT`], and [`SASL_LINE_LIMIT`] for lines that begin with AUTH.
    #[must_use]
    pub fn commands() -> Self {
        Self { limit: COMMAND_LINE_LIMIT, sasl_limit: SASL_LINE_LIMIT, scanned: 0, skipping: None }
    }

    /// With one limit in octets, CRLF included, for replies and SASL answers.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self { limit, sasl_limit: limit, scanned: 0, skipping: None }
    }

    /// What comes next is an answer to a SASL challenge: only [`SASL_LINE_LIMIT`] counts (RFC 4954 §4). A line that is
    /// being skipped goes on being skipped.
    pub fn expect_sasl(&mut self) {
        self.limit = SASL_LINE_LIMIT;
    }

    /// What comes next are commands again, with [`COMMAND_LINE_LIMIT`].
    pub fn expect_commands(&mut self) {
        self.limit = COMMAND_LINE_LIMIT;
    }

    /// The next line without its CRLF; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`Misbehaved::LineTooLong`], [`Misbehaved::BareCarriageReturn`]: the rest up to the next CRLF is skipped.
    /// [`Misbehaved::BareLineFeed`]: the line feed counted as an end, so that a client that knows no CRLF is not left
    /// waiting; a server should close then, because what follows may have been smuggled.
    pub fn next_line(&mut self, input: &mut BytesMut) -> Option<Result<BytesMut, Misbehaved>> {
        if self.skipping.is_some() && !self.skip(input) {
            return None;
        }
        let rest = input.get(self.scanned..).unwrap_or_default();
        let Some(offset) = rest.iter().position(|b| matches!(b, b'\r' | b'\n')) else {
            self.scanned = input.len();
            return self.over_limit(input, input.len()).then(|| self.start_skipping(input, input.len()));
        };
        let at = self.scanned + offset;
        if self.over_limit(input, at) {
            return Some(self.start_skipping(input, at));
        }
        if input.get(at) == Some(&b'\n') {
            self.scanned = 0;
            input.advance(at + 1);
            return Some(Err(Misbehaved::BareLineFeed));
        }
        match input.get(at + 1) {
            None => {
                self.scanned = at;
                None
            }
            Some(b'\n') => {
                self.scanned = 0;
                let line = input.split_to(at);
                input.advance(2);
                Some(Ok(line))
            }
            Some(_) => {
                self.scanned = 0;
                input.advance(at + 1);
                self.skipping = Some(Skipping { after_cr: false });
                Some(Err(Misbehaved::BareCarriageReturn))
            }
        }
    }

    /// Whether `length` octets in front of a CRLF are too many.
    fn over_limit(&self, input: &BytesMut, length: usize) -> bool {
        let is_sasl = input.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
        length + 2 > if is_sasl { self.sasl_limit } else { self.limit }
    }

    fn start_skipping(&mut self, input: &mut BytesMut, count: usize) -> Result<BytesMut, Misbehaved> {
        self.scanned = 0;
        input.advance(count);
        self.skipping = Some(Skipping { after_cr: false });
        Err(Misbehaved::LineTooLong)
    }

    /// Throws away up to and with the next CRLF; false when it has not come yet. Only CRLF ends what was reported, so
    /// that nothing inside a refused line is taken for a command.
    fn skip(&mut self, input: &mut BytesMut) -> bool {
        let mut after_cr = self.skipping.is_some_and(|skipping| skipping.after_cr);
        let end = input.iter().position(|byte| {
            let ends = after_cr && *byte == b'\n';
            after_cr = *byte == b'\r';
            ends
        });
        match end {
            Some(at) => {
                input.advance(at + 1);
                self.skipping = None;
                true
            }
            None => {
                input.clear();
                self.skipping = Some(Skipping { after_cr });
                false
            }
        }
    }
}
