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
    /// More entries than `lists.entries_limit`: usually because the limit was made for smaller lists. Nothing was changed.
    #[error(
        "found {asked} more entries, expected at most {room}: all tables together hold {held} of \
         lists.entries_limit = {limit}; raise it, or shorten the list"
    )]
    Full {
        /// How many would have been added.
        asked: usize,
        /// How many there are.
        held: usize,
        /// `entries_limit`.
        limit: usize,
        /// How many there may still be.
        room: usize,
    },
    /// A BGP neighbour does not do what was asked; the sentence says why.
    #[error("{0}")]
    Neighbour(String),
    /// The source is neither frozen nor watched.
    #[error("source {0} is not frozen: nothing of it waits")]
    NotFrozen(String),
    /// The table does not count, so nobody can say who was idle.
    #[error("table {0} does not count hits; give it counters = true in [[lists.table]]")]
    NotCounted(TableName),
    /// The table is only filled by the configuration, files and peers.
    #[error("table {0} is readonly in the configuration; change its entries, files or peers there")]
    ReadOnly(TableName),
    /// Saved entries could not be read or written: usually because the disk is full or the folder belongs to
    /// someone else.
    #[error("{path}: {source}", path = .path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The source cannot do what was asked: usually because it is a BGP peer, which sends by itself.
    #[error("source {name}: {said}")]
    Source {
        /// Its name.
        name: String,
        /// What it cannot, and what can be done instead.
        said: String,
    },
    /// The daemon is going down: usually because it was asked to.
    #[error("the lists are being shut down")]
    Stopped,
    /// There is no such BGP neighbour: usually because of a typing error.
    #[error("found neighbour {found:?}, expected one of {expected}")]
    UnknownNeighbour {
        /// What was asked for.
        found: String,
        /// The names that exist, separated by commas.
        expected: String,
    },
    /// There is no such source: usually because of a typing error.
    #[error("found source {name:?}, expected one of {known}")]
    UnknownSource {
        /// What was asked for.
        name: String,
        /// The names that exist, separated by commas.
        known: String,
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
            Self::Config(_)
            | Self::NotCounted(_)
            | Self::NotFrozen(_)
            | Self::ReadOnly(_)
            | Self::UnknownNeighbour { .. }
            | Self::UnknownSource { .. }
            | Self::UnknownTable { .. } => Permanence::Permanent,
            Self::Neighbour(_)
            | Self::Source { .. }
            | Self::Full { .. }
            | Self::State { .. }
            | Self::Stopped => Permanence::Transient,
        }
    }
}
