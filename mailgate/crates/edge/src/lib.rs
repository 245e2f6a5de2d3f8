//! First contact: the kernel filter, and the judgement of who may speak to the MTA.
//!
//! **Purpose**: decide by address who is dropped, tarpitted, greylisted or handed on; in the kernel where possible.
//! **In**: connections on port 25, tables from `lists`. **Out**: a [`Handoff`] of connections that deserve a server.
//! **Trust**: everything on the wire is from strangers. Loading BPF programs needs CAP_BPF and CAP_NET_ADMIN.
//! **Standards**: RFC 5321 §4.2 (replies), RFC 6647 (greylisting), spamd(8), pf.conf(5).
//! **Failure**: fails open: without kernel, root or toolchain the same `decide` acts at accept.
//! **Start reading at**: `accept.rs`, then `packet/mod.rs`.
//!
//! A crate of its own because it is a station and the only one that may load BPF programs.

mod accept;
mod admin;
mod classify;
pub mod config;
mod error;
pub mod firewall;
pub mod foreign;
pub mod greylist;
mod handoff;
mod limits;
pub mod overload;
pub mod packet;
mod reply;
mod statistics;
mod tarpit;

pub use accept::{Edge, Parts};
pub use admin::{Asked, Given, Imported, Query, Shown};
pub use classify::{Facts, Reason, Refusal, Route, classify};
pub use config::Config;
pub use error::Error;
pub use greylist::spamdb::Entry;
pub use handoff::{Handoff, Handover};
pub use statistics::Statistics;

#[cfg(test)]
mod tests;
