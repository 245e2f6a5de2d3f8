//! What can go wrong with the lists, by cause.

use std::path::PathBuf;

use mailgate_model::Permanence;

use crate::TableName;

/// Why a call on the lists did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration contradicts itself: usually because a source names a table that is not there.
    #[error("{0}")]
    Config(String),
    /// Saved entries could not be read or written: usually because the disk is full or the folder belongs to
    /// someone else.
    #[error("{path}: {source}", path = .path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The daemon is going down: usually because it was asked to.
    #[error("the lists are being shut down")]
    Stopped,
    /// A table has as many entries by hand as it may have: usually because something adds without expiry.
    #[error("table {table} holds {limit} entries by hand, which is the limit")]
    TooMany {
        /// The table.
        table: TableName,
        /// [`MANUAL_LIMIT`](crate::MANUAL_LIMIT).
        limit: usize,
    },
    /// There is no such table: usually because of a typing error.
    #[error("found table {name}, expected one of {known}")]
    UnknownTable {
        /// What was asked for.
        name: TableName,
        /// The names that exist, separated by commas.
        known: String,
    },
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn permanence(&self) -> Permanence {
        match self {
            Self::Config(_) | Self::UnknownTable { .. } => Permanence::Permanent,
            Self::State { .. } | Self::Stopped | Self::TooMany { .. } => Permanence::Transient,
        }
    }
}
