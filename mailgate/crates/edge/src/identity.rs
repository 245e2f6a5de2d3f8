//! Who a client is, as far as it can be proved: the domain whose owner vouches for the address, else the network.
//!
//! The name said at HELO proves nothing and is no part of it.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use mailgate_store::greylist::Identity;

/// The network that stands for a client of whom no name is proved: /24.
const IPV4_NETWORK: u8 = 24;
/// The network that one IPv6 host may choose addresses from (RFC 4291 §2.5.1).
const IPV6_NETWORK: u8 = 64;
/// Octets of the address that must stand side by side in a name made of it. Two are frequent in names of real mail servers.
const OCTETS_IN_NAME: usize = 3;

/// Words in names that access providers give to their subscribers.
const ACCESS_WORDS: [&str; 32] = [
    "adsl",
    "broadband",
    "cable",
    "catv",
    "cpe",
    "dhcp",
    "dial",
    "dialin",
    "dialup",
    "dip",
    "dsl",
    "dyn",
    "dynamic",
    "dynamicip",
    "fiber",
    "ftth",
    "gprs",
    "hsd",
    "lte",
    "mobile",
    "modem",
    "nat",
    "pool",
    "ppp",
    "pppoe",
    "res",
    "residential",
    "umts",
    "vdsl",
    "wifi",
    "wireless",
    "xdsl",
];
/// Words in names of hosts that are meant to send mail.
const MAIL_WORDS: [&str; 16] = [
    "bounce", "email", "gw", "list", "lists", "mail", "mailer", "mailout", "mta", "mx", "news", "out",
    "outbound", "relay", "smtp", "static",
];

/// The domain that was registered: `example.co.uk` of `mail.example.co.uk` (the public suffix list, with its private
/// part, so that two customers of one hoster stay two). `None` for a name that is none, or a suffix itself.
#[must_use]
pub fn organisational(name: &str) -> Option<&str> {
    let name = name.trim_end_matches('.');
    let last = name.rsplit('.').next()?;
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    psl::domain_str(name)
}

/// The network that stands for `ip`: /24 or /64.
#[must_use]
pub fn network(ip: IpAddr) -> Identity {
    Identity::Network(crate::greylist::network(ip, IPV4_NETWORK, IPV6_NETWORK))
}

/// The smallest network that one host has for itself: /32 or /64.
#[must_use]
pub fn host(ip: IpAddr) -> Identity {
    Identity::Network(crate::greylist::network(ip, 32, IPV6_NETWORK))
}

/// The identity of a domain that SPF proved for `domain`.
#[must_use]
pub fn by_spf(domain: &str) -> Option<Identity> {
    Some(Identity::Spf(organisational(&domain.to_ascii_lowercase())?.to_owned()))
}

/// The identity of a confirmed reverse name. A name made of the address, or one for subscribers, proves only whose
/// network it is: every bot in it would share it, so it gives none.
#[must_use]
pub fn by_reverse(name: &str, ip: IpAddr) -> Option<Identity> {
    let name = name.to_ascii_lowercase();
    let is_shared = naming(&name, ip) != Naming::Own || holds_address(&name, ip);
    if is_shared { None } else { Some(Identity::Rdns(organisational(&name)?.to_owned())) }
}

/// What a reverse name says of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// Somebody gave it a name of its own.
    Own,
    /// The name is made of the address.
    Generic,
    /// The name is one of an access network.
    Dynamic,
}

/// What `name` says of the host with `ip`. Words count only below the organisational domain: `dsl.example` may be the
/// name of a firm.
#[must_use]
pub fn naming(name: &str, ip: IpAddr) -> Naming {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let host = organisational(&name).and_then(|org| name.strip_suffix(org)).unwrap_or(&name);
    let words = || host.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    let is_access = words().any(|word| ACCESS_WORDS.contains(&word));
    let holds_address = holds_address(host, ip);
    let is_mail = words().any(|word| MAIL_WORDS.contains(&word));
    match (is_access, holds_address, is_mail) {
        (true, _, false) | (true, true, true) => Naming::Dynamic,
        (false, true, false) => Naming::Generic,
        _ => Naming::Own,
    }
}

fn holds_address(host: &str, ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let octets = ip.octets();
            let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
            let padded: String = octets.iter().map(|octet| format!("{octet:03}")).collect();
            host.contains(&hex) || host.contains(&padded) || holds_octets(host, octets)
        }
        IpAddr::V6(ip) => holds_v6(host, ip),
    }
}

/// Whether three neighbouring octets stand side by side, in either order, whatever separates them.
fn holds_octets(host: &str, octets: [u8; 4]) -> bool {
    let numbers: Vec<u32> = host
        .split(|c: char| !c.is_ascii_digit())
        .filter(|text| !text.is_empty() && text.len() <= 3)
        .filter_map(|text| text.parse().ok())
        .collect();
    let forward = octets.map(u32::from);
    let mut backward = forward;
    backward.reverse();
    [forward, backward].iter().any(|order| {
        order.windows(OCTETS_IN_NAME).any(|part| numbers.windows(OCTETS_IN_NAME).any(|found| found == part))
    })
}

fn holds_v6(host: &str, ip: Ipv6Addr) -> bool {
    let hex = |separator: &str, padded: bool, from: usize| {
        let segments: Vec<String> = ip
            .segments()
            .iter()
            .skip(from)
            .map(|segment| if padded { format!("{segment:04x}") } else { format!("{segment:x}") })
            .collect();
        segments.join(separator)
    };
    let compressed = ip.to_string().replace(':', "-");
    // The interface identifier alone is enough if it is no small number.
    let has_long_host = ip.segments().iter().skip(4).filter(|segment| **segment > 0xff).count() >= 2;
    host.contains(&hex("", true, 0))
        || host.contains(&compressed)
        || [("", true), ("-", true), ("-", false), (".", true)].iter().any(|(separator, padded)| {
            host.contains(&hex(separator, *padded, 0))
                || has_long_host && host.contains(&hex(separator, *padded, 4))
        })
}

/// Whether two names belong to one owner.
#[must_use]
pub fn related(one: &str, other: &str) -> bool {
    let (one, other) = (one.to_ascii_lowercase(), other.to_ascii_lowercase());
    matches!((organisational(&one), organisational(&other)), (Some(one), Some(other)) if one == other)
}

/// A network that an identity names, if it is one.
#[must_use]
pub fn as_network(identity: &Identity) -> Option<IpNet> {
    match identity {
        Identity::Network(network) => Some(*network),
        Identity::Message(_) | Identity::Rdns(_) | Identity::Spf(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_registered_domain_is_found_and_customers_of_one_hoster_stay_apart() {
        for (name, want) in [
            ("mail.example.co.uk", Some("example.co.uk")),
            ("example.org.", Some("example.org")),
            ("a.b.example.test", Some("example.test")),
            ("one.github.io", Some("one.github.io")),
            ("x.two.github.io", Some("two.github.io")),
            ("co.uk", None),
            ("localhost", None),
            ("1.2.3.4", None),
            ("", None),
        ] {
            assert_eq!(organisational(name), want, "{name}");
        }
    }

    #[test]
    fn names_of_subscribers_and_names_made_of_the_address_are_told_from_those_of_mail_servers() {
        use Naming::{Dynamic, Generic, Own};
        for (name, address, want) in [
            ("mail.example.org", "192.0.2.1", Own),
            ("example.org", "192.0.2.1", Own),
            ("mail-wr1-f41.example.com", "192.0.2.41", Own),
            ("a2-30.smtp-out.example.com", "198.51.2.30", Own),
            ("o1.ptr1234.example.net", "192.0.2.1", Own),
            ("dsl.example", "192.0.2.1", Own),
            ("p5dcf1a2b.dip0.t-ipconnect.example", "93.207.26.43", Dynamic),
            ("host-192-0-2-1.example.net", "192.0.2.1", Generic),
            ("1.2.0.192.example.net", "192.0.2.1", Generic),
            ("192-0-2-1.dynamic.example.net", "192.0.2.1", Dynamic),
            ("pool-100.dyn.example.net", "192.0.2.1", Dynamic),
            ("c0000201.virtua.example", "192.0.2.1", Generic),
            ("ip192000002001.example.net", "192.0.2.1", Generic),
            ("static.1.2.0.192.clients.example.de", "192.0.2.1", Own),
            ("mta-192-0-2-1.example.com", "192.0.2.1", Own),
            ("mail.dsl.192-0-2-1.example.com", "192.0.2.1", Dynamic),
            ("2001-db8--1.example.net", "2001:db8::1", Generic),
            ("host-aaaa-bbbb-cccc-dddd.example.net", "2001:db8::aaaa:bbbb:cccc:dddd", Generic),
            ("mx1.example.net", "2001:db8::1", Own),
        ] {
            assert_eq!(naming(name, ip(address)), want, "{name}");
        }
    }

    #[test]
    fn a_name_shared_with_every_subscriber_gives_no_identity() {
        let at = ip("192.0.2.1");
        assert_eq!(by_reverse("mail.example.co.uk", at), Some(Identity::Rdns("example.co.uk".into())));
        assert_eq!(by_reverse("host-192-0-2-1.example.net", at), None);
        assert_eq!(by_reverse("pool-7.dyn.example.net", at), None);
        assert_eq!(by_reverse("static.1.2.0.192.clients.example.de", at), None, "a hoster's customer");
        assert_eq!(by_spf("News.Example.COM"), Some(Identity::Spf("example.com".into())));
        assert_eq!(network(at).to_string(), "192.0.2.0/24");
        assert_eq!(host(ip("2001:db8::7")).to_string(), "2001:db8::/64");
    }

    #[test]
    fn relatives_have_one_owner() {
        assert!(related("a.example.co.uk", "B.Example.co.uk") && !related("a.co.uk", "b.co.uk"));
        assert!(!related("localhost", "localhost"));
    }

    proptest::proptest! {
        #[test]
        fn no_name_makes_it_panic(name in "\\PC{0,60}", bits in proptest::num::u128::ANY) {
            for ip in [IpAddr::from(std::net::Ipv4Addr::from_bits(bits as u32)), Ipv6Addr::from_bits(bits).into()] {
                let _ = (naming(&name, ip), organisational(&name), by_reverse(&name, ip), by_spf(&name));
            }
        }
    }
}
