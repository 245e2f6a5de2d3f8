//! Files that are there as a whole or not at all: written beside, made durable, renamed, the name made durable.
//!
//! Of the folders only the last is made: a state folder that somebody took away meanwhile does not come back by itself.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that is written and durable and does not yet stand in the place of the old one. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Draft {
    beside: PathBuf,
    path: PathBuf,
}

impl Draft {
    /// Writes it.
    ///
    /// # Errors
    /// What the system says; nothing of it is left.
    pub(crate) fn new(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<Self> {
        folder(path)?;
        let draft = Self { beside: path.with_extension("new"), path: path.to_owned() };
        let mut file = File::create(&draft.beside)?;
        fill(&mut file)?;
        file.sync_all()?;
        Ok(draft)
    }

    /// Puts it in place.
    ///
    /// # Errors
    /// What the system says; the old file is still there.
    pub(crate) fn place(self) -> io::Result<()> {
        fs::rename(&self.beside, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Nothing is beside when it was placed. What cannot be removed is overwritten by the next try.
        let _ = fs::remove_file(&self.beside);
    }
}

/// Replaces a file as a whole.
///
/// # Errors
/// What the system says; the old file is still there.
pub(crate) fn replace(path: &Path, text: impl AsRef<[u8]>) -> io::Result<()> {
    Draft::new(path, |file| file.write_all(text.as_ref()))?.place()
}

/// Makes the folder of a file, if only that is missing.
///
/// # Errors
/// What the system says; usually the folder around it is not there.
pub(crate) fn folder(path: &Path) -> io::Result<()> {
    match path.parent().map(fs::create_dir) {
        Some(Err(error)) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lists/a.state");
        replace(&path, "one").unwrap();
        let failed = Draft::new(&path, |file| {
            file.write_all(b"tw")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        drop(Draft::new(&path, |file| file.write_all(b"three")).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "one");
        assert!(!path.with_extension("new").exists(), "nothing half is left");
        Draft::new(&path, |file| file.write_all(b"four")).unwrap().place().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "four");
    }

    #[test]
    fn a_state_folder_that_was_taken_away_does_not_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let error = replace(&state.join("lists/a.state"), "one").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(!state.exists());
    }
}
