//! What entries have counted: packets, bytes, the last hit.
//!
//! The kernel counts by source address, in a map that forgets who has not been seen for long. Here the counts of
//! sources go to the most specific entry that holds them, as pf.conf(5) has it with `counters`.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use mailgate_model::Timestamp;

/// What the kernel has counted of one source since it knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// Who sent; IPv4 out of its IPv6 mapping.
    pub source: IpAddr,
    /// Packets that a counting table held.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// When the last one came.
    pub last: Timestamp,
}

/// What one entry has counted since it was added or cleared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    /// The last hit; `None` when there was none since.
    pub(crate) last: Option<Timestamp>,
    /// When the entry alone was cleared.
    pub(crate) cleared: Option<Timestamp>,
}

/// What the entries of one table have counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Since when hits are counted, if they are: before that, nobody can be called idle.
    pub(crate) since: Option<Timestamp>,
    /// When the table as a whole was cleared.
    pub(crate) cleared: Option<Timestamp>,
    /// Entries that were hit, or cleared.
    pub(crate) counts: BTreeMap<IpNet, Count>,
}

impl Tally {
    /// Accounts for packets of one source.
    pub(crate) fn add(&mut self, prefix: IpNet, packets: u64, bytes: u64, last: Timestamp) {
        let count = self.counts.entry(prefix).or_default();
        count.packets = count.packets.saturating_add(packets);
        count.bytes = count.bytes.saturating_add(bytes);
        count.last = count.last.max(Some(last));
    }

    /// When the counts of an entry were last zero: when it was cleared, else when it was added.
    pub(crate) fn cleared(&self, prefix: IpNet, added: Timestamp) -> Timestamp {
        let own = self.counts.get(&prefix).and_then(|count| count.cleared);
        added.max(own.max(self.cleared).unwrap_or(added))
    }

    /// Sets every count to zero.
    pub(crate) fn clear(&mut self, now: Timestamp) {
        self.counts = BTreeMap::new();
        self.cleared = Some(now);
    }

    /// Sets the counts of one entry to zero.
    pub(crate) fn clear_one(&mut self, prefix: IpNet, now: Timestamp) {
        self.counts.insert(prefix, Count { cleared: Some(now), ..Count::default() });
    }

    /// Packets and bytes of all entries.
    pub(crate) fn total(&self) -> (u64, u64) {
        let add = |(packets, bytes): (u64, u64), count: &Count| {
            (packets.saturating_add(count.packets), bytes.saturating_add(count.bytes))
        };
        self.counts.values().fold((0, 0), add)
    }
}

/// What the kernel had counted of each source when it was last asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Baseline(pub(crate) HashMap<IpAddr, (u64, u64)>);

impl Baseline {
    /// What is new since the last call: source, packets, bytes, last hit. A source that counts less than before was
    /// forgotten by the kernel in between, so that all it has is new.
    pub(crate) fn news(&mut self, hits: &[Hit]) -> Vec<Hit> {
        let before = std::mem::take(&mut self.0);
        let mut news = Vec::new();
        for hit in hits {
            let source = hit.source.to_canonical();
            let (packets, bytes) = match before.get(&source) {
                Some((packets, bytes)) if *packets <= hit.packets && *bytes <= hit.bytes => {
                    (hit.packets - packets, hit.bytes - bytes)
                }
                _ => (hit.packets, hit.bytes),
            };
            self.0.insert(source, (hit.packets, hit.bytes));
            if packets > 0 {
                news.push(Hit { source, packets, bytes, last: hit.last });
            }
        }
        news
    }
}
