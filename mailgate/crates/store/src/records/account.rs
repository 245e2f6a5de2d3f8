//! Accounts: who has a mailbox and may log in.

use std::path::PathBuf;

use mailgate_model::{Address, Domain, LocalPart, Timestamp};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Records, domain_of, found, local_of, must_be_local};
use crate::Error;

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

impl Records {
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
