//! What the edge did since it started.

use std::sync::atomic::{AtomicU64, Ordering};

use mailgate_store::greylist::Counts;
use serde::Serialize;

/// Counters of the edge and the sizes of its memory, as `mailgate status` shows them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Connections that came.
    pub connections: u64,
    /// Connections that went straight to reception.
    pub straight: u64,
    /// Connections closed because a table says drop or reject.
    pub refused: u64,
    /// Connections turned away because there were too many unknown clients.
    pub turned_away: u64,
    /// RCPTs deferred by the greylist.
    pub deferred: u64,
    /// Clients that qualified during a session, which then went on to reception.
    pub passed: u64,
    /// Clients that stepped into a trap.
    pub trapped: u64,
    /// Connections the tarpit took.
    pub tarpitted: u64,
    /// Connections the tarpit let go to make room for others.
    pub shed: u64,
    /// Connections closed because the tarpit holds enough of their network.
    pub network_full: u64,
    /// Bytes the tarpit sent, one at a time.
    pub stuttered: u64,
    /// Sessions with unknown clients now.
    pub greeting_now: usize,
    /// Connections in the tarpit now, those inside TLS included.
    pub held_now: usize,
    /// Entries of the greylist now.
    pub greylist: Counts,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    connections: AtomicU64,
    straight: AtomicU64,
    refused: AtomicU64,
    turned_away: AtomicU64,
    deferred: AtomicU64,
    passed: AtomicU64,
    trapped: AtomicU64,
    tarpitted: AtomicU64,
    shed: AtomicU64,
    network_full: AtomicU64,
    stuttered: AtomicU64,
}

macro_rules! counts {
    ($($name:ident)*) => {
        impl Counters {
            $(pub(crate) fn $name(&self) {
                self.$name.fetch_add(1, Ordering::Relaxed);
            })*

            /// The counters; sizes are left for who knows them.
            pub(crate) fn read(&self) -> Statistics {
                Statistics { $($name: self.$name.load(Ordering::Relaxed),)* ..Statistics::default() }
            }
        }
    };
}

counts! { connections straight refused turned_away deferred passed trapped tarpitted shed network_full stuttered }
