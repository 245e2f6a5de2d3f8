//! Domains, accounts, aliases and signing keys: what the administrator decides and seldom changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mailgate_model::{Address, Clock, Domain, LocalPart, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{Database, Durability, Error};

const MIGRATIONS: &[&str] = &[include_str!("../migrations/records/0001_records.sql")];

/// The records; clones share one database.
#[derive(Clone)]
pub struct Records {
    database: Database,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Records").field(&self.database).finish()
    }
}

/// A domain that is local here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainRecord {
    /// Its name.
    pub name: Domain,
    /// Accounts in it.
    pub accounts: u64,
    /// Aliases in it, the catch-all among them.
    pub aliases: u64,
    /// When it was added.
    pub created: Timestamp,
}

/// Somebody with a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRecord {
    /// Address and login name, as it was added.
    pub address: Address,
    /// Password hash; never shown and never logged.
    pub password: String,
    /// Whether it may log in. Mail is accepted either way.
    pub active: bool,
    /// A Maildir of its own choice.
    pub maildir: Option<PathBuf>,
    /// When it was added.
    pub created: Timestamp,
}

/// Left side of an alias: one address, or everything else of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AliasSource {
    /// One address.
    Address(LocalPart, Domain),
    /// `@domain`.
    CatchAll(Domain),
}

impl AliasSource {
    /// Reads `user@domain` or `@domain`.
    ///
    /// # Errors
    /// A sentence with what was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(domain) = text.strip_prefix('@') {
            return Domain::parse(domain).map(Self::CatchAll).map_err(|error| error.to_string());
        }
        let address = Address::parse(text).map_err(|error| error.to_string())?;
        match address.domain() {
            Some(domain) => Ok(Self::Address(address.local().clone(), domain.clone())),
            None => Err(format!(
                "found {text:?}, expected an address with a domain, or @domain for everything else of it"
            )),
        }
    }

    fn key(&self) -> (&str, &str) {
        match self {
            Self::Address(local, domain) => (domain.as_str(), local.as_str()),
            Self::CatchAll(domain) => (domain.as_str(), ""),
        }
    }
}

impl std::fmt::Display for AliasSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(local, domain) => write!(f, "{local}@{domain}"),
            Self::CatchAll(domain) => write!(f, "@{domain}"),
        }
    }
}

/// A key that signs.
#[derive(Clone)]
pub struct DkimKey {
    /// The signing domain.
    pub domain: Domain,
    /// Name of the key below `_domainkey`.
    pub selector: String,
    /// `rsa` or `ed25519`.
    pub algorithm: String,
    /// PKCS #8 in DER.
    pub private_key: Vec<u8>,
    /// When it was made.
    pub created: Timestamp,
}

impl std::fmt::Debug for DkimKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DkimKey({}._domainkey.{})", self.selector, self.domain)
    }
}

impl Records {
    /// Opens or creates the database, readable by its owner alone; its folder must exist.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn open(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        keep_private(path.as_ref())?;
        Ok(Self { database: Database::open(path, Durability::Full, MIGRATIONS)?, clock })
    }

    /// Records that end with the process, for tests.
    ///
    /// # Errors
    /// None in practice.
    pub fn memory(clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Ok(Self { database: Database::memory(MIGRATIONS)?, clock })
    }

    /// Whether mail for a domain is received here.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn is_local(&self, domain: &Domain) -> Result<bool, Error> {
        let domain = domain.as_str().to_owned();
        self.database
            .read(move |db| {
                Ok(db.prepare_cached("SELECT 1 FROM domain WHERE name = ?1")?.exists([domain])?)
            })
            .await
    }

    /// All domains by name.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn domains(&self) -> Result<Vec<DomainRecord>, Error> {
        self.database
            .read(|db| {
                let mut rows = db.prepare(
                    "SELECT name, created, (SELECT count(*) FROM account WHERE domain = name),
                            (SELECT count(DISTINCT local) FROM alias WHERE domain = name)
                     FROM domain ORDER BY name",
                )?;
                let rows = rows.query_map([], |row| {
                    Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
                })?;
                rows.map(|row| {
                    let (name, created, accounts, aliases) = row?;
                    Ok(DomainRecord {
                        name: domain_of(&name)?,
                        accounts: u64::try_from(accounts).unwrap_or(0),
                        aliases: u64::try_from(aliases).unwrap_or(0),
                        created: Timestamp::from_secs(created),
                    })
                })
                .collect()
            })
            .await
    }

    /// Adds a domain.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is there.
    pub async fn add_domain(&self, domain: &Domain) -> Result<(), Error> {
        let (name, now) = (domain.as_str().to_owned(), self.clock.now().secs());
        self.database
            .write(move |db| {
                let added = db.execute(
                    "INSERT OR IGNORE INTO domain (name, created) VALUES (?1, ?2)",
                    params![name, now],
                )?;
                if added == 0 {
                    Err(Error::Conflict(format!("the domain {name} is already local")))
                } else {
                    Ok(())
                }
            })
            .await
    }

    /// Deletes a domain without accounts and aliases.
    ///
    /// # Errors
    /// [`Error::Missing`], or [`Error::Conflict`] when it is in use.
    pub async fn delete_domain(&self, domain: &Domain) -> Result<(), Error> {
        let name = domain.as_str().to_owned();
        self.database
            .write(move |db| {
                let used: i64 = db.query_row(
                    "SELECT (SELECT count(*) FROM account WHERE domain = ?1) + (SELECT count(*) FROM alias WHERE domain = ?1)",
                    [&name],
                    |row| row.get(0),
                )?;
                if used > 0 {
                    return Err(Error::Conflict(format!(
                        "the domain {name} has {used} accounts and aliases; delete them first"
                    )));
                }
                match db.execute("DELETE FROM domain WHERE name = ?1", [&name])? {
                    0 => Err(Error::Missing(format!("no local domain {name}"))),
                    _ => Ok(()),
                }
            })
            .await
    }

    /// The account of an address, compared without case.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn account(&self, local: &LocalPart, domain: &Domain) -> Result<Option<AccountRecord>, Error> {
        let (local, domain) = (local.as_str().to_owned(), domain.as_str().to_owned());
        self.database
            .read(move |db| {
                db.prepare_cached(
                    "SELECT local, domain, password, active, maildir, created FROM account WHERE domain = ?1 AND local = ?2",
                )?
                .query_row([domain, local], raw_account)
                .optional()?
                .map(AccountRow::checked)
                .transpose()
            })
            .await
    }

    /// All accounts by domain and name.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn accounts(&self) -> Result<Vec<AccountRecord>, Error> {
        self.database
            .read(|db| {
                let mut rows = db.prepare(
                    "SELECT local, domain, password, active, maildir, created FROM account ORDER BY domain, local",
                )?;
                rows.query_map([], raw_account)?.map(|row| row?.checked()).collect()
            })
            .await
    }

    /// Adds an account to a local domain.
    ///
    /// # Errors
    /// [`Error::Missing`] when the domain is not local, [`Error::Conflict`] when the address is taken.
    pub async fn add_account(
        &self,
        local: &LocalPart,
        domain: &Domain,
        password: String,
        maildir: Option<PathBuf>,
    ) -> Result<(), Error> {
        let (local, domain, now) =
            (local.as_str().to_owned(), domain.as_str().to_owned(), self.clock.now().secs());
        let maildir =
            match maildir.map(PathBuf::into_os_string).map(std::ffi::OsString::into_string).transpose() {
                Ok(maildir) => maildir,
                Err(path) => {
                    let path = path.to_string_lossy();
                    return Err(Error::Conflict(format!(
                        "found the Maildir {path:?}, expected a path in UTF-8"
                    )));
                }
            };
        self.database
            .write(move |db| {
                must_be_local(db, &domain)?;
                let alias = db
                    .prepare_cached("SELECT 1 FROM alias WHERE domain = ?1 AND local = ?2")?
                    .exists([&domain, &local])?;
                if alias {
                    return Err(Error::Conflict(format!("{local}@{domain} is an alias; delete it first")));
                }
                let added = db.execute(
                    "INSERT OR IGNORE INTO account (domain, local, password, maildir, created) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![domain, local, password, maildir, now],
                )?;
                if added == 0 { Err(Error::Conflict(format!("the account {local}@{domain} exists"))) } else { Ok(()) }
            })
            .await
    }

    /// Gives an account another password hash.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn set_password(
        &self,
        local: &LocalPart,
        domain: &Domain,
        password: String,
    ) -> Result<(), Error> {
        let (local, domain) = (local.as_str().to_owned(), domain.as_str().to_owned());
        self.database
            .write(move |db| {
                let changed = db.execute(
                    "UPDATE account SET password = ?3 WHERE domain = ?1 AND local = ?2",
                    params![domain, local, password],
                )?;
                found(changed, || format!("no account {local}@{domain}"))
            })
            .await
    }

    /// Gives an account another password hash, if its hash is still `old`. Returns whether it was.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn replace_password(
        &self,
        local: &LocalPart,
        domain: &Domain,
        old: String,
        new: String,
    ) -> Result<bool, Error> {
        let (local, domain) = (local.as_str().to_owned(), domain.as_str().to_owned());
        self.database
            .write(move |db| {
                let changed = db.execute(
                    "UPDATE account SET password = ?4 WHERE domain = ?1 AND local = ?2 AND password = ?3",
                    params![domain, local, old, new],
                )?;
                Ok(changed == 1)
            })
            .await
    }

    /// Lets an account log in, or not. Mail is accepted either way.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn set_active(&self, local: &LocalPart, domain: &Domain, active: bool) -> Result<(), Error> {
        let (local, domain) = (local.as_str().to_owned(), domain.as_str().to_owned());
        self.database
            .write(move |db| {
                let changed = db.execute(
                    "UPDATE account SET active = ?3 WHERE domain = ?1 AND local = ?2",
                    params![domain, local, active],
                )?;
                found(changed, || format!("no account {local}@{domain}"))
            })
            .await
    }

    /// Deletes an account; its mail stays on disk.
    ///
    /// # Errors
    /// [`Error::Missing`], or [`Error::Conflict`] when an alias leads to it: its mail would bounce from then on.
    pub async fn delete_account(&self, local: &LocalPart, domain: &Domain) -> Result<(), Error> {
        let address = Address::new(local.clone(), domain.clone()).to_string();
        let (local, domain) = (local.as_str().to_owned(), domain.as_str().to_owned());
        self.database
            .write(move |db| {
                let alias: Option<(String, String)> = db
                    .query_row(
                        "SELECT local, domain FROM alias WHERE target = ?1 COLLATE NOCASE LIMIT 1",
                        [&address],
                        |row| Ok((row.get(0)?, row.get(1)?)),
                    )
                    .optional()?;
                if let Some((alias, of)) = alias {
                    return Err(Error::Conflict(format!(
                        "the alias {alias}@{of} leads to {address}; delete the alias first"
                    )));
                }
                let deleted =
                    db.execute("DELETE FROM account WHERE domain = ?1 AND local = ?2", [&domain, &local])?;
                found(deleted, || format!("no account {local}@{domain}"))
            })
            .await
    }

    /// Where an alias leads; empty when there is none.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn targets(&self, source: &AliasSource) -> Result<Vec<Address>, Error> {
        let (domain, local) = source.key();
        let (domain, local) = (domain.to_owned(), local.to_owned());
        self.database
            .read(move |db| {
                let mut rows = db.prepare_cached(
                    "SELECT target FROM alias WHERE domain = ?1 AND local = ?2 ORDER BY target",
                )?;
                rows.query_map([domain, local], |row| row.get::<_, String>(0))?
                    .map(|target| address_of(&target?))
                    .collect()
            })
            .await
    }

    /// All aliases with their targets, by domain and name.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn aliases(&self) -> Result<Vec<(AliasSource, Vec<Address>)>, Error> {
        self.database
            .read(|db| {
                let mut statement =
                    db.prepare("SELECT domain, local, target FROM alias ORDER BY domain, local, target")?;
                let rows = statement.query_map([], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
                })?;
                let mut all: Vec<(AliasSource, Vec<Address>)> = Vec::new();
                for row in rows {
                    let (domain, local, target) = row?;
                    let domain = domain_of(&domain)?;
                    let source = if local.is_empty() {
                        AliasSource::CatchAll(domain)
                    } else {
                        AliasSource::Address(local_of(&local)?, domain)
                    };
                    let target = address_of(&target)?;
                    match all.last_mut() {
                        Some((last, targets)) if *last == source => targets.push(target),
                        _ => all.push((source, vec![target])),
                    }
                }
                Ok(all)
            })
            .await
    }

    /// Adds targets to an alias of a local domain.
    ///
    /// # Errors
    /// [`Error::Missing`] when the domain is not local, [`Error::Conflict`] when the address is an account.
    pub async fn add_alias(&self, source: &AliasSource, targets: &[Address]) -> Result<(), Error> {
        let (domain, local) = source.key();
        let (domain, local) = (domain.to_owned(), local.to_owned());
        let targets: Vec<String> = targets.iter().map(Address::to_string).collect();
        self.database
            .write(move |db| {
                must_be_local(db, &domain)?;
                let account = db
                    .prepare_cached("SELECT 1 FROM account WHERE domain = ?1 AND local = ?2")?
                    .exists([&domain, &local])?;
                if account {
                    return Err(Error::Conflict(format!(
                        "{local}@{domain} is an account; an alias of that name would hide it"
                    )));
                }
                for target in targets {
                    db.execute(
                        "INSERT OR IGNORE INTO alias (domain, local, target) VALUES (?1, ?2, ?3)",
                        params![domain, local, target],
                    )?;
                }
                Ok(())
            })
            .await
    }

    /// Deletes an alias with all its targets.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn delete_alias(&self, source: &AliasSource) -> Result<(), Error> {
        let (domain, local) = source.key();
        let (domain, local) = (domain.to_owned(), local.to_owned());
        let name = source.to_string();
        self.database
            .write(move |db| {
                let deleted =
                    db.execute("DELETE FROM alias WHERE domain = ?1 AND local = ?2", [domain, local])?;
                found(deleted, || format!("no alias {name}"))
            })
            .await
    }

    /// The keys that sign for a domain, oldest first.
    ///
    /// # Errors
    /// When the database cannot say.
    pub async fn dkim_keys(&self, domain: Option<&Domain>) -> Result<Vec<DkimKey>, Error> {
        let domain = domain.map(|domain| domain.as_str().to_owned());
        self.database
            .read(move |db| {
                let mut rows = db.prepare_cached(
                    "SELECT domain, selector, algorithm, private_key, created FROM dkim_key
                     WHERE ?1 IS NULL OR domain = ?1 ORDER BY domain, created, selector",
                )?;
                let rows = rows.query_map([domain], |row| {
                    Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
                })?;
                rows.map(|row| {
                    let (domain, selector, algorithm, private_key, created) = row?;
                    let created = Timestamp::from_secs(created);
                    Ok(DkimKey { domain: domain_of(&domain)?, selector, algorithm, private_key, created })
                })
                .collect()
            })
            .await
    }

    /// Forgets a key.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub async fn delete_dkim_key(&self, domain: &Domain, selector: String) -> Result<(), Error> {
        let domain = domain.as_str().to_owned();
        self.database
            .write(move |db| {
                let deleted = db.execute(
                    "DELETE FROM dkim_key WHERE domain = ?1 AND selector = ?2",
                    [&domain, &selector],
                )?;
                found(deleted, || format!("no key {selector}._domainkey.{domain}"))
            })
            .await
    }

    /// Keeps a key.
    ///
    /// # Errors
    /// [`Error::Conflict`] when domain and selector are taken: a published key must not change under its name.
    pub async fn add_dkim_key(
        &self,
        domain: &Domain,
        selector: String,
        algorithm: String,
        private_key: Vec<u8>,
    ) -> Result<(), Error> {
        let (domain, now) = (domain.as_str().to_owned(), self.clock.now().secs());
        self.database
            .write(move |db| {
                let added = db.execute(
                    "INSERT OR IGNORE INTO dkim_key (domain, selector, algorithm, private_key, created) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![domain, selector, algorithm, private_key, now],
                )?;
                if added == 0 {
                    return Err(Error::Conflict(format!("{selector}._domainkey.{domain} exists; choose another selector")));
                }
                Ok(())
            })
            .await
    }
}

/// The database holds password hashes and signing keys. SQLite gives its side files the permissions of the main one.
fn keep_private(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path).map_err(|error| Error::io("opening", path, &error))?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(mode & 0o700))?;
    }
    Ok(())
}

fn found(changed: usize, missing: impl FnOnce() -> String) -> Result<(), Error> {
    if changed == 0 { Err(Error::Missing(missing())) } else { Ok(()) }
}

fn must_be_local(db: &Connection, domain: &str) -> Result<(), Error> {
    if db.prepare_cached("SELECT 1 FROM domain WHERE name = ?1")?.exists([domain])? {
        return Ok(());
    }
    Err(Error::Missing(format!("{domain} is not local; add it with `mailgate domain add {domain}`")))
}

struct AccountRow {
    local: String,
    domain: String,
    password: String,
    active: bool,
    maildir: Option<String>,
    created: i64,
}

fn raw_account(row: &Row<'_>) -> rusqlite::Result<AccountRow> {
    Ok(AccountRow {
        local: row.get(0)?,
        domain: row.get(1)?,
        password: row.get(2)?,
        active: row.get(3)?,
        maildir: row.get(4)?,
        created: row.get(5)?,
    })
}

impl AccountRow {
    fn checked(self) -> Result<AccountRecord, Error> {
        Ok(AccountRecord {
            address: Address::new(local_of(&self.local)?, domain_of(&self.domain)?),
            password: self.password,
            active: self.active,
            maildir: self.maildir.map(PathBuf::from),
            created: Timestamp::from_secs(self.created),
        })
    }
}

fn domain_of(text: &str) -> Result<Domain, Error> {
    Domain::parse(text).map_err(|error| Error::Corrupt(format!("a domain in the records: {error}")))
}

/// The database keeps local parts without quotes.
fn local_of(text: &str) -> Result<LocalPart, Error> {
    LocalPart::plain(text).map_err(|error| Error::Corrupt(format!("a local part in the records: {error}")))
}

fn address_of(text: &str) -> Result<Address, Error> {
    Address::parse(text).map_err(|error| Error::Corrupt(format!("an address in the records: {error}")))
}

#[cfg(test)]
mod tests {
    use mailgate_model::ManualClock;

    use super::*;

    fn records() -> Records {
        Records::memory(Arc::new(ManualClock::at(Timestamp::from_secs(1_700_000_000)))).unwrap()
    }

    fn parts(text: &str) -> (LocalPart, Domain) {
        let address = Address::parse(text).unwrap();
        (address.local().clone(), address.domain().unwrap().clone())
    }

    #[tokio::test]
    async fn an_account_needs_a_local_domain_and_is_found_in_any_case() {
        let records = records();
        let (local, domain) = parts("Alice.Smith@example.org");
        let missing = records.add_account(&local, &domain, "x".into(), None).await.unwrap_err();
        assert!(matches!(missing, Error::Missing(text) if text.contains("mailgate domain add example.org")));
        records.add_domain(&domain).await.unwrap();
        records.add_account(&local, &domain, "x".into(), None).await.unwrap();
        let (other_case, _) = parts("alice.smith@example.org");
        let found = records.account(&other_case, &domain).await.unwrap().unwrap();
        assert_eq!(found.address.to_string(), "Alice.Smith@example.org");
        let taken = records.add_account(&other_case, &domain, "y".into(), None).await.unwrap_err();
        assert!(matches!(taken, Error::Conflict(_)));
    }

    #[tokio::test]
    async fn a_domain_in_use_is_not_deleted() {
        let records = records();
        let (local, domain) = parts("alice@example.org");
        records.add_domain(&domain).await.unwrap();
        records.add_account(&local, &domain, "x".into(), None).await.unwrap();
        assert!(matches!(records.delete_domain(&domain).await, Err(Error::Conflict(_))));
        records.delete_account(&local, &domain).await.unwrap();
        records.delete_domain(&domain).await.unwrap();
        assert!(!records.is_local(&domain).await.unwrap());
    }

    #[tokio::test]
    async fn an_alias_and_an_account_never_share_a_name() {
        let records = records();
        let (local, domain) = parts("alice@example.org");
        records.add_domain(&domain).await.unwrap();
        records.add_account(&local, &domain, "x".into(), None).await.unwrap();
        let target = [Address::parse("else@example.net").unwrap()];
        let source = AliasSource::parse("ALICE@example.org").unwrap();
        assert!(matches!(records.add_alias(&source, &target).await, Err(Error::Conflict(_))));
        let catch_all = AliasSource::parse("@example.org").unwrap();
        records.add_alias(&catch_all, &target).await.unwrap();
        assert_eq!(records.targets(&catch_all).await.unwrap(), target);
        assert_eq!(records.aliases().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn an_account_an_alias_leads_to_is_not_deleted() {
        let records = records();
        let (local, domain) = parts("alice@example.org");
        records.add_domain(&domain).await.unwrap();
        records.add_account(&local, &domain, "x".into(), None).await.unwrap();
        let source = AliasSource::parse("sales@example.org").unwrap();
        records.add_alias(&source, &[Address::parse("Alice@example.org").unwrap()]).await.unwrap();
        let used = records.delete_account(&local, &domain).await.unwrap_err();
        assert!(matches!(&used, Error::Conflict(text) if text.contains("sales@example.org")), "{used}");
        records.delete_alias(&source).await.unwrap();
        records.delete_account(&local, &domain).await.unwrap();
    }

    #[tokio::test]
    async fn a_hash_is_replaced_only_if_nobody_else_changed_it() {
        let records = records();
        let (local, domain) = parts("alice@example.org");
        records.add_domain(&domain).await.unwrap();
        records.add_account(&local, &domain, "old".into(), None).await.unwrap();
        assert!(!records.replace_password(&local, &domain, "other".into(), "new".into()).await.unwrap());
        assert!(records.replace_password(&local, &domain, "old".into(), "new".into()).await.unwrap());
        records.set_active(&local, &domain, false).await.unwrap();
        let account = records.account(&local, &domain).await.unwrap().unwrap();
        assert_eq!((account.password.as_str(), account.active), ("new", false));
    }

    #[tokio::test]
    async fn the_file_with_hashes_and_keys_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.sqlite");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let records = Records::open(&path, Arc::new(ManualClock::default())).unwrap();
        records.add_domain(&Domain::parse("example.org").unwrap()).await.unwrap();
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.path());
        }
    }
}
