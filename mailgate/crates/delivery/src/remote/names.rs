//! What remote delivery asks of the network: names and encryption. Traits, so that tests play hosts and handshakes
//! without DNS and certificates.

use std::io;
use std::net::IpAddr;

use futures_util::future::BoxFuture;
use mailgate_model::Domain;
use mailgate_net::Stream;
use tokio::net::TcpStream;

/// One MX record; `host` is empty for the null MX (RFC 7505 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Lower is tried first.
    pub preference: u16,
    /// Name of the host, without trailing dot.
    pub host: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// The DNS says that there is nothing.
    Nothing,
    /// It could not be asked, or did not answer; the text is for the log and the DSN.
    Temporary(String),
}

/// Answers about hosts.
pub trait Names: Send + Sync + 'static {
    /// MX records of a domain, any order.
    fn exchanges<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Vec<Exchange>, NoAnswer>>;
    /// Addresses of a host.
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, NoAnswer>>;
}

/// Turns a connection into an encrypted one.
pub trait Encrypt: Send + Sync + 'static {
    /// The handshake as client, opportunistic: encrypts and does not verify.
    fn connect<'a>(&'a self, tcp: TcpStream, host: &'a str) -> BoxFuture<'a, io::Result<Stream>>;
}
