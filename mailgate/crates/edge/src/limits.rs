//! How many sessions with unknown clients there may be, in all and with one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Bits of an IPv6 address that count as one source: a host may choose the rest.
const IPV6_SOURCE: u8 = 64;

/// Places for sessions.
#[derive(Debug)]
pub(crate) struct Places {
    total: usize,
    per_source: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// One place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    source: IpAddr,
}

impl Places {
    pub(crate) fn new(total: usize, per_source: usize) -> Arc<Self> {
        Arc::new(Self { total, per_source, taken: Mutex::default() })
    }

    /// A place for a session with `ip`, or `None` when there is none left.
    pub(crate) fn take(self: &Arc<Self>, ip: IpAddr) -> Option<Place> {
        let source = crate::greylist::network(ip, 32, IPV6_SOURCE).addr();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.total >= self.total {
            return None;
        }
        let count = taken.by_source.entry(source).or_default();
        if *count >= self.per_source {
            return None;
        }
        *count += 1;
        taken.total += 1;
        Some(Place { places: Arc::clone(self), source })
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).total
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        if let Some(count) = taken.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                taken.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_end_in_all_and_per_source_and_come_back() {
        let places = Places::new(3, 2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = places.take(ip("2001:db8::1")).unwrap();
        let _second = places.take(ip("2001:db8::2")).unwrap();
        assert!(places.take(ip("2001:db8::3")).is_none(), "one /64 is one source");
        let third = places.take(ip("192.0.2.1")).unwrap();
        assert!(places.take(ip("192.0.2.2")).is_none(), "three in all");
        drop(first);
        let _fourth = places.take(ip("2001:db8::3")).unwrap();
        drop(third);
        assert_eq!(places.taken(), 2);
    }
}
