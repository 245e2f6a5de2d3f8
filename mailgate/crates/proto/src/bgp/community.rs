//! Marks on routes.

use std::fmt;

/// A community (RFC 1997).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

impl Community {
    /// `high:low`, as people write it.
    #[must_use]
    pub const fn new(high: u16, low: u16) -> Self {
        Self((high as u32) << 16 | low as u32)
    }

    /// The part before the colon, by custom an AS.
    #[must_use]
    pub const fn high(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The part after the colon.
    #[must_use]
    pub const fn low(self) -> u16 {
        self.0 as u16
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.high(), self.low())
    }
}

/// An extended community (RFC 4360): two bytes of type, six of value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedCommunity(pub [u8; 8]);

/// What an extended community says, of those that people write down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExtendedKind {
    /// `ro`: where a route comes from (RFC 4360 §5).
    Origin,
    /// `rt`: who should take a route (RFC 4360 §4).
    Target,
}

impl ExtendedKind {
    /// As people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Origin => "ro",
            Self::Target => "rt",
        }
    }
}

impl ExtendedCommunity {
    /// A target or origin of an AS; the form is chosen by the size of the AS (RFC 4360 §3.1, RFC 5668 §2). The value is
    /// cut to sixteen bits where the AS takes four bytes.
    #[must_use]
    pub const fn new(kind: ExtendedKind, asn: u32, value: u32) -> Self {
        let subtype = match kind {
            ExtendedKind::Target => 2,
            ExtendedKind::Origin => 3,
        };
        let ([a, b, c, d], [e, f, g, h]) = (asn.to_be_bytes(), value.to_be_bytes());
        Self(if asn <= 0xffff { [0, subtype, c, d, e, f, g, h] } else { [2, subtype, a, b, c, d, g, h] })
    }

    /// Kind, administrator (an AS, or an IPv4 address as a number) and value; `None` of any other type. Whether it is
    /// transitive makes no difference.
    #[must_use]
    pub const fn parts(self) -> Option<(ExtendedKind, u32, u32)> {
        let [form, subtype, a, b, c, d, e, f] = self.0;
        let kind = match subtype {
            2 => ExtendedKind::Target,
            3 => ExtendedKind::Origin,
            _ => return None,
        };
        match form & 0x3f {
            0 => Some((kind, u32::from_be_bytes([0, 0, a, b]), u32::from_be_bytes([c, d, e, f]))),
            1 | 2 => Some((kind, u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([0, 0, e, f]))),
            _ => None,
        }
    }
}

impl fmt::Display for ExtendedCommunity {
    /// `rt:65066:666`, or `ext:` and sixteen hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            Some((kind, asn, value)) => write!(f, "{}:{asn}:{value}", kind.name()),
            None => write!(f, "ext:{:016x}", u64::from_be_bytes(self.0)),
        }
    }
}

/// A large community (RFC 8092).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity {
    /// Global administrator, an AS.
    pub global: u32,
    /// First local part.
    pub local_1: u32,
    /// Second local part.
    pub local_2: u32,
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local_1, self.local_2)
    }
}
