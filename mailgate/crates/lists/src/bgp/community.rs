//! Which communities mean a table.

use std::fmt;
use std::str::FromStr;

use mailgate_proto::bgp::{Attributes, Community, ExtendedCommunity, ExtendedKind, LargeCommunity};
use serde::Deserialize;

/// A community as the configuration names it: `65066:666` (RFC 1997), `65066:1:666` (RFC 8092), `rt:65066:666` or
/// `ro:65066:666` (RFC 4360), a well-known name; a part may be `*`, `local-as` or `neighbor-as`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Pattern {
    /// `rt:ASN:value` and `ro:ASN:value`.
    Extended(ExtendedKind, Part, Part),
    /// `ASN:value:value`.
    Large(Part, Part, Part),
    /// `ASN:value`.
    Plain(Part, Part),
}

/// A community that is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Large(LargeCommunity),
    Plain(Community),
}

impl Pattern {
    /// The one community that it means; `None` when it means several, or an extended one.
    pub(crate) fn mark(self) -> Option<Mark> {
        let number = |part: Part| match part {
            Part::Is(number) => Some(number),
            Part::Any | Part::LocalAs | Part::NeighborAs => None,
        };
        match self {
            Self::Extended(..) => None,
            Self::Large(global, one, two) => Some(Mark::Large(LargeCommunity {
                global: number(global)?,
                local_1: number(one)?,
                local_2: number(two)?,
            })),
            Self::Plain(high, low) => {
                let half = |part| u16::try_from(number(part)?).ok();
                Some(Mark::Plain(Community::new(half(high)?, half(low)?)))
            }
        }
    }
}

/// A part of a community.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `*`.
    Any,
    /// A number.
    Is(u32),
    /// `local-as`.
    LocalAs,
    /// `neighbor-as`.
    NeighborAs,
}

/// Both ends of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Speakers {
    /// Our AS.
    pub(crate) local_as: u32,
    /// The neighbour's.
    pub(crate) peer_as: u32,
}

/// All communities of a route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Marks {
    pub(crate) plain: Box<[Community]>,
    pub(crate) large: Box<[LargeCommunity]>,
    pub(crate) extended: Box<[ExtendedCommunity]>,
}

impl Marks {
    pub(crate) fn of(attributes: &Attributes) -> Self {
        Self {
            plain: attributes.communities.as_slice().into(),
            large: attributes.large_communities.as_slice().into(),
            extended: attributes.extended_communities.as_slice().into(),
        }
    }

    /// All of them as text.
    pub(crate) fn texts(&self) -> Vec<String> {
        let plain = self.plain.iter().map(ToString::to_string);
        let large = self.large.iter().map(ToString::to_string);
        plain.chain(large).chain(self.extended.iter().map(ToString::to_string)).collect()
    }
}

/// Names that operators know (IANA bgp-well-known-communities).
const NAMES: [(&str, u32); 4] =
    [("blackhole", 666), ("no-advertise", 0xff02), ("no-export", 0xff01), ("no-peer", 0xff04)];

/// The upper half of well-known communities.
const WELL_KNOWN: u32 = 0xffff;

/// What is expected, for whoever wrote something else.
const EXPECTED: &str = "such as 65066:666, 65066:*, neighbor-as:666, 65066:1:666, rt:65066:666 or blackhole";

impl Part {
    fn is(self, found: u32, speakers: Speakers) -> bool {
        match self {
            Self::Any => true,
            Self::Is(wanted) => wanted == found,
            Self::LocalAs => speakers.local_as == found,
            Self::NeighborAs => speakers.peer_as == found,
        }
    }

    fn read(text: &str, most: u32) -> Option<Self> {
        match text {
            "*" => Some(Self::Any),
            "local-as" => Some(Self::LocalAs),
            "neighbor-as" => Some(Self::NeighborAs),
            _ if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok().filter(|number| *number <= most).map(Self::Is)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Is(number) => write!(f, "{number}"),
            Self::LocalAs => f.write_str("local-as"),
            Self::NeighborAs => f.write_str("neighbor-as"),
        }
    }
}

impl Pattern {
    /// Whether a route with these communities is meant, in a session of these speakers.
    pub(crate) fn matches(self, marks: &Marks, speakers: Speakers) -> bool {
        let is = |part: Part, found: u32| part.is(found, speakers);
        match self {
            Self::Extended(kind, asn, value) => {
                marks.extended.iter().filter_map(|community| community.parts()).any(
                    |(found, found_as, found_value)| {
                        found == kind && is(asn, found_as) && is(value, found_value)
                    },
                )
            }
            Self::Large(global, one, two) => {
                marks.large.iter().any(|c| is(global, c.global) && is(one, c.local_1) && is(two, c.local_2))
            }
            Self::Plain(high, low) => {
                marks.plain.iter().any(|c| is(high, c.high().into()) && is(low, c.low().into()))
            }
        }
    }

    fn read(text: &str) -> Option<Self> {
        if let Some((_, low)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Some(Self::Plain(Part::Is(WELL_KNOWN), Part::Is(*low)));
        }
        let parts: Vec<&str> = text.split(':').collect();
        let (half, whole) = (u32::from(u16::MAX), u32::MAX);
        let kind = |name: &str| {
            [ExtendedKind::Origin, ExtendedKind::Target].into_iter().find(|kind| kind.name() == name)
        };
        match parts.as_slice() {
            [high, low] => Some(Self::Plain(Part::read(high, half)?, Part::read(low, half)?)),
            [name, asn, value] if kind(name).is_some() => {
                Some(Self::Extended(kind(name)?, Part::read(asn, whole)?, Part::read(value, whole)?))
            }
            [global, one, two] => Some(Self::Large(
                Part::read(global, whole)?,
                Part::read(one, whole)?,
                Part::read(two, whole)?,
            )),
            _ => None,
        }
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(text).ok_or_else(|| {
            let found: String = text.chars().take(40).collect();
            format!("found community {found:?}, expected {EXPECTED}")
        })
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self {
            Self::Extended(kind, asn, value) => format!("{}:{asn}:{value}", kind.name()),
            Self::Large(global, one, two) => format!("{global}:{one}:{two}"),
            Self::Plain(high, low) => format!("{high}:{low}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_match_as_written() {
        let marks = Marks {
            plain: [Community::new(65066, 666), Community::new(65535, 666)].into(),
            large: [LargeCommunity { global: 65066, local_1: 1, local_2: 666 }].into(),
            extended: [
                ExtendedCommunity::new(ExtendedKind::Target, 65066, 100_000),
                ExtendedCommunity::new(ExtendedKind::Origin, 200_000, 7),
                ExtendedCommunity([0x43, 0x0c, 0, 0, 0, 0, 0, 1]),
            ]
            .into(),
        };
        let speakers = Speakers { local_as: 65_500, peer_as: 65_066 };
        for (text, want) in [
            ("65066:666", true),
            ("65066:42", false),
            ("65066:*", true),
            ("*:42", false),
            ("*:*", true),
            ("blackhole", true),
            ("no-export", false),
            ("65066:1:666", true),
            ("65066:*:666", true),
            ("65066:2:666", false),
            ("neighbor-as:666", true),
            ("local-as:666", false),
            ("neighbor-as:1:*", true),
            ("rt:65066:100000", true),
            ("rt:neighbor-as:*", true),
            ("rt:65066:1", false),
            ("ro:65066:100000", false),
            ("ro:200000:7", true),
            ("ro:*:*", true),
        ] {
            let pattern: Pattern = text.parse().unwrap();
            assert_eq!(pattern.matches(&marks, speakers), want, "{text}");
            assert_eq!(pattern.to_string().parse(), Ok(pattern));
        }
        assert_eq!(
            marks.texts(),
            [
                "65066:666",
                "65535:666",
                "65066:1:666",
                "rt:65066:100000",
                "ro:200000:7",
                "ext:430c000000000001"
            ]
        );
    }

    #[test]
    fn what_is_no_community_is_refused() {
        for text in [
            "",
            "65066",
            "65066:",
            "65536:1",
            "1:2:3:4",
            "a:b",
            "65066:+1",
            "4294967296:1:1",
            "rt:1",
            "rt:a:b",
            "xx:1:2",
            "my-as:1",
        ] {
            assert!(text.parse::<Pattern>().unwrap_err().contains("65066:666"), "{text}");
        }
    }
}
