//! One SQLite database: one writer with group commit, several readers.
//!
//! All changes go through one thread that owns the only writing connection. While one group is being made durable
//! (one fsync), the next gathers, so the cost of the fsync is shared by everybody who waits: the more load, the larger
//! the groups. Each closure runs inside a savepoint of its own; one that fails or panics loses its own changes only.
//!
//! A power cut leaves each group whole or absent: SQLite's WAL frames are checksummed, and with `synchronous=FULL` the
//! WAL is fsynced before the caller hears of success.

mod writer;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction};
use tokio::sync::{Semaphore, oneshot};

use self::writer::{Finish, Job, Shared};
use crate::Error;

/// How long a statement waits for a lock held by another process. Longer than any checkpoint we make.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Reading connections per database; a third of them may be in long listings without starving the short questions.
const READERS: usize = 4;
/// Changes that may wait for the writer; further callers wait outside, so memory stays bounded.
const WAITING_LIMIT: usize = 4096;
/// Prepared statements kept per connection.
const STATEMENT_CACHE: usize = 64;
/// The WAL file is cut back to this many bytes after a checkpoint.
const WAL_KEPT: i64 = 16 * 1024 * 1024;

/// What `write` promises when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The change survives a power cut (`synchronous=FULL`).
    Full,
    /// The change survives a crash of the daemon; a power cut may take the last moments, but never breaks the
    /// database (`synchronous=NORMAL`). For what can be learnt again, such as an index.
    Normal,
}

/// A handle to one database; clones share it. The writer ends when the last clone is dropped, after it has finished
/// what was given to it.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    path: PathBuf,
    jobs: Option<mpsc::Sender<Job>>,
    waiting: Arc<Semaphore>,
    shared: Arc<Shared>,
    /// `None` in memory: there reads go through the writer's connection, the only one that sees the data.
    readers: Option<Readers>,
    thread: Option<JoinHandle<()>>,
}

struct Readers {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Database").field(&self.0.path).finish()
    }
}

impl Database {
    /// Opens or creates the file (its folder must exist) and brings it to the newest format. `migrations[n]` leads from
    /// format `n` to `n + 1` and is never changed once released; each runs in a transaction of its own.
    ///
    /// # Errors
    /// [`Error::Newer`] when a newer release wrote the file; otherwise what SQLite says.
    pub fn open(
        path: impl AsRef<Path>,
        durability: Durability,
        migrations: &'static [&'static str],
    ) -> Result<Self, Error> {
        let path = path.as_ref().to_owned();
        create_private(&path)?;
        let mut connection = connect(&path)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        let synchronous = match durability {
            Durability::Full => "FULL",
            Durability::Normal => "NORMAL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "journal_size_limit", WAL_KEPT)?;
        migrate(&mut connection, &path, migrations)?;
        let idle = (0..READERS).map(|_| reader(&path)).collect::<Result<Vec<_>, _>>()?;
        let readers = Readers { idle: Mutex::new(idle), permits: Arc::new(Semaphore::new(READERS)) };
        Self::start(path, connection, Some(readers))
    }

    /// A database in memory with the same behaviour, for tests; it ends with the last clone.
    ///
    /// # Errors
    /// What SQLite says to the migrations.
    pub fn memory(migrations: &'static [&'static str]) -> Result<Self, Error> {
        let path = PathBuf::from(":memory:");
        let mut connection = Connection::open_in_memory()?;
        configure(&connection)?;
        migrate(&mut connection, &path, migrations)?;
        Self::start(path, connection, None)
    }

    fn start(path: PathBuf, connection: Connection, readers: Option<Readers>) -> Result<Self, Error> {
        let (jobs, incoming) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let name =
            path.file_stem().map_or_else(|| "store".into(), |stem| stem.to_string_lossy().into_owned());
        let thread = std::thread::Builder::new().name(format!("db-{name}")).spawn({
            let shared = Arc::clone(&shared);
            move || writer::run(connection, &incoming, &shared)
        })?;
        Ok(Self(Arc::new(Inner {
            path,
            jobs: Some(jobs),
            waiting: Arc::new(Semaphore::new(WAITING_LIMIT)),
            shared,
            readers,
            thread: Some(thread),
        })))
    }

    /// A connection of the caller's own that only reads, for questions that cannot wait for a place; `None` for a database
    /// in memory.
    ///
    /// # Errors
    /// What SQLite says to the opening.
    pub(crate) fn connection(&self) -> Result<Option<Connection>, Error> {
        self.0.readers.as_ref().map(|_| reader(&self.0.path)).transpose()
    }

    /// The file, or `:memory:`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Groups committed since it was opened; with [`Durability::Full`] each cost one fsync.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.0.shared.commits.load(Ordering::Relaxed)
    }

    /// Before its next group the writer writes the log back and begins it anew, unless somebody reads for too long. Who writes
    /// back beside a writer that is never idle cannot do that: by the time it is done, there is more.
    pub(crate) fn begin_log_anew(&self) {
        self.0.shared.begin_log_anew.store(true, Ordering::Relaxed);
    }

    /// Changes the database and returns once the change is durable (see [`Durability`]). `change` runs on the writer's
    /// thread, together with others in one transaction but in a savepoint of its own: an `Err` or a panic undoes
    /// what it did and nothing else. It must be short and must not wait for anything.
    ///
    /// When the returned future is dropped after its first poll, the change may still be made.
    ///
    /// # Errors
    /// What `change` returns; or why the group could not be committed, and then the change was not made.
    pub async fn write<T, F>(&self, change: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Error> + Send + 'static,
    {
        let permit = Arc::clone(&self.0.waiting).acquire_owned().await.map_err(|_| Error::Closed)?;
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |transaction| {
            let result = transaction.and_then(change);
            let failed = result.is_err();
            let finish: Finish = Box::new(move |lost| {
                // The caller may be gone; the change is made all the same.
                let _ = answer.send(match lost {
                    Some(error) if !failed => Err(error),
                    _ => result,
                });
                drop(permit);
            });
            if failed { Err(finish) } else { Ok(finish) }
        });
        self.0.send(job)?;
        // The sender is dropped unanswered only when the job panicked.
        answered.await.map_err(|_| Error::Panicked("see the log line of the database".to_owned()))?
    }

    /// Asks the database; `question` sees one consistent state that includes every finished [`write`](Self::write).
    ///
    /// # Errors
    /// What `question` returns, or why no connection could be had.
    pub async fn read<T, F>(&self, question: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    {
        let Some(readers) = &self.0.readers else {
            return self.write(move |transaction| question(transaction)).await;
        };
        let permit = Arc::clone(&readers.permits).acquire_owned().await.map_err(|_| Error::Closed)?;
        let inner = Arc::clone(&self.0);
        let asked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let connection = inner.take_reader()?;
            // A transaction, so that several statements of one question see the same state. It only reads; dropping
            // it ends it. After a panic the connection is not put back, and a fresh one takes its place.
            let answer = connection
                .unchecked_transaction()
                .map_err(Error::from)
                .and_then(|transaction| question(&transaction));
            inner.put_reader(connection);
            answer
        });
        asked.await.map_err(|error| Error::Panicked(error.to_string()))?
    }
}

impl Inner {
    fn send(&self, job: Job) -> Result<(), Error> {
        let jobs = self.jobs.as_ref().ok_or(Error::Closed)?;
        jobs.send(job).map_err(|_| Error::Closed)
    }

    fn take_reader(&self) -> Result<Connection, Error> {
        let idle = self
            .readers
            .as_ref()
            .and_then(|readers| readers.idle.lock().unwrap_or_else(PoisonError::into_inner).pop());
        idle.map_or_else(|| reader(&self.path), Ok)
    }

    fn put_reader(&self, connection: Connection) {
        if let Some(readers) = &self.readers {
            readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}

impl Drop for Inner {
    /// Waits for the writer, so that a database that was dropped is closed and its file can be opened, moved or
    /// deleted.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic of the writer itself was already logged by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Password hashes, private keys and mail are for nobody else to read, whatever the mode of the folder. SQLite gives the
/// WAL the mode of the database.
fn create_private(path: &Path) -> Result<(), Error> {
    let created = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
    match created {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::io("creating", path, &error))
        }
        _ => Ok(()),
    }
}

fn connect(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(|error| Error::Unavailable(format!("opening {}: {error}", path.display())))?;
    configure(&connection)?;
    Ok(connection)
}

fn reader(path: &Path) -> Result<Connection, Error> {
    let connection = connect(path)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> Result<(), Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    connection.pragma_update(None, "foreign_keys", true)?;
    // Schema text of a tampered file must not call functions (SQLite's advice for defence).
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(())
}

fn migrate(
    connection: &mut Connection,
    path: &Path,
    migrations: &'static [&'static str],
) -> Result<(), Error> {
    loop {
        // Looked up inside the transaction: another process may migrate at the same time.
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let found = usize::try_from(found)
            .map_err(|_| Error::Corrupt(format!("{} has format {found}", path.display())))?;
        if found > migrations.len() {
            return Err(Error::Newer { path: path.to_owned(), found, known: migrations.len() });
        }
        let Some(migration) = migrations.get(found) else { return Ok(()) };
        transaction.execute_batch(migration)?;
        let reached = i64::try_from(found + 1).unwrap_or(i64::MAX);
        transaction.pragma_update(None, "user_version", reached)?;
        transaction.commit()?;
    }
}

#[cfg(test)]
mod tests;
