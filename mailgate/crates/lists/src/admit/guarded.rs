//! Whom no feed keeps out, as ranges that a million entries can be compared with.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

/// Why a network is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// `lists.protect.networks`, `firewall.admin` or `edge.local` names it.
    Configured,
    /// A way out.
    Gateway,
    /// Connected to an administration port.
    LoggedIn,
    /// This host to itself, or to the link.
    Loopback,
    /// An address of this host.
    Own,
    /// A BGP neighbour: without it the feed itself would end.
    Peer,
    /// A name server: without it no mail is received.
    Resolver,
}

/// A network that no feed keeps out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Protected {
    /// The network.
    pub network: IpNet,
    /// Why.
    pub why: Why,
}

/// Loopback (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3) and link-local addresses (RFC 3927, RFC 4291 §2.5.6), by which a host
/// speaks with itself and its router.
const ALWAYS: [&str; 4] = ["127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10"];

/// The protected networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Guarded {
    all: Vec<Protected>,
    /// First and last address and the protected network they belong to, disjoint and in order; IPv4 as its mapping in
    /// IPv6 would be (RFC 4291 §2.5.5.2), so that there is one list.
    ranges: Vec<(u128, u128, Protected)>,
}

/// First and last address of a network.
fn ends(network: IpNet) -> (u128, u128) {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    };
    (bits(network.network()), bits(network.broadcast()))
}

impl Guarded {
    /// These, and what always is.
    pub(crate) fn new(networks: impl IntoIterator<Item = Protected>) -> Self {
        let always = ALWAYS.iter().filter_map(|text| text.parse().ok());
        let always = always.map(|network| Protected { network, why: Why::Loopback });
        let mut all: Vec<Protected> = networks.into_iter().chain(always).collect();
        all.iter_mut().for_each(|one| one.network = one.network.trunc());
        all.sort_unstable();
        all.dedup_by_key(|one| one.network);
        let mut ranges: Vec<(u128, u128, Protected)> = Vec::new();
        let mut spans: Vec<_> = all.iter().map(|one| (ends(one.network), *one)).collect();
        spans.sort_unstable_by_key(|((first, last), _)| (*first, std::cmp::Reverse(*last)));
        for ((first, last), one) in spans {
            // Networks are disjoint or inside each other.
            if ranges.last().is_none_or(|(_, end, _)| first > *end) {
                ranges.push((first, last, one));
            }
        }
        Self { all, ranges }
    }

    /// Why an entry that keeps out is not taken: the first protected network that it has an address of.
    pub(crate) fn hit(&self, entry: IpNet) -> Option<Protected> {
        let (first, last) = ends(entry);
        let at = self.ranges.partition_point(|(_, end, _)| *end < first);
        self.ranges.get(at).filter(|(begin, _, _)| *begin <= last).map(|(_, _, one)| *one)
    }

    /// All of them, in order.
    pub(crate) fn all(&self) -> &[Protected] {
        &self.all
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn own(text: &str) -> Protected {
        Protected { network: text.parse().unwrap(), why: Why::Own }
    }

    #[test]
    fn what_covers_a_protected_network_and_what_is_inside_is_found() {
        let guarded = Guarded::new(["192.0.2.25/32", "198.51.100.0/24", "2001:db8::25/128"].map(own));
        for (entry, want) in [
            ("192.0.2.0/24", Some("192.0.2.25/32")),
            ("192.0.2.25/32", Some("192.0.2.25/32")),
            ("192.0.2.24/32", None),
            ("192.0.2.26/31", None),
            ("0.0.0.0/0", Some("127.0.0.0/8")),
            ("198.51.100.7/32", Some("198.51.100.0/24")),
            ("198.51.101.0/24", None),
            ("127.9.9.9/32", Some("127.0.0.0/8")),
            ("2001:db8::/32", Some("2001:db8::25/128")),
            ("2001:db8::26/128", None),
            ("fe80::1/128", Some("fe80::/10")),
            ("::/0", Some("::1/128")),
        ] {
            let hit = guarded.hit(entry.parse().unwrap()).map(|one| one.network.to_string());
            assert_eq!(hit.as_deref(), want, "{entry}");
        }
    }

    proptest! {
        #[test]
        fn ranges_say_what_a_walk_over_all_networks_says(
            networks in prop::collection::vec((any::<u32>(), 4_u8..=32), 0..12), entry: (u32, u8),
        ) {
            let net = |(bits, length): (u32, u8)| {
                IpNet::new(std::net::Ipv4Addr::from(bits & 0xf0f0_0f0f).into(), length).unwrap().trunc()
            };
            let entry = net((entry.0, entry.1 % 33));
            let all: Vec<Protected> =
                networks.into_iter().map(|of| Protected { network: net(of), why: Why::Configured }).collect();
            let guarded = Guarded::new(all);
            let naive = guarded.all().iter().any(|one| one.network.contains(&entry) || entry.contains(&one.network));
            prop_assert_eq!(guarded.hit(entry).is_some(), naive);
        }
    }
}
