//! How many connections may be open, in all and per source.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

/// Connections that may be open at the same time on one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// In all. Default 1000; at least 1.
    pub total: usize,
    /// From one source, see [`source_of`]. Default 50; at least 1.
    pub per_source: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { total: 1000, per_source: 50 }
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 /64, since one host is usually given a whole /64.
#[must_use]
pub fn source_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

/// Which limit a connection ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    PerSource,
    Total,
}

impl Refusal {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::PerSource => "per-source-limit",
            Self::Total => "total-limit",
        }
    }
}

/// Counts open connections; memory is bounded by `Limits::total`.
#[derive(Debug, Clone)]
pub(crate) struct Counter {
    limits: Limits,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    sources: HashMap<IpAddr, usize>,
}

impl Counter {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, open: Arc::default() }
    }

    /// A place for a connection from `ip`, given back when it is dropped.
    pub(crate) fn take(&self, ip: IpAddr) -> Result<Slot, Refusal> {
        let source = source_of(ip);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.limits.total {
            return Err(Refusal::Total);
        }
        let here = open.sources.get(&source).copied().unwrap_or(0);
        if here >= self.limits.per_source {
            return Err(Refusal::PerSource);
        }
        open.sources.insert(source, here + 1);
        open.total += 1;
        drop(open);
        Ok(Slot { source, open: Arc::clone(&self.open) })
    }
}

/// One counted connection.
#[derive(Debug)]
pub(crate) struct Slot {
    source: IpAddr,
    open: Arc<Mutex<Open>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        if let Some(here) = open.sources.get_mut(&self.source) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                open.sources.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_an_ipv6_64() {
        assert_eq!(source_of(ip("192.0.2.1")), ip("192.0.2.1"));
        assert_eq!(source_of(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        assert_eq!(source_of(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
    }

    #[test]
    fn one_source_cannot_take_the_places_of_others() {
        let counter = Counter::new(Limits { total: 3, per_source: 2 });
        let first = counter.take(ip("2001:db8::1")).unwrap();
        let _second = counter.take(ip("2001:db8::2")).unwrap();
        assert_eq!(counter.take(ip("2001:db8::3")).unwrap_err(), Refusal::PerSource);
        let _other = counter.take(ip("192.0.2.1")).unwrap();
        assert_eq!(counter.take(ip("192.0.2.2")).unwrap_err(), Refusal::Total);
        drop(first);
        assert!(counter.take(ip("2001:db8::3")).is_ok());
    }

    #[test]
    fn places_given_back_leave_no_trace() {
        let counter = Counter::new(Limits { total: 10, per_source: 10 });
        drop((counter.take(ip("192.0.2.1")), counter.take(ip("192.0.2.1"))));
        let open = counter.open.lock().unwrap();
        assert_eq!((open.total, open.sources.len()), (0, 0));
    }
}
