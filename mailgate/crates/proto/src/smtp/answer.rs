//! What a server answered us (RFC 5321 §4.2).

use bytes::BytesMut;
use mailgate_model::{Permanence, Status};

use super::{LineSplitter, Misbehaved};

/// Longest line of a reply in octets; RFC 5321 §4.5.3.1.5 says 512, real servers put long links there (deviates).
pub const ANSWER_LINE_LIMIT: usize = 2048;
/// Most lines of one reply; the longest EHLO answers seen have about 20.
pub const ANSWER_LINES_LIMIT: usize = 128;

/// A whole reply of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Three digits, first 2 to 5.
    pub code: u16,
    /// Enhanced status of the last line, if it has one of the code's class (RFC 2034 §4).
    pub status: Option<Status>,
    /// Text of the lines without code; control characters became `?`. The enhanced status is still there.
    pub lines: Vec<String>,
}

impl Answer {
    /// Whether the code's first digit is 2.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.class() == 2
    }

    /// Whether the code's first digit is 3.
    #[must_use]
    pub fn is_intermediate(&self) -> bool {
        self.class() == 3
    }

    /// Permanent for first digit 5, transient for 4, else `None`.
    #[must_use]
    pub fn permanence(&self) -> Option<Permanence> {
        match self.class() {
            4 => Some(Permanence::Transient),
            5 => Some(Permanence::Permanent),
            _ => None,
        }
    }

    /// First digit of the code.
    #[must_use]
    pub fn class(&self) -> u16 {
        self.code / 100
    }

    /// The bytes for the wire, for whoever passes the answer on.
    #[must_use]
    pub fn to_wire(&self) -> String {
        let mut wire = String::new();
        let mut lines = self.lines.iter().peekable();
        while let Some(line) = lines.next() {
            let mark = if lines.peek().is_some() { '-' } else { ' ' };
            wire.push_str(&format!("{}{mark}{line}\r\n", self.code));
        }
        wire
    }

    /// Code and all lines in one, for logs and DSNs.
    #[must_use]
    pub fn one_line(&self) -> String {
        format!("{} {}", self.code, self.lines.join(" "))
    }
}

/// Puts lines together to replies.
#[derive(Debug)]
pub struct AnswerReader {
    lines: LineSplitter,
    open: Option<Answer>,
}

impl Default for AnswerReader {
    fn default() -> Self {
        Self::new()
    }
}

impl AnswerReader {
    /// Between two replies.
    #[must_use]
    pub fn new() -> Self {
        Self { lines: LineSplitter::with_limit(ANSWER_LINE_LIMIT), open: None }
    }

    /// Takes the next whole reply off the front of `input`; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`Misbehaved`]; the connection is of no use after it.
    pub fn next_answer(&mut self, input: &mut BytesMut) -> Result<Option<Answer>, Misbehaved> {
        while let Some(line) = self.lines.next_line(input) {
            if self.take(&line?)? {
                return Ok(self.open.take());
            }
        }
        Ok(None)
    }

    /// Adds one line; true when it was the last.
    fn take(&mut self, line: &[u8]) -> Result<bool, Misbehaved> {
        let (code, rest) = line.split_at_checked(3).ok_or(Misbehaved::Reply)?;
        let code = std::str::from_utf8(code).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let code: u16 = code.and_then(|text| text.parse().ok()).ok_or(Misbehaved::Reply)?;
        if !(2..=5).contains(&(code / 100)) {
            return Err(Misbehaved::Reply);
        }
        let (last, text) = match rest.split_first() {
            // RFC 5321 §4.2: the code alone is to be accepted.
            None => (true, rest),
            Some((b' ', text)) => (true, text),
            Some((b'-', text)) => (false, text),
            Some(_) => return Err(Misbehaved::Reply),
        };
        let text = clean(text);
        let answer = self.open.get_or_insert_with(|| Answer { code, status: None, lines: Vec::new() });
        if answer.code != code {
            return Err(Misbehaved::CodeChanges);
        }
        if answer.lines.len() >= ANSWER_LINES_LIMIT {
            return Err(Misbehaved::TooManyLines);
        }
        let word = text.split(' ').next().and_then(Status::parse);
        answer.status = word.filter(|status| u16::from(status.class) == code / 100);
        answer.lines.push(text);
        Ok(last)
    }
}

/// Text of a stranger on its way to logs and DSNs.
fn clean(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
