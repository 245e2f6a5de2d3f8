//! Flags of a message as Maildir keeps them: a set of letters in the file name.

use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};

/// A set of letters: the standard ones of Maildir, `a` to `z` for keywords (Dovecot's numbering), and whatever upper
/// case letters other programs left, which are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u64);

/// Keywords that one mailbox can name: as many as there are lower case letters.
pub const KEYWORD_LIMIT: usize = 26;

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// `\Answered`, letter R.
    pub const ANSWERED: Self = Self::upper(b'R');
    /// `\Deleted`, letter T.
    pub const DELETED: Self = Self::upper(b'T');
    /// `\Draft`, letter D.
    pub const DRAFT: Self = Self::upper(b'D');
    /// `\Flagged`, letter F.
    pub const FLAGGED: Self = Self::upper(b'F');
    /// `\Seen`, letter S.
    pub const SEEN: Self = Self::upper(b'S');
    /// All that IMAP can name: the five above and all keywords.
    pub const SETTABLE: Self = Self(
        Self::ANSWERED.0
            | Self::DELETED.0
            | Self::DRAFT.0
            | Self::FLAGGED.0
            | Self::SEEN.0
            | (((1 << KEYWORD_LIMIT) - 1) << 26),
    );

    const fn upper(letter: u8) -> Self {
        Self(1 << (letter - b'A'))
    }

    /// The keyword at `index` (0 to 25); nothing when the index is larger.
    #[must_use]
    pub const fn keyword(index: usize) -> Self {
        if index < KEYWORD_LIMIT { Self(1 << (26 + index)) } else { Self::NONE }
    }

    /// Whether all of `other` are in here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is no flag.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Indices of the keywords in here, rising.
    pub fn keywords(self) -> impl Iterator<Item = usize> {
        (0..KEYWORD_LIMIT).filter(move |index| self.contains(Self::keyword(*index)))
    }

    /// From the letters after `:2,`; other characters are ignored.
    #[must_use]
    pub fn from_letters(letters: &str) -> Self {
        letters.bytes().fold(Self::NONE, |flags, letter| match letter {
            b'A'..=b'Z' => flags | Self(1 << (letter - b'A')),
            b'a'..=b'z' => flags | Self(1 << (26 + (letter - b'a'))),
            _ => flags,
        })
    }

    /// The letters in ASCII order, as Maildir wants them.
    #[must_use]
    pub fn letters(self) -> String {
        (b'A'..=b'Z')
            .chain(b'a'..=b'z')
            .enumerate()
            .filter(|(bit, _)| self.0 >> bit & 1 == 1)
            .map(|(_, c)| char::from(c))
            .collect()
    }

    /// For a column of the index.
    pub(super) fn bits(self) -> i64 {
        // 52 bits are in use.
        i64::try_from(self.0).unwrap_or(0)
    }

    /// From a column of the index.
    pub(super) fn from_bits(bits: i64) -> Self {
        Self(u64::try_from(bits).unwrap_or(0) & ((1 << 52) - 1))
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Flags {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for Flags {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.letters())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_sorted_and_unknown_ones_kept() {
        let flags = Flags::from_letters("SbFPa?");
        assert_eq!(flags.letters(), "FPSab");
        assert!(flags.contains(Flags::SEEN | Flags::FLAGGED | Flags::keyword(1)));
        assert_eq!((flags - Flags::SEEN).letters(), "FPab");
        assert_eq!(flags.keywords().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(Flags::from_bits(flags.bits()), flags);
        assert_eq!((flags & Flags::SETTABLE).letters(), "FSab");
    }
}
