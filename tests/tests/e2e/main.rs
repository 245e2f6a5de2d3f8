//! The whole daemon from outside: its ports, its command line, its files.
//!
//! Step numbers in the modules are those of docs/architecture.md.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod crash;
mod edge_only;
mod feeds;
mod garbage;
mod lab;
mod large;
mod limits;
mod lists;
mod parts;
mod poison;
mod reading;
mod reception;
mod relay;
mod smuggling;
mod spamd_sync;
mod sync;
mod tables;
mod tour;
