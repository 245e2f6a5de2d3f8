//! The relay right: who may have a message go where.

use mailgate_accounts::{Accounts, Expansion};
use mailgate_model::{Address, ForwardPath};

use crate::Error;

/// Proof that one recipient may be added: it is local, or the client has authenticated. Made here and nowhere else, so
/// an open relay cannot be written by accident.
#[derive(Debug)]
pub(crate) struct Permit {
    targets: Vec<Address>,
}

impl Permit {
    /// Where the message goes for this recipient; at least one address.
    pub(crate) fn into_targets(self) -> Vec<Address> {
        self.targets
    }
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// Not ours, and the client is nobody we know (RFC 5321 §7.9).
    Foreign,
    /// Ours, and nobody has that name. Said at once, so that no bounce goes to a forged reverse-path.
    Unknown,
}

impl Denied {
    /// The word for logs and counters.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Foreign => "relaying-denied",
            Self::Unknown => "no-such-user",
        }
    }
}

/// Asks for the right to send to `path`. `identity` is the account that authenticated in this session.
///
/// Only the domain decides what is foreign: `%` and `!` in a local part are letters like any other, and a source route
/// was dropped by the grammar (RFC 5321 §3.3, §7.9), so none of them leads anywhere.
///
/// # Errors
/// When accounts cannot be asked; nothing is known of the recipient then.
pub(crate) async fn permit(
    accounts: &Accounts,
    identity: Option<&Address>,
    path: &ForwardPath,
) -> Result<Result<Permit, Denied>, Error> {
    let targets = match (accounts.expand(path).await?, identity, path) {
        (Expansion::Targets(targets), ..) if !targets.is_empty() => targets,
        (Expansion::Targets(_) | Expansion::Unknown, ..) => return Ok(Err(Denied::Unknown)),
        (Expansion::Foreign, Some(_), ForwardPath::Address(address)) => vec![address.clone()],
        (Expansion::Foreign, ..) => return Ok(Err(Denied::Foreign)),
    };
    Ok(Ok(Permit { targets }))
}
