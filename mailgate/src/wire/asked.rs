//! 3. What tarpit and traps of the edge ask of stations that it may not know: which recipients exist, and what lists say.

use std::net::IpAddr;

use mailgate_accounts::{Accounts, Expansion};
use mailgate_edge::{Answer, Known, Recipients, Texts};
use mailgate_lists::{Lists, TableName};
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

/// The lists tell what they say to those they hold.
pub(super) struct Said(pub(super) Lists);

impl Texts for Said {
    fn messages(&self, ip: IpAddr) -> Answer<'_, Vec<(TableName, String)>> {
        // Lists that have ended say nothing; then something more general is said.
        Box::pin(async move { self.0.messages(ip).await.unwrap_or_default() })
    }
}
