//! IMAP4rev1 (RFC 3501) and extensions: commands of clients, responses of the server.

pub mod utf7;
