//! IMAP4rev1 (RFC 3501) and extensions: commands of clients, responses of the server.
//!
//! Bytes go into a [`Reader`], which gives whole commands, literals included, however the bytes were split;
//! [`Command::parse`] turns one into a value. [`Writer`] writes responses.

mod command;
mod cursor;
mod date;
mod fetch;
mod list;
mod reader;
mod search;
mod sequence;
pub mod utf7;
mod write;

pub use command::{Command, Numbering, ParseError, StatusItem, StoreMode, Tagged, Verbosity};
pub use date::{parse_date_time, write_date_time};
pub use fetch::{FetchItem, Partial, Peek, Section, SectionText};
pub use list::{List, ListReturn, ListSelect};
pub use reader::{Announced, Input, Limits, Misbehaved, Reader};
pub use search::{Search, SearchKey};
pub use sequence::{Ranges, SequenceSet};
pub use write::Writer;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod properties;
