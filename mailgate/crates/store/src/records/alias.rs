//! Aliases: addresses whose mail goes elsewhere.

use mailgate_model::{Address, Domain, LocalPart};
use rusqlite::params;

use super::{Records, address_of, domain_of, found, local_of, must_be_local};
use crate::Error;

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

impl Records {
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
}
