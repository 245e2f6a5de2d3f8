//! Files and folders as sources: read at start, read again when they change, kept when they fail.
//!
//! Two ways to notice a change. The system tells when a writer closes the file or another is renamed into its
//! place; then it is read at once. And it is looked at every 400 ms; when it differs from what was read and has
//! stood still from one look to the next, it is read. The second way covers file systems that tell nothing,
//! folders that come later, and writers that never close; waiting for stillness avoids reading half a file.

mod directory;
#[cfg(test)]
mod tests;
pub(crate) mod watch;

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::format::Format;
use crate::inflate::SIZE_MAX;
use crate::signify::{self, PublicKey};
use crate::source::Bounds;
use crate::source::{Failure, Fetched, Look, Reading, Signature, Source, Validators};

pub(crate) use directory::DirectorySource;

/// One file.
pub(crate) struct FileSource {
    path: PathBuf,
    format: Format,
    /// Most entries.
    most: usize,
    /// The key that has to have signed it.
    signed_by: Option<PathBuf>,
}

impl FileSource {
    pub(crate) fn new(path: PathBuf, format: Format, most: usize) -> Self {
        Self { path, format, most, signed_by: None }
    }

    /// Takes it only if this key has signed it.
    pub(crate) fn signed_by(self, key: Option<PathBuf>) -> Self {
        Self { signed_by: key, ..self }
    }
}

impl Source for FileSource {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    async fn look(&self) -> Option<Look> {
        let mut paths = vec![self.path.clone()];
        if self.signed_by.is_some() {
            paths.push(signify::beside(&self.path));
        }
        Some(off_runtime(move || look(&paths)).await)
    }

    async fn fetch(&mut self, _: &Validators) -> Result<Fetched, Failure> {
        let (path, format, most) = (self.path.clone(), self.format, self.most);
        let signed_by = self.signed_by.clone();
        let read = move || {
            let bytes = read(&path).map_err(|error| Failure::absent(error.to_string()))?;
            if let Some(key) = signed_by {
                let signature =
                    read(&signify::beside(&path)).map_err(|error| Failure::absent(error.to_string()))?;
                PublicKey::check(&key, &bytes, &signature).map_err(Failure::content)?;
            }
            Reading::of(format, &path.to_string_lossy(), bytes, Bounds { bytes: SIZE_MAX, entries: most })
        };
        off_runtime(read).await.map(|reading| Fetched::New(Box::new(reading)))
    }
}

/// Works on a thread that may wait for the disk.
pub(crate) async fn off_runtime<T: Send + 'static, E: From<Stopping> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Stopping.into()))
}

/// The runtime is ending; nobody will read what is said of it.
pub(crate) struct Stopping;

impl From<Stopping> for String {
    fn from(_: Stopping) -> Self {
        "the daemon is stopping".to_owned()
    }
}

impl From<Stopping> for Failure {
    fn from(stopping: Stopping) -> Self {
        Self::absent(String::from(stopping))
    }
}

/// What files look like.
pub(crate) fn look(paths: &[PathBuf]) -> Look {
    let mut signature = Signature::default();
    for path in paths {
        let found = metadata(path).map_err(|error| match paths {
            [_] => error.to_string(),
            _ => format!("{}: {error}", path.display()),
        })?;
        signature.push(path.clone().into_os_string(), &found);
    }
    Ok(signature)
}

/// Refuses what is not a file: opening a pipe would wait for its writer.
fn metadata(path: &Path) -> io::Result<Metadata> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_file() {
        Ok(metadata)
    } else {
        Err(io::Error::other("found something that is not a file, expected a file"))
    }
}

/// Reads a whole file, up to [`SIZE_MAX`].
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let length = metadata(path)?.len();
    let mut text = Vec::with_capacity(usize::try_from(length.min(SIZE_MAX)).unwrap_or(0));
    File::open(path)?.take(SIZE_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > SIZE_MAX {
        return Err(io::Error::other(format!("found more than {SIZE_MAX} bytes, expected at most that")));
    }
    Ok(text)
}
