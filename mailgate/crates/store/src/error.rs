//! Why the store could not do what was asked.

use std::io;
use std::path::PathBuf;

use mailgate_model::Permanence;
use rusqlite::ErrorCode;

/// A failure of the store; the variant names the cause, the text goes to the operator and never to a peer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process or a long reader held a lock for longer than the busy timeout. Usually because a second
    /// daemon or a `sqlite3` shell works on the same file.
    #[error("the database is locked by someone else: {0}")]
    Busy(String),
    /// The database was closed while the question waited. Usually because the daemon is shutting down.
    #[error("the database is closed")]
    Closed,
    /// What was to be added exists, or what it refers to does not (a constraint of the tables).
    #[error("conflict with what is stored: {0}")]
    Conflict(String),
    /// A file or row cannot be what we wrote. Usually because of a broken disk or an edit by hand.
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
    /// No space, or the quota of the file system is used up.
    #[error("no space left: {0}")]
    Full(String),
    /// What was asked for is not there.
    #[error("not found: {0}")]
    Missing(String),
    /// A mailbox name that cannot be one. Usually because a client or a rule made it up.
    #[error("found mailbox name {found:?}, expected {expected}")]
    Name {
        /// What was given, made printable, at most 80 characters.
        found: String,
        /// What a name looks like.
        expected: &'static str,
    },
    /// The file was written by a newer release. Usually because of a downgrade.
    #[error(
        "{path} has format {found}, this release knows formats up to {known}; run the release that wrote it, or restore a copy made before the upgrade"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format number (`PRAGMA user_version`).
        found: usize,
        /// The newest format number of this release.
        known: usize,
    },
    /// A closure given to the database panicked; its changes were undone. Always a bug of ours.
    #[error("bug: a database operation panicked: {0}")]
    Panicked(String),
    /// A file or the database cannot be read or written. Usually because of permissions, a missing folder or an I/O
    /// error.
    #[error("storage is unavailable: {0}")]
    Unavailable(String),
    /// SQL of ours that SQLite refuses. Always a bug of ours.
    #[error("bug: {0}")]
    Unreachable(String),
}

impl Error {
    /// Whether trying again can help. Only answers that would be the same for ever are permanent; damage and our own
    /// bugs are transient, so that nobody's mail bounces for our fault.
    #[must_use]
    pub fn permanence(&self) -> Permanence {
        match self {
            Self::Conflict(_) | Self::Missing(_) | Self::Name { .. } => Permanence::Permanent,
            Self::Busy(_)
            | Self::Closed
            | Self::Corrupt(_)
            | Self::Full(_)
            | Self::Newer { .. }
            | Self::Panicked(_)
            | Self::Unavailable(_)
            | Self::Unreachable(_) => Permanence::Transient,
        }
    }

    /// The same cause again, for each of the others whose changes were lost with it.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Busy(text) => Self::Busy(text.clone()),
            Self::Closed => Self::Closed,
            Self::Conflict(text) | Self::Missing(text) | Self::Unavailable(text) => {
                Self::Unavailable(text.clone())
            }
            Self::Corrupt(text) => Self::Corrupt(text.clone()),
            Self::Full(text) => Self::Full(text.clone()),
            Self::Name { found, expected } => Self::Name { found: found.clone(), expected },
            Self::Newer { path, found, known } => {
                Self::Newer { path: path.clone(), found: *found, known: *known }
            }
            Self::Panicked(text) => Self::Panicked(text.clone()),
            Self::Unreachable(text) => Self::Unreachable(text.clone()),
        }
    }

    /// An I/O failure together with what was being done and with which file.
    pub(crate) fn io(doing: &str, path: &std::path::Path, error: &io::Error) -> Self {
        let text = format!("{doing} {}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(text),
            io::ErrorKind::NotFound => Self::Missing(text),
            _ => Self::Unavailable(text),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match &error {
            rusqlite::Error::SqliteFailure(code, _) => match code.code {
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Self::Busy(text),
                ErrorCode::ConstraintViolation => Self::Conflict(text),
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Self::Corrupt(text),
                ErrorCode::DiskFull => Self::Full(text),
                ErrorCode::CannotOpen
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::NoLargeFileSupport
                | ErrorCode::OperationAborted
                | ErrorCode::OperationInterrupted
                | ErrorCode::OutOfMemory
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure => Self::Unavailable(text),
                _ => Self::Unreachable(text),
            },
            rusqlite::Error::QueryReturnedNoRows => Self::Missing(text),
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..) => Self::Corrupt(text),
            _ => Self::Unreachable(text),
        }
    }
}
