//! What remote delivery asks of the network: names and encryption. Traits, so that tests play hosts and handshakes
//! without DNS and certificates.

use std::io;
use std::net::IpAddr;

use futures_util::future::BoxFuture;
use mailgate_model::Domain;
use mailgate_net::{LookupError, Mx, Resolver, Stream, Tls};
use tokio::net::TcpStream;

/// Answers about hosts.
pub trait Names: Send + Sync + 'static {
    /// MX records of a domain, any order; the null MX has an empty host (RFC 7505 §3).
    fn mx<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Vec<Mx>, LookupError>>;
    /// Addresses of a host.
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>>;
}

impl Names for Resolver {
    fn mx<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Vec<Mx>, LookupError>> {
        Box::pin(Self::mx(self, domain))
    }

    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>> {
        Box::pin(Self::addresses(self, host))
    }
}

/// Turns a connection into an encrypted one.
pub trait Encrypt: Send + Sync + 'static {
    /// The handshake as client, opportunistic: encrypts and does not verify.
    fn connect<'a>(&'a self, tcp: TcpStream, host: &'a str) -> BoxFuture<'a, io::Result<Stream>>;
}

impl Encrypt for Tls {
    fn connect<'a>(&'a self, tcp: TcpStream, host: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(Self::connect(self, tcp, host))
    }
}
