//! What the administrator does with people.

use std::path::PathBuf;

use mailgate_model::{Address, Domain, LocalPart};
use mailgate_store::records::AliasSource;
use serde::Serialize;

use crate::password::{self, Scheme};
use crate::{Accounts, Error, Imported, passwd};

/// A new password.
pub enum Secret {
    /// A hash from elsewhere, with or without `{SCHEME}`.
    Hash(String),
    /// In plain text; hashed with argon2id.
    Password(String),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hash(_) => "Secret::Hash",
            Self::Password(_) => "Secret::Password",
        })
    }
}

/// One line of `mailgate domain list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DomainRow {
    /// The domain.
    pub domain: String,
    /// Accounts in it.
    pub accounts: u64,
    /// Aliases in it.
    pub aliases: u64,
    /// When it was added, RFC 3339.
    pub created: String,
}

/// One line of `mailgate account list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountRow {
    /// Address and login.
    pub address: String,
    /// How the password is hashed.
    pub scheme: &'static str,
    /// Whether it may log in.
    pub active: bool,
    /// Its Maildir.
    pub maildir: PathBuf,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// One line of `mailgate alias list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AliasRow {
    /// The address, or `@domain`.
    pub source: String,
    /// Where it leads.
    pub targets: Vec<String>,
}

impl Accounts {
    /// All domains by name.
    ///
    /// # Errors
    /// When the records cannot say.
    pub async fn domains(&self) -> Result<Vec<DomainRow>, Error> {
        let rows = self.0.records.domains().await?.into_iter().map(|row| DomainRow {
            domain: row.name.to_string(),
            accounts: row.accounts,
            aliases: row.aliases,
            created: row.created.to_string(),
        });
        Ok(rows.collect())
    }

    /// Receives mail for a domain from now on.
    ///
    /// # Errors
    /// When it is local already.
    pub async fn add_domain(&self, domain: &Domain) -> Result<(), Error> {
        Ok(self.0.records.add_domain(domain).await?)
    }

    /// No longer receives mail for a domain.
    ///
    /// # Errors
    /// When it is not local, or has accounts or aliases.
    pub async fn delete_domain(&self, domain: &Domain) -> Result<(), Error> {
        Ok(self.0.records.delete_domain(domain).await?)
    }

    /// All accounts by domain and name.
    ///
    /// # Errors
    /// When the records cannot say.
    pub async fn list(&self) -> Result<Vec<AccountRow>, Error> {
        let rows = self.0.records.accounts().await?.into_iter().map(|record| {
            let scheme = Scheme::of(&record.password).map_or("unknown", Scheme::name);
            let created = record.created.to_string();
            let account = self.account_of(record);
            AccountRow {
                address: account.address.to_string(),
                scheme,
                active: account.active,
                maildir: account.maildir,
                created,
            }
        });
        Ok(rows.collect())
    }

    /// Makes an account.
    ///
    /// # Errors
    /// When the domain is not local, the address is taken or the secret cannot be used.
    pub async fn add_account(
        &self,
        address: &Address,
        secret: Secret,
        maildir: Option<PathBuf>,
    ) -> Result<(), Error> {
        let (local, domain) = halves(address)?;
        let hash = self.hash(secret).await?;
        Ok(self.0.records.add_account(local, domain, hash, maildir).await?)
    }

    /// Gives an account another password.
    ///
    /// # Errors
    /// When there is no such account or the secret cannot be used.
    pub async fn set_password(&self, address: &Address, secret: Secret) -> Result<(), Error> {
        let (local, domain) = halves(address)?;
        let hash = self.hash(secret).await?;
        Ok(self.0.records.set_password(local, domain, hash).await?)
    }

    /// Lets an account log in, or not. Mail is accepted either way.
    ///
    /// # Errors
    /// When there is none.
    pub async fn set_active(&self, address: &Address, active: bool) -> Result<(), Error> {
        let (local, domain) = halves(address)?;
        Ok(self.0.records.set_active(local, domain, active).await?)
    }

    /// Deletes an account; its mail stays on disk.
    ///
    /// # Errors
    /// When there is none, or an alias leads to it.
    pub async fn delete_account(&self, address: &Address) -> Result<(), Error> {
        let (local, domain) = halves(address)?;
        Ok(self.0.records.delete_account(local, domain).await?)
    }

    /// Makes accounts of the lines of a passwd file; existing ones are left as they are.
    ///
    /// # Errors
    /// When the records cannot be written; lines that cannot be used are named in the result.
    pub async fn import_passwd(&self, text: &str) -> Result<Imported, Error> {
        let mut imported = Imported { added: 0, existing: 0, refused: Vec::new() };
        for (index, line) in text.lines().enumerate() {
            let Some(line) = passwd::line(line) else { continue };
            let done = match line {
                Err(why) => Err(Error::Malformed(why)),
                Ok(person) if self.account(&person.address).await?.is_some() => {
                    imported.existing += 1;
                    continue;
                }
                Ok(person) => {
                    self.add_account(&person.address, Secret::Hash(person.hash), person.maildir).await
                }
            };
            match done {
                Ok(()) => imported.added += 1,
                Err(error) => imported.refused.push(format!("line {}: {error}", index + 1)),
            }
        }
        Ok(imported)
    }

    /// All aliases by domain and name.
    ///
    /// # Errors
    /// When the records cannot say.
    pub async fn aliases(&self) -> Result<Vec<AliasRow>, Error> {
        let rows = self.0.records.aliases().await?.into_iter().map(|(source, targets)| AliasRow {
            source: source.to_string(),
            targets: targets.iter().map(Address::to_string).collect(),
        });
        Ok(rows.collect())
    }

    /// Leads `source`, an address or `@domain`, to `targets` as well.
    ///
    /// # Errors
    /// When the domain is not local or the address is an account.
    pub async fn add_alias(&self, source: &str, targets: &[Address]) -> Result<(), Error> {
        let source = AliasSource::parse(source).map_err(Error::Malformed)?;
        // The address is no account, else it could not be an alias.
        if targets.iter().any(|target| target.to_string() == source.to_string()) {
            return Err(Error::Malformed(format!("{source} would lead to itself")));
        }
        Ok(self.0.records.add_alias(&source, targets).await?)
    }

    /// Deletes an alias with all its targets.
    ///
    /// # Errors
    /// When there is none.
    pub async fn delete_alias(&self, source: &str) -> Result<(), Error> {
        let source = AliasSource::parse(source).map_err(Error::Malformed)?;
        Ok(self.0.records.delete_alias(&source).await?)
    }

    async fn hash(&self, secret: Secret) -> Result<String, Error> {
        match secret {
            Secret::Hash(hash) => password::adopt(&hash),
            Secret::Password(plain) => self.hashing(move || password::hash(&plain)).await?,
        }
    }
}

fn halves(address: &Address) -> Result<(&LocalPart, &Domain), Error> {
    match address.domain() {
        Some(domain) => Ok((address.local(), domain)),
        None => Err(Error::Malformed(format!("found {address}, expected an address with a domain"))),
    }
}
