//! How one attempt for one recipient ended.

use serde::{Deserialize, Serialize};

use crate::{Permanence, Status};

/// The result of one attempt for one recipient, in the words of RFC 3464 §2.3.3.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// Not now; try again. Usually because a host, a disk or a lookup failed.
    Deferred {
        /// Class 4.
        status: Status,
        /// The remote host that answered, if one did.
        remote: Option<String>,
        /// Its reply or our reason, one line, no secrets.
        detail: String,
    },
    /// In a mailbox of ours.
    Delivered,
    /// Never; a DSN is due.
    Failed {
        /// Class 5.
        status: Status,
        /// The remote host that answered, if one did.
        remote: Option<String>,
        /// Its reply or our reason, one line, no secrets.
        detail: String,
    },
    /// Another MTA took responsibility.
    Relayed {
        /// Name and address of that MTA.
        remote: String,
        /// Its reply, one line.
        detail: String,
    },
}

impl Outcome {
    /// `None` for success; else whether trying again can help.
    #[must_use]
    pub fn permanence(&self) -> Option<Permanence> {
        match self {
            Self::Deferred { .. } => Some(Permanence::Transient),
            Self::Failed { .. } => Some(Permanence::Permanent),
            Self::Delivered | Self::Relayed { .. } => None,
        }
    }
}
