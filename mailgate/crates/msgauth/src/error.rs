//! What can go wrong with signatures of ours.

use mailgate_model::Permanence;

/// Why a message was not signed, or a key not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A selector that cannot be a DNS label.
    #[error("found selector {0:?}, expected 1 to 63 letters, digits and hyphens")]
    Selector(String),
    /// A key could not be made or used. Usually because the stored key is damaged.
    #[error("the key {name} cannot be used: {why}")]
    Key {
        /// `selector._domainkey.domain`.
        name: String,
        /// What the library said.
        why: String,
    },
    /// The records could not be read or written.
    #[error(transparent)]
    Store(#[from] mailgate_store::Error),
}

impl Error {
    /// A message that cannot be signed now can be submitted later.
    #[must_use]
    pub fn permanence(&self) -> Permanence {
        match self {
            Self::Selector(_) => Permanence::Permanent,
            Self::Key { .. } => Permanence::Transient,
            Self::Store(error) => error.permanence(),
        }
    }
}
