//! What can fail while a message is taken.

use mailgate_model::Permanence;

/// A failure of the world or of us; the peer hears only that it should come again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Accounts, aliases or domains cannot be asked. Usually because the records' database is busy or damaged.
    #[error("accounts: {0}")]
    Accounts(#[from] mailgate_accounts::Error),
    /// A submitted message cannot be signed. Usually because a key cannot be read.
    #[error("signing: {0}")]
    Signing(#[from] mailgate_msgauth::Error),
    /// The message cannot be made durable. Usually because the disk is full.
    #[error("spool: {0}")]
    Spool(#[from] mailgate_store::Error),
}

impl Error {
    /// Always transient: none of these is the fault of the message (RFC 5321 §4.2.1).
    #[must_use]
    pub fn permanence(&self) -> Permanence {
        Permanence::Transient
    }
}
