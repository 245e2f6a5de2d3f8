//! Keys that sign.

use mailgate_model::{Domain, Timestamp};
use rusqlite::params;

use super::{Records, domain_of, found};
use crate::Error;

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
