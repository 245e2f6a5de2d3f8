//! The only door to the network: listeners, TLS, resolver, limits, shutdown.
//!
//! **Purpose**: every socket of the program is made here, with its limits, and every name is looked up here.
//! **In**: addresses from configuration, connections, PEM files. **Out**: [`Stream`]s, TLS acceptors, answers of the DNS.
//! **Trust**: bytes come from strangers; TLS private keys are held here and nowhere else.
//! **Standards**: RFC 8446 (TLS), RFC 6066 §3 (SNI), RFC 7250 (raw keys), RFC 1035 (DNS), RFC 8601 §2.7.3 (iprev).
//! **Failure**: a lookup that fails is [`Transient`](mailgate_model::Permanence::Transient) unless the DNS said no.
//! **Start reading at**: `stream.rs`, then `tls.rs`.
//!
//! A crate of its own because it fences rustls and hickory, and because no other crate may open a socket.

mod clock;
mod config;
mod datagrams;
mod dial;
mod error;
pub mod http;
mod places;
mod resolver;
mod serve;
mod signed;
mod stream;
mod tls;

pub use clock::SystemClock;
pub use config::{Config, Pair, ResolverConfig, TlsConfig};
pub use datagrams::{Group, datagrams};
pub use dial::{Source, dial};
pub use error::{Error, LookupError};
pub use places::{Full, Limits, Place, Places};
pub use resolver::{Mx, Resolver, Reverse};
pub use serve::{listen, serve};
pub use signed::{
    AoAlgorithm, Hops, KEY_LIMIT, Key, Signature, Terms, dial_neighbour, expect_neighbour, welcome_neighbour,
};
pub use stream::Stream;
pub use tls::{Fingerprint, PeerCertificate, Pinned, Tls};
