//! The directories of a Maildir++: `INBOX` is the root, `.Lists.rust` the mailbox `Lists.rust`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::content;
use super::name::Name;
use crate::Error;

/// The three directories of a Maildir (maildir(5)).
const PARTS: [&str; 3] = ["tmp", "new", "cur"];
/// Marks a folder of a Maildir++, so that quota tools find the root above it.
const MARKER: &str = "maildirfolder";

/// The directory of a mailbox.
pub(super) fn path(maildir: &Path, name: &Name) -> PathBuf {
    let folder = name.folder();
    if folder.is_empty() { maildir.to_owned() } else { maildir.join(folder) }
}

/// Whether the mailbox has a directory with messages.
pub(super) fn exists(maildir: &Path, name: &Name) -> bool {
    path(maildir, name).join("cur").is_dir()
}

/// Makes the Maildir and the mailbox where missing, durably and for the owner only. Returns whether the mailbox is new.
pub(super) fn ensure(maildir: &Path, name: &Name) -> Result<bool, Error> {
    let inbox = Name::inbox();
    if !PARTS.iter().all(|part| maildir.join(part).is_dir()) {
        // The entry of every folder that is made stands in the one above it: the Maildir's, its domain's and so on.
        let parents = parents_to_sync(maildir);
        make(maildir, maildir)?;
        parents.into_iter().try_for_each(content::sync_folder)?;
        if *name == inbox {
            return Ok(true);
        }
    }
    let dir = path(maildir, name);
    if PARTS.iter().all(|part| dir.join(part).is_dir()) {
        return Ok(false);
    }
    make(maildir, &dir)?;
    content::sync_folder(maildir)?;
    Ok(true)
}

/// The folders above a Maildir that get a new entry when it is made: up to the first that exists.
fn parents_to_sync(maildir: &Path) -> Vec<&Path> {
    let mut parents = Vec::new();
    for parent in maildir.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
        parents.push(parent);
        if parent.is_dir() {
            break;
        }
    }
    parents
}

fn make(maildir: &Path, dir: &Path) -> Result<(), Error> {
    for part in PARTS {
        content::create_folder(&dir.join(part))?;
    }
    if dir != maildir {
        let marker = dir.join(MARKER);
        fs::write(&marker, b"").map_err(|error| Error::io("writing", &marker, &error))?;
    }
    content::sync_folder(dir)
}

/// All mailboxes, `INBOX` first, the others sorted.
pub(super) fn names(maildir: &Path) -> Result<Vec<Name>, Error> {
    let mut names: Vec<Name> = entries_with_dots(maildir)?
        .iter()
        .filter_map(|entry| Name::from_folder(entry))
        .filter(|name| exists(maildir, name))
        .collect();
    names.sort();
    names.insert(0, Name::inbox());
    Ok(names)
}

/// Message files of `new` or `cur`: no dot files, nothing that is not UTF-8; empty when the directory does not exist.
pub(super) fn entries(dir: &Path) -> Result<Vec<String>, Error> {
    Ok(entries_with_dots(dir)?.into_iter().filter(|entry| !entry.starts_with('.')).collect())
}

fn entries_with_dots(dir: &Path) -> Result<Vec<String>, Error> {
    let fault = |error: io::Error| Error::io("listing", dir, &error);
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fault(error)),
    };
    let mut names = Vec::new();
    for entry in listing {
        // A name that is not UTF-8 is not ours to show and is left alone.
        if let Ok(name) = entry.map_err(fault)?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_that_gets_a_new_entry_is_synced() {
        let dir = tempfile::tempdir().unwrap();
        let maildir = dir.path().join("mail/example.test/user");
        let (domain, mail) = (dir.path().join("mail/example.test"), dir.path().join("mail"));
        assert_eq!(parents_to_sync(&maildir), [&*domain, &*mail, dir.path()]);
        assert!(ensure(&maildir, &Name::inbox()).unwrap());
        assert_eq!(parents_to_sync(&maildir), [&*domain]);
    }
}
