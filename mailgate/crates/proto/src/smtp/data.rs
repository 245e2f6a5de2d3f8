//! What follows DATA: dots removed, and ended by CRLF "." CRLF and by nothing else (RFC 5321 §4.1.1.4, §4.5.2).

use super::Content;

/// How far a decoder came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Octets of the input that belong to the content or to its end.
    pub consumed: usize,
    /// The end was among them; what follows is the next command.
    pub ended: bool,
}

/// Where the last octet left us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Inside a line.
    Text,
    /// Inside a line, after CR.
    Cr,
    /// After CRLF.
    Start,
    /// After CRLF and a dot.
    Dot,
    /// After CRLF, a dot and CR.
    DotCr,
    /// After the end.
    Ended,
}

/// Finds the end of DATA and removes dot-stuffing. A bare LF or CR never counts as an end of line; [`Content`] notices
/// it, and the message is refused after its real end, so that nothing inside can be taken for a command.
#[derive(Debug)]
pub struct DataDecoder {
    state: State,
}

impl Default for DataDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl DataDecoder {
    /// At the start of the content, which counts as after CRLF (RFC 5321 §4.1.1.4).
    #[must_use]
    pub const fn new() -> Self {
        Self { state: State::Start }
    }

    /// Reads `input` up to the end of the content or of the input, and appends what is content.
    pub fn push(&mut self, input: &[u8], content: &mut Content) -> Step {
        let mut rest = input;
        while self.state != State::Ended {
            let Some((&byte, tail)) = rest.split_first() else { break };
            rest = match self.state {
                // The common case in one piece: everything up to and with the next CR.
                State::Text => self.text(rest, content),
                State::Cr => {
                    content.append(&[byte]);
                    self.state = match byte {
                        b'\n' => State::Start,
                        b'\r' => State::Cr,
                        _ => State::Text,
                    };
                    tail
                }
                State::Start if byte == b'.' => {
                    self.state = State::Dot;
                    tail
                }
                State::Start => self.text(rest, content),
                // RFC 5321 §4.5.2: the dot goes when anything but the end of the line follows.
                State::Dot if byte == b'\r' => {
                    self.state = State::DotCr;
                    tail
                }
                State::Dot => self.text(rest, content),
                State::DotCr if byte == b'\n' => {
                    self.state = State::Ended;
                    tail
                }
                // The CR that was held back belongs to the text, and is bare.
                State::DotCr => {
                    content.append(b"\r");
                    self.state = State::Cr;
                    rest
                }
                State::Ended => break,
            };
        }
        Step { consumed: input.len() - rest.len(), ended: self.state == State::Ended }
    }

    fn text<'a>(&mut self, rest: &'a [u8], content: &mut Content) -> &'a [u8] {
        let cr = rest.iter().position(|b| *b == b'\r');
        self.state = if cr.is_some() { State::Cr } else { State::Text };
        let (text, tail) = rest.split_at_checked(cr.map_or(rest.len(), |at| at + 1)).unwrap_or((rest, &[]));
        content.append(text);
        tail
    }
}
