//! What the edge did since it started.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use mailgate_store::greylist::Counts;
use serde::Serialize;

use crate::reason::Reason;
use crate::suspicion::ZoneStatus;

/// Counters of the edge and the sizes of its memory, as `mailgate status` shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
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
    /// RCPTs of unknown clients that went on to reception without having had to wait.
    pub at_once: u64,
    /// RCPTs that would have been deferred, but greylisting only reports (`dry_run`).
    pub spared: u64,
    /// Clients that talked before the greeting was complete.
    pub early_talk: u64,
    /// RCPTs that came again after the delay and went on to reception.
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
    /// How often each reason was found; those never found are left out.
    pub reasons: BTreeMap<Reason, u64>,
    /// The DNS lists that are asked.
    pub zones: Vec<ZoneStatus>,
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
    at_once: AtomicU64,
    spared: AtomicU64,
    early_talk: AtomicU64,
    reasons: Reasons,
}

/// A counter for each reason.
#[derive(Debug)]
struct Reasons(Vec<AtomicU64>);

impl Default for Reasons {
    fn default() -> Self {
        Self(Reason::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

impl Counters {
    /// A reason was found.
    pub(crate) fn reason(&self, reason: Reason) {
        if let Some(count) = self.reasons.0.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counters of reasons, in the order of [`Reason::ALL`].
    pub(crate) fn reasons(&self) -> &[AtomicU64] {
        &self.reasons.0
    }

    /// Those that were found.
    pub(crate) fn found(&self) -> BTreeMap<Reason, u64> {
        let counts = Reason::ALL
            .iter()
            .zip(&self.reasons.0)
            .map(|(reason, count)| (*reason, count.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

/// How long those waited who came again and passed, of the decisions that are kept; in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Delays {
    /// How many.
    pub count: usize,
    /// Half of them waited no longer.
    pub p50: u32,
    /// 95 of 100 waited no longer.
    pub p95: u32,
    /// 99 of 100 waited no longer.
    pub p99: u32,
}

impl Delays {
    /// Of sorted waits.
    pub(crate) fn of(waits: &[u32]) -> Self {
        let rank = |percent: usize| {
            let at = (waits.len() * percent).div_ceil(100).saturating_sub(1);
            waits.get(at).copied().unwrap_or_default()
        };
        Self { count: waits.len(), p50: rank(50), p95: rank(95), p99: rank(99) }
    }
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

counts! { at_once spared early_talk connections straight refused turned_away deferred passed trapped tarpitted shed network_full stuttered }
