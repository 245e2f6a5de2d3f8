//! `mailgate dkim` and `mailgate dns`: keys, and what to publish.

use clap::{Subcommand, ValueEnum};
use mailgate_model::Domain;

use super::{Question, Show};
use crate::admin::Call;

/// Signature algorithm of a key.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Algorithm {
    /// Ed25519 (RFC 8463): short, and still ignored by some verifiers.
    Ed25519,
    /// RSA with 2048 bits (RFC 8301): understood everywhere.
    Rsa,
}

/// What can be done with DKIM keys.
#[derive(Debug, Subcommand)]
pub(super) enum DkimVerb {
    /// All keys.
    List,
    /// Make a key and print the record to publish.
    Create {
        /// The domain that signs.
        domain: Domain,
        /// Name of the key below `_domainkey`.
        #[arg(long, default_value = "mailgate")]
        selector: String,
        /// Algorithm.
        #[arg(long, value_enum, default_value = "rsa")]
        algorithm: Algorithm,
    },
}

impl DkimVerb {
    pub(super) fn question(self) -> Question {
        let (call, show) = match self {
            Self::List => (
                Call::DkimList,
                Show::Table(&[
                    ("domain", "DOMAIN"),
                    ("selector", "SELECTOR"),
                    ("algorithm", "ALGORITHM"),
                    ("created", "CREATED"),
                ]),
            ),
            Self::Create { domain, selector, algorithm } => {
                let algorithm = match algorithm {
                    Algorithm::Ed25519 => "ed25519",
                    Algorithm::Rsa => "rsa",
                };
                (Call::DkimCreate { domain, selector, algorithm: algorithm.to_owned() }, Show::Lines)
            }
        };
        Question { call, show }
    }
}

/// What can be asked about the DNS.
#[derive(Debug, Subcommand)]
pub(super) enum DnsVerb {
    /// The records a domain should publish, as a zone file.
    Records {
        /// The domain.
        domain: Domain,
    },
}

impl DnsVerb {
    pub(super) fn question(self) -> Question {
        let Self::Records { domain } = self;
        Question { call: Call::DnsRecords { domain }, show: Show::Lines }
    }
}
