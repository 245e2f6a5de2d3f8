//! What can go wrong with reading mail.

use mailgate_model::Permanence;

/// Why a command of a client could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The people could not be asked.
    #[error(transparent)]
    Accounts(#[from] mailgate_accounts::Error),
    /// The mailboxes could not be read or written.
    #[error(transparent)]
    Store(#[from] mailgate_store::Error),
    /// Work on a message failed. Always a bug of ours.
    #[error("bug: {0}")]
    Unreachable(String),
}

impl Error {
    /// Whether trying again can help.
    #[must_use]
    pub fn permanence(&self) -> Permanence {
        match self {
            Self::Accounts(error) => error.permanence(),
            Self::Store(error) => error.permanence(),
            Self::Unreachable(_) => Permanence::Transient,
        }
    }
}
