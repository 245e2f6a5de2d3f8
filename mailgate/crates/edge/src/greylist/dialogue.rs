//! What an unknown client says and hears, without I/O: a mail server like ours that has accepted nobody yet.

use mailgate_model::{Domain, Reply};
use mailgate_proto::smtp::{
    Charset, Command, Extensions, Mail, Misbehaved, Offered, Rcpt, StartTls, reply as shared,
};

use crate::reply;

/// A chunk announced larger than this is not even read past: the session is closed.
const CHUNK_LIMIT: u64 = 1024 * 1024 * 1024;

/// What is to be done with one line.
#[derive(Debug)]
pub(super) enum Reaction {
    /// DATA inside a transaction.
    Data,
    /// Swallow so many octets of a chunk, then say this.
    Discard(u64, Reply),
    /// RCPT that is in order: the greylist judges it.
    Judge(Rcpt),
    /// Say this and close.
    Last(Reply),
    /// Say this; the client made a mistake.
    Mistake(Reply),
    /// Say this.
    Say(Reply),
    /// Say this, drop what else was read, and begin TLS.
    StartTls(Reply),
}

/// What the client said so far and we accepted.
#[derive(Debug)]
pub(super) struct Dialogue {
    hostname: Domain,
    content_limit: usize,
    tls: Tls,
    /// What the server behind us offers, if it is not of our house: we promise nothing that it would not keep.
    behind: Option<Offered>,
    /// BDAT is offered: not where content is read here, which is done in one way only.
    chunking: bool,
    hello: Option<Hello>,
    mail: Option<(String, Mail)>,
    news: Option<News>,
}

/// What the last line told of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Its name.
    Hello,
    /// A reverse-path.
    Mail,
}

/// Where the session stands with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tls {
    /// It has begun.
    Active,
    /// It may begin.
    Offered,
    /// There is no certificate.
    Unavailable,
}

#[derive(Debug)]
struct Hello {
    line: String,
    name: String,
}

impl Dialogue {
    pub(super) fn new(hostname: Domain, content_limit: usize, tls: Tls, behind: Option<Offered>) -> Self {
        Self { hostname, content_limit, tls, behind, chunking: true, hello: None, mail: None, news: None }
    }

    /// The same that does not offer BDAT.
    pub(super) fn without_chunking(self) -> Self {
        Self { chunking: false, ..self }
    }

    /// A content came to its end and was answered; the transaction is over.
    pub(super) fn content_ended(&mut self) {
        self.mail = None;
    }

    /// What is new since the last call.
    pub(super) fn take_news(&mut self) -> Option<News> {
        self.news.take()
    }

    /// The accepted HELO or EHLO line.
    pub(super) fn hello_line(&self) -> Option<&str> {
        self.hello.as_ref().map(|hello| hello.line.as_str())
    }

    /// The name said with it.
    pub(super) fn hello_name(&self) -> Option<&str> {
        self.hello.as_ref().map(|hello| hello.name.as_str())
    }

    /// The accepted MAIL line.
    pub(super) fn mail_line(&self) -> Option<&str> {
        self.mail.as_ref().map(|(line, _)| line.as_str())
    }

    /// The accepted MAIL.
    pub(super) fn mail(&self) -> Option<&Mail> {
        self.mail.as_ref().map(|(_, mail)| mail)
    }

    /// TLS has begun: what was said before is forgotten (RFC 3207 §4.2).
    pub(super) fn tls_began(&mut self) {
        (self.tls, self.hello, self.mail) = (Tls::Active, None, None);
    }

    /// One line without its CRLF.
    pub(super) fn line(&mut self, line: &[u8]) -> Reaction {
        let charset = self.mail().map_or(Charset::Ascii, |mail| mail.charset);
        match Command::parse(line, charset) {
            Ok(command) => self.command(command, line),
            Err(misbehaved) => Self::misbehaved(&misbehaved),
        }
    }

    /// A line with a wrong shape.
    pub(super) fn misbehaved(misbehaved: &Misbehaved) -> Reaction {
        let reply = shared::refusal(misbehaved);
        match misbehaved {
            // What follows may have been smuggled.
            Misbehaved::BareLineFeed => Reaction::Last(reply),
            _ => Reaction::Mistake(reply),
        }
    }

    fn command(&mut self, command: Command, line: &[u8]) -> Reaction {
        match command {
            Command::Bdat { size, .. } => self.bdat(size),
            Command::Data => match self.mail {
                Some(_) => Reaction::Data,
                None => Reaction::Mistake(reply::MAIL_FIRST),
            },
            Command::Ehlo(name) => {
                self.hello(line, name);
                Reaction::Say(shared::ehlo_with(&self.hostname, &self.keywords()))
            }
            Command::Helo(name) => {
                self.hello(line, name);
                Reaction::Say(shared::helo(&self.hostname))
            }
            Command::Help => Reaction::Say(reply::HELP),
            Command::Mail(mail) => self.mail_said(line, mail),
            Command::Noop => Reaction::Say(reply::OK),
            Command::Quit => Reaction::Last(reply::BYE),
            Command::Rcpt(rcpt) => match self.mail {
                Some(_) => Reaction::Judge(rcpt),
                None => Reaction::Mistake(reply::MAIL_FIRST),
            },
            Command::Rset => {
                self.mail = None;
                Reaction::Say(reply::OK)
            }
            Command::StartTls => match self.tls {
                Tls::Active => Reaction::Mistake(reply::TLS_AGAIN),
                Tls::Offered => Reaction::StartTls(reply::START_TLS),
                Tls::Unavailable => Reaction::Mistake(reply::NOT_IMPLEMENTED),
            },
            Command::Vrfy(_) => Reaction::Say(reply::CANNOT_VERIFY),
            // Not offered on port 25.
            Command::Auth { .. } | Command::Expn(_) | Command::Lhlo(_) => {
                Reaction::Mistake(reply::NOT_IMPLEMENTED)
            }
        }
    }

    /// The octets follow whatever we say, so they are swallowed (RFC 3030 §2); the chunk is refused after them.
    fn bdat(&self, size: u64) -> Reaction {
        match self.mail {
            _ if size > CHUNK_LIMIT => Reaction::Last(reply::TOO_LARGE),
            _ if !self.chunking => Reaction::Discard(size, reply::NOT_IMPLEMENTED),
            Some(_) => Reaction::Discard(size, reply::NO_RECIPIENTS),
            None => Reaction::Discard(size, reply::MAIL_FIRST),
        }
    }

    /// HELO and EHLO also end an open transaction (RFC 5321 §4.1.4).
    fn hello(&mut self, line: &[u8], name: String) {
        self.mail = None;
        self.news = Some(News::Hello);
        self.hello = Some(Hello { line: String::from_utf8_lossy(line).into_owned(), name });
    }

    fn mail_said(&mut self, line: &[u8], mail: Mail) -> Reaction {
        if self.hello.is_none() {
            return Reaction::Mistake(reply::HELO_FIRST);
        }
        if self.mail.is_some() {
            return Reaction::Mistake(reply::MAIL_AGAIN);
        }
        if mail.size.is_some_and(|size| size > self.size_limit()) {
            return Reaction::Say(reply::TOO_LARGE);
        }
        self.mail = Some((String::from_utf8_lossy(line).into_owned(), mail));
        self.news = Some(News::Mail);
        Reaction::Say(reply::SENDER_OK)
    }

    /// Largest content in octets.
    pub(super) fn size_limit(&self) -> u64 {
        match &self.behind {
            None => self.content_limit as u64,
            // 0 is no fixed limit (RFC 1870 §4).
            Some(behind) => behind.size.filter(|size| *size > 0).unwrap_or(u64::MAX),
        }
    }

    fn keywords(&self) -> Vec<String> {
        let starttls = match self.tls {
            Tls::Offered => StartTls::Offered,
            Tls::Active | Tls::Unavailable => StartTls::Hidden,
        };
        let own = Extensions::mx(self.content_limit, starttls);
        let mut keywords =
            self.behind.as_ref().map_or_else(|| own.keywords(), |behind| own.keywords_behind(behind));
        keywords.retain(|keyword| self.chunking || keyword != "CHUNKING");
        keywords
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialogue(tls: Tls) -> Dialogue {
        Dialogue::new(Domain::parse("mx.example.org").unwrap(), 1000, tls, None)
    }

    /// Code of the reply, with what else happens.
    fn heard(dialogue: &mut Dialogue, line: &str) -> String {
        match dialogue.line(line.as_bytes()) {
            Reaction::Data => "data".to_owned(),
            Reaction::Discard(octets, reply) => format!("{} after {octets}", reply.code),
            Reaction::Judge(rcpt) => format!("judge {}", rcpt.path),
            Reaction::Last(reply) => format!("{} close", reply.code),
            Reaction::Mistake(reply) => format!("{} mistake", reply.code),
            Reaction::Say(reply) => reply.code.to_string(),
            Reaction::StartTls(reply) => format!("{} tls", reply.code),
        }
    }

    #[test]
    fn commands_out_of_order_are_refused_and_leave_the_state() {
        let mut dialogue = dialogue(Tls::Offered);
        for (line, want) in [
            ("MAIL FROM:<a@x.org>", "503 mistake"),
            ("EHLO client", "250"),
            ("RCPT TO:<b@y.org>", "503 mistake"),
            ("DATA", "503 mistake"),
            ("BDAT 12 LAST", "503 after 12"),
            ("MAIL FROM:<a@x.org> SIZE=1001", "552"),
            ("mail from: <a@x.org> SIZE=1000", "250"),
            ("MAIL FROM:<c@x.org>", "503 mistake"),
            ("RCPT TO:<b@y.org>", "judge b@y.org"),
            ("DATA", "data"),
            ("BDAT 12 LAST", "554 after 12"),
            ("BDAT 99999999999 LAST", "552 close"),
            ("RSET", "250"),
            ("RCPT TO:<b@y.org>", "503 mistake"),
            ("MAIL FROM:<>", "250"),
            ("RCPT TO:<postmaster>", "judge postmaster"),
            ("HELO client", "250"),
            ("RCPT TO:<b@y.org>", "503 mistake"),
            ("AUTH PLAIN", "502 mistake"),
            ("VRFY a", "252"),
            ("NOOP", "250"),
            ("BLAH", "500 mistake"),
            ("STARTTLS", "220 tls"),
            ("QUIT", "221 close"),
        ] {
            assert_eq!(heard(&mut dialogue, line), want, "{line}");
        }
    }

    #[test]
    fn where_content_is_read_here_chunks_are_not_offered() {
        let mut dialogue = dialogue(Tls::Offered).without_chunking();
        let Reaction::Say(reply) = dialogue.line(b"EHLO client") else { panic!() };
        assert!(reply.text.contains("PIPELINING") && !reply.text.contains("CHUNKING"), "{reply}");
        heard(&mut dialogue, "MAIL FROM:<a@x.org>");
        assert_eq!(heard(&mut dialogue, "BDAT 12 LAST"), "502 after 12");
        dialogue.content_ended();
        assert_eq!(heard(&mut dialogue, "DATA"), "503 mistake");
    }

    #[test]
    fn after_tls_began_everything_is_said_anew_and_tls_not_offered_again() {
        let mut dialogue = dialogue(Tls::Offered);
        heard(&mut dialogue, "EHLO client");
        heard(&mut dialogue, "MAIL FROM:<a@x.org>");
        dialogue.tls_began();
        assert_eq!((dialogue.hello_line(), dialogue.mail_line()), (None, None));
        let Reaction::Say(reply) = dialogue.line(b"EHLO client") else { panic!() };
        assert!(reply.text.contains("PIPELINING") && !reply.text.contains("STARTTLS"), "{reply}");
        assert_eq!(heard(&mut dialogue, "STARTTLS"), "503 mistake");
    }

    #[test]
    fn the_answers_are_those_of_reception() {
        let mut dialogue = dialogue(Tls::Offered);
        let Reaction::Say(reply) = dialogue.line(b"EHLO client") else { panic!() };
        let hostname = Domain::parse("mx.example.org").unwrap();
        assert_eq!(reply, Extensions::mx(1000, StartTls::Offered).answer(&hostname));
    }
}
