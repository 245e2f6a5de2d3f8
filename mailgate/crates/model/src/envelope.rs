//! The outer data of a message: who it is from and for.

use serde::{Deserialize, Serialize};

use crate::{Address, ForwardPath, ReversePath};

/// What a DSN returns of the message (RFC 3461 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DsnReturn {
    /// Everything.
    Full,
    /// The header section only.
    Headers,
}

/// When a DSN is wanted for a recipient (RFC 3461 §4.1); `NOTIFY=NEVER` is all false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DsnNotify {
    /// On success.
    pub success: bool,
    /// On failure.
    pub failure: bool,
    /// On delay.
    pub delay: bool,
}

impl Default for DsnNotify {
    /// Failure and delay, what an MTA does when nothing is said (RFC 3461 §4.1).
    fn default() -> Self {
        Self { success: false, failure: true, delay: true }
    }
}

/// One recipient of an envelope, after aliases were expanded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// Where the message goes now: an account of ours or a remote address.
    pub address: Address,
    /// What the client said at RCPT; differs from `address` when an alias was expanded.
    pub original: ForwardPath,
    /// When a DSN is wanted.
    pub notify: DsnNotify,
    /// ORCPT as given, `type;address` in xtext (RFC 3461 §4.2).
    pub orcpt: Option<String>,
}

impl Recipient {
    /// A recipient to which nothing was rewritten and no DSN wish was said.
    #[must_use]
    pub fn plain(address: Address) -> Self {
        Self {
            original: ForwardPath::Address(address.clone()),
            address,
            notify: DsnNotify::default(),
            orcpt: None,
        }
    }
}

/// Reverse-path, recipients and what was said at MAIL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Where bounces go.
    pub reverse_path: ReversePath,
    /// At least one; at most the reception's limit.
    pub recipients: Vec<Recipient>,
    /// ENVID in xtext (RFC 3461 §4.4).
    pub envid: Option<String>,
    /// RET (RFC 3461 §4.3).
    pub ret: Option<DsnReturn>,
    /// SMTPUTF8 was said at MAIL (RFC 6531 §3.4).
    pub smtputf8: bool,
    /// BODY=8BITMIME was said at MAIL (RFC 6152 §3).
    pub eight_bit: bool,
}
