//! Why the edge could not do what the administrator asked. Clients never hear of these.

use mailgate_model::Permanence;

/// A failure of the edge; the variant names the cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was asked for makes no sense; usually because of a mistyped address. The text says what was expected.
    #[error("{0}")]
    Asked(String),
    /// The greylist could not be read or written; usually because the disk is full.
    #[error("greylist: {0}")]
    Store(#[from] mailgate_store::Error),
}

impl Error {
    /// Whether trying again can help.
    #[must_use]
    pub fn permanence(&self) -> Permanence {
        match self {
            Self::Asked(_) => Permanence::Permanent,
            Self::Store(error) => error.permanence(),
        }
    }
}
