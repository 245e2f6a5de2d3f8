//! The contract between the kernel filter and user space: tables in memory, lookup, decision, names.
//!
//! **Purpose**: one layout and one decision, compiled into the BPF programs, the fallback and the tests.
//! **In**: an address and memory that holds a compiled generation. **Out**: the tables that hold it, a [`Verdict`].
//! **Trust**: memory is written by the daemon only; whatever it holds, lookups end and stay inside it.
//! **Standards**: RFC 4632 (prefixes), RFC 4291 (IPv6 addresses), pf.conf(5) (tables with exceptions).
//! **Failure**: memory that is missing or of another version holds no address: the filter fails open.
//! **Start reading at**: `decide.rs`, then `lookup4.rs`.
//!
//! A crate of its own because it is compiled for two targets; no_std and without dependencies. The feature `user`
//! adds `aya::Pod`.
#![no_std]

mod counter;
mod decide;
mod layout;
pub mod limit;
mod lookup4;
mod lookup6;
pub mod names;

pub use counter::Counter;
pub use decide::{Destination, Policy, Verdict, decide};
pub use layout::{Geometry, Line, Lines, header, is_generation, table_set};
pub use lookup4::{
    BUCKET_BITS_MAX, BUCKET_BITS_MIN, BUCKET_WORDS, BUCKETS_PER_LINE, BY_SLOT, Buckets4, CHOICES, GATE_BASE,
    GATE_LINES, Key4, Kind4, L1_BASE, L1_LINES, LINE_WORDS, OPEN_BASE, SPILLED, STASH_WORD, STASH_WORDS,
    find4, gate4_place, l1_place, lookup4, policy4,
};
pub use lookup6::{
    ENTRIES_PER_PAGE, Entry6, GATED_FROM, Key6, LENGTH_STEP, PAGE_WORDS, STASH_PAGE, buckets6, find6,
    gate_place, lookup6, mask6, policy6,
};

/// Tables at most: the bits of a set.
pub const TABLES: usize = 64;

/// Words of the map of reception ports: one bit for each port.
pub const PORT_WORDS: u32 = 1024;

/// Words of the configuration map.
pub const SETTING_WORDS: u32 = 4;

/// Index in the configuration map: not 0 when connections through loopback are steered too.
pub const SETTING_STEER_LOOPBACK: u32 = 0;

/// Index of the reception's IPv4 listener in the map of listeners; the next one is its IPv6 listener.
pub const LISTENER_RECEPTION: u32 = 0;

/// Index of the edge's IPv4 listener in the map of listeners; the next one is its IPv6 listener.
pub const LISTENER_EDGE: u32 = 2;

/// Size of the map of listeners.
pub const LISTENER_SLOTS: u32 = 4;

/// Word and bit of `port` in the map of reception ports.
#[must_use]
#[inline(always)]
pub const fn port_place(port: u16) -> (u32, u64) {
    ((port >> 6) as u32, 1 << (port & 63))
}
