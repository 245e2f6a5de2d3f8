//! Spans of time as people write them in a configuration.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A span of time, written as `90s`, `25m`, `4h`, `36d`, `1h30m` or `250ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(Duration);

/// Unit names with their length in milliseconds, longest first.
const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Span {
    /// From whole seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// From milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// As the standard library's type.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let found: String = text.chars().take(40).collect();
            format!("found span {found:?}, expected a number with a unit such as 90s, 25m, 4h or 36d")
        };
        let mut rest = text.trim();
        let mut millis = 0_u64;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at_checked(digits).ok_or_else(wrong)?;
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, tail) = tail.split_at_checked(letters).ok_or_else(wrong)?;
            let length = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
            let part = number.parse::<u64>().ok().and_then(|n| n.checked_mul(length)).ok_or_else(wrong)?;
            millis = millis.checked_add(part).ok_or_else(wrong)?;
            rest = tail.trim_start();
        }
        Ok(Self::from_millis(millis))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return f.pad("0s");
        }
        let mut text = String::new();
        for (name, length) in UNITS {
            if millis >= length {
                text.push_str(&format!("{}{name}", millis / length));
                millis %= length;
            }
        }
        f.pad(&text)
    }
}

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_write_them() {
        for (text, secs) in [
            ("90s", 90),
            ("25m", 1500),
            ("4h", 14_400),
            ("36d", 3_110_400),
            ("1h30m", 5400),
            ("1h 30m", 5400),
        ] {
            assert_eq!(text.parse(), Ok(Span::from_secs(secs)), "{text}");
        }
        assert_eq!("250ms".parse(), Ok(Span::from_millis(250)));
    }

    #[test]
    fn what_is_no_span_is_refused_with_an_example() {
        for text in ["", "5", "m", "5x", "-5m", "99999999999999w", "5m5"] {
            assert!(text.parse::<Span>().unwrap_err().contains("25m"), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn written_spans_read_back(millis in 0_u64..10_000_000_000) {
            let span = Span::from_millis(millis);
            proptest::prop_assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
