//! Block and bypass prefixes: where they come from and how they merge into named tables.
//!
//! **Purpose**: keep the named tables of prefixes, each entry with its origins, and say what changed.
//! **In**: files, URLs, programs, BGP peers, commands of the administrator. **Out**: [`Snapshot`]s and [`Change`]s for the edge.
//! **Trust**: feeds are strangers; no feed can empty a table by failing, and none can widen beyond its limits.
//! **Standards**: RFC 4632 (CIDR), RFC 4271, 4760, 1997, 6793, 7606 (BGP), RFC 8212 (import nothing unasked).
//! **Failure**: a source that fails keeps its last good set and says so in `lists show`.
//! **Start reading at**: `table.rs`, then `source.rs`, `lists.rs` and `merge.rs`.
//!
//! A crate of its own because it is a station: it feeds the edge and knows nothing of packets.

mod admit;
mod bgp;
mod command;
pub mod config;
mod counts;
mod disk;
mod emit;
mod error;
mod fetch;
mod file;
mod format;
mod inflate;
mod lists;
mod local;
mod manual;
mod merge;
mod notes;
mod prefix;
pub mod publish;
pub mod rows;
mod rush;
mod shared;
pub mod signify;
mod source;
mod spamd;
mod table;

pub use admit::{Protected, Reason, Why};
pub use bgp::{Part, Pattern};
pub use config::Config;
pub use error::Error;
pub use format::cidr::{List, parse_list};
pub use format::{Format, SpamdList, read_list, read_spamd_conf};
pub use lists::{Age, How, Lists};
pub use local::changes_of_file;
pub use merge::Hit;
pub use prefix::parse_entry;
pub use table::{Action, Addition, By, Change, Entries, Entry, Snapshot, Table, TableName};
