//! Names of mailboxes, and the one place where a name from a stranger becomes a folder on disk.

use std::fmt;

use mailgate_proto::imap::utf7;

use crate::Error;

/// Between the parts of a name, on the wire and on disk (Maildir++).
pub const SEPARATOR: char = '.';
/// Longest folder name in octets: what a directory entry can hold, less room for a temporary suffix.
const FOLDER_LIMIT: usize = 240;
/// Deepest hierarchy; each level costs a row in every LIST.
const DEPTH_LIMIT: usize = 32;

/// A mailbox name that cannot leave its Maildir: `INBOX` or parts joined by `.`, in Unicode, no empty part, no `/`, no
/// control character, at most 240 octets in modified UTF-7.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Reads a name as people and clients give it. `INBOX`, alone or as first part, is understood in any case
    /// (RFC 3501 §5.1).
    ///
    /// # Errors
    /// [`Error::Name`] when the name has an empty part, a character that no file name can carry, or is too long.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refused = |expected: &'static str| {
            Err(Error::Name { found: text.chars().take(80).flat_map(char::escape_debug).collect(), expected })
        };
        let parts: Vec<&str> = text.split(SEPARATOR).collect();
        if parts.iter().any(|part| part.is_empty()) {
            return refused("parts joined by single dots");
        }
        if parts.len() > DEPTH_LIMIT {
            return refused("at most 32 levels");
        }
        if text.chars().any(|c| c == '/' || c.is_control() || c == '\u{fffd}') {
            return refused("a name without slashes and control characters");
        }
        // `~` at the start means somebody's home in other servers, and in shells (deviates: RFC 3501 §5.1 allows it).
        if text.starts_with('~') {
            return refused("a name that does not begin with a tilde");
        }
        if utf7::encode(text).len() > FOLDER_LIMIT {
            return refused("at most 240 octets");
        }
        let first = parts.first().copied().unwrap_or_default();
        let name = match text.get(first.len()..) {
            Some(rest) if first.eq_ignore_ascii_case("INBOX") => format!("INBOX{rest}"),
            _ => text.to_owned(),
        };
        Ok(Self(name))
    }

    /// The mailbox that always exists.
    #[must_use]
    pub fn inbox() -> Self {
        Self("INBOX".to_owned())
    }

    /// Whether this is `INBOX`.
    #[must_use]
    pub fn is_inbox(&self) -> bool {
        self.0 == "INBOX"
    }

    /// The name in Unicode.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory entry under the Maildir's root; empty for `INBOX`, which is the root itself.
    #[must_use]
    pub(super) fn folder(&self) -> String {
        if self.is_inbox() { String::new() } else { format!("{SEPARATOR}{}", utf7::encode(&self.0)) }
    }

    /// The name behind a directory entry such as `.Sent`; `None` when the entry is no mailbox of ours.
    #[must_use]
    pub(super) fn from_folder(entry: &str) -> Option<Self> {
        let name = Self::parse(&utf7::decode(entry.strip_prefix(SEPARATOR)?)?).ok()?;
        // `.inbox` would be a second INBOX.
        (!name.is_inbox() && name.folder() == entry).then_some(name)
    }

    /// Whether this lies below `parent`.
    #[must_use]
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0.strip_prefix(&parent.0).is_some_and(|rest| rest.starts_with(SEPARATOR))
    }

    /// This name with the leading `from` replaced by `to`.
    pub(super) fn moved(&self, from: &Self, to: &Self) -> Result<Self, Error> {
        let rest = self.0.strip_prefix(&from.0).unwrap_or_default();
        Self::parse(&format!("{}{rest}", to.0))
    }

    /// Names of all ancestors, the topmost first.
    #[must_use]
    pub fn ancestors(&self) -> Vec<Self> {
        self.0
            .match_indices(SEPARATOR)
            .filter_map(|(at, _)| self.0.get(..at))
            .map(|a| Self(a.to_owned()))
            .collect()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_map_to_folders_and_back() {
        for (name, folder) in [
            ("Sent", ".Sent"),
            ("Lists.rust", ".Lists.rust"),
            ("Entwürfe", ".Entw&APw-rfe"),
            ("a&b", ".a&-b"),
            ("INBOX.Work", ".INBOX.Work"),
        ] {
            assert_eq!(Name::parse(name).unwrap().folder(), folder);
            assert_eq!(Name::from_folder(folder).unwrap().as_str(), name);
        }
        assert_eq!(Name::parse("iNbOx").unwrap().folder(), "");
        assert_eq!(Name::parse("inbox.Work").unwrap().as_str(), "INBOX.Work");
    }

    #[test]
    fn names_that_could_leave_the_maildir_are_refused() {
        let long = "x".repeat(241);
        let deep = vec!["a"; 33].join(".");
        for name in
            ["", ".", "..", "../..", "a..b", ".a", "a.", "/etc", "a/b", "a\0b", "a\nb", "~root", &long, &deep]
        {
            assert!(matches!(Name::parse(name), Err(Error::Name { .. })), "{name:?}");
        }
        for folder in [".", "..", ".INBOX", ".inbox", "cur", ".a&b", ".a..b", "...", "./x"] {
            assert_eq!(Name::from_folder(folder), None, "{folder}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_folder_is_always_one_entry_below_the_root(text in "\\PC{0,40}|[./&~a-c]{0,12}") {
            if let Ok(name) = Name::parse(&text) {
                let folder = name.folder();
                proptest::prop_assert!(!folder.contains('/') && folder != "." && folder != "..");
                proptest::prop_assert!(name.is_inbox() || Name::from_folder(&folder) == Some(name));
            }
        }
    }
}
