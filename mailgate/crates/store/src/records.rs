//! Domains, accounts, aliases and signing keys: what the administrator decides and seldom changes.

mod account;
mod alias;
mod dkim_key;
mod domain;

use std::path::Path;
use std::sync::Arc;

use mailgate_model::{Address, Clock, Domain, LocalPart};
use rusqlite::Connection;

use crate::{Database, Durability, Error};

pub use self::account::AccountRecord;
pub use self::alias::AliasSource;
pub use self::dkim_key::DkimKey;
pub use self::domain::DomainRecord;

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
mod tests;
