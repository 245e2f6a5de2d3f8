//! People: who is at home here, where mail for an address goes, and whether a secret is right.
//!
//! **Purpose**: answer three questions: is this address ours, who is meant by it, is this password theirs.
//! **In**: addresses and secrets of strangers. **Out**: [`Expansion`], [`Account`], yes or no.
//! **Trust**: secrets pass through here and are neither kept nor logged; hashes stay inside.
//! **Standards**: RFC 5321 §3.9 (aliases) and §4.5.1 (postmaster), RFC 2142, RFC 5233 (sub-addresses), RFC 4616 (PLAIN).
//! **Failure**: when the records cannot be read the answer is temporary; an unknown login takes as long as a wrong password.
//! **Start reading at**: `directory.rs`, then `password.rs`.
//!
//! A crate of its own because it is a station used by three others, and because it fences the password hashes.

mod admin;
mod config;
mod directory;
mod error;
mod passwd;
mod password;
pub mod sasl;
mod throttle;

pub use admin::{AccountRow, AliasRow, DomainRow, Secret};
pub use config::Config;
pub use directory::{Account, Accounts, Expansion};
pub use error::Error;
pub use passwd::Imported;
