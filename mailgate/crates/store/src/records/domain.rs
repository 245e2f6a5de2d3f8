//! Domains that are local here.

use mailgate_model::{Domain, Timestamp};
use rusqlite::params;

use super::{Records, domain_of};
use crate::Error;

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

impl Records {
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
}
