//! `dovecot-keywords`: which name each of the letters `a` to `z` has in one mailbox.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use mailgate_model::Clock;

use super::dotlock::Lock;
use super::flags::{Flags, KEYWORD_LIMIT};
use crate::Error;

/// The name in each mailbox folder.
pub(super) const FILE: &str = "dovecot-keywords";
/// Longest keyword in octets; a client's whim, not a document.
const NAME_LIMIT: usize = 100;

/// Names of the keyword letters of one mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keywords(Vec<Option<Box<str>>>);

impl Keywords {
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        match fs::read(path) {
            Ok(bytes) => Ok(Self::parse(&String::from_utf8_lossy(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::io("reading", path, &error)),
        }
    }

    fn parse(text: &str) -> Self {
        let mut keywords = Self::default();
        for line in text.lines() {
            let Some((index, name)) = line.split_once(' ') else { continue };
            let index = index.parse().ok().filter(|index| *index < KEYWORD_LIMIT);
            if let Some(index) = index.filter(|_| is_name(name)) {
                keywords.set(index, name);
            }
        }
        keywords
    }

    fn set(&mut self, index: usize, name: &str) {
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        if let Some(slot) = self.0.get_mut(index) {
            *slot = Some(name.into());
        }
    }

    /// The name of letter `index`; a placeholder when a file carries the letter and nobody recorded a name.
    #[must_use]
    pub fn name(&self, index: usize) -> String {
        match self.0.get(index) {
            Some(Some(name)) => name.to_string(),
            _ => format!("unknown-{index}"),
        }
    }

    /// The letter of a keyword, compared without case (RFC 3501 §2.3.2).
    #[must_use]
    pub fn index(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|slot| slot.as_deref().is_some_and(|known| known.eq_ignore_ascii_case(name)))
    }

    /// All names that have a letter.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|slot| slot.as_deref())
    }

    /// Whether another keyword could get a letter.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.0.len() < KEYWORD_LIMIT || self.0.iter().any(Option::is_none)
    }

    /// The letters of `names`; gives new letters to unknown ones and writes the file. `used` are letters that files
    /// carry, so that a letter without a name is not given to another keyword.
    ///
    /// # Errors
    /// [`Error::Full`] when all letters are taken or a name cannot be kept.
    pub(super) fn assign(
        &mut self,
        names: &[String],
        used: impl FnOnce() -> Flags,
        path: &Path,
        clock: &dyn Clock,
    ) -> Result<Flags, Error> {
        if names.iter().any(|name| self.index(name).is_none()) {
            let used = used();
            let lock = Lock::acquire(path.to_owned(), clock)?;
            *self = Self::read(path)?;
            for name in names.iter().filter(|name| is_name(name)) {
                if self.index(name).is_none() {
                    let free = (0..KEYWORD_LIMIT).find(|i| {
                        !matches!(self.0.get(*i), Some(Some(_))) && !used.contains(Flags::keyword(*i))
                    });
                    let free =
                        free.ok_or_else(|| Error::Full("all 26 keywords of the mailbox are taken".into()))?;
                    self.set(free, name);
                }
            }
            lock.commit(self.write().as_bytes())?;
        }
        names.iter().try_fold(Flags::NONE, |flags, name| {
            let index =
                self.index(name).ok_or_else(|| Error::Full("a keyword that cannot be kept".into()))?;
            Ok(flags | Flags::keyword(index))
        })
    }

    fn write(&self) -> String {
        let mut text = String::new();
        for (index, name) in self.0.iter().enumerate() {
            if let Some(name) = name {
                // Writing into a String cannot fail.
                let _ = writeln!(text, "{index} {name}");
            }
        }
        text
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_LIMIT
        && name.bytes().all(|b| b.is_ascii_graphic() && !b"(){%*\"\\]".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_keep_their_names_and_unknown_letters_get_a_placeholder() {
        let keywords = Keywords::parse("0 $Forwarded\n2 Junk\n99 x\nbroken\n3 a(b\n");
        assert_eq!(keywords.index("$forwarded"), Some(0));
        assert_eq!((keywords.name(1), keywords.name(2)), ("unknown-1".into(), "Junk".into()));
        assert_eq!(keywords.names().collect::<Vec<_>>(), ["$Forwarded", "Junk"]);
        assert_eq!(keywords.write(), "0 $Forwarded\n2 Junk\n");
    }

    #[test]
    fn new_keywords_take_free_letters_until_there_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let clock = mailgate_model::ManualClock::default();
        let mut keywords = Keywords::default();
        let used = || Flags::keyword(0);
        assert_eq!(keywords.assign(&["Junk".into()], used, &path, &clock).unwrap(), Flags::keyword(1));
        assert_eq!(Keywords::read(&path).unwrap(), keywords);
        let many: Vec<String> = (0..25).map(|n| format!("k{n}")).collect();
        assert!(matches!(keywords.assign(&many, used, &path, &clock), Err(Error::Full(_))));
        assert!(matches!(keywords.assign(&["a b".into()], used, &path, &clock), Err(Error::Full(_))));
    }
}
