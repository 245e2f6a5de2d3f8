//! What can go wrong with people.

use mailgate_model::Permanence;

/// Why a question about people has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was given cannot be used. Usually because of a typing mistake.
    #[error("{0}")]
    Malformed(String),
    /// The password hash could not be made. Usually because memory is short.
    #[error("the password could not be hashed: {0}")]
    Hash(String),
    /// An alias leads to more addresses, or through more aliases, than is sane. Usually because of a mailing list kept
    /// as an alias. Mail waits until an administrator mends it.
    #[error("the alias {0} leads to too many addresses, or through too many aliases")]
    Sprawling(String),
    /// The records could not be read or written.
    #[error(transparent)]
    Store(#[from] mailgate_store::Error),
    /// Too many wrong passwords from this source. Usually a guesser, seldom a forgotten client.
    #[error("too many wrong passwords from this source, try again later")]
    Throttled,
}

impl Error {
    /// Whether trying again can help.
    #[must_use]
    pub fn permanence(&self) -> Permanence {
        match self {
            Self::Malformed(_) => Permanence::Permanent,
            Self::Hash(_) | Self::Sprawling(_) | Self::Throttled => Permanence::Transient,
            Self::Store(error) => error.permanence(),
        }
    }
}
