//! A folder whose files together are one list, as `/etc/something.d` is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Source, off_runtime, read};
use crate::format::Format;
use crate::inflate::SIZE_MAX;
use crate::notes::NotesBuilder;
use crate::prefix::{Key as _, Packed as _, PrefixSet};
use crate::source::Bounds;
use crate::source::{Failure, Fetched, Look, Reading, Signature, Validators};

/// Most files; who has more has put something else there.
const FILES_LIMIT: usize = 1000;

/// Endings of what editors and downloads leave half done.
const UNFINISHED: [&str; 3] = ["~", ".new", ".tmp"];

/// One folder.
pub(crate) struct DirectorySource {
    path: PathBuf,
    format: Format,
    /// Most entries.
    most: usize,
}

impl DirectorySource {
    pub(crate) fn new(path: PathBuf, format: Format, most: usize) -> Self {
        Self { path, format, most }
    }
}

impl Source for DirectorySource {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    async fn look(&self) -> Option<Look> {
        let path = self.path.clone();
        Some(off_runtime(move || look(&path)).await)
    }

    async fn fetch(&mut self, _: &Validators) -> Result<Fetched, Failure> {
        let (path, format, most) = (self.path.clone(), self.format, self.most);
        let reading = off_runtime(move || together(&path, format, most)).await?;
        Ok(Fetched::New(Box::new(reading)))
    }
}

/// The files, sorted by name.
fn files(folder: &Path) -> io::Result<Vec<(PathBuf, fs::Metadata)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || UNFINISHED.iter().any(|ending| name.ends_with(ending)) {
            continue;
        }
        // Follows links, as the reading does. What vanishes meanwhile is gone at the next look.
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.is_file() {
            found.push((entry.path(), metadata));
        }
        if found.len() > FILES_LIMIT {
            return Err(io::Error::other(format!("found more than {FILES_LIMIT} files, expected fewer")));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

fn look(folder: &Path) -> Look {
    let mut signature = Signature::default();
    for (path, metadata) in files(folder).map_err(|error| error.to_string())? {
        signature.push(path.into_os_string(), &metadata);
    }
    Ok(signature)
}

/// All files as one list. One that cannot be used refuses the whole: half of the entries would vanish otherwise.
fn together(folder: &Path, format: Format, most: usize) -> Result<Reading, Failure> {
    let (mut whole, mut notes) = (Reading { format, ..Reading::default() }, NotesBuilder::default());
    whole.set = PrefixSet::limited(most);
    let found = files(folder).map_err(|error| Failure::absent(error.to_string()))?;
    for (path, _) in found {
        let named = |said: &dyn std::fmt::Display| format!("{}: {said}", path.display());
        let bytes = read(&path).map_err(|error| Failure::absent(named(&error)))?;
        let room = Bounds { bytes: SIZE_MAX.saturating_sub(whole.bytes), entries: most };
        let part = Reading::of(format, &path.to_string_lossy(), bytes, room);
        let part = part.map_err(|failure| Failure { said: named(&failure.said), ..failure })?;
        for (prefix, _) in part.notes.numbers() {
            part.notes.of_prefix(prefix).for_each(|note| notes.push(prefix, note));
        }
        part.set.v4.iter().for_each(|entry| whole.set.push(entry.key().prefix(), entry.sense()));
        part.set.v6.iter().for_each(|entry| whole.set.push(entry.key().prefix(), entry.sense()));
        whole.bytes += part.bytes;
        whole.refused += part.refused;
        let room = crate::format::PROBLEMS_SHOWN.saturating_sub(whole.problems.len());
        whole.problems.extend(part.problems.into_iter().take(room));
        whole.format = part.format;
    }
    whole.set.sort();
    whole.notes = notes.done();
    // An empty folder is what its owner meant: files are removed from it on purpose.
    whole.bytes = whole.bytes.max(1);
    Ok(whole)
}
