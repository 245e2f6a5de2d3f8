//! Delivery: to mailboxes of ours, and to other MTAs.
//!
//! **Purpose**: perform the queue's attempts and say for every recipient how it ended.
//! **In**: `Attempt`s of the queue. **Out**: messages in Maildirs, messages at other MTAs, outcomes.
//! **Trust**: replies of remote hosts are bounded and cleaned before they go anywhere; MX records of strangers do not
//! lead us to ourselves.
//! **Standards**: RFC 5321 (client), RFC 1870 (SIZE), RFC 2920 (PIPELINING), RFC 3207 (STARTTLS), RFC 3461 (DSN),
//! RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 7435 (opportunistic TLS), RFC 7505 (null MX).
//! **Failure**: when in doubt transient; a connection lost after the end of the content means: send again.
//! **Start reading at**: `route.rs`, then `local.rs`, then `remote.rs`.
//!
//! A crate of its own because it is a station.

mod config;
mod directory;
mod local;
mod remote;
mod route;

pub use config::{Config, Loopback, Pattern, StaticRoute, TlsPolicy};
pub use directory::{Directory, Found};
pub use local::LocalAgent;
pub use remote::{Encrypt, Names, RemoteAgent};
pub use route::Routes;

#[cfg(test)]
mod tests;
