//! 3. What tarpit and traps of the edge ask of stations that it may not know: which recipients exist, and what lists say.

use mailgate_accounts::{Accounts, Expansion};
use mailgate_edge::{Answer, Known, Recipients};
use mailgate_model::ForwardPath;

/// The accounts tell which recipients exist.
pub(super) struct Existing(pub(super) Accounts);

impl Recipients for Existing {
    fn is_known<'a>(&'a self, path: &'a ForwardPath) -> Answer<'a, Known> {
        Box::pin(async move {
            match self.0.expand(path).await {
                Ok(Expansion::Targets(_)) => Known::Yes,
                // A domain that is not ours is guessed as well: relays are searched for like that.
                Ok(Expansion::Foreign | Expansion::Unknown) => Known::No,
                Err(_) => Known::Unsure,
            }
        })
    }
}
