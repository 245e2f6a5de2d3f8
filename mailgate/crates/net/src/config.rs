//! What the administrator may say about TLS and name lookups.

use std::net::SocketAddr;
use std::path::PathBuf;

use mailgate_model::Span;
use serde::Deserialize;

/// `[net]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[net.tls]`.
    pub tls: TlsConfig,
    /// `[net.resolver]`.
    pub resolver: ResolverConfig,
}

/// `[net.tls]`: certificates. Without a pair a self-signed certificate is made at the first start.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// `[[net.tls.pair]]`: chosen by the name the client asks for (SNI); the first when none fits. Default: none.
    pub pair: Vec<Pair>,
}

/// One certificate chain with its private key. Both are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// PEM file with the chain, own certificate first. Example: `/etc/ssl/mail/fullchain.pem`.
    pub certificate: PathBuf,
    /// PEM file with the private key. Example: `/etc/ssl/mail/privkey.pem`.
    pub key: PathBuf,
}

/// `[net.resolver]`: who answers DNS questions.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResolverConfig {
    /// Name servers as `address:port`. Default: none, which means those of the system. Example: `["127.0.0.1:53"]`.
    pub servers: Vec<SocketAddr>,
    /// How long one question may take over all servers and retries. Default: `5s`.
    pub timeout: Span,
}

impl Default for ResolverConfig {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: Span::from_secs(5) }
    }
}
