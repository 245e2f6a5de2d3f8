//! How many sessions there may be, in all and with one source. Connections come here from the edge, whose listener counts
//! them only until they are handed on: without a count of its own, one source could take every place there is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

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

    /// A place for a session with `ip`; else the word that says which limit is reached.
    pub(crate) fn take(self: &Arc<Self>, ip: IpAddr) -> Result<Place, &'static str> {
        let source = source(ip);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.total >= self.total {
            return Err("too-many-sessions");
        }
        let own = taken.by_source.get(&source).copied().unwrap_or(0);
        if own >= self.per_source {
            return Err("too-many-sessions-of-source");
        }
        taken.by_source.insert(source, own + 1);
        taken.total += 1;
        Ok(Place { places: Arc::clone(self), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(1);
        if let Some(own) = taken.by_source.get_mut(&self.source) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.by_source.remove(&self.source);
            }
        }
    }
}

/// An IPv4 address, also a mapped one, or an IPv6 /64: a host may choose the rest of it.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
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
        assert_eq!(places.take(ip("2001:db8::3")).err(), Some("too-many-sessions-of-source"));
        let third = places.take(ip("192.0.2.1")).unwrap();
        assert_eq!(places.take(ip("192.0.2.2")).err(), Some("too-many-sessions"));
        drop(first);
        let _fourth = places.take(ip("2001:db8::3")).unwrap();
        drop(third);
        let _fifth = places.take(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(places.taken.lock().unwrap().by_source.len(), 2);
    }
}
