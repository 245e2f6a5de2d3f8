//! What the server answers: every tagged result and every greeting stands here (RFC 3501 §7.1, RFC 5530).

use mailgate_store::Error as StoreError;

use crate::Error;

/// The result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Bad,
    No,
    Ok,
}

impl Condition {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Bad => "BAD",
            Self::No => "NO",
            Self::Ok => "OK",
        }
    }
}

/// Condition, response code and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) condition: Condition,
    /// What stands in brackets; ours, without strangers' bytes.
    pub(crate) code: Option<String>,
    pub(crate) text: &'static str,
}

const fn no(text: &'static str) -> Reply {
    Reply { condition: Condition::No, code: None, text }
}

const fn bad(text: &'static str) -> Reply {
    Reply { condition: Condition::Bad, code: None, text }
}

impl Reply {
    pub(crate) const fn ok(text: &'static str) -> Self {
        Self { condition: Condition::Ok, code: None, text }
    }

    pub(crate) fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// A command that cannot be read; `expected` says what should have stood there.
    pub(crate) const fn malformed(expected: &'static str) -> Self {
        bad(expected)
    }

    pub(crate) const fn wrong_state() -> Self {
        bad("Not in this state")
    }

    pub(crate) const fn no_mailbox_open() -> Self {
        bad("No mailbox selected")
    }

    pub(crate) fn wrong_password() -> Self {
        no("Login name or password is wrong").code("AUTHENTICATIONFAILED")
    }

    pub(crate) fn throttled() -> Self {
        no("Too many wrong passwords, try again later").code("UNAVAILABLE")
    }

    pub(crate) fn too_many_sessions() -> Self {
        no("Too many sessions of this account").code("LIMIT")
    }

    pub(crate) fn needs_tls() -> Self {
        no("Passwords are taken only inside TLS").code("PRIVACYREQUIRED")
    }

    pub(crate) const fn unknown_mechanism() -> Self {
        no("Unknown mechanism")
    }

    pub(crate) const fn cancelled() -> Self {
        bad("Authentication cancelled")
    }

    pub(crate) const fn malformed_credentials() -> Self {
        bad("Malformed response")
    }

    pub(crate) const fn no_tls_twice() -> Self {
        bad("TLS is on")
    }

    pub(crate) const fn injected() -> Self {
        bad("Nothing may follow STARTTLS before the handshake")
    }

    pub(crate) fn read_only() -> Self {
        no("The mailbox is open for reading only").code("READ-ONLY")
    }

    pub(crate) fn bad_name() -> Self {
        no("Not a mailbox name").code("CANNOT")
    }

    pub(crate) fn nonexistent() -> Self {
        no("No such mailbox").code("NONEXISTENT")
    }

    pub(crate) fn try_create() -> Self {
        no("No such mailbox").code("TRYCREATE")
    }

    pub(crate) fn already_exists() -> Self {
        no("Mailbox exists").code("ALREADYEXISTS")
    }

    pub(crate) fn cannot() -> Self {
        no("That mailbox cannot be changed like this").code("CANNOT")
    }

    pub(crate) fn too_big() -> Self {
        no("Message too large").code("TOOBIG")
    }

    pub(crate) const fn literal_too_big() -> Self {
        bad("Literal too large")
    }

    pub(crate) fn busy() -> Self {
        no("Server is busy, try again").code("UNAVAILABLE")
    }

    pub(crate) fn bad_charset() -> Self {
        no("Unknown character set").code("BADCHARSET (US-ASCII UTF-8)")
    }

    pub(crate) fn keyword_limit() -> Self {
        no("The mailbox has no room for another keyword").code("LIMIT")
    }

    pub(crate) const fn no_such_message() -> Self {
        bad("No such message number")
    }

    pub(crate) fn some_gone() -> Self {
        no("Some of the messages are gone").code("EXPUNGEISSUED")
    }

    /// What a client hears of a failure: never why.
    pub(crate) fn failed(error: &Error) -> Self {
        match error {
            Error::Store(StoreError::Missing(_)) => Self::nonexistent(),
            Error::Store(StoreError::Name { .. }) => Self::bad_name(),
            Error::Store(StoreError::Conflict(_)) => Self::cannot(),
            Error::Store(StoreError::Full(_)) => no("No room").code("OVERQUOTA"),
            Error::Store(StoreError::Busy(_)) => no("Mailbox is in use").code("INUSE"),
            _ => no("Server failed, try again later").code("SERVERBUG"),
        }
    }
}

/// Why the server ends a session, as its last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bye {
    Autologout,
    Full,
    LineTooLong,
    LiteralTooBig,
    LoginLimit,
    Logout,
    MailboxGone,
    Misbehaved,
    ShuttingDown,
    WrongPasswords,
}

impl Bye {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Autologout => "Autologout; idle for too long",
            Self::Full => "Too many sessions, try again later",
            Self::LineTooLong => "Command too long",
            Self::LiteralTooBig => "Literal too large",
            Self::LoginLimit => "Login took too long",
            Self::MailboxGone => "The mailbox is gone",
            Self::Misbehaved => "That is not how IMAP is spoken",
            Self::Logout => "Good bye",
            Self::ShuttingDown => "Shutting down",
            Self::WrongPasswords => "Too many wrong passwords",
        }
    }
}
