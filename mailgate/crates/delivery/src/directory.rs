//! What delivery asks about people. A trait, so that tests need no account database.

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use mailgate_model::{Address, Domain};

/// Who an address is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// One account of ours, with the top of its Maildir++.
    Account(PathBuf),
    /// An alias that leads to these: several, or not here.
    Elsewhere(Vec<Address>),
    /// The domain is ours and nobody has this address.
    Nobody,
}

/// Answers about domains and addresses of ours. An error is a sentence for the log; asking again later is right.
pub trait Directory: Send + Sync + 'static {
    /// Whether mail for this domain ends here.
    fn is_local<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<bool, String>>;
    /// Who has an address of such a domain, aliases and sub-addresses resolved.
    fn find<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Found, String>>;
}
