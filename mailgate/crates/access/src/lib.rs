//! Access: people read their mail.
//!
//! **Purpose**: IMAP over the mailboxes of the store.
//! **In**: connections and the commands of mail clients. **Out**: messages, flags, news.
//! **Trust**: everything before login comes from strangers; messages stay strangers' bytes for ever.
//! **Standards**: RFC 3501 (IMAP4rev1), RFC 2177 (IDLE), RFC 2342 (NAMESPACE), RFC 2971 (ID), RFC 3691 (UNSELECT),
//! RFC 4315 (UIDPLUS), RFC 4959 (SASL-IR), RFC 5161 (ENABLE), RFC 5258 and 5819 (LIST), RFC 6154 (SPECIAL-USE),
//! RFC 6851 (MOVE), RFC 7888 (LITERAL+), RFC 8438 (STATUS=SIZE).
//! **Failure**: a failing disk is a tagged NO and a line in the log; the client never learns why.
//! **Start reading at**: `imap/session.rs`, then `imap/command/`.
//!
//! A crate of its own because it is a station; it knows neither reception nor queue.

mod config;
mod error;
pub mod imap;
mod mime;

pub use config::{Config, Imap, PlainLogin, SpecialUse};
pub use error::Error;
