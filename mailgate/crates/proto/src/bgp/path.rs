//! The path of a route through autonomous systems.

use super::cursor::Cursor;

/// Stands for an AS above 65535 where only two bytes fit (RFC 6793 §4.2.2).
pub const AS_TRANS: u16 = 23_456;

/// How AS numbers are written in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AsWidth {
    /// Four bytes: both sides have said that they can (RFC 6793 §4.1).
    Four,
    /// Two bytes.
    #[default]
    Two,
}

impl AsWidth {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Two => 2,
        }
    }
}

/// A piece of a path (RFC 4271 §4.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// In order, the nearest first.
    Sequence(Vec<u32>),
    /// In no order, after aggregation.
    Set(Vec<u32>),
}

impl Segment {
    /// The numbers in it.
    #[must_use]
    pub fn numbers(&self) -> &[u32] {
        match self {
            Self::Sequence(numbers) | Self::Set(numbers) => numbers,
        }
    }
}

/// A path; empty for routes that begin in the own AS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AsPath(pub Vec<Segment>);

impl AsPath {
    /// The AS that announced the route to us; `None` when the path is empty or begins with a set.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        match self.0.first()? {
            Segment::Sequence(numbers) => numbers.first().copied(),
            Segment::Set(_) => None,
        }
    }

    /// Whether an AS is anywhere in it.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        self.0.iter().any(|segment| segment.numbers().contains(&number))
    }

    /// Its length as routers count it: a set is one (RFC 4271 §9.1.2.2).
    #[must_use]
    pub fn length(&self) -> usize {
        let length = |segment: &Segment| match segment {
            Segment::Sequence(numbers) => numbers.len(),
            Segment::Set(_) => 1,
        };
        self.0.iter().map(length).sum()
    }

    /// The true path from a path in two bytes and the AS4_PATH beside it (RFC 6793 §4.2.3): what AS4_PATH lacks is
    /// taken from the front of the short one.
    #[must_use]
    pub fn with_as4(&self, as4: &Self) -> Self {
        let Some(mut missing) = self.length().checked_sub(as4.length()) else { return self.clone() };
        let mut whole = Vec::new();
        for segment in &self.0 {
            if missing == 0 {
                break;
            }
            match segment {
                Segment::Sequence(numbers) => {
                    whole.push(Segment::Sequence(numbers.iter().take(missing).copied().collect()));
                    missing = missing.saturating_sub(numbers.len());
                }
                Segment::Set(_) => {
                    whole.push(segment.clone());
                    missing -= 1;
                }
            }
        }
        whole.extend(as4.0.iter().cloned());
        Self(whole)
    }

    /// Reads the value of AS_PATH or AS4_PATH; `None` when it is malformed (RFC 7606 §7.2): a length that does not
    /// fit, an empty segment, a kind of segment that has no place here, or AS 0 (RFC 7607 §2).
    pub(super) fn read(bytes: &[u8], width: AsWidth) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let mut segments = Vec::new();
        while !cursor.is_empty() {
            let kind = cursor.u8()?;
            let count = usize::from(cursor.u8()?);
            let mut value = Cursor::new(cursor.take(count * width.bytes())?);
            let mut numbers = Vec::with_capacity(count);
            while !value.is_empty() {
                numbers.push(match width {
                    AsWidth::Four => value.u32()?,
                    AsWidth::Two => u32::from(value.u16()?),
                });
            }
            if numbers.is_empty() || numbers.contains(&0) {
                return None;
            }
            segments.push(match kind {
                1 => Segment::Set(numbers),
                2 => Segment::Sequence(numbers),
                _ => return None,
            });
        }
        Some(Self(segments))
    }

    /// Writes the value; longer segments than 255 are split.
    pub(super) fn write(&self, bytes: &mut Vec<u8>, width: AsWidth) {
        for segment in &self.0 {
            let kind = match segment {
                Segment::Set(_) => 1,
                Segment::Sequence(_) => 2,
            };
            for part in segment.numbers().chunks(255) {
                bytes.push(kind);
                bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
                part.iter().for_each(|number| write_as(bytes, *number, width));
            }
        }
    }
}

/// One AS number; in two bytes a long one becomes [`AS_TRANS`].
pub(super) fn write_as(bytes: &mut Vec<u8>, number: u32, width: AsWidth) {
    match width {
        AsWidth::Four => bytes.extend(number.to_be_bytes()),
        AsWidth::Two => bytes.extend(u16::try_from(number).unwrap_or(AS_TRANS).to_be_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(numbers: &[u32]) -> Segment {
        Segment::Sequence(numbers.to_vec())
    }

    #[test]
    fn the_true_path_is_put_together_from_both_attributes() {
        let trans = u32::from(AS_TRANS);
        let short = AsPath(vec![sequence(&[65_001, trans, trans])]);
        let as4 = AsPath(vec![sequence(&[100_000, 100_001])]);
        assert_eq!(short.with_as4(&as4), AsPath(vec![sequence(&[65_001]), sequence(&[100_000, 100_001])]));
    }

    #[test]
    fn an_as4_path_longer_than_the_path_is_ignored() {
        let short = AsPath(vec![sequence(&[65_001])]);
        assert_eq!(short.with_as4(&AsPath(vec![sequence(&[1, 2])])), short);
    }

    #[test]
    fn malformed_paths_are_refused() {
        struct Case {
            name: &'static str,
            given: &'static [u8],
        }
        for Case { name, given } in [
            Case { name: "segment longer than the attribute", given: &[2, 2, 0, 1] },
            Case { name: "empty segment", given: &[2, 0] },
            Case { name: "unknown kind", given: &[5, 1, 0, 1] },
            Case { name: "confederation", given: &[3, 1, 0, 1] },
            Case { name: "AS 0", given: &[2, 1, 0, 0] },
            Case { name: "kind without count", given: &[2] },
        ] {
            assert_eq!(AsPath::read(given, AsWidth::Two), None, "{name}");
        }
    }
}
