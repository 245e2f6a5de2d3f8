//! The contract between the kernel filter and user space: packets, tables and rules in memory, the verdict, names.
//!
//! **Purpose**: one parser, one layout and one verdict, compiled into the BPF programs, the fallback and the tests.
//! **In**: a frame, and memory that holds tables and rules. **Out**: a [`Ruling`], with its [`Reason`].
//! **Trust**: frames are strangers'; memory is written by the daemon only, and whatever it holds, lookups end inside it.
//! **Standards**: RFC 791, 8200, 9293 (headers), RFC 4632, 4291 (prefixes), pf.conf(5) (tables with exceptions, rules).
//! **Failure**: memory that is missing or of another version holds no address and no rule: the filter fails open.
//! **Start reading at**: `judge.rs`, then `ruleset.rs`, then `lookup4.rs`.
//!
//! A crate of its own because it is compiled for two targets; no_std and without dependencies. The feature `user`
//! adds `aya::Pod`.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod answer;
mod decide;
pub mod event;
mod frame;
mod judge;
mod layout;
pub mod limit;
mod lookup4;
mod lookup6;
pub mod names;
pub mod packet;
mod reason;
pub mod route;
pub mod ruleset;
mod scrub;
pub mod setting;

pub use decide::{Action, Decision, decide, drops_by_default};
pub use event::Event;
pub use frame::Frame;
pub use judge::{Act, Ruling, WayBack, World, judge, judge_frame, unread};
pub use layout::{CHUNK_WORDS, CHUNKS, Geometry, Line, Lines, header, is_generation, table_set};
pub use lookup4::{
    BUCKET_WORDS, BY_SLOT, Buckets4, CHOICES, GATE_BASE, GATE_LINES, Homes, Key4, Kind4, L1_BASE, L1_LINES,
    LINE_WORDS, OPEN_BASE, ROWS_MAX, ROWS_MIN, ROWS_PER_LINE, SPILLED, STASH_WORD, STASH_WORDS, find4,
    gate4_place, l1_place, lookup4,
};
pub use lookup6::{
    ENTRIES_PER_PAGE, Entry6, GATED_FROM, Key6, LENGTH_STEP, PAGE_WORDS, STASH_PAGE, buckets6, find6,
    gate_place, lookup6, mask6,
};
pub use packet::{Address, Family, Fragment, Packet, parse, read};
pub use reason::{Kind, Reason};
pub use ruleset::{Facts, NO_RULE, RULES};
pub use scrub::{is_martian, scrub};

/// Bits of a set that stand for tables without a name: those of the configuration have the bits before them.
pub mod hidden {
    /// Networks that the administrator let pass the greylist for good.
    pub const ADMITTED: u8 = 60;
    /// Networks that stepped into a trap.
    pub const TRAPPED: u8 = 61;
    /// Networks that passed the greylist.
    pub const PASSED: u8 = 62;
    /// Networks that nothing keeps out.
    pub const PROTECTED: u8 = 63;
    /// The first of them: so many tables can have names.
    pub const FIRST: u8 = ADMITTED;
    /// What behaviour says of a source; it is weighed again at accept.
    pub const BEHAVIOUR: u64 = 1 << ADMITTED | 1 << TRAPPED | 1 << PASSED;
}

/// Tables at most: the bits of a set.
pub const TABLES: usize = 64;

/// Index of the reception's IPv4 listener in the map of listeners; the next one is its IPv6 listener.
pub const LISTENER_RECEPTION: u32 = 0;

/// Index of the edge's IPv4 listener in the map of listeners; the next one is its IPv6 listener.
pub const LISTENER_EDGE: u32 = 2;

/// Size of the map of listeners.
pub const LISTENER_SLOTS: u32 = 4;

/// Place of the program that refuses, in the map of programs.
pub const PROGRAM_REJECT: u32 = 0;

/// Place of the program that holds.
pub const PROGRAM_TARPIT: u32 = 1;

/// Place of the program that answers with SYN cookies.
pub const PROGRAM_COOKIE: u32 = 2;

/// Size of the map of programs.
pub const PROGRAM_SLOTS: u32 = 8;
