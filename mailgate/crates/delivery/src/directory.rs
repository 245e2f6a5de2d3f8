//! What delivery asks about people. A trait, so that tests need no account database.

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use mailgate_accounts::{Accounts, Error, Expansion};
use mailgate_model::{Address, Domain, ForwardPath};

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

impl Directory for Accounts {
    fn is_local<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<bool, String>> {
        Box::pin(async move { Self::is_local(self, domain).await.map_err(|error| error.to_string()) })
    }

    fn find<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Found, String>> {
        Box::pin(async move { find(self, address).await.map_err(|error| error.to_string()) })
    }
}

/// An account first: reception has followed aliases already, and one that names itself among others must not be followed
/// twice.
async fn find(accounts: &Accounts, address: &Address) -> Result<Found, Error> {
    if let Some(account) = accounts.account(address).await? {
        return Ok(Found::Account(account.maildir));
    }
    match accounts.expand(&ForwardPath::Address(address.clone())).await? {
        Expansion::Unknown => Ok(Found::Nobody),
        // The domain left us between route and attempt: committed anew, it finds its new way.
        Expansion::Foreign => Ok(Found::Elsewhere(vec![address.clone()])),
        Expansion::Targets(targets) => {
            if let [only] = targets.as_slice()
                && let Some(account) = accounts.account(only).await?
            {
                return Ok(Found::Account(account.maildir));
            }
            Ok(Found::Elsewhere(targets))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use mailgate_accounts::{Config, Secret};
    use mailgate_model::{ManualClock, Timestamp};
    use mailgate_store::Records;

    use super::*;

    #[tokio::test]
    async fn accounts_come_before_aliases_and_one_target_is_found_at_once() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_700_000_000)));
        let records = Records::memory(clock.clone()).unwrap();
        let accounts = Accounts::open(records, Config::default(), Path::new("/state"), clock);
        let at = |text: &str| Address::parse(text).unwrap();
        accounts.add_domain(&"ours.example".parse().unwrap()).await.unwrap();
        accounts
            .add_account(&at("alice@ours.example"), Secret::Password("secret".into()), None)
            .await
            .unwrap();
        accounts.add_alias("sales@ours.example", &[at("alice@ours.example")]).await.unwrap();
        let team = [at("alice@ours.example"), at("x@elsewhere.example")];
        accounts.add_alias("team@ours.example", &team).await.unwrap();
        accounts.add_alias("out@ours.example", &team[1..]).await.unwrap();

        let maildir = accounts.account(&at("alice@ours.example")).await.unwrap().unwrap().maildir;
        let home = Found::Account(maildir);
        for (address, want) in [
            ("alice@ours.example", home.clone()),
            ("alice+tag@ours.example", home.clone()),
            ("sales@ours.example", home),
            ("team@ours.example", Found::Elsewhere(team.to_vec())),
            ("out@ours.example", Found::Elsewhere(team[1..].to_vec())),
            ("nobody@ours.example", Found::Nobody),
            ("a@elsewhere.example", Found::Elsewhere(vec![at("a@elsewhere.example")])),
        ] {
            assert_eq!(Directory::find(&accounts, &at(address)).await.unwrap(), want, "{address}");
        }
        assert!(Directory::is_local(&accounts, &"ours.example".parse().unwrap()).await.unwrap());
        assert!(!Directory::is_local(&accounts, &"elsewhere.example".parse().unwrap()).await.unwrap());
    }
}
