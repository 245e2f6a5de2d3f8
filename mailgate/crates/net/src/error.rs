//! What can go wrong at the door to the network.

use std::path::PathBuf;

use mailgate_model::Permanence;

/// Why TLS or the resolver could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A certificate or key could not be used. Usually because the two files do not belong together.
    #[error("{}: {found}; expected a PEM certificate chain and its private key", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// A file could not be read or written. Usually because of its permissions.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The resolver could not be built. Usually because /etc/resolv.conf is missing or malformed.
    #[error("no resolver: {0}; name servers can be set as net.resolver.servers = [\"address:port\"]")]
    Resolver(String),
    /// The TLS library refused something. Usually a mistake of ours.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl Error {
    /// Files can be mended while we run; the rest cannot.
    #[must_use]
    pub fn permanence(&self) -> Permanence {
        match self {
            Self::Certificate { .. } | Self::File { .. } => Permanence::Transient,
            Self::Resolver(_) | Self::Tls(_) => Permanence::Permanent,
        }
    }
}

/// Why a question to the DNS has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// The DNS says that there is no such name, or no such record at it.
    #[error("there is no such record")]
    NotFound,
    /// Nobody could say: time-out, SERVFAIL, a broken answer. Ask again later.
    #[error("the DNS did not answer: {0}")]
    Temporary(String),
}

impl LookupError {
    /// Only a clear no is permanent.
    #[must_use]
    pub fn permanence(&self) -> Permanence {
        match self {
            Self::NotFound => Permanence::Permanent,
            Self::Temporary(_) => Permanence::Transient,
        }
    }
}
