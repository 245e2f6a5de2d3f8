//! Values of rules as people write them: ports, sources, protocols, rates.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use mailgate_lists::TableName;
use mailgate_model::Span;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::service;

/// The beginning of what was found, for messages.
fn found(text: &str) -> String {
    format!("{:?}", text.chars().take(40).collect::<String>())
}

/// Reads a number or a text; both say what they expect.
struct NumberOrText<T> {
    expected: &'static str,
    number: fn(u64) -> Option<T>,
    text: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for NumberOrText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        (self.number)(number).ok_or_else(|| E::custom(format!("found {number}, expected {}", self.expected)))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        let value = u64::try_from(number).ok().and_then(self.number);
        value.ok_or_else(|| E::custom(format!("found {number}, expected {}", self.expected)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.text)(text.trim()).map_err(E::custom)
    }
}

/// `Deserialize` by [`NumberOrText`].
macro_rules! written {
    ($type:ty, $expected:expr, $number:expr, $text:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any(NumberOrText { expected: $expected, number: $number, text: $text })
            }
        }
    };
}

/// Ports from the first to the last, both included; never empty, never port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

const PORT: &str = "a port such as 25, a range such as \"1000-2000\" or a service such as \"smtp\"";

impl PortRange {
    /// One port.
    #[must_use]
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    fn number(number: u64) -> Option<Self> {
        u16::try_from(number).ok().filter(|port| *port != 0).map(Self::one)
    }

    fn read(text: &str) -> Result<Self, String> {
        let one = |text: &str| match text.parse::<u64>() {
            Ok(number) => Self::number(number).map(|range| range.first),
            Err(_) => service::port(text),
        };
        let range = match text.split_once(['-', ':']) {
            // Names of services have dashes too.
            Some((first, last)) if service::port(text).is_none() => one(first.trim()).zip(one(last.trim())),
            _ => one(text).map(|port| (port, port)),
        };
        match range {
            Some((first, last)) if first <= last => Ok(Self { first, last }),
            Some(_) => Err(format!("found {}, expected the lower port first", found(text))),
            None => Err(format!("found {}, expected {PORT}; known are {}", found(text), service::names())),
        }
    }

    /// Whether the range holds a port.
    #[must_use]
    pub const fn holds(&self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

written!(PortRange, PORT, Self::number, Self::read);

/// A table, or with `!` in front everything but a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The table.
    pub name: TableName,
    /// Whether the source must not be in it.
    pub negated: bool,
}

impl Source {
    fn read(text: &str) -> Result<Self, String> {
        let (negated, name) = text.strip_prefix('!').map_or((false, text), |name| (true, name.trim_start()));
        // PF writes tables in angle brackets.
        let name = name.strip_prefix('<').and_then(|name| name.strip_suffix('>')).unwrap_or(name);
        TableName::parse(name)
            .map(|name| Self { name, negated })
            .map_err(|said| format!("{said}; addresses belong into a table: mailgate table add NAME ADDRESS"))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.negated { "!" } else { "" }, self.name)
    }
}

written!(Source, "a table such as \"block\" or \"!bypass\"", |_| None, Self::read);

/// A protocol above IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP of IPv4.
    Icmp,
    /// ICMP of IPv6.
    Icmp6,
    /// Another, by its number.
    Other(u8),
}

const PROTOCOL: &str = "\"tcp\", \"udp\", \"icmp\", \"icmp6\" or a number from 0 to 255 such as 50 (ESP)";

impl Protocol {
    fn number(number: u64) -> Option<Self> {
        // IANA protocol-numbers.
        Some(match u8::try_from(number).ok()? {
            1 => Self::Icmp,
            6 => Self::Tcp,
            17 => Self::Udp,
            58 => Self::Icmp6,
            other => Self::Other(other),
        })
    }

    pub(super) fn read(text: &str) -> Result<Self, String> {
        let known = match text {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            "icmp" => Some(Self::Icmp),
            "icmp6" | "ipv6-icmp" => Some(Self::Icmp6),
            "esp" => Some(Self::Other(50)),
            "ah" => Some(Self::Other(51)),
            "gre" => Some(Self::Other(47)),
            other => other.parse().ok().and_then(Self::number),
        };
        known.ok_or_else(|| format!("found {}, expected {PROTOCOL}", found(text)))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Icmp => f.write_str("icmp"),
            Self::Icmp6 => f.write_str("icmp6"),
            Self::Other(number) => write!(f, "{number}"),
        }
    }
}

written!(Protocol, PROTOCOL, Self::number, Self::read);

/// A type of ICMP message, by number or by name; a name may mean another number in IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Icmp {
    /// Its number with protocol `icmp`.
    v4: Option<u8>,
    /// Its number with protocol `icmp6`.
    v6: Option<u8>,
    name: Option<&'static str>,
}

/// Name, type in ICMP, type in ICMPv6 (IANA icmp-parameters, icmpv6-parameters).
const ICMP: [(&str, Option<u8>, Option<u8>); 10] = [
    ("echo", Some(8), Some(128)),
    ("echo-reply", Some(0), Some(129)),
    ("unreachable", Some(3), Some(1)),
    ("too-big", None, Some(2)),
    ("time-exceeded", Some(11), Some(3)),
    ("parameter-problem", Some(12), Some(4)),
    ("router-solicitation", Some(10), Some(133)),
    ("router-advertisement", Some(9), Some(134)),
    ("neighbour-solicitation", None, Some(135)),
    ("neighbour-advertisement", None, Some(136)),
];

const ICMP_TYPE: &str = "a type from 0 to 254 or a name such as \"echo\"";

impl Icmp {
    fn number(number: u64) -> Option<Self> {
        let kind = u8::try_from(number).ok().filter(|kind| *kind < 255)?;
        Some(Self { v4: Some(kind), v6: Some(kind), name: None })
    }

    fn read(text: &str) -> Result<Self, String> {
        let named = ICMP.iter().find(|(name, ..)| *name == text);
        let known = match (named, text.parse()) {
            (Some((name, v4, v6)), _) => Some(Self { v4: *v4, v6: *v6, name: Some(name) }),
            (None, Ok(number)) => Self::number(number),
            (None, Err(_)) => None,
        };
        known.ok_or_else(|| {
            let names = ICMP.map(|(name, ..)| name).join(" ");
            format!("found {}, expected {ICMP_TYPE}; known are {names}", found(text))
        })
    }

    /// Its number with this protocol; `None` when there is no such type.
    #[must_use]
    pub fn of(&self, protocol: Protocol) -> Option<u8> {
        match protocol {
            Protocol::Icmp => self.v4,
            Protocol::Icmp6 => self.v6,
            _ => None,
        }
    }
}

impl fmt::Display for Icmp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name, self.v4) {
            (Some(name), _) => f.write_str(name),
            (None, Some(number)) => write!(f, "{number}"),
            (None, None) => Ok(()),
        }
    }
}

written!(Icmp, ICMP_TYPE, Self::number, Self::read);

/// So many new connections in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Connections, 1 to 65535.
    pub count: u32,
    /// In this time, 1 s to 1 h.
    pub per: Duration,
}

const RATE: &str = "connections and a time from 1s to 1h such as \"50/5s\"";

/// More connections than this, at once or in a time, are no limit.
pub(super) const CONNECTION_LIMIT: u32 = 65_535;

impl FromStr for RateLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("found {}, expected {RATE}", found(text));
        let (count, per) = text.split_once('/').ok_or_else(wrong)?;
        let count = count.trim().parse().map_err(|_| wrong())?;
        let per = per.trim();
        // pf.conf(5) writes `50/5`: seconds.
        let per = match per.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => per.parse::<Span>().map_err(|_| wrong())?.duration(),
        };
        let fits = (1..=CONNECTION_LIMIT).contains(&count)
            && (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&per);
        fits.then_some(Self { count, per }).ok_or_else(wrong)
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.per.as_millis()).unwrap_or(u64::MAX);
        write!(f, "{}/{}", self.count, Span::from_millis(millis))
    }
}

written!(RateLimit, RATE, |_| None, str::parse);

/// What counts as one source: a prefix length of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Per {
    /// 8 to 32.
    pub v4: u8,
    /// 16 to 128.
    pub v6: u8,
}

const PER: &str = "an IPv4 length from 8 to 32 and an IPv6 length from 16 to 128 such as \"/32,/64\"";

impl Default for Per {
    fn default() -> Self {
        // One host has a whole /64 to hide in.
        Self { v4: 32, v6: 64 }
    }
}

impl FromStr for Per {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let length = |text: &str| text.trim().strip_prefix('/').and_then(|length| length.parse::<u8>().ok());
        let (v4, v6) = text.split_once(',').unwrap_or((text, ""));
        length(v4)
            .zip(length(v6))
            .filter(|(v4, v6)| (8..=32).contains(v4) && (16..=128).contains(v6))
            .map(|(v4, v6)| Self { v4, v6 })
            .ok_or_else(|| format!("found {}, expected {PER}", found(text)))
    }
}

impl fmt::Display for Per {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{},/{}", self.v4, self.v6)
    }
}

written!(Per, PER, |_| None, str::parse);

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: for<'a> Deserialize<'a>>(json: &str) -> Result<T, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn ports_are_numbers_ranges_and_names() {
        for (text, first, last) in [
            ("25", 25, 25),
            ("\"25\"", 25, 25),
            ("\"1000-2000\"", 1000, 2000),
            ("\"1000:2000\"", 1000, 2000),
            ("\"smtps\"", 465, 465),
            ("\"spamd-sync\"", 8025, 8025),
            ("\"pop3-imap\"", 110, 143),
        ] {
            assert_eq!(read::<PortRange>(text), Ok(PortRange { first, last }), "{text}");
        }
        for text in
            ["0", "65536", "-1", "\"\"", "\"nosuch\"", "\"1-\"", "\"0-5\"", "\"20-10\"", "2.5", "true"]
        {
            let said = read::<PortRange>(text).unwrap_err();
            assert!(said.contains("expected"), "{text}: {said}");
        }
    }

    #[test]
    fn sources_are_tables_and_exceptions_never_addresses() {
        let block = |negated| Source { name: TableName::parse("block").unwrap(), negated };
        assert_eq!(read::<Source>("\"block\""), Ok(block(false)));
        assert_eq!(read::<Source>("\"!block\""), Ok(block(true)));
        assert_eq!(read::<Source>("\"!<block>\""), Ok(block(true)));
        assert!(read::<Source>("\"192.0.2.1\"").unwrap_err().contains("mailgate table add"));
    }

    #[test]
    fn a_name_of_icmp_has_its_number_in_each_family() {
        let echo: Icmp = read("\"echo\"").unwrap();
        assert_eq!((echo.of(Protocol::Icmp), echo.of(Protocol::Icmp6)), (Some(8), Some(128)));
        let too_big: Icmp = read("\"too-big\"").unwrap();
        assert_eq!((too_big.of(Protocol::Icmp), too_big.of(Protocol::Icmp6)), (None, Some(2)));
        assert!(read::<Icmp>("255").is_err());
        assert!(read::<Icmp>("\"ping\"").unwrap_err().contains("known are echo"));
    }

    #[test]
    fn rates_and_prefix_lengths_are_bounded() {
        assert_eq!("50/5".parse(), Ok(RateLimit { count: 50, per: Duration::from_secs(5) }));
        assert_eq!("25/1m30s".parse::<RateLimit>().unwrap().to_string(), "25/1m30s");
        for text in ["", "50", "0/5s", "50/0s", "50/2h", "70000/5s", "x/5s"] {
            assert!(text.parse::<RateLimit>().unwrap_err().contains("\"50/5s\""), "{text}");
        }
        assert_eq!("/24,/48".parse(), Ok(Per { v4: 24, v6: 48 }));
        for text in ["", "/33,/64", "/32", "32,64", "/32,/8"] {
            assert!(text.parse::<Per>().is_err(), "{text}");
        }
    }

    #[test]
    fn protocols_have_names_and_numbers() {
        for (text, want) in [
            ("\"tcp\"", Protocol::Tcp),
            ("17", Protocol::Udp),
            ("58", Protocol::Icmp6),
            ("\"esp\"", Protocol::Other(50)),
        ] {
            assert_eq!(read::<Protocol>(text), Ok(want));
        }
        assert!(read::<Protocol>("\"tpc\"").unwrap_err().contains("found \"tpc\", expected \"tcp\""));
    }
}
