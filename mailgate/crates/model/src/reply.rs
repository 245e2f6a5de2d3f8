//! What an SMTP server answers.

use std::borrow::Cow;
use std::fmt;

use crate::{Permanence, Status};

/// An SMTP reply: code, optional enhanced status (RFC 2034), text of one or more lines.
///
/// Built only in `reply.rs` files, so that a table of all replies can be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three digits, 200 to 599 (RFC 5321 §4.2).
    pub code: u16,
    /// Enhanced status; absent in greetings, EHLO and intermediate replies (RFC 2034 §4).
    pub status: Option<Status>,
    /// Text without CR; lines are separated by LF.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// A reply with an enhanced status.
    #[must_use]
    pub const fn new(code: u16, status: Status, text: &'static str) -> Self {
        Self { code, status: Some(status), text: Cow::Borrowed(text) }
    }

    /// A reply without an enhanced status.
    #[must_use]
    pub const fn bare(code: u16, text: &'static str) -> Self {
        Self { code, status: None, text: Cow::Borrowed(text) }
    }

    /// The same code and status with another text; control characters other than LF become `?`.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        let text: String = text.into();
        self.text =
            Cow::Owned(text.chars().map(|c| if c != '\n' && c.is_control() { '?' } else { c }).collect());
        self
    }

    /// Permanent for 5xx, transient for 4xx, `None` for 2xx and 3xx.
    #[must_use]
    pub fn permanence(&self) -> Option<Permanence> {
        match self.code / 100 {
            4 => Some(Permanence::Transient),
            5 => Some(Permanence::Permanent),
            _ => None,
        }
    }

    /// The bytes for the wire, CRLF after each line, code repeated with a hyphen on all but the last (RFC 5321 §4.2.1).
    #[must_use]
    pub fn to_wire(&self) -> String {
        use fmt::Write as _;
        let mut wire = String::with_capacity(self.text.len() + 16);
        let mut lines = self.text.split('\n').peekable();
        while let Some(line) = lines.next() {
            let mark = if lines.peek().is_some() { '-' } else { ' ' };
            // Writing into a String cannot fail.
            let _ = match self.status {
                Some(status) => write!(wire, "{}{mark}{status} {line}\r\n", self.code),
                None => write!(wire, "{}{mark}{line}\r\n", self.code),
            };
        }
        wire
    }
}

impl fmt::Display for Reply {
    /// For logs: one line, no CRLF.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        write!(f, " {}", self.text.replace('\n', " / "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_repeats_code_and_status() {
        let reply = Reply::new(550, Status::new(5, 1, 1), "first\nsecond");
        assert_eq!(reply.to_wire(), "550-5.1.1 first\r\n550 5.1.1 second\r\n");
    }

    #[test]
    fn text_of_strangers_cannot_inject_a_reply_line() {
        let reply = Reply::new(550, Status::new(5, 1, 1), "x").with_text("a\r250 ok");
        assert_eq!(reply.to_wire(), "550 5.1.1 a?250 ok\r\n");
    }
}
