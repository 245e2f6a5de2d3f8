//! The grammars of the protocols: parse and write, no I/O.
//!
//! **Purpose**: turn bytes of strangers into values and values into bytes, for each protocol in its own folder.
//! **In**: bytes in any split. **Out**: commands, messages, or a named kind of misbehaviour.
//! **Trust**: everything is from strangers; nothing here panics, waits or grows without a limit.
//! **Standards**: RFC 5321 and its extensions (smtp), RFC 3501 and its extensions (imap), RFC 4271, 4760 (bgp),
//! spamd(8) (spamdsync).
//! **Failure**: one variant per kind of misbehaviour.
//! **Start reading at**: the folder of the protocol.
//!
//! A crate of its own because Cargo holds the promise: no tokio, no sockets, no clock; the fuzz build needs only this.

pub mod bgp;
pub mod edgesync;
pub mod imap;
pub mod smtp;
pub mod spamdsync;
