//! Persistence: what survives a crash, and the only place with SQL.
//!
//! **Purpose**: keep greylist, records (domains, accounts, aliases, keys), spool and mailboxes.
//! **In**: values of the stations. **Out**: proof of durable commits and the values again.
//! **Trust**: nothing from a stranger becomes SQL text or a path; names are bound or checked.
//! **Standards**: Maildir++, RFC 3501 §2.3.1 (UIDs).
//! **Failure**: every error says whether trying again can help; corruption stops the need and never guesses.
//! **Start reading at**: `database.rs`, then the file of the need.
//!
//! A crate of its own because it fences SQLite and holds the promise that SQL is nowhere else.

mod database;
mod error;
pub mod greylist;
pub mod mailboxes;
mod marks;
pub mod outbound;
pub mod records;
pub mod spool;

pub use database::{Database, Durability};
pub use error::Error;
pub use greylist::Greylist;
pub use mailboxes::Mailboxes;
pub use marks::Marks;
pub use outbound::Outbound;
pub use records::Records;
pub use spool::{Receipt, Spool};
