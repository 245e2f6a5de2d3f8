//! The same addresses at every run.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use mailgate_lists::{Action, Change, Entry, Snapshot, Table, TableName};

use crate::Result;

/// IPv4 or IPv6.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}

/// Addresses of one family, in host order.
#[derive(Clone, Copy)]
pub(crate) enum Sources<'a> {
    V4(&'a [u32]),
    V6(&'a [u128]),
}

impl Sources<'_> {
    pub(crate) fn family(self) -> Family {
        match self {
            Sources::V4(_) => Family::V4,
            Sources::V6(_) => Family::V6,
        }
    }

    pub(crate) fn len(self) -> usize {
        match self {
            Sources::V4(all) => all.len(),
            Sources::V6(all) => all.len(),
        }
    }

    /// The first ones.
    pub(crate) fn up_to(self, count: usize) -> Self {
        let count = count.min(self.len());
        match self {
            Sources::V4(all) => Sources::V4(all.get(..count).unwrap_or(all)),
            Sources::V6(all) => Sources::V6(all.get(..count).unwrap_or(all)),
        }
    }

    /// One after the other.
    pub(crate) fn each(self, mut act: impl FnMut(IpAddr)) {
        match self {
            Sources::V4(all) => all.iter().for_each(|address| act(Ipv4Addr::from(*address).into())),
            Sources::V6(all) => all.iter().for_each(|address| act(Ipv6Addr::from(*address).into())),
        }
    }

    /// As entries of a table.
    pub(crate) fn hosts(self) -> Vec<Entry> {
        let mut hosts = Vec::with_capacity(self.len());
        self.each(|address| hosts.push(host(address)));
        hosts
    }
}

/// An IPv6 address as two halves, in network order.
pub(crate) fn halves(address: u128) -> [u64; 2] {
    [((address >> 64) as u64).to_be(), (address as u64).to_be()]
}

/// How the listed addresses lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Anywhere in the unicast space: nearly every address in a /24 of its own.
    Uniform,
    /// [`PER_CLUSTER`] of them in each of some /24 (IPv6: /64), as the addresses of botnets and hosters lie.
    Clustered,
}

/// Listed addresses in each /24 of a clustered set.
const PER_CLUSTER: usize = 64;

impl Shape {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Shape::Uniform => "uniform",
            Shape::Clustered => "clustered",
        }
    }
}

/// A generator of numbers (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A public unicast address: no filter drops it for what it is.
    fn public(&mut self) -> u32 {
        loop {
            let address = self.next() as u32;
            let [a, b, ..] = address.to_be_bytes();
            let special = matches!(
                (a, b),
                (0 | 10 | 127 | 224.., _)
                    | (100, 64..128)
                    | (169, 254)
                    | (172, 16..32)
                    | (192, 0 | 88 | 168)
                    | (198, 18 | 19 | 51)
                    | (203, 0)
            );
            if !special {
                return address;
            }
        }
    }

    /// So many different addresses, in no order.
    pub(crate) fn addresses(&mut self, count: usize, shape: Shape) -> Vec<u32> {
        let mut network = 0;
        let mut made = 0;
        self.distinct(count, |random| {
            if shape == Shape::Uniform {
                return random.public();
            }
            if made % PER_CLUSTER == 0 {
                network = random.public() & !0xff;
            }
            made += 1;
            network | random.next() as u32 & 0xff
        })
    }

    /// So many different addresses that are not in `listed`, anywhere in the unicast space.
    pub(crate) fn strangers(&mut self, count: usize, listed: &[u32]) -> Vec<u32> {
        let listed: HashSet<u32> = listed.iter().copied().collect();
        self.distinct(count, |random| {
            loop {
                let address = random.public();
                if !listed.contains(&address) {
                    return address;
                }
            }
        })
    }

    /// So many different IPv6 addresses that are not in `listed`, nearly all of them in a /64 of their own.
    pub(crate) fn strangers6(&mut self, count: usize, listed: &[u128]) -> Vec<u128> {
        let listed: HashSet<u128> = listed.iter().copied().collect();
        let mut strangers = self.addresses6(count, Shape::Uniform);
        strangers.retain(|address| !listed.contains(address));
        strangers
    }

    /// The same for IPv6.
    pub(crate) fn addresses6(&mut self, count: usize, shape: Shape) -> Vec<u128> {
        let mut network = 0;
        let mut made = 0;
        self.distinct(count, |random| {
            if shape == Shape::Uniform || made % PER_CLUSTER == 0 {
                network = random.next() >> 3 | 1 << 61; // 2000::/3
            }
            made += 1;
            u128::from(network) << 64 | u128::from(random.next())
        })
    }

    fn distinct<T: Copy + Eq + std::hash::Hash>(
        &mut self,
        count: usize,
        mut one: impl FnMut(&mut Self) -> T,
    ) -> Vec<T> {
        let mut seen = HashSet::with_capacity(count);
        let mut found = Vec::with_capacity(count);
        while found.len() < count {
            let value = one(self);
            if seen.insert(value) {
                found.push(value);
            }
        }
        self.shuffle(&mut found);
        found
    }

    /// Brings values into random order, so that neighbours do not follow each other.
    fn shuffle<T>(&mut self, values: &mut [T]) {
        for n in (1..values.len()).rev() {
            let other = self.next() % (n as u64 + 1);
            values.swap(n, other as usize);
        }
    }
}

/// An entry that is one host.
pub(crate) fn host(address: impl Into<std::net::IpAddr>) -> Entry {
    Entry { prefix: IpNet::from(address.into()), negated: false, expires: None }
}

pub(crate) fn table_name() -> Result<TableName> {
    Ok(TableName::try_from("bench".to_owned())?)
}

/// One table with these entries instead of everything there was.
pub(crate) fn reload(action: Action, mut entries: Vec<Entry>) -> Result<Change> {
    entries.sort_unstable_by_key(|entry| entry.prefix);
    let table = Table { name: table_name()?, action, entries: Arc::new(entries.into()) };
    Ok(Change::Reload(Snapshot { tables: vec![table] }))
}
