//! Which communities mean a table.

use std::fmt;
use std::str::FromStr;

use mailgate_proto::bgp::{Community, LargeCommunity};
use serde::Deserialize;

/// A community as the configuration names it: `65066:666` (RFC 1997), `65066:1:666` (RFC 8092), a well-known name,
/// or with `*` for a part that may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Pattern {
    /// `ASN:value:value`; `None` is `*`.
    Large(Option<u32>, Option<u32>, Option<u32>),
    /// `ASN:value`; `None` is `*`.
    Plain(Option<u16>, Option<u16>),
}

/// Names that operators know (IANA bgp-well-known-communities).
const NAMES: [(&str, u16); 4] =
    [("blackhole", 666), ("no-advertise", 0xff02), ("no-export", 0xff01), ("no-peer", 0xff04)];

/// The upper half of well-known communities.
const WELL_KNOWN: u16 = 0xffff;

impl Pattern {
    /// Whether a route with these communities is meant.
    #[must_use]
    pub fn matches(self, communities: &[Community], large: &[LargeCommunity]) -> bool {
        fn is<T: PartialEq>(wanted: Option<T>, found: T) -> bool {
            wanted.is_none_or(|wanted| wanted == found)
        }
        match self {
            Self::Large(global, one, two) => {
                large.iter().any(|c| is(global, c.global) && is(one, c.local_1) && is(two, c.local_2))
            }
            Self::Plain(high, low) => communities.iter().any(|c| is(high, c.high()) && is(low, c.low())),
        }
    }
}

fn part<T: FromStr>(text: &str) -> Option<Option<T>> {
    match text {
        "*" => Some(None),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok().map(Some),
        _ => None,
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, low)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(Self::Plain(Some(WELL_KNOWN), Some(*low)));
        }
        let parts: Vec<&str> = text.split(':').collect();
        let read = match parts.as_slice() {
            [high, low] => part(high).zip(part(low)).map(|(high, low)| Self::Plain(high, low)),
            [global, one, two] => {
                let parts = part(global).zip(part(one)).zip(part(two));
                parts.map(|((global, one), two)| Self::Large(global, one, two))
            }
            _ => None,
        };
        read.ok_or_else(|| {
            let found: String = text.chars().take(40).collect();
            format!(
                "found community {found:?}, expected such as 65066:666, 65066:*, 65066:1:666 or blackhole"
            )
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
        fn shown<T: fmt::Display>(part: Option<T>) -> String {
            part.map_or_else(|| "*".to_owned(), |part| part.to_string())
        }
        match *self {
            Self::Large(a, b, c) => f.pad(&format!("{}:{}:{}", shown(a), shown(b), shown(c))),
            Self::Plain(a, b) => f.pad(&format!("{}:{}", shown(a), shown(b))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_match_as_written() {
        let carried = [Community::new(65066, 666), Community::new(65535, 666)];
        let large = [LargeCommunity { global: 65066, local_1: 1, local_2: 666 }];
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
        ] {
            let pattern: Pattern = text.parse().unwrap();
            assert_eq!(pattern.matches(&carried, &large), want, "{text}");
            assert_eq!(pattern.to_string().parse(), Ok(pattern));
        }
    }

    #[test]
    fn what_is_no_community_is_refused() {
        for text in ["", "65066", "65066:", "65536:1", "1:2:3:4", "a:b", "65066:+1", "4294967296:1:1"] {
            assert!(text.parse::<Pattern>().unwrap_err().contains("65066:666"), "{text}");
        }
    }
}
