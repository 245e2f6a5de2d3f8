//! The log of the greylist is written back by a thread of its own. SQLite would do it at the end of some commit, with two
//! fsyncs; on a slow or busy disk every change of that time would wait, and a crash would lose it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use crate::{Database, Error};

/// Between two looks at the size of the log.
const LOOK: Duration = Duration::from_millis(200);
/// The log is written back when it is larger, in octets: a thousand changes or more.
const LARGE: u64 = 8 * 1024 * 1024;
/// And when so many groups were committed since the last time: its file stays large once it was.
const COMMITS: u64 = 32;
/// A log that is larger though it was just written back has been written to all the time; then the writer itself writes back
/// the rest, so that the log begins anew. By now little is left to write.
const TOO_LARGE: u64 = 64 * 1024 * 1024;

/// The thread; it ends with this value.
pub(super) struct Aside {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Aside {
    /// Takes the work over from the writer of `database`; nothing for one in memory.
    ///
    /// # Errors
    /// What SQLite says, or that there can be no thread.
    pub(super) async fn start(database: &Database) -> Result<Option<Self>, Error> {
        let Some(connection) = database.connection()? else { return Ok(None) };
        // Of the writer's connection.
        database.write(|transaction| Ok(transaction.pragma_update(None, "wal_autocheckpoint", 0)?)).await?;
        connection.pragma_update(None, "query_only", false)?;
        let (end, ended) = channel();
        let mut log = database.path().as_os_str().to_owned();
        log.push("-wal");
        let log = PathBuf::from(log);
        let database = database.clone();
        let thread = std::thread::Builder::new()
            .name("db-greylist-log".to_owned())
            .spawn(move || run(&database, &connection, &log, &ended))?;
        Ok(Some(Self { end: Some(end), thread: Some(thread) }))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic was already logged by the panic hook.
            let _ = thread.join();
        }
    }
}

fn run(database: &Database, connection: &Connection, log: &Path, ended: &Receiver<()>) {
    let size = || std::fs::metadata(log).map_or(0, |metadata| metadata.len());
    let mut before = 0;
    while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        let commits = database.commits();
        if size() < LARGE || commits - before < COMMITS {
            continue;
        }
        before = commits;
        write_back(connection);
        if size() > TOO_LARGE {
            database.begin_log_anew();
        }
    }
}

/// Failure is harmless: it is tried again. What SQLite says of the rest is of no use: it does not count what was written
/// meanwhile.
fn write_back(connection: &Connection) {
    if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
        tracing::debug!(target: "store", event = "checkpoint", result = "deferred", reason = %error);
    }
}
