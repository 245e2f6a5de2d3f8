//! Contents too large for a row: one file each, named by the queue id.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mailgate_model::QueueId;
use rusqlite::Connection;

use crate::Error;

/// The folder with the files.
#[derive(Debug, Clone)]
pub(super) struct Contents {
    dir: PathBuf,
}

/// Makes a folder that only we may enter, its parents too, and makes the entry durable.
pub(super) fn create_private(dir: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Error::io("creating", dir, &error))?;
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync_folder(parent),
        None => Ok(()),
    }
}

/// One process at a time; the lock goes with the file handle, so a crash frees it.
pub(super) fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| Error::io("opening", &path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Error::Busy(format!("{} is open in another process", dir.display())))
        }
        Err(fs::TryLockError::Error(error)) => Err(Error::io("locking", &path, &error)),
    }
}

fn sync_folder(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Error::io("making durable", dir, &error))
}

impl Contents {
    pub(super) fn open(dir: PathBuf) -> Result<Self, Error> {
        create_private(&dir)?;
        Ok(Self { dir })
    }

    fn path(&self, id: QueueId) -> PathBuf {
        // 13 letters and digits: never a path of somebody's choosing.
        self.dir.join(id.to_string())
    }

    /// Writes the file (under the spool's lock, also when the caller goes away meanwhile) and makes it and its folder entry durable; only then may a row name it.
    pub(super) async fn write(&self, id: QueueId, content: Bytes, lock: Arc<File>) -> Result<(), Error> {
        let contents = self.clone();
        blocking(move || {
            let path = contents.path(id);
            let mut file = OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&path)
                .map_err(|error| Error::io("creating", &path, &error))?;
            let written = file
                .write_all(&content)
                .and_then(|()| file.sync_all())
                .map_err(|error| Error::io("writing", &path, &error))
                .and_then(|()| sync_folder(&contents.dir));
            if written.is_err() {
                // No row names it yet. If even this fails, the next start sweeps it.
                let _ = fs::remove_file(&path);
            }
            drop(lock);
            written
        })
        .await
    }

    /// Reads the file, which must have exactly `size` octets.
    pub(super) async fn read(&self, id: QueueId, size: usize) -> Result<Bytes, Error> {
        let path = self.path(id);
        blocking(move || {
            let file = File::open(&path).map_err(|error| Error::io("opening", &path, &error))?;
            let mut content = Vec::with_capacity(size);
            // One octet more than expected shows a file that grew, and bounds what is read.
            file.take(size as u64 + 1)
                .read_to_end(&mut content)
                .map_err(|error| Error::io("reading", &path, &error))?;
            if content.len() == size {
                Ok(content.into())
            } else {
                Err(Error::Corrupt(format!(
                    "{} has not the {size} octets it was written with",
                    path.display()
                )))
            }
        })
        .await
    }

    /// Unlinks the files of messages whose rows are gone. What fails is swept at the next start.
    pub(super) async fn remove(&self, ids: Vec<QueueId>) {
        if ids.is_empty() {
            return;
        }
        let contents = self.clone();
        let removed = blocking(move || {
            for id in ids {
                let path = contents.path(id);
                if let Err(error) = fs::remove_file(&path)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    tracing::warn!(target: "store", q = %id, event = "unlink", result = "deferred", reason = %error);
                }
            }
            Ok(())
        });
        if let Err(error) = removed.await {
            tracing::warn!(target: "store", event = "unlink", result = "deferred", reason = %error);
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Panicked(error.to_string()))?
}

/// Brings files and rows together after a start: files without row are removed (their peers got no 250, or they are
/// done), messages without file are held. Runs before anything else uses the spool, under its lock.
pub(super) fn reconcile(database: &Path, contents: &Contents) -> Result<(), Error> {
    let connection = Connection::open(database)?;
    let mut named = HashSet::new();
    let mut statement = connection.prepare("SELECT id, size FROM message WHERE place = 'file'")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
    for row in rows {
        let (bits, size) = row?;
        let id = QueueId::from_bits(bits.cast_unsigned());
        let path = contents.path(id);
        let whole = fs::metadata(&path).is_ok_and(|file| i64::try_from(file.len()) == Ok(size));
        if !whole {
            tracing::error!(target: "store", q = %id, event = "content", result = "held",
                reason = "the content file is missing or has another size", path = %path.display());
            connection
                .execute("UPDATE recipient SET state = 'held' WHERE id = ?1 AND state = 'queued'", [bits])?;
        }
        named.insert(id);
    }
    let entries = fs::read_dir(&contents.dir).map_err(|error| Error::io("listing", &contents.dir, &error))?;
    for entry in entries {
        let entry = entry?;
        // Only names we could have given; what else somebody put there is not ours to delete.
        let Some(id) = entry.file_name().to_str().and_then(QueueId::parse) else { continue };
        if !named.contains(&id) {
            fs::remove_file(entry.path()).map_err(|error| Error::io("sweeping", &entry.path(), &error))?;
            tracing::info!(target: "store", q = %id, event = "sweep", reason = "file without message");
        }
    }
    Ok(())
}
