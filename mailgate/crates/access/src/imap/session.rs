//! One session: the loop that reads a command, carries it out, tells the news, and answers.
//!
//! | state | left by |
//! |---|---|
//! | not logged in | LOGIN, AUTHENTICATE |
//! | logged in | SELECT, EXAMINE |
//! | mailbox open | CLOSE, UNSELECT, SELECT |
//! | ended | LOGOUT, limits, shutdown, a lost connection |

use std::sync::Arc;

use bytes::Bytes;
use mailgate_model::{Client, SessionId, Timestamp};
use mailgate_proto::imap::{Announced, Command, Numbering, Tagged, utf7};
use mailgate_store::mailboxes::{Maildir, Name};
use tokio::sync::OwnedSemaphorePermit;

use super::connection::{Connection, End, Patience, Received};
use super::reply::{Bye, Reply};
use super::server::{Seat, Server};
use super::view::{Expunges, View};
use crate::Error;

/// Largest literal before login: a name or a password.
const EARLY_LITERAL: u64 = 1024;
/// Largest literal that is no message: a mailbox name, a search text.
const SMALL_LITERAL: u64 = 16 * 1024;
/// A client that sends a literal unasked (RFC 7888) beyond the limit is heard out up to here.
const HEARD_OUT: u64 = 1024 * 1024;
/// Wrong passwords in one session.
pub(crate) const WRONG_PASSWORDS: u32 = 3;
/// Commands that make no sense before login, until a peer is taken for no mail client.
const EARLY_NONSENSE: u32 = 20;

/// Why a command did not end with its own reply.
pub(crate) enum Fault {
    End(End),
    Error(Error),
    Reply(Reply),
}

impl From<End> for Fault {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl From<Reply> for Fault {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl<E: Into<Error>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Somebody who logged in.
pub(crate) struct Login {
    pub(crate) maildir: Maildir,
    pub(crate) _seat: Seat,
}

pub(crate) struct Session {
    pub(crate) server: Arc<Server>,
    pub(crate) connection: Connection,
    pub(crate) client: Client,
    pub(crate) id: SessionId,
    pub(crate) login: Option<Login>,
    pub(crate) view: Option<View>,
    pub(crate) wrong_passwords: u32,
    early_nonsense: u32,
    begun: Timestamp,
    /// Memory for the message that APPEND brings.
    incoming: Option<OwnedSemaphorePermit>,
}

impl Session {
    pub(crate) fn new(server: Arc<Server>, connection: Connection, client: Client, id: SessionId) -> Self {
        Self {
            begun: server.parts.clock.now(),
            server,
            connection,
            client,
            id,
            login: None,
            view: None,
            wrong_passwords: 0,
            early_nonsense: 0,
            incoming: None,
        }
    }

    pub(crate) async fn run(mut self) {
        self.client.tls = self.connection.tls_facts();
        tracing::info!(target: "access", s = %self.id, event = "imap.connect", ip = %self.client.ip(),
            tls = self.connection.is_tls());
        let end = self.serve().await;
        let end = match end {
            Ok(()) => End::Closed,
            Err(end) => end,
        };
        tracing::info!(target: "access", s = %self.id, event = "imap.end", reason = %end.reason());
        self.view = None;
        self.connection.close(&end).await;
    }

    async fn serve(&mut self) -> Result<(), End> {
        let capabilities = self.capabilities();
        let hostname = &self.server.parts.hostname;
        self.connection.untagged(&format!("OK [CAPABILITY {capabilities}] {hostname} ready"));
        loop {
            if let Some(line) = self.receive().await? {
                self.incoming_command(line).await?;
            }
            self.incoming = None;
        }
    }

    /// How long the peer may be silent; before login, how long it may take in all, however it spreads its octets.
    pub(crate) fn patience(&self) -> Patience {
        let config = &self.server.parts.config;
        match self.login {
            Some(_) => Patience::Silence(config.autologout.duration()),
            None => Patience::Until(self.begun.plus(config.login_limit.duration())),
        }
    }

    /// The next command; `None` when a literal of it was refused.
    async fn receive(&mut self) -> Result<Option<Bytes>, End> {
        loop {
            match self.connection.receive(self.patience()).await? {
                Received::Command(command) => return Ok(Some(command)),
                Received::Literal(literal) => {
                    if !self.admit(literal).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Decides about a literal before it takes memory.
    async fn admit(&mut self, literal: Announced) -> Result<bool, End> {
        let (tag, is_append) = tag_and_append(self.connection.so_far());
        let limit = match (&self.login, is_append) {
            (None, _) => EARLY_LITERAL,
            (Some(_), true) => u64::from(self.server.parts.config.message_limit),
            (Some(_), false) => SMALL_LITERAL,
        };
        // One message per command: the memory that was given for the first would not cover a second.
        let is_second = literal.size > SMALL_LITERAL && self.incoming.is_some();
        if literal.size <= limit && !is_second {
            if literal.size > SMALL_LITERAL {
                self.incoming = self.server.budget.share_soon(literal.size, &*self.server.parts.clock).await;
                if self.incoming.is_none() {
                    self.refuse(&tag, literal, &Reply::busy())?;
                    return Ok(false);
                }
            }
            self.connection.allow();
            if literal.waits {
                self.connection.continuation("go on");
            }
            return Ok(true);
        }
        let reply = if is_append && !is_second { Reply::too_big() } else { Reply::literal_too_big() };
        self.refuse(&tag, literal, &reply)?;
        Ok(false)
    }

    fn refuse(&mut self, tag: &str, literal: Announced, reply: &Reply) -> Result<(), End> {
        let heard_out = if self.login.is_some() { HEARD_OUT } else { EARLY_LITERAL };
        self.connection.refuse();
        self.connection.tagged(tag, reply);
        if literal.waits || literal.size <= heard_out { Ok(()) } else { Err(End::Bye(Bye::LiteralTooBig)) }
    }

    async fn incoming_command(&mut self, line: Bytes) -> Result<(), End> {
        let Tagged { tag, command } = match Command::parse(&line) {
            Ok(tagged) => tagged,
            Err(error) => {
                let tag = error.tag.unwrap_or_else(|| "*".to_owned());
                self.connection.tagged(&tag, &Reply::malformed(error.expected));
                return self.nonsense();
            }
        };
        if matches!(command, Command::StartTls) {
            return self.start_tls(&tag).await;
        }
        if matches!(command, Command::Logout) {
            self.connection.out.raw("* BYE ").text(Bye::Logout.text()).end();
            self.connection.tagged(&tag, &Reply::ok("Logged out"));
            self.connection.flush().await?;
            return Err(End::Closed);
        }
        let (expunges, numbering) = manners(&command);
        let reply = match self.carry_out(command).await {
            Ok(reply) | Err(Fault::Reply(reply)) => reply,
            Err(Fault::End(end)) => return Err(end),
            Err(Fault::Error(error)) => {
                tracing::warn!(target: "access", s = %self.id, event = "imap.failed", %error);
                Reply::failed(&error)
            }
        };
        if reply == Reply::wrong_state() {
            self.nonsense()?;
        }
        self.tell_news(expunges, numbering).await?;
        self.connection.tagged(&tag, &reply);
        self.connection.drain().await
    }

    /// Something that speaks another protocol must not be kept company for long.
    fn nonsense(&mut self) -> Result<(), End> {
        if self.login.is_none() {
            self.early_nonsense += 1;
            if self.early_nonsense > EARLY_NONSENSE {
                return Err(End::Bye(Bye::Misbehaved));
            }
        }
        Ok(())
    }

    /// Tells what happened to the open mailbox.
    pub(crate) async fn tell_news(&mut self, expunges: Expunges, numbering: Numbering) -> Result<(), End> {
        let Some(view) = &mut self.view else { return Ok(()) };
        match view.news().await {
            Ok(delta) => view
                .apply(delta, expunges, numbering, &mut self.connection.out)
                .map_err(|_| End::Bye(Bye::MailboxGone)),
            Err(mailgate_store::Error::Missing(_)) => Err(End::Bye(Bye::MailboxGone)),
            Err(error) => {
                // The command itself succeeded; the news come with the next one.
                tracing::warn!(target: "access", s = %self.id, event = "imap.news-failed", %error);
                Ok(())
            }
        }
    }

    pub(crate) fn logged_in(&self) -> Result<&Login, Fault> {
        self.login.as_ref().ok_or(Fault::Reply(Reply::wrong_state()))
    }

    pub(crate) fn opened(&self) -> Result<&View, Fault> {
        self.logged_in()?;
        self.view.as_ref().ok_or(Fault::Reply(Reply::no_mailbox_open()))
    }

    /// The open mailbox if the session may change it.
    pub(crate) fn writable(&self) -> Result<&View, Fault> {
        let view = self.opened()?;
        if view.is_writable() { Ok(view) } else { Err(Fault::Reply(Reply::read_only())) }
    }
}

/// A mailbox name from the wire.
pub(crate) fn name(wire: &str) -> Result<Name, Fault> {
    // RFC 3501 §6.3.3: a hierarchy separator at the end only says that mailboxes will follow below.
    let text = utf7::decode(wire).ok_or_else(Reply::bad_name)?;
    Name::parse(text.strip_suffix('.').unwrap_or(&text)).map_err(|_| Fault::Reply(Reply::bad_name()))
}

/// Which news a command allows: RFC 3501 §7.4.1.
fn manners(command: &Command) -> (Expunges, Numbering) {
    match command {
        Command::Fetch(by, ..) | Command::Search(by, ..) | Command::Store { by, .. } => match by {
            Numbering::Sequence => (Expunges::Hold, Numbering::Sequence),
            Numbering::Uid => (Expunges::Tell, Numbering::Uid),
        },
        Command::Copy(by, ..) | Command::Move(by, ..) => (Expunges::Tell, *by),
        _ => (Expunges::Tell, Numbering::Sequence),
    }
}

/// The tag of a command that is still coming, and whether it is an APPEND.
fn tag_and_append(so_far: &[u8]) -> (String, bool) {
    let mut words = so_far.split(|byte| *byte == b' ');
    let tag = words.next().unwrap_or_default();
    let is_tag = !tag.is_empty() && tag.len() <= 256 && tag.iter().all(u8::is_ascii_graphic);
    let tag = if is_tag { String::from_utf8_lossy(tag).into_owned() } else { "*".to_owned() };
    (tag, words.next().is_some_and(|word| word.eq_ignore_ascii_case(b"APPEND")))
}
