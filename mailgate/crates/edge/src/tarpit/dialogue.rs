//! What a held client says and hears: everything is fine, until the end of its message. No I/O, no line is kept: five
//! letters of the verb are enough. As spamd(8) does with listed hosts, but commands are not lost when they come
//! together, and TLS is offered.

/// Lines of the body read before the last word; the header before it does not count (spamd(8)).
const BODY_LINES: u8 = 10;
/// Lines of the header read before the last word: far more than mail has, and an end to what has no body.
const HEADER_LINES: u8 = 200;
/// Commands not understood before the last word (spamd(8)).
const MISTAKES: u8 = 20;

/// What is said next; the words are in [`Script`](super::script::Script).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Say {
    Bye,
    Greeting,
    Ehlo,
    EhloInTls,
    HelloFirst,
    Helo,
    LastWord,
    MailFirst,
    NoTls,
    Ok,
    RecipientOk,
    SenderOk,
    StartContent,
    StartTls,
    UnknownCommand,
}

/// What happens once it was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Close,
    Listen,
    StartTls,
}

impl Say {
    pub(crate) fn then(self) -> Then {
        match self {
            Self::Bye | Self::LastWord => Then::Close,
            Self::StartTls => Then::StartTls,
            _ => Then::Listen,
        }
    }
}

/// How far the client got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeted,
    Hello,
    Mail,
    Recipient,
    Header,
    Body,
}

/// Whether the session may begin TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tls {
    Active,
    Offered,
    Unavailable,
}

/// One client's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dialogue {
    stage: Stage,
    tls: Tls,
    mistakes: u8,
    content_lines: u8,
    /// Letters of the line so far, at most five; a verb and what ends it.
    letters: u8,
    verb: [u8; 5],
    /// The line is not empty beyond the letters kept.
    more: bool,
}

/// How far the input was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Octets read.
    pub(crate) consumed: usize,
    /// What is to be said, if a command was complete.
    pub(crate) say: Option<Say>,
}

impl Dialogue {
    /// Before the greeting.
    pub(crate) fn new(tls: Tls) -> Self {
        Self {
            stage: Stage::Greeted,
            tls,
            mistakes: 0,
            content_lines: 0,
            letters: 0,
            verb: [0; 5],
            more: false,
        }
    }

    /// After a recipient was accepted.
    pub(crate) fn after_recipient(tls: Tls) -> Self {
        Self { stage: Stage::Recipient, ..Self::new(tls) }
    }

    /// TLS has begun; everything is said anew (RFC 3207 §4.2).
    pub(crate) fn tls_began(&mut self) {
        *self = Self { mistakes: self.mistakes, ..Self::new(Tls::Active) };
    }

    /// Reads up to the end of the first command, or all of it.
    pub(crate) fn hear(&mut self, input: &[u8]) -> Heard {
        for (at, byte) in input.iter().enumerate() {
            if *byte != b'\n' {
                self.letter(*byte);
                continue;
            }
            let say = match self.stage {
                Stage::Header | Stage::Body => self.content_line(),
                _ => Some(self.command()),
            };
            (self.letters, self.verb, self.more) = (0, [0; 5], false);
            if say.is_some() {
                return Heard { consumed: at + 1, say };
            }
        }
        Heard { consumed: input.len(), say: None }
    }

    fn letter(&mut self, byte: u8) {
        if byte == b'\r' {
            return;
        }
        match self.verb.get_mut(usize::from(self.letters)) {
            Some(place) => {
                *place = byte.to_ascii_uppercase();
                self.letters += 1;
            }
            None => self.more = true,
        }
    }

    fn content_line(&mut self) -> Option<Say> {
        self.content_lines += 1;
        let ended = self.letters == 1 && self.verb.first() == Some(&b'.');
        let limit = if self.stage == Stage::Body { BODY_LINES } else { HEADER_LINES };
        let last = ended || self.content_lines >= limit;
        if self.stage == Stage::Header && self.letters == 0 {
            (self.stage, self.content_lines) = (Stage::Body, 0);
        }
        last.then_some(Say::LastWord)
    }

    /// Whether a line of a message's header begins here.
    pub(crate) fn is_at_header_line(&self) -> bool {
        self.stage == Stage::Header && self.letters == 0 && !self.more
    }

    fn command(&mut self) -> Say {
        let [a, b, c, d, end] = self.verb;
        let whole = matches!(end, 0 | b' ' | b'\t' | b':');
        match &[a, b, c, d] {
            b"HELO" | b"EHLO" if self.letters < 5 => self.mistake(Say::HelloFirst),
            b"HELO" if whole => self.hello(Say::Helo),
            b"EHLO" if whole => match self.tls {
                Tls::Offered => self.hello(Say::Ehlo),
                Tls::Active | Tls::Unavailable => self.hello(Say::EhloInTls),
            },
            // Without HELO as well: whoever talks is held (spamd(8)).
            b"MAIL" if whole => {
                self.stage = Stage::Mail;
                Say::SenderOk
            }
            b"RCPT" if whole => match self.stage {
                Stage::Mail | Stage::Recipient => {
                    self.stage = Stage::Recipient;
                    Say::RecipientOk
                }
                _ => self.mistake(Say::MailFirst),
            },
            b"DATA" if whole => match self.stage {
                Stage::Recipient => {
                    self.stage = Stage::Header;
                    Say::StartContent
                }
                _ => self.mistake(Say::MailFirst),
            },
            // Octets follow that are no commands; nothing is lost by ending here.
            b"BDAT" if whole => Say::LastWord,
            b"RSET" if whole => {
                self.stage = Stage::Hello;
                Say::Ok
            }
            b"NOOP" if whole => Say::Ok,
            b"QUIT" if whole => Say::Bye,
            b"STAR" if end == b'T' && self.more => match self.tls {
                Tls::Offered => Say::StartTls,
                Tls::Active | Tls::Unavailable => self.mistake(Say::NoTls),
            },
            _ => self.mistake(Say::UnknownCommand),
        }
    }

    fn hello(&mut self, say: Say) -> Say {
        self.stage = Stage::Hello;
        say
    }

    fn mistake(&mut self, say: Say) -> Say {
        self.mistakes = self.mistakes.saturating_add(1);
        if self.mistakes > MISTAKES { Say::LastWord } else { say }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything said to `input`, one command after the other.
    fn said(dialogue: &mut Dialogue, input: &str) -> Vec<Say> {
        let mut rest = input.as_bytes();
        let mut all = Vec::new();
        while !rest.is_empty() {
            let heard = dialogue.hear(rest);
            all.extend(heard.say);
            rest = &rest[heard.consumed..];
        }
        all
    }

    #[test]
    fn a_spammer_is_led_through_the_whole_session() {
        let mut dialogue = Dialogue::new(Tls::Offered);
        let input = "ehlo x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nrcpt to:<e@f>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n.\r\n";
        let want =
            [Say::Ehlo, Say::SenderOk, Say::RecipientOk, Say::RecipientOk, Say::StartContent, Say::LastWord];
        assert_eq!(said(&mut dialogue, input), want);
        assert_eq!(Say::LastWord.then(), Then::Close);
    }

    #[test]
    fn parity_ten_lines_of_the_body_are_enough_and_the_header_does_not_count() {
        let mut dialogue = Dialogue::after_recipient(Tls::Unavailable);
        assert_eq!(said(&mut dialogue, "DATA\r\n"), [Say::StartContent]);
        assert_eq!(said(&mut dialogue, &"Received: x\r\n".repeat(30)), []);
        assert_eq!(said(&mut dialogue, "\r\n"), []);
        assert_eq!(said(&mut dialogue, &"line\r\n".repeat(9)), []);
        assert_eq!(said(&mut dialogue, "line\r\n"), [Say::LastWord]);
    }

    #[test]
    fn a_header_without_end_has_an_end() {
        let mut dialogue = Dialogue::after_recipient(Tls::Unavailable);
        let all = said(&mut dialogue, &format!("DATA\r\n{}", "X: y\r\n".repeat(200)));
        assert_eq!(all, [Say::StartContent, Say::LastWord]);
    }

    #[test]
    fn a_dot_inside_a_line_does_not_end_the_content() {
        let mut dialogue = Dialogue::after_recipient(Tls::Unavailable);
        assert_eq!(said(&mut dialogue, "DATA\r\n..\r\n.x\r\nx.\r\n"), [Say::StartContent]);
    }

    #[test]
    fn every_other_command_has_its_answer() {
        let mut dialogue = Dialogue::new(Tls::Unavailable);
        for (line, want) in [
            ("RCPT TO:<a@b>", Say::MailFirst),
            ("DATA", Say::MailFirst),
            ("EHLO", Say::HelloFirst),
            ("HELO x", Say::Helo),
            ("EHLO x", Say::EhloInTls),
            ("STARTTLS", Say::NoTls),
            ("NOOP", Say::Ok),
            ("NOOPX", Say::UnknownCommand),
            ("MAIL FROM:<a@b>", Say::SenderOk),
            ("RSET", Say::Ok),
            ("DATA", Say::MailFirst),
            ("AUTH PLAIN", Say::UnknownCommand),
            ("", Say::UnknownCommand),
            ("BDAT 5 LAST", Say::LastWord),
            ("QUIT", Say::Bye),
        ] {
            assert_eq!(said(&mut dialogue, &format!("{line}\r\n")), [want], "{line}");
        }
    }

    #[test]
    fn too_many_mistakes_end_it() {
        let mut dialogue = Dialogue::new(Tls::Unavailable);
        let all = said(&mut dialogue, &"blah\r\n".repeat(21));
        assert_eq!(all.iter().filter(|say| **say == Say::UnknownCommand).count(), 20);
        assert_eq!(all.last(), Some(&Say::LastWord));
    }

    proptest::proptest! {
        #[test]
        fn any_split_of_the_input_gives_the_same_answers(
            input in "((EHLO x|MAIL FROM:<>|RCPT TO:<a@b>|DATA|RSET|STARTTLS|\\PC{0,12})\r?\n){0,12}",
            cuts in proptest::collection::vec(1_usize..9, 1..20),
        ) {
            let mut whole = Dialogue::new(Tls::Offered);
            let want = said(&mut whole, &input);
            let mut split = Dialogue::new(Tls::Offered);
            let (mut got, mut rest) = (Vec::new(), input.as_bytes());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let piece = &rest[..(*cut).min(rest.len())];
                let heard = split.hear(piece);
                got.extend(heard.say);
                rest = &rest[heard.consumed..];
            }
            proptest::prop_assert_eq!(got, want);
        }
    }
}
