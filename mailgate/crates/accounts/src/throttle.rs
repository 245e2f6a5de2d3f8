//! Guessers are slowed down, with bounded memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mailgate_model::Timestamp;

/// Sources remembered; beyond it those whose time is over are forgotten, then the rest.
const SOURCE_LIMIT: usize = 50_000;

/// Wrong passwords by source: an IPv4 address or an IPv6 /64.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<HashMap<IpAddr, Wrong>>);

#[derive(Debug, Clone, Copy)]
struct Wrong {
    count: u32,
    last: Timestamp,
}

impl Throttle {
    /// Whether the source may try now.
    pub(crate) fn admits(&self, ip: IpAddr, now: Timestamp, limit: u32, span: Duration) -> bool {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sources.get(&source(ip)).is_none_or(|wrong| wrong.count < limit || now.since(wrong.last) >= span)
    }

    /// A wrong password came.
    pub(crate) fn wrong(&self, ip: IpAddr, now: Timestamp, span: Duration) {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCE_LIMIT {
            sources.retain(|_, wrong| now.since(wrong.last) < span);
            if sources.len() >= SOURCE_LIMIT {
                sources.clear();
            }
        }
        let wrong = sources.entry(source(ip)).or_insert(Wrong { count: 0, last: now });
        // After a quiet span a source begins anew.
        wrong.count = if now.since(wrong.last) >= span { 1 } else { wrong.count.saturating_add(1) };
        wrong.last = now;
    }

    /// A right password came: the source is a person.
    pub(crate) fn right(&self, ip: IpAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&source(ip));
    }
}

fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}
