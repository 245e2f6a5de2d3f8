//! Prefixes as text, and as keys that sort and pack well.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::table::Entry;

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

/// A prefix packed into something that sorts as [`IpNet`] does and compares in one or two instructions.
pub(crate) trait Key: Copy + Ord + std::hash::Hash + 'static {
    /// The key with what a set says of it.
    type Packed: Packed<Key = Self>;

    /// The prefix again.
    fn prefix(self) -> IpNet;

    /// The key of a prefix of this family.
    fn of_net(net: IpNet) -> Option<Self>;

    /// Bits of the prefix.
    fn length(self) -> u8;
}

/// A key with its sense and an epoch, in as little memory as that takes: a list of five million lines is five million
/// of these.
pub(crate) trait Packed: Copy + Ord + Send + 'static {
    /// What it is the packed form of.
    type Key: Key<Packed = Self>;

    /// Of epoch zero.
    fn new(key: Self::Key, sense: Sense) -> Self;

    /// The prefix.
    fn key(self) -> Self::Key;

    /// What is said of it.
    fn sense(self) -> Sense;

    /// A number of the owner's choice.
    fn epoch(self) -> u16;

    /// The same with another epoch.
    fn of_epoch(self, epoch: u16) -> Self;
}

/// IPv4: address in bits 8 to 39, length in bits 0 to 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key4(u64);

/// IPv6: address, then length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key6([u64; 2], u8);

impl Key4 {
    /// Packs a prefix whose host bits are zero.
    pub(crate) fn of(net: Ipv4Net) -> Self {
        Self(u64::from(u32::from(net.addr())) << 8 | u64::from(net.prefix_len()))
    }
}

impl Key6 {
    /// Packs a prefix whose host bits are zero.
    pub(crate) fn of(net: Ipv6Net) -> Self {
        let bits = u128::from(net.addr());
        Self([(bits >> 64) as u64, bits as u64], net.prefix_len())
    }
}

impl Key for Key4 {
    type Packed = Packed4;

    fn prefix(self) -> IpNet {
        let net = Ipv4Net::new(Ipv4Addr::from((self.0 >> 8) as u32), self.0 as u8);
        IpNet::V4(net.unwrap_or_default())
    }

    fn of_net(net: IpNet) -> Option<Self> {
        match net {
            IpNet::V4(net) => Some(Self::of(net)),
            IpNet::V6(_) => None,
        }
    }

    fn length(self) -> u8 {
        self.0 as u8
    }
}

impl Key for Key6 {
    type Packed = Packed6;

    fn prefix(self) -> IpNet {
        let [high, low] = self.0;
        let address = Ipv6Addr::from(u128::from(high) << 64 | u128::from(low));
        IpNet::V6(Ipv6Net::new(address, self.1).unwrap_or_default())
    }

    fn of_net(net: IpNet) -> Option<Self> {
        match net {
            IpNet::V4(_) => None,
            IpNet::V6(net) => Some(Self::of(net)),
        }
    }

    fn length(self) -> u8 {
        self.1
    }
}

/// What stands below the address of a packed key: length in bits 24 to 31, sense in bit 16, epoch in bits 0 to 15.
fn tail(length: u8, sense: Sense) -> u32 {
    u32::from(length) << 24 | u32::from(sense == Sense::Listed) << 16
}

fn sense_of(tail: u32) -> Sense {
    if tail >> 16 & 1 == 1 { Sense::Listed } else { Sense::Hole }
}

/// IPv4 in eight bytes: address, then [`tail`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Packed4(u64);

/// IPv6 in twenty-four bytes: address, then [`tail`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Packed6([u64; 2], u32);

impl Packed for Packed4 {
    type Key = Key4;

    fn new(key: Key4, sense: Sense) -> Self {
        Self(key.0 >> 8 << 32 | u64::from(tail(key.length(), sense)))
    }

    fn key(self) -> Key4 {
        Key4(self.0 >> 32 << 8 | self.0 >> 24 & 0xff)
    }

    fn sense(self) -> Sense {
        sense_of(self.0 as u32)
    }

    fn epoch(self) -> u16 {
        self.0 as u16
    }

    fn of_epoch(self, epoch: u16) -> Self {
        Self(self.0 & !0xffff | u64::from(epoch))
    }
}

impl Packed for Packed6 {
    type Key = Key6;

    fn new(key: Key6, sense: Sense) -> Self {
        Self(key.0, tail(key.length(), sense))
    }

    fn key(self) -> Key6 {
        Key6(self.0, (self.1 >> 24) as u8)
    }

    fn sense(self) -> Sense {
        sense_of(self.1)
    }

    fn epoch(self) -> u16 {
        self.1 as u16
    }

    fn of_epoch(self, epoch: u16) -> Self {
        Self(self.0, self.1 & !0xffff | u32::from(epoch))
    }
}

/// A set of prefixes as a file brings it; sorted and without duplicates after [`sort`](Self::sort).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PrefixSet {
    pub(crate) v4: Vec<Packed4>,
    pub(crate) v6: Vec<Packed6>,
    /// Most entries, if that is limited.
    limit: Option<usize>,
    is_overfull: bool,
}

impl PrefixSet {
    /// A set that takes no more than `limit` entries, duplicates included until it is sorted.
    pub(crate) fn limited(limit: usize) -> Self {
        Self { limit: Some(limit), ..Self::default() }
    }

    /// From sorted parts without duplicates.
    pub(crate) fn of(v4: Vec<Packed4>, v6: Vec<Packed6>) -> Self {
        Self { v4, v6, ..Self::default() }
    }

    /// Whether there was more than it takes; who fills it may stop then.
    pub(crate) fn is_overfull(&self) -> bool {
        self.is_overfull
    }

    /// Adds without keeping the order; call [`sort`](Self::sort) at the end.
    pub(crate) fn push(&mut self, prefix: IpNet, sense: Sense) {
        if self.limit.is_some_and(|limit| self.len() >= limit) {
            self.is_overfull = true;
            return;
        }
        match prefix {
            IpNet::V4(net) => self.v4.push(Packed4::new(Key4::of(net), sense)),
            IpNet::V6(net) => self.v6.push(Packed6::new(Key6::of(net), sense)),
        }
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Prefixes of both families.
    pub(crate) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Sorts, drops duplicates and spare memory. A prefix that is both listed and a hole is a hole: the milder reading.
    pub(crate) fn sort(&mut self) {
        fn tidy<P: Packed>(entries: &mut Vec<P>) {
            entries.sort_unstable();
            entries.dedup_by_key(|entry| entry.key());
            entries.shrink_to_fit();
        }
        tidy(&mut self.v4);
        tidy(&mut self.v6);
    }
}

#[cfg(test)]
mod tests {
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
