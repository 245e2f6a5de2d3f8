//! One process has a greylist open, and no other: what decides stands in its memory, so a second one would judge by a
//! memory of its own and both would write over each other. Others ask that process (`mailgate grey`).

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Error;

/// How long one that is just ending is waited for, as at a restart.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// The right to the file; given up when dropped, and by the kernel when the process dies.
#[derive(Debug)]
pub(super) struct Owner {
    _lock: File,
}

impl Owner {
    /// Of the database at `path`. A file beside it is locked, because SQLite gives up its own locks when any other handle
    /// of the database is closed (POSIX record locks).
    pub(super) async fn of(path: &Path) -> Result<Self, Error> {
        Self::within(path, PATIENCE).await
    }

    async fn within(path: &Path, patience: Duration) -> Result<Self, Error> {
        let beside = beside(path);
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&beside);
        let file = file.map_err(|error| Error::io("opening", &beside, &error))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _lock: file }),
                Err(TryLockError::Error(error)) => return Err(Error::io("locking", &beside, &error)),
                Err(TryLockError::WouldBlock) if begun.elapsed() >= patience => {
                    return Err(Error::Busy(format!(
                        "found {} in use by another process, expected to be the only one; end the other daemon, or give \
                         this one a state_dir of its own",
                        path.display()
                    )));
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use mailgate_model::{ManualClock, Timestamp};

    use super::*;
    use crate::Greylist;

    /// spamd(8), spamlogd(8) and spamdb(8) share one file, and the man page calls it a bug that whoever talks to strangers
    /// may write it.
    #[tokio::test]
    async fn defect_13_the_memory_has_one_owner_and_nobody_else_may_read_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("greylist.db");
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_700_000_000)));
        let list = Greylist::open(&path, clock.clone()).await.unwrap();
        let second = Owner::within(&path, Duration::ZERO).await.unwrap_err();
        assert!(matches!(&second, Error::Busy(text) if text.contains("end the other daemon")), "{second}");
        for name in ["greylist.db", "greylist.db-wal", "greylist.db.lock"] {
            let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{name} is ours alone");
        }
        // Only a clone keeps it; with the last one the next process may have it.
        let clone = list.clone();
        drop(list);
        assert!(Owner::within(&path, Duration::ZERO).await.is_err());
        drop(clone);
        Greylist::open(&path, clock).await.unwrap();
    }
}
