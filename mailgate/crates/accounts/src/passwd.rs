//! passwd files that people bring along.

use std::path::{Component, Path, PathBuf};

use mailgate_model::Address;
use serde::Serialize;

/// What came of importing a passwd file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Accounts made.
    pub added: usize,
    /// Accounts that existed; left as they were.
    pub existing: usize,
    /// Lines that could not be used: `line N: why`.
    pub refused: Vec<String>,
}

/// What one line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) address: Address,
    pub(crate) hash: String,
    /// From `userdb_mail=maildir:PATH`, where `~` is the home of the sixth field.
    pub(crate) maildir: Option<PathBuf>,
}

/// One line `address:hash[:uid:gid:gecos:home:shell:extra]` (Dovecot's passwd-file); `None` for blanks and comments.
pub(crate) fn line(text: &str) -> Option<Result<Person, String>> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return None;
    }
    let fields: Vec<&str> = text.split(':').collect();
    Some(match fields.as_slice() {
        [address, hash, rest @ ..] => person(address, hash, rest),
        _ => Err("found no colon, expected address:hash".to_owned()),
    })
}

fn person(address: &str, hash: &str, rest: &[&str]) -> Result<Person, String> {
    let address = Address::parse(address).map_err(|error| error.to_string())?;
    let hash = crate::password::adopt(hash).map_err(|error| error.to_string())?;
    Ok(Person { address, hash, maildir: maildir(rest)? })
}

/// `rest` begins with the uid. Dovecot's `%`-variables are not known here.
fn maildir(rest: &[&str]) -> Result<Option<PathBuf>, String> {
    let Some(at) = rest.iter().position(|field| field.ends_with("userdb_mail=maildir")) else {
        return Ok(None);
    };
    let path = rest.get(at + 1).and_then(|field| field.split_whitespace().next()).unwrap_or_default();
    let home = rest.get(3).copied().unwrap_or_default();
    let path = match path.strip_prefix("~/") {
        Some(below) if !home.is_empty() => Path::new(home).join(below),
        _ => PathBuf::from(path),
    };
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if !path.is_absolute() || climbs || path.to_string_lossy().contains('%') {
        return Err(format!("found the Maildir {path:?}, expected an absolute path without .. and %"));
    }
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maildir_of(rest: &str) -> Option<Result<Option<PathBuf>, String>> {
        let hash = include_str!("../tests/data/sha512.txt").trim();
        line(&format!("bob@example.org:{hash}{rest}")).map(|line| line.map(|person| person.maildir))
    }

    #[test]
    fn a_maildir_of_ones_own_is_kept() {
        for (rest, want) in [
            ("", None),
            (":1000:1000::/home/bob::", None),
            (":1000:1000::/home/bob::userdb_mail=maildir:~/Mail", Some("/home/bob/Mail")),
            ("::::::userdb_quota=1 userdb_mail=maildir:/srv/bob:INDEX=/tmp/x", Some("/srv/bob")),
        ] {
            assert_eq!(maildir_of(rest), Some(Ok(want.map(PathBuf::from))), "{rest}");
        }
        for rest in ["maildir:../x", "maildir:/srv/%u", "maildir:/srv/../etc", "maildir:~/Mail", "maildir"] {
            assert!(maildir_of(&format!("::::::userdb_mail={rest}")).unwrap().is_err(), "{rest}");
        }
    }
}
