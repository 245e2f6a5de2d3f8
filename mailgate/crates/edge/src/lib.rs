//! First contact: the judgement of who may speak to the MTA.
//!
//! **Purpose**: decide who is refused, tarpitted, greylisted or handed on.
//! **In**: connections on port 25, verdicts of the packet filter. **Out**: a [`Handoff`] of connections that deserve a server.
//! **Trust**: everything on the wire is from strangers.
//! **Standards**: RFC 5321 §4.2 (replies), RFC 6647 (greylisting), spamd(8), pf.conf(5).
//! **Failure**: fails open: without a filter in the kernel the tables act at accept.
//! **Start reading at**: `accept.rs`, then `classify.rs`.
//!
//! A crate of its own because it is a station on the message's way.

mod accept;
mod admin;
mod classify;
pub mod config;
mod error;
pub mod foreign;
pub mod greylist;
mod handoff;
pub mod identity;
pub mod learn;
mod limits;
mod reason;
mod reply;
mod simulate;
mod statistics;
pub mod suspicion;
pub mod sync;
mod tarpit;
mod trap;
mod why;

pub use accept::{Edge, Parts};
pub use admin::{Asked, Given, Imported, KnownIdentity, Query, Shown};
pub use classify::{Layers, Refusal, Route, classify};
pub use config::Config;
pub use error::Error;
pub use greylist::spamdb::Entry;
pub use handoff::{Handoff, Handover};
pub use reason::Reason;
pub use simulate::{Simulated, Supposed};
pub use statistics::{Delays, Statistics};
pub use sync::Sync;
pub use tarpit::Texts;
pub use trap::{Excuses, Known, Recipients};
pub use why::{Because, Why};

/// The answer of a station that the edge may not know: a future, because it may have to look.
pub type Answer<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

#[cfg(test)]
mod tests;
