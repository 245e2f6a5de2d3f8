//! Reception: mail from other MTAs (MX, port 25) and from our own people (MSA, ports 587 and 465).
//!
//! **Purpose**: speak SMTP, decide what is taken, and answer 250 only for what is durable.
//! **In**: connections, fresh or begun by the edge. **Out**: messages in the spool, each proven by a `Receipt`.
//! **Trust**: every byte is from a stranger until AUTH; the relay right exists only as a `Permit` from `relay.rs`.
//! **Standards**: RFC 5321, 1870, 2034, 2920, 3030, 3207, 3461, 4954, 6152, 6409, 6531, 8314, 8601 §5.
//! **Failure**: the world's failures are 4yz and logged with their cause; nothing half accepted is left behind.
//! **Start reading at**: `session.rs`, then `command/`, then `service/`.
//!
//! A crate of its own because it is a station.

mod budget;
mod command;
pub mod config;
mod error;
mod fields;
mod received;
mod relay;
pub mod reply;
mod server;
mod service;
mod session;
#[cfg(test)]
mod tests;
mod transaction;
mod wire;

pub use config::Config;
pub use error::Error;
pub use server::{Accepted, Learn, Parts, Resumed, Server, Submitted};
