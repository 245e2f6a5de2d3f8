//! Prefixes as text, and as keys that sort and pack well.

mod key;
mod order;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::table::Entry;
pub(crate) use key::{Key, Key4, Key6, Packed, Packed4, Packed6, PrefixSet};

/// Longest text of an entry: `!`, an IPv6 address with embedded IPv4, `/128`. Longer is not looked at.
const TEXT_LIMIT: usize = 64;

/// Whether an entry holds its prefix or makes a hole in a wider one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sense {
    /// `!10.0.0.1`.
    Hole,
    /// `10.0.0.0/8`.
    Listed,
}

/// Reads one entry as `mailgate table add` and list files have it: an address or a prefix, IPv4 or IPv6, with
/// a leading `!` for a hole. Addresses of the form `::ffff:192.0.2.1` become IPv4 (RFC 4291 §2.5.5.2), so that
/// the same host cannot be written in two ways.
///
/// # Errors
/// A sentence with what was found and what was expected. Host bits are an error: `192.0.2.1/24` may mean one
/// host or 256, and a list that guesses wrongly blocks strangers.
pub fn parse_entry(text: &str) -> Result<Entry, String> {
    let (sense, prefix) = parse_bytes(text.trim().as_bytes())?;
    Ok(Entry { prefix, negated: sense == Sense::Hole, expires: None })
}

/// Reads one entry of a file, already trimmed.
pub(crate) fn parse_bytes(text: &[u8]) -> Result<(Sense, IpNet), String> {
    let (sense, rest) = match text.split_first() {
        Some((b'!', rest)) => (Sense::Hole, rest.trim_ascii_start()),
        _ => (Sense::Listed, text),
    };
    match parse_v4(rest) {
        Some(net) => Ok((sense, IpNet::V4(net))),
        None => parse_any(rest).map(|net| (sense, net)),
    }
}

/// The fast way: dotted quad with an optional length, no leading zeros (they mean octal to some programs).
/// `None` leaves the judgement to [`parse_any`].
fn parse_v4(text: &[u8]) -> Option<Ipv4Net> {
    let mut bits = 0_u32;
    let mut bytes = text.iter();
    let mut next = None;
    for octet in 0..4 {
        if octet > 0 && next != Some(b'.') {
            return None;
        }
        let mut value = digit(bytes.next().copied())?;
        let leading_zero = value == 0;
        loop {
            next = bytes.next().copied();
            let Some(digit) = digit(next) else { break };
            value = value * 10 + digit;
            if leading_zero || value > 255 {
                return None;
            }
        }
        bits = bits << 8 | value;
    }
    let length = match next {
        None => 32,
        Some(b'/') => parse_length(bytes.as_slice(), 32)?,
        Some(_) => return None,
    };
    let address = Ipv4Addr::from(bits);
    let net = Ipv4Net::new(address, length).ok()?;
    (net.network() == address).then_some(net)
}

fn digit(byte: Option<u8>) -> Option<u32> {
    byte?.checked_sub(b'0').filter(|d| *d < 10).map(u32::from)
}

/// A prefix length up to `most`, in one to three digits.
fn parse_length(text: &[u8], most: u8) -> Option<u8> {
    if text.is_empty() || text.len() > 3 {
        return None;
    }
    let mut value = 0;
    for byte in text {
        value = value * 10 + digit(Some(*byte))?;
    }
    u8::try_from(value).ok().filter(|length| *length <= most)
}

/// The thorough way, with a sentence when it fails.
fn parse_any(text: &[u8]) -> Result<IpNet, String> {
    const EXPECTED: &str = "an address or prefix such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32";
    let wrong = || format!("found {}, expected {EXPECTED}", quoted(text));
    let text = std::str::from_utf8(text).ok().filter(|t| t.len() <= TEXT_LIMIT).ok_or_else(wrong)?;
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => most,
        Some(length) => parse_length(length.as_bytes(), most).ok_or_else(|| {
            format!("found prefix length {}, expected 0 to {most}", quoted(length.as_bytes()))
        })?,
    };
    let net = IpNet::new(address, length).map_err(|_| wrong())?;
    if net.network() != address {
        return Err(format!(
            "found {text} with bits set beyond /{length}, expected {} or {address}",
            net.trunc()
        ));
    }
    Ok(canonical(net))
}

/// The one form of a prefix: host bits zero, IPv4 out of its IPv6 mapping.
pub(crate) fn canonical(net: IpNet) -> IpNet {
    match net.trunc() {
        IpNet::V4(net) => IpNet::V4(net),
        IpNet::V6(net) => match (net.addr().to_ipv4_mapped(), net.prefix_len().checked_sub(96)) {
            (Some(v4), Some(length)) => Ipv4Net::new(v4, length).map_or(IpNet::V6(net), IpNet::V4),
            _ => IpNet::V6(net),
        },
    }
}

/// What was found, printable, shortened.
pub(crate) fn quoted(text: &[u8]) -> String {
    const SHOWN: usize = 40;
    let lossy = String::from_utf8_lossy(text.get(..text.len().min(SHOWN * 4)).unwrap_or_default());
    let mut shown: String = lossy.chars().take(SHOWN).collect();
    if lossy.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use ipnet::Ipv6Net;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_read_as_people_write_them() {
        for (given, want) in [
            ("192.0.2.1", "192.0.2.1/32"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("! 10.0.0.0/8", "10.0.0.0/8"),
        ] {
            let entry = parse_entry(given).unwrap();
            assert_eq!(entry.prefix.to_string(), want, "{given}");
            assert_eq!(entry.negated, given.starts_with('!'), "{given}");
        }
    }

    #[test]
    fn what_is_no_entry_is_refused_with_what_was_expected() {
        for (given, want) in [
            ("", "expected an address"),
            ("!", "expected an address"),
            ("192.0.2", "expected an address"),
            ("192.0.2.256", "expected an address"),
            ("192.0.02.1", "expected an address"),
            ("192.0.2.1.1", "expected an address"),
            ("mail.example.org", "expected an address"),
            ("192.0.2.0/33", "expected 0 to 32"),
            ("192.0.2.0/", "expected 0 to 32"),
            ("2001:db8::/129", "expected 0 to 128"),
            ("192.0.2.1/24", "expected 192.0.2.0/24 or 192.0.2.1"),
            ("2001:db8::1/32", "expected 2001:db8::/32 or 2001:db8::1"),
        ] {
            let said = parse_entry(given).unwrap_err();
            assert!(said.contains(want), "{given}: {said}");
        }
    }

    #[test]
    fn a_long_line_is_not_repeated_whole() {
        let said = parse_entry(&"x".repeat(100_000)).unwrap_err();
        assert!(said.len() < 200, "{said}");
    }

    fn packs<K: Key + std::fmt::Debug>(key: K) -> Result<(), TestCaseError> {
        for sense in [Sense::Hole, Sense::Listed] {
            let packed = K::Packed::new(key, sense).of_epoch(7).of_epoch(u16::MAX);
            prop_assert_eq!((packed.key(), packed.sense(), packed.epoch()), (key, sense, u16::MAX));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn written_v4_prefixes_read_back(bits: u32, length in 0_u8..=32) {
            let net = Ipv4Net::new(Ipv4Addr::from(bits), length).unwrap().trunc();
            prop_assert_eq!(parse_entry(&net.to_string()).unwrap().prefix, IpNet::V4(net));
            prop_assert_eq!(Key4::of(net).prefix(), IpNet::V4(net));
            packs(Key4::of(net))?;
        }

        #[test]
        fn written_v6_prefixes_read_back(bits: u128, length in 0_u8..=128) {
            let net = Ipv6Net::new(Ipv6Addr::from(bits), length).unwrap().trunc();
            prop_assert_eq!(parse_entry(&net.to_string()).unwrap().prefix, canonical(IpNet::V6(net)));
            prop_assert_eq!(Key6::of(net).prefix(), IpNet::V6(net));
            packs(Key6::of(net))?;
        }

        #[test]
        fn the_fast_way_and_the_thorough_way_agree(text in "[0-9./:a!]{0,20}") {
            let thorough = parse_any(text.as_bytes());
            match parse_v4(text.as_bytes()) {
                Some(net) => prop_assert_eq!(thorough, Ok(IpNet::V4(net))),
                None => prop_assert!(!matches!(thorough, Ok(IpNet::V4(_))), "{}", text),
            }
        }

        #[test]
        fn keys_sort_as_prefixes_do(a: (u32, u8), b: (u32, u8)) {
            let net = |(bits, length): (u32, u8)| {
                Ipv4Net::new(Ipv4Addr::from(bits), length % 33).unwrap().trunc()
            };
            prop_assert_eq!(Key4::of(net(a)).cmp(&Key4::of(net(b))), net(a).cmp(&net(b)));
        }
    }
}
