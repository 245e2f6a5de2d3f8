//! Lock files as Dovecot makes them: `name.lock` exists while somebody changes `name`, and may become it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use mailgate_model::Clock;

use super::content;
use crate::Error;

/// A lock that nobody touched for this long belongs to a program that died (Dovecot's own value).
const STALE: Duration = Duration::from_secs(120);
/// Between two tries; a thread for the disk waits, not the runtime.
const PAUSE: Duration = Duration::from_millis(20);
/// Tries before the lock counts as busy: ten seconds.
const TRIES: u32 = 500;

/// Held until dropped or committed.
#[derive(Debug)]
pub(super) struct Lock {
    target: PathBuf,
    path: PathBuf,
}

impl Lock {
    /// Waits up to ten seconds for the lock of `target`.
    pub(super) fn acquire(target: PathBuf, clock: &dyn Clock) -> Result<Self, Error> {
        let mut path = target.clone().into_os_string();
        path.push(".lock");
        let path = PathBuf::from(path);
        for _ in 0..TRIES {
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(_) => return Ok(Self { target, path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if is_stale(&path, clock) {
                        // Somebody else may be faster; then the next try finds a fresh lock.
                        let _ = fs::remove_file(&path);
                    } else {
                        std::thread::sleep(PAUSE);
                    }
                }
                Err(error) => return Err(Error::io("locking", &path, &error)),
            }
        }
        Err(Error::Busy(format!("{} is held by another program", path.display())))
    }

    /// Writes the new content into the lock file, makes it durable and puts it in place of the target.
    pub(super) fn commit(self, bytes: &[u8]) -> Result<(), Error> {
        let fault = |error: io::Error| Error::io("writing", &self.path, &error);
        let mut file = OpenOptions::new().write(true).truncate(true).open(&self.path).map_err(fault)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fault)?;
        fs::rename(&self.path, &self.target).map_err(fault)?;
        self.target.parent().map_or(Ok(()), content::sync_folder)
    }

    /// Adds to the end of the target and makes it durable.
    pub(super) fn append(self, bytes: &[u8]) -> Result<(), Error> {
        OpenOptions::new()
            .append(true)
            .open(&self.target)
            .and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_data()
            })
            .map_err(|error| Error::io("appending to", &self.target, &error))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // After a commit there is nothing left to remove.
        let _ = fs::remove_file(&self.path);
    }
}

fn is_stale(path: &Path, clock: &dyn Clock) -> bool {
    let touched = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let age = touched.and_then(|touched| touched.duration_since(UNIX_EPOCH).ok()).map(|touched| {
        let now = Duration::from_millis(u64::try_from(clock.now().millis()).unwrap_or(0));
        now.saturating_sub(touched)
    });
    age.is_some_and(|age| age > STALE)
}
