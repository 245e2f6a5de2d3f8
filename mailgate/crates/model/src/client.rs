//! The other end of a connection and what is known of it.

use std::net::{IpAddr, SocketAddr};

use crate::Address;

/// Which of the services a connection asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// IMAP, port 143 or 993.
    Imap,
    /// Submission, port 587 or 465.
    Msa,
    /// Reception from other MTAs, port 25.
    Mx,
}

/// Facts of an established TLS session, for trace headers and policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: String,
    /// Cipher suite in its IANA name.
    pub cipher: String,
    /// Server name the client asked for.
    pub sni: Option<String>,
}

/// What is known of the peer of one connection. Everything but the addresses is a claim until checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Address and port of the peer; an IPv4-mapped IPv6 address is given as IPv4.
    pub peer: SocketAddr,
    /// The address the peer connected to.
    pub local: SocketAddr,
    /// Argument of HELO or EHLO, as said.
    pub helo: Option<String>,
    /// Forward-confirmed reverse name; `None` when there is none or it was not looked up.
    pub rdns: Option<String>,
    /// TLS facts once TLS is on.
    pub tls: Option<TlsFacts>,
    /// The account that authenticated.
    pub identity: Option<Address>,
    /// What first contact made of it, where it met it.
    pub contact: Option<FirstContact>,
}

/// What first contact made of a client, for the trace field and for learning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstContact {
    /// Who it was taken for, in the text of the greylist; empty where nobody asked.
    pub identity: String,
    /// The named reasons: words of lower-case letters and hyphens, separated by spaces and semicolons.
    pub words: String,
}

impl Client {
    /// A client of which only the two addresses are known; mapped addresses are unmapped.
    #[must_use]
    pub fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        Self {
            peer: unmapped(peer),
            local: unmapped(local),
            helo: None,
            rdns: None,
            tls: None,
            identity: None,
            contact: None,
        }
    }

    /// The peer's address without the port.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.peer.ip()
    }
}

fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
