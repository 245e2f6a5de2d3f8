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
