//! The parts of the key of an attempt: client, reverse-path, forward-path. The name said at HELO is no part of it, because
//! the hosts of one pool say many; both paths are normalised, so that a retry in other letters or with another tag is a
//! retry. [`super::policy::Policy::keys`] puts them together.

use std::net::IpAddr;

use ipnet::IpNet;

/// A run of letters and digits this long that has a digit is taken for a hash or serial number.
const HASH_LENGTH: usize = 8;
/// Length of the tag of BATV: key number, three digits of the day, six of the hash (draft-levine-smtp-batv §4).
const BATV_TAG: usize = 10;

/// The network of `ip` with the prefix length of its family. A mapped address is the one it maps.
pub(crate) fn network(ip: IpAddr, ipv4_prefix: u8, ipv6_prefix: u8) -> IpNet {
    let ip = ip.to_canonical();
    let length = if ip.is_ipv4() { ipv4_prefix } else { ipv6_prefix };
    // A length that configuration should have refused counts as the exact address.
    IpNet::new(ip, length).map_or_else(|_| IpNet::from(ip), |network| network.trunc())
}

/// A forward-path without angle brackets, as it stands in the key: lower case.
#[must_use]
pub fn normalised_recipient(path: &str) -> String {
    path.to_lowercase()
}

/// A reverse-path without angle brackets, as it stands in the key: lower case, and what changes from one message to
/// the next is taken out: tags of BATV, hash and day of SRS, `+detail`, and the numbers and hashes of VERP (`#`).
#[must_use]
pub fn normalised_sender(path: &str) -> String {
    let path = path.to_lowercase();
    let Some((local, domain)) = path.rsplit_once('@') else { return path };
    let local = without_batv(local);
    let local = match without_srs(local) {
        Some(local) => local,
        None => without_serials(without_detail(local)),
    };
    format!("{local}@{domain}")
}

/// `prvs=tag=local` (draft-levine-smtp-batv), `btv1==tag==local`, `msprvs1=tag=local` (seen in use).
fn without_batv(local: &str) -> &str {
    let bare = if let Some(rest) = local.strip_prefix("prvs=") {
        match rest.split_once('=') {
            Some((tag, local)) if tag.len() == BATV_TAG => Some(local),
            // Some programs say it the other way round.
            Some((local, tag)) if tag.len() == BATV_TAG => Some(local),
            _ => None,
        }
    } else if let Some(rest) = local.strip_prefix("btv1==") {
        rest.split_once("==").map(|(_, local)| local)
    } else if let Some(rest) = local.strip_prefix("msprvs1=") {
        rest.split_once('=').map(|(_, local)| local)
    } else {
        None
    };
    bare.filter(|bare| !bare.is_empty()).unwrap_or(local)
}

/// `SRS0=hash=day=domain=local` and `SRS1=hash=forwarder==hash=day=domain=local` without hash and day.
fn without_srs(local: &str) -> Option<String> {
    let body = |text: &'_ str| -> Option<String> {
        // The separator after the word may be any of the three.
        let rest = text.strip_prefix(['=', '+', '-'])?;
        let mut parts = rest.splitn(3, '=');
        let (_hash, _day) = (parts.next()?, parts.next()?);
        Some(parts.next()?.to_owned())
    };
    if let Some(rest) = local.strip_prefix("srs0") {
        return body(rest).map(|original| format!("srs0={original}"));
    }
    let rest = local.strip_prefix("srs1")?.strip_prefix(['=', '+', '-'])?;
    let (_hash, rest) = rest.split_once('=')?;
    let (forwarder, inner) = rest.split_once('=')?;
    Some(format!("srs1={forwarder}={}", body(inner)?))
}

fn without_detail(local: &str) -> &str {
    match local.split_once('+') {
        Some((user, _)) if !user.is_empty() => user,
        _ => local,
    }
}

fn without_serials(local: &str) -> String {
    let mut text = String::with_capacity(local.len());
    for piece in local.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let word = piece.trim_end_matches(|c: char| !c.is_alphanumeric());
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        let changes = digits > 0 && (digits == word.len() || word.len() >= HASH_LENGTH);
        text.push_str(if changes { "#" } else { word });
        text.push_str(piece.get(word.len()..).unwrap_or_default());
    }
    text
}

#[cfg(test)]
mod tests {
    use mailgate_store::greylist::Tuple;

    use super::super::policy::Policy;
    use super::*;
    use crate::suspicion::{Facts, Weighed};

    fn key(ip: &str, from: &str, to: &str) -> Tuple {
        let config = crate::Config { mode: crate::config::Mode::Classic, ..crate::Config::default() };
        let facts = Facts { reverse_path: from, forward_path: to, ..Facts::of(ip.parse().unwrap()) };
        Policy::from(&config).keys(&Weighed::unknown(facts.ip), &facts).remove(0)
    }

    #[test]
    fn defect_11_other_letters_and_other_tags_are_the_same_sender() {
        assert_eq!(key("192.0.2.1", "A@X.org", "B@Y.org"), key("192.0.2.1", "a@x.ORG", "b@y.org"));
        for (one, other) in [
            ("prvs=2740f2a1b3=user@x.org", "prvs=3751ffffff=user@x.org"),
            ("prvs=2740f2a1b3=user@x.org", "user@x.org"),
            ("prvs=user=2740f2a1b3@x.org", "user@x.org"),
            ("btv1==0951a4d6b3a==user@x.org", "btv1==095ffffffff==user@x.org"),
            ("msprvs1=17421uq6lftvm=bounce@x.org", "msprvs1=17422aaaaaaaa=bounce@x.org"),
            ("SRS0=4ANJ=OZ=y.org=a@x.org", "SRS0=9ZZZ=P2=y.org=a@x.org"),
            ("SRS0+4ANJ=OZ=y.org=a@x.org", "SRS0=9ZZZ=P2=y.org=a@x.org"),
            ("SRS1=AAA=f.org==4ANJ=OZ=y.org=a@x.org", "SRS1=BBB=f.org==9ZZZ=P2=y.org=a@x.org"),
            ("bounce-12345-user=y.org@x.org", "bounce-99-user=y.org@x.org"),
            ("list+abcdef@x.org", "list@x.org"),
            ("0101018c9f2e4b1a-0001@ses.example", "0102018cffffffff-77@ses.example"),
        ] {
            assert_eq!(normalised_sender(one), normalised_sender(other), "{one} {other}");
        }
    }

    #[test]
    fn different_senders_stay_different() {
        for (one, other) in [
            ("a@x.org", "b@x.org"),
            ("a@x.org", "a@y.org"),
            ("", "a@x.org"),
            ("anna@x.org", "berta@x.org"),
            ("SRS0=4ANJ=OZ=y.org=a@x.org", "SRS0=4ANJ=OZ=z.org=a@x.org"),
            ("+a@x.org", "+b@x.org"),
        ] {
            assert_ne!(normalised_sender(one), normalised_sender(other), "{one} {other}");
        }
    }

    #[test]
    fn defect_01_clients_of_both_families_and_mapped_ones_have_one_kind_of_key() {
        assert_eq!(key("192.0.2.1", "a@x.org", "b@y.org").client.to_string(), "192.0.2.1/32");
        assert_eq!(key("::ffff:192.0.2.1", "a@x.org", "b@y.org").client.to_string(), "192.0.2.1/32");
        assert_eq!(key("2001:db8::1", "a@x.org", "b@y.org").client.to_string(), "2001:db8::/64");
        assert_eq!(network("192.0.2.77".parse().unwrap(), 24, 64).to_string(), "192.0.2.0/24");
        assert_eq!(network("2001:db8::77".parse().unwrap(), 24, 64).to_string(), "2001:db8::/64");
    }

    proptest::proptest! {
        #[test]
        fn normalising_never_panics_and_a_second_time_changes_nothing_but_nested_tags(text in "\\PC{0,60}") {
            let once = normalised_sender(&text);
            proptest::prop_assert_eq!(once.rsplit_once('@').map(|(_, d)| d.to_owned()),
                text.to_lowercase().rsplit_once('@').map(|(_, d)| d.to_owned()));
        }
    }
}
