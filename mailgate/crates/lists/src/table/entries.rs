//! The entries of a table, in eight bytes each (IPv6: twenty-four): a million of them are written by the lists and read by
//! the filter at every reload.

use ipnet::IpNet;
use mailgate_model::Timestamp;

use super::Entry;
use crate::prefix::{Key as _, Key4, Key6, Packed, Packed4, Packed6, Sense};

/// Entries sorted by prefix, each prefix once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entries {
    v4: Vec<Packed4>,
    v6: Vec<Packed6>,
    /// Of the entries that end: place in the order of both families, IPv4 first, and the time.
    ends: Vec<(usize, Timestamp)>,
}

impl Entries {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of IPv4 there are.
    #[must_use]
    pub fn len4(&self) -> usize {
        self.v4.len()
    }

    /// How many of IPv6 there are.
    #[must_use]
    pub fn len6(&self) -> usize {
        self.v6.len()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        fn each<P: Packed>(entries: &[P]) -> impl Iterator<Item = (IpNet, bool)> {
            entries.iter().map(|entry| (entry.key().prefix(), entry.sense() == Sense::Hole))
        }
        let mut ends = self.ends.iter().peekable();
        each(&self.v4).chain(each(&self.v6)).enumerate().map(move |(n, (prefix, negated))| {
            let expires = ends.next_if(|(place, _)| *place == n).map(|(_, at)| *at);
            Entry { prefix, negated, expires }
        })
    }

    /// Those of IPv4 that have not ended: address in host order, length, and whether it is a hole.
    pub fn live4(&self, now: Timestamp) -> impl Iterator<Item = (u32, u8, bool)> {
        self.live(&self.v4, 0, now).map(|entry| {
            let (address, length) = entry.key().bits();
            (address, length, entry.sense() == Sense::Hole)
        })
    }

    /// The same of IPv6.
    pub fn live6(&self, now: Timestamp) -> impl Iterator<Item = (u128, u8, bool)> {
        self.live(&self.v6, self.v4.len(), now).map(|entry| {
            let (address, length) = entry.key().bits();
            (address, length, entry.sense() == Sense::Hole)
        })
    }

    fn live<'a, P: Packed>(
        &'a self,
        entries: &'a [P],
        first: usize,
        now: Timestamp,
    ) -> impl Iterator<Item = P> + 'a {
        let gone = self.ends.iter().filter(move |(place, at)| *place >= first && *at <= now);
        let mut gone = gone.map(move |(place, _)| place - first).peekable();
        entries.iter().enumerate().filter(move |(n, _)| gone.next_if_eq(n).is_none()).map(|(_, entry)| *entry)
    }

    /// Memory for so many.
    pub(crate) fn with_room(v4: usize, v6: usize) -> Self {
        Self { v4: Vec::with_capacity(v4), v6: Vec::with_capacity(v6), ends: Vec::new() }
    }

    /// An entry behind all others.
    pub(crate) fn push(&mut self, prefix: IpNet, sense: Sense, expires: Option<Timestamp>) {
        self.ends.extend(expires.map(|at| (self.len(), at)));
        match prefix {
            IpNet::V4(net) => self.v4.push(Packed4::new(Key4::of(net), sense)),
            IpNet::V6(net) => self.v6.push(Packed6::new(Key6::of(net), sense)),
        }
    }

    /// All of IPv4 that a list without ends brings.
    pub(crate) fn extend4(&mut self, entries: impl Iterator<Item = Packed4>) {
        self.v4.extend(entries.map(|entry| entry.of_epoch(0)));
    }

    /// The same of IPv6.
    pub(crate) fn extend6(&mut self, entries: impl Iterator<Item = Packed6>) {
        self.v6.extend(entries.map(|entry| entry.of_epoch(0)));
    }
}

/// In any order; of two with the same prefix the later counts. Host bits are dropped.
impl From<Vec<Entry>> for Entries {
    fn from(mut entries: Vec<Entry>) -> Self {
        entries.iter_mut().for_each(|entry| entry.prefix = entry.prefix.trunc());
        // The first of each prefix is kept below, so the later ones have to come first.
        entries.reverse();
        entries.sort_by_key(|entry| entry.prefix);
        entries.dedup_by_key(|entry| entry.prefix);
        let v4 = entries.partition_point(|entry| matches!(entry.prefix, IpNet::V4(_)));
        let mut new = Self::with_room(v4, entries.len() - v4);
        for Entry { prefix, negated, expires } in entries {
            new.push(prefix, if negated { Sense::Hole } else { Sense::Listed }, expires);
        }
        new
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<T: IntoIterator<Item = Entry>>(entries: T) -> Self {
        entries.into_iter().collect::<Vec<_>>().into()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = Entry> {
        let v4 = (any::<u32>(), 0_u8..=32).prop_map(|(bits, length)| {
            IpNet::V4(Ipv4Net::new(Ipv4Addr::from(bits & 0xff00_0007), length).unwrap())
        });
        let v6 = (any::<u128>(), 0_u8..=128).prop_map(|(bits, length)| {
            IpNet::V6(Ipv6Net::new(Ipv6Addr::from(bits & (7 << 125 | 3)), length).unwrap())
        });
        let expires = prop::option::of((0_i64..4).prop_map(Timestamp::from_millis));
        (prop_oneof![v4, v6], any::<bool>(), expires).prop_map(|(prefix, negated, expires)| Entry {
            prefix: prefix.trunc(),
            negated,
            expires,
        })
    }

    proptest! {
        #[test]
        fn what_went_in_comes_out_sorted_and_once(entries in prop::collection::vec(entry(), 0..60), now in 0_i64..4) {
            let mut wanted = std::collections::BTreeMap::new();
            for entry in &entries {
                wanted.insert(entry.prefix, entry.clone());
            }
            let wanted: Vec<Entry> = wanted.into_values().collect();
            let found = Entries::from(entries);
            prop_assert_eq!(found.iter().collect::<Vec<_>>(), wanted.clone());
            prop_assert_eq!(found.len(), wanted.len());
            let now = Timestamp::from_millis(now);
            let live = wanted.iter().filter(|entry| entry.expires.is_none_or(|at| at > now));
            let live: Vec<(IpNet, bool)> = live.map(|entry| (entry.prefix, entry.negated)).collect();
            let v4 = found.live4(now).map(|(address, length, hole)| {
                (IpNet::V4(Ipv4Net::new(address.into(), length).unwrap()), hole)
            });
            let v6 = found.live6(now).map(|(address, length, hole)| {
                (IpNet::V6(Ipv6Net::new(address.into(), length).unwrap()), hole)
            });
            prop_assert_eq!(v4.chain(v6).collect::<Vec<_>>(), live);
        }
    }
}
