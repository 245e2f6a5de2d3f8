//! `mailgate domain`, `mailgate account`, `mailgate alias`: who is at home here.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use mailgate_model::{Address, Domain};

use super::{Question, Show, secret_from_stdin, text_of};
use crate::admin::{Call, Failure};

/// What can be done with domains.
#[derive(Debug, Subcommand)]
pub(super) enum DomainVerb {
    /// All local domains.
    List,
    /// Receive mail for a domain.
    Add {
        /// The domain.
        domain: Domain,
    },
    /// Stop receiving mail for a domain.
    Delete {
        /// The domain.
        domain: Domain,
    },
}

impl DomainVerb {
    pub(super) fn question(self) -> Question {
        let (call, show) = match self {
            Self::List => (
                Call::DomainList,
                Show::Table(&[
                    ("domain", "DOMAIN"),
                    ("accounts", "ACCOUNTS"),
                    ("aliases", "ALIASES"),
                    ("created", "CREATED"),
                ]),
            ),
            Self::Add { domain } => (Call::DomainAdd { domain }, Show::Card),
            Self::Delete { domain } => (Call::DomainDelete { domain }, Show::Card),
        };
        Question { call, show }
    }
}

/// Where a password comes from; never from the command line, which others can read.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Secret {
    /// Read the password from standard input, one line.
    #[arg(long)]
    password_stdin: bool,
    /// A hash from elsewhere: $6$, $5$, $2b$, $argon2id$, or with Dovecot's {SCHEME} in front.
    #[arg(long, value_name = "HASH")]
    hash: Option<String>,
}

impl Secret {
    fn read(self) -> Result<(Option<String>, Option<String>), Failure> {
        let password = if self.password_stdin { Some(secret_from_stdin()?) } else { None };
        Ok((password, self.hash))
    }
}

/// What can be done with accounts.
#[derive(Debug, Subcommand)]
pub(super) enum AccountVerb {
    /// All accounts.
    List,
    /// Make an account; its domain must be local.
    Add {
        /// Its address, which is also its login name.
        address: Address,
        #[command(flatten)]
        secret: Secret,
        /// An existing Maildir to use in place.
        #[arg(long, value_name = "FOLDER")]
        maildir: Option<PathBuf>,
    },
    /// Give an account another password.
    Password {
        /// Its address.
        address: Address,
        #[command(flatten)]
        secret: Secret,
    },
    /// Delete an account; its mail stays on disk.
    Delete {
        /// Its address.
        address: Address,
    },
    /// Make accounts from a passwd file with lines `address:hash`, as Dovecot keeps them.
    Import {
        /// The file; `-` is standard input.
        file: PathBuf,
    },
}

impl AccountVerb {
    pub(super) fn question(self) -> Result<Question, Failure> {
        let (call, show) = match self {
            Self::List => (
                Call::AccountList,
                Show::Table(&[
                    ("address", "ACCOUNT"),
                    ("scheme", "PASSWORD"),
                    ("active", "ACTIVE"),
                    ("maildir", "MAILDIR"),
                ]),
            ),
            Self::Add { address, secret, maildir } => {
                let (password, hash) = secret.read()?;
                (Call::AccountAdd { address, password, hash, maildir }, Show::Card)
            }
            Self::Password { address, secret } => {
                let (password, hash) = secret.read()?;
                (Call::AccountPassword { address, password, hash }, Show::Card)
            }
            Self::Delete { address } => (Call::AccountDelete { address }, Show::Card),
            Self::Import { file } => (Call::AccountImport { passwd: text_of(&file)? }, Show::Card),
        };
        Ok(Question { call, show })
    }
}

/// What can be done with aliases.
#[derive(Debug, Subcommand)]
pub(super) enum AliasVerb {
    /// All aliases.
    List,
    /// Lead an address to others; `@domain` catches everything else of a domain.
    Add {
        /// The address, or `@domain`.
        source: String,
        /// Where it leads.
        #[arg(required = true)]
        targets: Vec<Address>,
    },
    /// Delete an alias.
    Delete {
        /// The address, or `@domain`.
        source: String,
    },
}

impl AliasVerb {
    pub(super) fn question(self) -> Question {
        let (call, show) = match self {
            Self::List => (Call::AliasList, Show::Table(&[("source", "ALIAS"), ("targets", "LEADS TO")])),
            Self::Add { source, targets } => (Call::AliasAdd { source, targets }, Show::Card),
            Self::Delete { source } => (Call::AliasDelete { source }, Show::Card),
        };
        Question { call, show }
    }
}
