//! How many there may be at a time, connections of a listener or sessions of a server: in all, and of one source.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many there may be at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of all sources together.
    pub total: usize,
    /// Of one source: an IPv4 address or an IPv6 /64.
    pub per_source: usize,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// There are as many of this source as may be.
    OfSource,
    /// There are as many in all as may be.
    Total,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OfSource => "too-many-of-source",
            Self::Total => "too-many",
        })
    }
}

/// Places, as many as the limits say.
#[derive(Debug)]
pub struct Places {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// One place; free again when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    source: IpAddr,
}

impl Places {
    /// All free.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, taken: Mutex::default() })
    }

    /// A place for one with `ip`.
    ///
    /// # Errors
    /// Which limit is reached.
    pub fn take(self: &Arc<Self>, ip: IpAddr) -> Result<Place, Full> {
        let source = source(ip);
        let mut taken = self.lock();
        if taken.total >= self.limits.total {
            return Err(Full::Total);
        }
        let own = taken.by_source.get(&source).copied().unwrap_or(0);
        if own >= self.limits.per_source {
            return Err(Full::OfSource);
        }
        taken.by_source.insert(source, own + 1);
        taken.total += 1;
        Ok(Place { places: Arc::clone(self), source })
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.total = taken.total.saturating_sub(1);
        if let Some(own) = taken.by_source.get_mut(&self.source) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.by_source.remove(&self.source);
            }
        }
    }
}

/// An IPv4 address, also a mapped one, or an IPv6 /64: one customer has at least that (RFC 6177), and could else come from
/// 2^64 addresses.
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
        let places = Places::new(Limits { total: 3, per_source: 2 });
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = places.take(ip("2001:db8::1")).unwrap();
        let _second = places.take(ip("2001:db8::2")).unwrap();
        assert_eq!(places.take(ip("2001:db8::3")).err(), Some(Full::OfSource), "one /64 is one source");
        let third = places.take(ip("192.0.2.1")).unwrap();
        assert_eq!(places.take(ip("192.0.2.2")).err(), Some(Full::Total));
        drop(first);
        let _fourth = places.take(ip("2001:db8::3")).unwrap();
        drop(third);
        let fifth = places.take(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!((places.taken(), places.lock().by_source.len()), (3, 2));
        drop(fifth);
        assert_eq!((places.taken(), places.lock().by_source.len()), (2, 1), "nothing is kept of who is gone");
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_source() {
        let places = Places::new(Limits { total: 3, per_source: 1 });
        let _one = places.take("192.0.2.1".parse().unwrap()).unwrap();
        assert_eq!(places.take("::ffff:192.0.2.1".parse().unwrap()).err(), Some(Full::OfSource));
    }
}
