//! Sets of message numbers or UIDs (RFC 3501 §9 `sequence-set`).

use std::fmt::{self, Write as _};

use super::cursor::{Cursor, Expected};

/// A set as the client wrote it; `*` stands for the largest number in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceSet(Vec<(Option<u32>, Option<u32>)>);

impl SequenceSet {
    pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Expected> {
        let mut parts = Vec::new();
        loop {
            let first = bound(cursor)?;
            let last = if cursor.eat(b':') { bound(cursor)? } else { first };
            parts.push((first, last));
            if !cursor.eat(b',') {
                return Ok(Self(parts));
            }
        }
    }

    /// The numbers it stands for when `largest` is the largest in use (0: none is, then `*` stands for nothing
    /// real). Sorted and merged, so looking up is fast whatever the client wrote.
    #[must_use]
    pub fn resolve(&self, largest: u32) -> Ranges {
        let number = |bound: Option<u32>| bound.unwrap_or(largest);
        let pairs = self.0.iter().map(|(a, b)| (number(*a).min(number(*b)), number(*a).max(number(*b))));
        Ranges::new(pairs.filter(|(_, last)| *last > 0).collect())
    }

    /// Whether `*` occurs.
    #[must_use]
    pub fn has_largest(&self) -> bool {
        self.0.iter().any(|(first, last)| first.is_none() || last.is_none())
    }
}

fn bound(cursor: &mut Cursor<'_>) -> Result<Option<u32>, Expected> {
    if cursor.eat(b'*') { Ok(None) } else { cursor.nonzero().map(Some) }
}

/// Numbers as sorted ranges that neither overlap nor touch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    fn new(mut pairs: Vec<(u32, u32)>) -> Self {
        pairs.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(pairs.len());
        for (first, last) in pairs {
            match merged.last_mut() {
                Some(range) if first <= range.1.saturating_add(1) => range.1 = range.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// Whether `number` is in it.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= number);
        after.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, last)| number <= *last)
    }

    /// First and last number of each range, rising.
    pub fn pairs(&self) -> impl Iterator<Item = (u32, u32)> {
        self.0.iter().copied()
    }

    /// The largest number, 0 for none.
    #[must_use]
    pub fn last(&self) -> u32 {
        self.0.last().map_or(0, |(_, last)| *last)
    }
}

impl FromIterator<u32> for Ranges {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        Self::new(numbers.into_iter().map(|number| (number, number)).collect())
    }
}

impl fmt::Display for Ranges {
    /// `1:3,5`, as responses write it; nothing for an empty set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (first, last)) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_char(',')?;
            }
            write!(f, "{first}")?;
            if last > first {
                write!(f, ":{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn set(text: &'static str) -> SequenceSet {
        SequenceSet::parse(&mut Cursor::new(&Bytes::from_static(text.as_bytes()))).unwrap()
    }

    #[test]
    fn sets_resolve_against_the_largest_number() {
        for (text, largest, want) in [
            ("1", 5, "1"),
            ("2:4,3,1", 5, "1:4"),
            ("*", 5, "5"),
            ("4:*", 5, "4:5"),
            ("9:*", 5, "5:9"),
            ("*:4", 5, "4:5"),
            ("1,3:3,2", 9, "1:3"),
            ("*", 0, ""),
            ("4294967295", 5, "4294967295"),
        ] {
            assert_eq!(set(text).resolve(largest).to_string(), want, "{text}");
        }
        assert!(set("1,*").has_largest() && !set("1:2").has_largest());
    }

    #[test]
    fn zero_and_garbage_are_no_sets() {
        for text in ["0", "", "1:", "a", ",1", "4294967296", "1:0"] {
            assert!(
                SequenceSet::parse(&mut Cursor::new(&Bytes::copy_from_slice(text.as_bytes()))).is_err(),
                "{text}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn ranges_hold_exactly_what_was_put_in(numbers in proptest::collection::vec(1_u32..40, 0..20)) {
            let ranges: Ranges = numbers.iter().copied().collect();
            for number in 0..45 {
                proptest::prop_assert_eq!(ranges.contains(number), numbers.contains(&number));
            }
        }
    }
}
