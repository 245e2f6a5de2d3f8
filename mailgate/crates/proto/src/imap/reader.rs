//! From bytes to whole commands: lines and literals (RFC 3501 §4.3, RFC 7888).

use bytes::{Buf, Bytes, BytesMut};

/// What a peer does against the protocol or our limits; the connection ends with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misbehaved {
    /// More literals in one command than anyone needs.
    #[error("too many literals in one command")]
    Literals,
    /// A line without an end.
    #[error("line too long")]
    LineTooLong,
}

/// Sizes beyond which a peer is refused.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Octets of one command without its literals. RFC 7162 §4 wants at least 8192; a FETCH of a client that lists
    /// single UIDs is longer.
    pub line: usize,
    /// Literals in one command.
    pub literals: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line: 64 * 1024, literals: 64 }
    }
}

/// A literal that the client wants to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Its octets.
    pub size: u64,
    /// Whether the client waits for a continuation (`{n}`) or sends at once (`{n+}`, RFC 7888).
    pub waits: bool,
}

/// What the bytes so far amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A whole command (or line) without its final CRLF, literals inside.
    Command(Bytes),
    /// The command that was refused has ended.
    Discarded,
    /// A literal is announced: call [`Reader::allow`] or [`Reader::refuse`].
    Literal(Announced),
    /// Nothing yet: feed more bytes.
    More,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Line,
    Announced(Announced),
    Literal(u64),
    Skip(u64),
}

/// Collects bytes until they are a command. Memory: what [`Reader::allow`] allowed, one line, and what was fed since.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    fed: BytesMut,
    /// Octets of `fed` that are known to hold no LF.
    searched: usize,
    command: BytesMut,
    lines: usize,
    literals: usize,
    state: State,
    discarding: bool,
}

impl Reader {
    /// A reader at the start of a command.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            fed: BytesMut::new(),
            searched: 0,
            command: BytesMut::new(),
            lines: 0,
            literals: 0,
            state: State::Line,
            discarding: false,
        }
    }

    /// Adds bytes of the peer.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.fed.extend_from_slice(bytes);
    }

    /// Whether bytes were fed that no command has used: after STARTTLS a sign of injection (RFC 3501 §6.2.1).
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.fed.is_empty() || !self.command.is_empty()
    }

    /// What of the current command is complete; when a literal is announced, everything before it.
    #[must_use]
    pub fn so_far(&self) -> &[u8] {
        &self.command
    }

    /// The announced literal may come; a client that waits must now be told.
    pub fn allow(&mut self) {
        if let State::Announced(literal) = self.state {
            self.command.reserve(usize::try_from(literal.size).unwrap_or(0));
            self.state = State::Literal(literal.size);
        }
    }

    /// The announced literal must not come. A client that waits goes on with another command; of one that does not
    /// wait, literal and rest of the command are thrown away, until [`Input::Discarded`].
    pub fn refuse(&mut self) {
        if let State::Announced(literal) = self.state {
            self.command = BytesMut::new();
            self.discarding = !literal.waits;
            if literal.waits {
                self.restart();
            } else {
                self.state = State::Skip(literal.size);
            }
        }
    }

    fn restart(&mut self) {
        (self.state, self.lines, self.literals) = (State::Line, 0, 0);
        self.discarding = false;
    }

    /// The next thing the bytes amount to.
    ///
    /// # Errors
    /// When a limit is passed; the reader is of no use after that.
    pub fn advance(&mut self) -> Result<Input, Misbehaved> {
        loop {
            match self.state {
                State::Announced(literal) => return Ok(Input::Literal(literal)),
                State::Literal(left) | State::Skip(left) => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(self.fed.len());
                    let left = left - take as u64;
                    if matches!(self.state, State::Literal(_)) {
                        self.command.extend_from_slice(self.fed.get(..take).unwrap_or_default());
                        self.state = State::Literal(left);
                    } else {
                        self.state = State::Skip(left);
                    }
                    self.fed.advance(take);
                    if left > 0 {
                        return Ok(Input::More);
                    }
                    self.state = State::Line;
                }
                State::Line => {
                    if let Some(input) = self.line()? {
                        return Ok(input);
                    }
                }
            }
        }
    }

    /// Takes one line; `None` when there is more to look at.
    fn line(&mut self) -> Result<Option<Input>, Misbehaved> {
        let unseen = self.fed.get(self.searched..).unwrap_or_default();
        let Some(at) = unseen.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.fed.len();
            if self.lines + self.fed.len() > self.limits.line {
                return Err(Misbehaved::LineTooLong);
            }
            return Ok(Some(Input::More));
        };
        let line = self.fed.split_to(self.searched + at + 1);
        self.searched = 0;
        self.lines += line.len();
        if self.lines > self.limits.line {
            return Err(Misbehaved::LineTooLong);
        }
        // A line that ends in LF alone comes from a person with a simple tool (deviates: RFC 3501 §2.2).
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !self.discarding {
            self.command.extend_from_slice(line);
        }
        let Some(literal) = announced(line) else {
            let discarded = self.discarding;
            self.restart();
            let command = std::mem::take(&mut self.command).freeze();
            return Ok(Some(if discarded { Input::Discarded } else { Input::Command(command) }));
        };
        self.literals += 1;
        if self.literals > self.limits.literals {
            return Err(Misbehaved::Literals);
        }
        if !self.discarding {
            self.command.extend_from_slice(b"\r\n");
            self.state = State::Announced(literal);
        } else if literal.waits {
            // It would wait for ever for a continuation.
            self.restart();
            return Ok(Some(Input::Discarded));
        } else {
            self.state = State::Skip(literal.size);
        }
        Ok(None)
    }
}

/// The literal that a line announces at its end.
fn announced(line: &[u8]) -> Option<Announced> {
    let inner = line.strip_suffix(b"}")?;
    let open = inner.iter().rposition(|byte| *byte == b'{')?;
    let digits = inner.get(open + 1..)?;
    let (digits, waits) = match digits.strip_suffix(b"+") {
        Some(digits) => (digits, false),
        None => (digits, true),
    };
    let number = !digits.is_empty() && digits.len() <= 10 && digits.iter().all(u8::is_ascii_digit);
    let size = std::str::from_utf8(digits).ok().filter(|_| number)?.parse().ok()?;
    Some(Announced { size, waits })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> Reader {
        Reader::new(Limits { line: 100, literals: 3 })
    }

    #[test]
    fn literals_wait_for_permission_and_become_part_of_the_command() {
        let mut reader = reader();
        reader.feed(b"a LOGIN {2}\r\n");
        assert_eq!(reader.advance(), Ok(Input::Literal(Announced { size: 2, waits: true })));
        reader.allow();
        assert_eq!(reader.advance(), Ok(Input::More));
        reader.feed(b"me {2+}\r\n\r\n\r\nb NOOP\r\n");
        assert_eq!(reader.advance(), Ok(Input::Literal(Announced { size: 2, waits: false })));
        reader.allow();
        assert_eq!(
            reader.advance(),
            Ok(Input::Command(Bytes::from_static(b"a LOGIN {2}\r\nme {2+}\r\n\r\n")))
        );
        assert_eq!(reader.advance(), Ok(Input::Command(Bytes::from_static(b"b NOOP"))));
        assert!(!reader.has_pending());
    }

    #[test]
    fn a_refused_literal_is_thrown_away_with_its_command_and_the_next_command_is_read() {
        let mut reader = reader();
        reader.feed(b"a APPEND x {9999}\r\n");
        reader.advance().unwrap();
        reader.refuse();
        reader.feed(b"b NOOP\r\n");
        assert_eq!(reader.advance(), Ok(Input::Command(Bytes::from_static(b"b NOOP"))));
        reader.feed(b"c APPEND x {5+}\r\n");
        reader.advance().unwrap();
        reader.refuse();
        reader.feed(b"\r\nxyz {3+}\r\nd N\r\ne NOOP\r\n");
        assert_eq!(reader.advance(), Ok(Input::Discarded));
        assert_eq!(reader.advance(), Ok(Input::Command(Bytes::from_static(b"e NOOP"))));
    }

    #[test]
    fn endless_lines_and_literals_without_number_end() {
        let mut long = reader();
        long.feed(&[b'x'; 101]);
        assert_eq!(long.advance(), Err(Misbehaved::LineTooLong));
        let mut many = reader();
        many.feed(b"a X {0+}\r\n {0+}\r\n {0+}\r\n {0+}\r\n\r\n");
        for _ in 0..3 {
            assert!(matches!(many.advance(), Ok(Input::Literal(_))));
            many.allow();
        }
        assert_eq!(many.advance(), Err(Misbehaved::Literals));
        for line in [&b"x {}"[..], b"x {99999999999}", b"x {-1}", b"x {1 }", b"x 1}", b"}"] {
            assert_eq!(announced(line), None);
        }
    }
}
