//! Commands of clients (RFC 3501 §6 and extensions).

use bytes::Bytes;
use mailgate_model::Timestamp;

use super::cursor::{Cursor, Expected};
use super::date;
use super::fetch::{self, FetchItem};
use super::list::{self, List};
use super::search::{self, Search};
use super::sequence::SequenceSet;

/// Longest tag; it comes back in every reply.
const TAG_LIMIT: usize = 256;
/// Fields in one ID (RFC 2971 §3.3: at most 30 pairs).
const ID_LIMIT: usize = 30;
/// Flags in one STORE or APPEND; more than a mailbox can have.
const FLAG_LIMIT: usize = 64;

/// Whether numbers are message numbers or UIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// Message sequence numbers.
    Sequence,
    /// Unique identifiers.
    Uid,
}

/// How STORE changes flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreMode {
    /// `+FLAGS`.
    Add,
    /// `-FLAGS`.
    Remove,
    /// `FLAGS`.
    Replace,
}

/// Whether STORE tells the new flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verbosity {
    /// `.SILENT`.
    Silent,
    /// Untagged FETCH responses.
    Told,
}

/// What STATUS tells (RFC 3501 §6.3.10, RFC 8438, RFC 9051 §6.3.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusItem {
    /// `DELETED`.
    Deleted,
    /// `MESSAGES`.
    Messages,
    /// `RECENT`.
    Recent,
    /// `SIZE`.
    Size,
    /// `UIDNEXT`.
    UidNext,
    /// `UIDVALIDITY`.
    UidValidity,
    /// `UNSEEN`.
    Unseen,
}

/// A command. Mailbox names are as on the wire (modified UTF-7 unless UTF8=ACCEPT).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Add a message.
    Append {
        /// Where.
        mailbox: String,
        /// Its flags.
        flags: Vec<String>,
        /// Its INTERNALDATE.
        date: Option<Timestamp>,
        /// Its content.
        message: Bytes,
    },
    /// SASL.
    Authenticate {
        /// In upper case.
        mechanism: String,
        /// SASL-IR (RFC 4959): base 64 as sent; `=` is the empty response.
        initial: Option<String>,
    },
    /// What can the server do?
    Capability,
    /// Checkpoint.
    Check,
    /// Expunge silently and leave the mailbox.
    Close,
    /// Copy messages.
    Copy(Numbering, SequenceSet, String),
    /// Make a mailbox.
    Create(String),
    /// Delete a mailbox.
    Delete(String),
    /// Switch on extensions (RFC 5161), in upper case.
    Enable(Vec<String>),
    /// Open a mailbox for reading only.
    Examine(String),
    /// Remove messages with `\Deleted`; with a set only those (RFC 4315).
    Expunge(Option<SequenceSet>),
    /// Read.
    Fetch(Numbering, SequenceSet, Vec<FetchItem>),
    /// Who are you (RFC 2971)? Field names and values.
    Id(Vec<(String, Option<String>)>),
    /// Wait for news (RFC 2177).
    Idle,
    /// List mailboxes.
    List(List),
    /// Log in with a password in the clear.
    Login(String, String),
    /// Good bye.
    Logout,
    /// List subscriptions: reference and pattern.
    Lsub(String, String),
    /// Move messages (RFC 6851).
    Move(Numbering, SequenceSet, String),
    /// Which namespaces (RFC 2342)?
    Namespace,
    /// Anything new?
    Noop,
    /// Rename a mailbox.
    Rename(String, String),
    /// Find messages.
    Search(Numbering, Search),
    /// Open a mailbox.
    Select(String),
    /// Begin TLS.
    StartTls,
    /// Counts of a mailbox.
    Status(String, Vec<StatusItem>),
    /// Change flags.
    Store {
        /// How messages are named.
        by: Numbering,
        /// Which messages.
        set: SequenceSet,
        /// How the flags change.
        mode: StoreMode,
        /// Whether the result is told.
        verbosity: Verbosity,
        /// Which flags.
        flags: Vec<String>,
    },
    /// Subscribe.
    Subscribe(String),
    /// Leave the mailbox without expunging (RFC 3691).
    Unselect,
    /// Unsubscribe.
    Unsubscribe(String),
}

/// A command with its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// Comes back with the result.
    pub tag: String,
    /// What to do.
    pub command: Command,
}

/// Why bytes are no command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct ParseError {
    /// The tag, if there was one; else the answer is untagged.
    pub tag: Option<String>,
    /// What should have stood there.
    pub expected: &'static str,
}

impl Command {
    /// Reads one whole command, as [`Reader`](super::Reader) gives it.
    ///
    /// # Errors
    /// When it is none; says what was expected, and never what was found, which may be a password.
    pub fn parse(bytes: &Bytes) -> Result<Tagged, ParseError> {
        let mut cursor = Cursor::new(bytes);
        let tag =
            cursor.tag().and_then(|tag| if tag.len() > TAG_LIMIT { Err("a short tag") } else { Ok(tag) });
        let tag = tag.map_err(|expected| ParseError { tag: None, expected })?;
        match command(&mut cursor) {
            Ok(command) => Ok(Tagged { tag, command }),
            Err(expected) => Err(ParseError { tag: Some(tag), expected }),
        }
    }
}

fn command(cursor: &mut Cursor<'_>) -> Result<Command, Expected> {
    cursor.space()?;
    let mut name = cursor.name()?;
    let mut by = Numbering::Sequence;
    if name == "UID" {
        cursor.space()?;
        by = Numbering::Uid;
        name = cursor.name()?;
    }
    let command = match (name.as_str(), by) {
        ("COPY" | "EXPUNGE" | "FETCH" | "MOVE" | "SEARCH" | "STORE", _) => of_messages(cursor, &name, by)?,
        (_, Numbering::Uid) => return Err("a command that UID can precede"),
        (
            "APPEND" | "CREATE" | "DELETE" | "EXAMINE" | "LIST" | "LSUB" | "RENAME" | "SELECT" | "STATUS"
            | "SUBSCRIBE" | "UNSUBSCRIBE",
            _,
        ) => {
            cursor.space()?;
            of_mailboxes(cursor, &name)?
        }
        _ => of_session(cursor, &name)?,
    };
    cursor.end()?;
    Ok(command)
}

fn of_session(cursor: &mut Cursor<'_>, name: &str) -> Result<Command, Expected> {
    Ok(match name {
        "AUTHENTICATE" => {
            cursor.space()?;
            let mechanism = cursor.name()?;
            let initial = if cursor.eat(b' ') { Some(cursor.astring()?) } else { None };
            Command::Authenticate { mechanism, initial }
        }
        "CAPABILITY" => Command::Capability,
        "CHECK" => Command::Check,
        "CLOSE" => Command::Close,
        "ENABLE" => {
            let mut names = Vec::new();
            while cursor.eat(b' ') {
                names.push(cursor.name()?);
            }
            if names.is_empty() {
                return Err("a capability to enable");
            }
            Command::Enable(names)
        }
        "ID" => {
            cursor.space()?;
            Command::Id(id_fields(cursor)?)
        }
        "IDLE" => Command::Idle,
        "LOGIN" => {
            cursor.space()?;
            let login = cursor.astring()?;
            cursor.space()?;
            Command::Login(login, cursor.astring()?)
        }
        "LOGOUT" => Command::Logout,
        "NAMESPACE" => Command::Namespace,
        "NOOP" => Command::Noop,
        "STARTTLS" => Command::StartTls,
        "UNSELECT" => Command::Unselect,
        _ => return Err("a command that this server knows"),
    })
}

fn id_fields(cursor: &mut Cursor<'_>) -> Result<Vec<(String, Option<String>)>, Expected> {
    if cursor.word("NIL") {
        return Ok(Vec::new());
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let fields = cursor.list(|cursor| {
        let name = text(cursor.string()?);
        cursor.space()?;
        Ok((name, cursor.nstring()?.map(text)))
    })?;
    if fields.len() > ID_LIMIT { Err("at most 30 fields") } else { Ok(fields) }
}

fn of_mailboxes(cursor: &mut Cursor<'_>, name: &str) -> Result<Command, Expected> {
    if name == "LIST" {
        return list::list(cursor).map(Command::List);
    }
    if name == "LSUB" {
        return list::plain(cursor).map(|(reference, pattern)| Command::Lsub(reference, pattern));
    }
    let mailbox = cursor.astring()?;
    Ok(match name {
        "APPEND" => append(cursor, mailbox)?,
        "CREATE" => {
            // RFC 6154 §3 CREATE (USE ...) is not offered; a plain CREATE may have a list of nothing.
            Command::Create(mailbox)
        }
        "DELETE" => Command::Delete(mailbox),
        "EXAMINE" => Command::Examine(mailbox),
        "RENAME" => {
            cursor.space()?;
            Command::Rename(mailbox, cursor.astring()?)
        }
        "SELECT" => Command::Select(mailbox),
        "STATUS" => {
            cursor.space()?;
            Command::Status(mailbox, status_items(cursor)?)
        }
        "SUBSCRIBE" => Command::Subscribe(mailbox),
        _ => Command::Unsubscribe(mailbox),
    })
}

pub(super) fn status_items(cursor: &mut Cursor<'_>) -> Result<Vec<StatusItem>, Expected> {
    let items = cursor.list(|cursor| match cursor.name()?.as_str() {
        "DELETED" => Ok(StatusItem::Deleted),
        "MESSAGES" => Ok(StatusItem::Messages),
        "RECENT" => Ok(StatusItem::Recent),
        "SIZE" => Ok(StatusItem::Size),
        "UIDNEXT" => Ok(StatusItem::UidNext),
        "UIDVALIDITY" => Ok(StatusItem::UidValidity),
        "UNSEEN" => Ok(StatusItem::Unseen),
        _ => Err("an item that STATUS knows"),
    })?;
    if items.is_empty() { Err("an item") } else { Ok(items) }
}

fn append(cursor: &mut Cursor<'_>, mailbox: String) -> Result<Command, Expected> {
    cursor.space()?;
    let mut flags = Vec::new();
    if cursor.peek() == Some(b'(') {
        flags = flag_list(cursor)?;
        cursor.space()?;
    }
    let mut date = None;
    if cursor.peek() == Some(b'"') {
        date = Some(date::date_time(cursor)?);
        cursor.space()?;
    }
    // RFC 6855 §4: with UTF8=ACCEPT the literal is wrapped.
    let wrapped = cursor.word("UTF8 (~");
    let message = cursor.literal()?;
    if wrapped {
        cursor.expect(b')', "a closing parenthesis")?;
    }
    Ok(Command::Append { mailbox, flags, date, message })
}

fn flag_list(cursor: &mut Cursor<'_>) -> Result<Vec<String>, Expected> {
    let flags = cursor.list(Cursor::flag)?;
    if flags.len() > FLAG_LIMIT { Err("at most 64 flags") } else { Ok(flags) }
}

fn of_messages(cursor: &mut Cursor<'_>, name: &str, by: Numbering) -> Result<Command, Expected> {
    if name == "EXPUNGE" && by == Numbering::Sequence {
        return Ok(Command::Expunge(None));
    }
    cursor.space()?;
    if name == "SEARCH" {
        return search::search(cursor).map(|search| Command::Search(by, search));
    }
    let set = SequenceSet::parse(cursor)?;
    if name == "EXPUNGE" {
        return Ok(Command::Expunge(Some(set)));
    }
    cursor.space()?;
    Ok(match name {
        "COPY" => Command::Copy(by, set, cursor.astring()?),
        "FETCH" => Command::Fetch(by, set, fetch::items(cursor)?),
        "MOVE" => Command::Move(by, set, cursor.astring()?),
        _ => store(cursor, by, set)?,
    })
}

fn store(cursor: &mut Cursor<'_>, by: Numbering, set: SequenceSet) -> Result<Command, Expected> {
    let mode = if cursor.eat(b'+') {
        StoreMode::Add
    } else if cursor.eat(b'-') {
        StoreMode::Remove
    } else {
        StoreMode::Replace
    };
    let verbosity = match cursor.name()?.as_str() {
        "FLAGS" => Verbosity::Told,
        "FLAGS.SILENT" => Verbosity::Silent,
        _ => return Err("FLAGS or FLAGS.SILENT"),
    };
    cursor.space()?;
    let flags = if cursor.peek() == Some(b'(') {
        flag_list(cursor)?
    } else {
        let mut flags = vec![cursor.flag()?];
        while cursor.eat(b' ') {
            flags.push(cursor.flag()?);
        }
        if flags.len() > FLAG_LIMIT {
            return Err("at most 64 flags");
        }
        flags
    };
    Ok(Command::Store { by, set, mode, verbosity, flags })
}
