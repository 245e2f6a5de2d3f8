//! Who is meant by an address, and whether a password is theirs.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mailgate_model::{Address, Clock, Domain, ForwardPath, LocalPart};
use mailgate_store::Records;
use mailgate_store::records::{AccountRecord, AliasSource};
use tokio::sync::{OnceCell, Semaphore};

use crate::throttle::{Patience, Throttle};
use crate::{Config, Error, password};

/// Aliases followed one after another before it is called a loop.
const ALIAS_DEPTH: usize = 10;
/// Addresses one alias may lead to in the end; a larger list is a mailing list and belongs elsewhere.
const TARGET_LIMIT: usize = 1000;
/// Passwords hashed at the same time: each takes 19 MiB and a core.
const HASHING_LIMIT: usize = 4;
/// Names that must reach somebody in every domain (RFC 5321 §4.5.1, RFC 2142 §4).
const DUTIES: [&str; 2] = ["postmaster", "abuse"];

/// Where mail for an address goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expansion {
    /// The domain is not ours.
    Foreign,
    /// The domain is ours and nobody has that name.
    Unknown,
    /// To these: accounts of ours, or addresses elsewhere that an alias names. At least one.
    Targets(Vec<Address>),
}

/// Somebody with a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Address, as the account was made.
    pub address: Address,
    /// The account's Maildir.
    pub maildir: PathBuf,
    /// Whether it may log in.
    pub active: bool,
}

/// The people of this host; clones share everything.
#[derive(Clone)]
pub struct Accounts(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) records: Records,
    pub(crate) config: Config,
    mail_dir: PathBuf,
    clock: Arc<dyn Clock>,
    throttle: Throttle,
    hashing: Semaphore,
    /// A hash that belongs to nobody: an unknown login costs as much as a wrong password.
    nobody: OnceCell<String>,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Accounts").field(&self.0.records).finish()
    }
}

impl Accounts {
    /// The people in `records`, with their Maildirs below `state_dir`.
    #[must_use]
    pub fn open(records: Records, config: Config, state_dir: &Path, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            mail_dir: state_dir.join(&config.mail_dir),
            records,
            config,
            clock,
            throttle: Throttle::default(),
            hashing: Semaphore::new(HASHING_LIMIT),
            nobody: OnceCell::new(),
        }))
    }

    /// Whether mail for a domain is received here.
    ///
    /// # Errors
    /// When the records cannot say.
    pub async fn is_local(&self, domain: &Domain) -> Result<bool, Error> {
        Ok(self.0.records.is_local(domain).await?)
    }

    /// The account of an address; sub-addresses and aliases are not followed.
    ///
    /// # Errors
    /// When the records cannot say.
    pub async fn account(&self, address: &Address) -> Result<Option<Account>, Error> {
        let Some(domain) = address.domain() else { return Ok(None) };
        Ok(self.0.records.account(address.local(), domain).await?.map(|record| self.account_of(record)))
    }

    pub(crate) fn account_of(&self, record: AccountRecord) -> Account {
        let maildir = match (record.maildir, record.address.domain()) {
            (Some(own), _) => self.0.mail_dir.join(own),
            (None, domain) => {
                let domain = domain.map_or("", Domain::as_str);
                let local = path_part(&record.address.local().as_str().to_ascii_lowercase());
                let below = self
                    .0
                    .config
                    .mailboxes
                    .replace("{domain}", &path_part(domain))
                    .replace("{local}", &local);
                self.0.mail_dir.join(below)
            }
        };
        Account { address: record.address, maildir, active: record.active }
    }

    /// Where mail for `path` goes; aliases are followed, sub-addresses understood, loops cut.
    ///
    /// # Errors
    /// When the records cannot say.
    pub async fn expand(&self, path: &ForwardPath) -> Result<Expansion, Error> {
        let address = match path {
            ForwardPath::Address(address) => address.clone(),
            ForwardPath::Postmaster => match self.default_postmaster().await? {
                Some(address) => address,
                None => return Ok(Expansion::Unknown),
            },
        };
        let Some(domain) = address.domain() else { return Ok(Expansion::Foreign) };
        if !self.is_local(domain).await? {
            return Ok(Expansion::Foreign);
        }
        let targets = self.follow(address.clone()).await?;
        if !targets.is_empty() {
            return Ok(Expansion::Targets(targets));
        }
        // Those who must be reachable are, even if what was configured for them leads nowhere.
        if is_duty(&address)
            && let Some(somebody) = self.somebody(domain).await?
        {
            return Ok(Expansion::Targets(vec![somebody]));
        }
        Ok(Expansion::Unknown)
    }

    /// All ends of the aliases that begin at `start`.
    async fn follow(&self, start: Address) -> Result<Vec<Address>, Error> {
        let mut seen = HashSet::from([start.clone()]);
        let mut found = HashSet::new();
        let mut targets = Vec::new();
        let mut wave = vec![start.clone()];
        for _ in 0..=ALIAS_DEPTH {
            let mut next = Vec::new();
            for address in wave {
                match self.one_step(&address).await? {
                    One::Is(target) if found.insert(target.clone()) => targets.push(target),
                    One::Is(_) | One::Nobody => {}
                    One::LeadsTo(more) => {
                        next.extend(more.into_iter().filter(|address| seen.insert(address.clone())));
                    }
                }
                // To deliver to some of them only would lose mail without a word.
                if seen.len() > TARGET_LIMIT {
                    return Err(Error::Sprawling(start.to_string()));
                }
            }
            wave = next;
            if wave.is_empty() {
                return Ok(targets);
            }
        }
        Err(Error::Sprawling(start.to_string()))
    }

    async fn one_step(&self, address: &Address) -> Result<One, Error> {
        let Some(domain) = address.domain() else { return Ok(One::Is(address.clone())) };
        if !self.is_local(domain).await? {
            return Ok(One::Is(address.clone()));
        }
        let mut names = vec![address.local().clone()];
        names.extend(self.without_tag(address.local()));
        for local in &names {
            if let Some(record) = self.0.records.account(local, domain).await? {
                return Ok(One::Is(record.address));
            }
            let targets =
                self.0.records.targets(&AliasSource::Address(local.clone(), domain.clone())).await?;
            if !targets.is_empty() {
                return Ok(One::LeadsTo(targets));
            }
        }
        if is_duty(address) {
            return Ok(self.duty(domain).await?.map_or(One::Nobody, |who| One::LeadsTo(vec![who])));
        }
        let targets = self.0.records.targets(&AliasSource::CatchAll(domain.clone())).await?;
        Ok(if targets.is_empty() { One::Nobody } else { One::LeadsTo(targets) })
    }

    /// `user` of `user+tag`.
    fn without_tag(&self, local: &LocalPart) -> Option<LocalPart> {
        let separator = self.0.config.sub_address.as_str();
        let (user, _) = (!separator.is_empty()).then(|| local.as_str().split_once(separator)).flatten()?;
        LocalPart::plain(user).ok()
    }

    async fn duty(&self, domain: &Domain) -> Result<Option<Address>, Error> {
        if self.0.config.postmaster.is_some() {
            return Ok(self.0.config.postmaster.clone());
        }
        self.somebody(domain).await
    }

    /// The first account of a domain, or of all.
    async fn somebody(&self, domain: &Domain) -> Result<Option<Address>, Error> {
        let accounts = self.0.records.accounts().await?;
        let of_domain = accounts.iter().find(|account| account.address.domain() == Some(domain));
        Ok(of_domain.or_else(|| accounts.first()).map(|account| account.address.clone()))
    }

    async fn default_postmaster(&self) -> Result<Option<Address>, Error> {
        let domains = self.0.records.domains().await?;
        let local = LocalPart::plain("postmaster").ok();
        Ok(local.zip(domains.into_iter().next()).map(|(local, domain)| Address::new(local, domain.name)))
    }

    /// The account whose password this is; `None` for a wrong password, an unknown login and an inactive account alike.
    ///
    /// # Errors
    /// [`Error::Throttled`], or when the records cannot say.
    pub async fn authenticate(
        &self,
        login: &str,
        secret: &str,
        ip: IpAddr,
    ) -> Result<Option<Address>, Error> {
        let inner = &self.0;
        let patience =
            Patience { limit: inner.config.wrong_passwords, span: inner.config.refuse_for.duration() };
        let attempt =
            inner.throttle.admit(ip, login, &*inner.clock, patience).await.ok_or(Error::Throttled)?;
        let (record, is_right) = match self.judge(login, secret).await {
            Ok(judged) => judged,
            Err(error) => {
                // A failure of ours is not the fault of whoever tries.
                attempt.forgive();
                return Err(error);
            }
        };
        let Some(record) = record.filter(|record| is_right && record.active) else { return Ok(None) };
        attempt.right(inner.clock.now());
        if inner.config.upgrade_hashes && !password::is_current(&record.password) {
            self.upgrade(&record, secret).await;
        }
        Ok(Some(record.address))
    }

    /// The account of a login, and whether the secret is right; takes as long for an unknown login.
    async fn judge(&self, login: &str, secret: &str) -> Result<(Option<AccountRecord>, bool), Error> {
        let address = Address::parse(login).ok();
        let record = match address.as_ref().and_then(|address| Some((address.local(), address.domain()?))) {
            Some((local, domain)) => self.0.records.account(local, domain).await?,
            None => None,
        };
        let hash = match &record {
            Some(record) => record.password.clone(),
            None => self.nobody().await?,
        };
        let is_right = self.verify(secret.to_owned(), hash).await?;
        Ok((record, is_right))
    }

    /// Replaces a hash that was brought along. Whoever knows the password is let in whether this works or not.
    async fn upgrade(&self, record: &AccountRecord, secret: &str) {
        let secret = secret.to_owned();
        let replaced = async {
            let Some(domain) = record.address.domain() else { return Ok(false) };
            let fresh = self.hashing(move || password::hash(&secret)).await??;
            let old = record.password.clone();
            Ok::<_, Error>(self.0.records.replace_password(record.address.local(), domain, old, fresh).await?)
        };
        match replaced.await {
            Ok(replaced) => {
                tracing::info!(target: "accounts", event = "hash", account = %record.address, replaced, "argon2id");
            }
            Err(error) => {
                tracing::warn!(target: "accounts", event = "hash", account = %record.address, %error, "the old hash stays");
            }
        }
    }

    async fn verify(&self, secret: String, hash: String) -> Result<bool, Error> {
        self.hashing(move || password::verify(&secret, &hash)).await
    }

    async fn nobody(&self) -> Result<String, Error> {
        let hash = self
            .0
            .nobody
            .get_or_try_init(|| async { self.hashing(|| password::hash("nobody has this password")).await? })
            .await?;
        Ok(hash.clone())
    }

    /// Runs slow work outside the runtime's threads, a few at a time.
    pub(crate) async fn hashing<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let _turn = self.0.hashing.acquire().await.map_err(|error| Error::Hash(error.to_string()))?;
        tokio::task::spawn_blocking(work).await.map_err(|error| Error::Hash(error.to_string()))
    }

    /// Whether `account` may use `author` as reverse-path or From: its own address, a sub-address of it, or an alias
    /// that leads to it.
    ///
    /// # Errors
    /// When the records cannot say.
    pub async fn may_send_as(&self, account: &Address, author: &Address) -> Result<bool, Error> {
        let expansion = self.expand(&ForwardPath::Address(author.clone())).await?;
        Ok(matches!(expansion, Expansion::Targets(targets) if targets.contains(account)))
    }
}

fn is_duty(address: &Address) -> bool {
    DUTIES.iter().any(|duty| address.local().as_str().eq_ignore_ascii_case(duty))
}

enum One {
    Is(Address),
    LeadsTo(Vec<Address>),
    Nobody,
}

/// One component of a path made of a stranger's text: what could leave the folder or confuse is written as `%XX`.
fn path_part(text: &str) -> String {
    let mut part = String::with_capacity(text.len());
    for (index, c) in text.char_indices() {
        let plain =
            c.is_alphanumeric() || matches!(c, '-' | '_' | '+' | '=' | '@') || (c == '.' && index > 0);
        if plain {
            part.push(c);
        } else {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                part.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    part
}

#[cfg(test)]
mod tests;
