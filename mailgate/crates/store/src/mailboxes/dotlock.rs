//! Lock files as Dovecot makes them: `name.lock` exists while somebody changes `name`, and may become it.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use mailgate_model::Clock;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::content;
use crate::Error;

/// A lock that nobody touched for this long belongs to a program that died (Dovecot's own value).
const STALE: Duration = Duration::from_secs(120);
/// Between two tries; a thread for the disk waits, not the runtime.
const PAUSE: Duration = Duration::from_millis(20);
/// Tries before the lock counts as busy: ten seconds.
const TRIES: u32 = 500;

/// Locks this process holds: one that names us and is not here was left by an earlier life with our process id.
static HELD: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

fn held<T>(look: impl FnOnce(&mut HashSet<PathBuf>) -> T) -> T {
    look(HELD.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default())
}

/// Held until dropped or committed.
#[derive(Debug)]
pub(super) struct Lock {
    target: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl Lock {
    /// Waits up to ten seconds for the lock of `target`.
    pub(super) fn acquire(target: PathBuf, clock: &dyn Clock) -> Result<Self, Error> {
        let mut path = target.clone().into_os_string();
        path.push(".lock");
        let path = PathBuf::from(path);
        for _ in 0..TRIES {
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(mut file) => {
                    held(|held| held.insert(path.clone()));
                    let lock = Self { target, path, committed: false };
                    // Dovecot's form, so that each can tell whether the other died.
                    let owner = format!("{}:{}", std::process::id(), this_host());
                    return match file.write_all(owner.as_bytes()) {
                        Ok(()) => Ok(lock),
                        Err(error) => Err(Error::io("locking", &lock.path, &error)),
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if break_orphaned(&path) {
                        continue;
                    }
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
    pub(super) fn commit(mut self, bytes: &[u8]) -> Result<(), Error> {
        let fault = |error: io::Error| Error::io("writing", &self.path, &error);
        let mut file = OpenOptions::new().write(true).truncate(true).open(&self.path).map_err(fault)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fault)?;
        fs::rename(&self.path, &self.target).map_err(fault)?;
        self.committed = true;
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
        // Only a commit, which renames the file, leaves nothing to remove; what comes after it is somebody else's.
        if !self.committed {
            let _ = fs::remove_file(&self.path);
        }
        held(|held| held.remove(&self.path));
    }
}

fn this_host() -> String {
    nix::unistd::gethostname().map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
}

/// Removes a lock that names a process of this host that is no more. Looking and removing are one step for all threads:
/// else one could remove what another has just made.
fn break_orphaned(path: &Path) -> bool {
    held(|held| is_orphaned(path, held) && fs::remove_file(path).is_ok())
}

fn is_orphaned(path: &Path, held: &HashSet<PathBuf>) -> bool {
    let Ok(owner) = fs::read_to_string(path) else { return false };
    let Some((pid, host)) = owner.split_once(':') else { return false };
    let Some(pid) = pid.parse::<i32>().ok().filter(|pid| *pid > 0 && host == this_host()) else {
        return false;
    };
    if u32::try_from(pid) == Ok(std::process::id()) {
        return !held.contains(path);
    }
    kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
}

fn is_stale(path: &Path, clock: &dyn Clock) -> bool {
    let touched = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let age = touched.and_then(|touched| touched.duration_since(UNIX_EPOCH).ok()).map(|touched| {
        let now = Duration::from_millis(u64::try_from(clock.now().millis()).unwrap_or(0));
        now.saturating_sub(touched)
    });
    age.is_some_and(|age| age > STALE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailgate_model::ManualClock;

    #[test]
    fn a_lock_of_a_dead_process_or_an_earlier_life_is_broken_and_others_are_respected() {
        let dir = tempfile::tempdir().unwrap();
        let (target, path) = (dir.path().join("list"), dir.path().join("list.lock"));
        let clock = ManualClock::default();
        for dead in [format!("4194399:{}", this_host()), format!("{}:{}", std::process::id(), this_host())] {
            fs::write(&path, dead).unwrap();
            Lock::acquire(target.clone(), &clock).unwrap().commit(b"x").unwrap();
        }
        let lock = Lock::acquire(target.clone(), &clock).unwrap();
        assert!(!held(|held| is_orphaned(&path, held)), "ours, and held");
        drop(lock);
        assert!(!path.exists());
        fs::write(&path, "1:elsewhere.test").unwrap();
        assert!(!held(|held| is_orphaned(&path, held)));
        fs::write(&path, format!("1:{}", this_host())).unwrap();
        assert!(!held(|held| is_orphaned(&path, held)), "process 1 lives");
    }
}
