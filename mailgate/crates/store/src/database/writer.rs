//! The thread that makes all changes of one database, in groups.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::BUSY_TIMEOUT;
use crate::Error;

/// Tells the caller how it ended; `Some` is why the group was lost.
pub(super) type Finish = Box<dyn FnOnce(Option<Error>) + Send>;
/// Runs one change, or hears why it cannot run; `Err` wants it undone.
pub(super) type Job = Box<dyn FnOnce(Result<&Transaction<'_>, Error>) -> Result<Finish, Finish> + Send>;

/// Changes in one transaction. More would only delay the first of them: the cost of an fsync is spread thin long before.
const GROUP_LIMIT: usize = 256;
/// After this long without a change the WAL is written back and cut to nothing, so that a quiet database is one file
/// of full size and recovery has nothing to do.
const IDLE: Duration = Duration::from_secs(5);

/// How long the writer, and everybody with it, waits for those who read before it gives up beginning the log anew.
const READERS_PATIENCE: Duration = Duration::from_millis(20);

/// What the handles know of the writer, and ask of it.
#[derive(Default)]
pub(super) struct Shared {
    /// Groups committed.
    pub(super) commits: AtomicU64,
    /// The log is to be written back and begun anew before the next group.
    pub(super) begin_log_anew: AtomicBool,
}

/// Works until every handle is gone.
pub(super) fn run(mut connection: Connection, jobs: &Receiver<Job>, shared: &Shared) {
    let mut dirty = false;
    loop {
        let first = match jobs.recv_timeout(IDLE) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                if std::mem::take(&mut dirty) {
                    checkpoint(&connection);
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        dirty = true;
        if shared.begin_log_anew.swap(false, Ordering::Relaxed) {
            begin_log_anew(&connection);
        }
        let mut group = vec![first];
        while group.len() < GROUP_LIMIT
            && let Ok(job) = jobs.try_recv()
        {
            group.push(job);
        }
        commit_group(&mut connection, group, &shared.commits);
    }
}

/// Failure is harmless: a reader was in the way, and the next commit or idle moment tries again.
fn checkpoint(connection: &Connection) {
    if let Err(error) = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        tracing::debug!(target: "store", event = "checkpoint", result = "deferred", reason = %error);
    }
}

/// With less patience than a commit has: whoever asked for it asks again.
fn begin_log_anew(connection: &Connection) {
    if connection.busy_timeout(READERS_PATIENCE).is_ok() {
        checkpoint(connection);
    }
    if let Err(error) = connection.busy_timeout(BUSY_TIMEOUT) {
        tracing::warn!(target: "store", event = "checkpoint", result = "failed", reason = %error);
    }
}

fn commit_group(connection: &mut Connection, group: Vec<Job>, commits: &AtomicU64) {
    let transaction = match connection.transaction_with_behavior(TransactionBehavior::Immediate) {
        Ok(transaction) => transaction,
        Err(error) => {
            return refuse(group, &error.into());
        }
    };
    let mut finishes = Vec::with_capacity(group.len());
    let mut group = group.into_iter();
    while let Some(job) = group.next() {
        match run_one(&transaction, job) {
            Ok(finish) => finishes.extend(finish),
            Err(error) => {
                // The whole transaction is gone (disk full, I/O error): SQLite has rolled it back, earlier changes
                // included, so every caller of this group must hear of it.
                drop(transaction);
                finishes.into_iter().for_each(|finish: Finish| finish(Some(error.again())));
                return refuse(group, &error);
            }
        }
    }
    match transaction.commit() {
        Ok(()) => {
            commits.fetch_add(1, Ordering::Relaxed);
            finishes.into_iter().for_each(|finish| finish(None));
        }
        Err(error) => {
            let error = Error::from(error);
            tracing::warn!(target: "store", event = "commit", result = "failed", reason = %error);
            finishes.into_iter().for_each(|finish| finish(Some(error.again())));
        }
    }
}

/// Runs one change in a savepoint. `Ok(None)` when it panicked; `Err` when the transaction itself was lost.
fn run_one(transaction: &Transaction<'_>, job: Job) -> Result<Option<Finish>, Error> {
    if let Err(error) = transaction.execute_batch("SAVEPOINT change") {
        let error = Error::from(error);
        refuse([job], &error);
        return Err(error);
    }
    let ran = catch_unwind(AssertUnwindSafe(|| job(Ok(transaction))));
    if transaction.is_autocommit() {
        let lost = Error::Unavailable("the transaction was rolled back, usually by a full disk".to_owned());
        if let Ok(Ok(finish) | Err(finish)) = ran {
            finish(Some(lost.again()));
        }
        return Err(lost);
    }
    match ran {
        Ok(Ok(finish)) => {
            if let Err(error) = transaction.execute_batch("RELEASE change") {
                let error = Error::from(error);
                finish(Some(error.again()));
                return Err(error);
            }
            Ok(Some(finish))
        }
        Ok(Err(finish)) => {
            let undone = transaction.execute_batch("ROLLBACK TO change; RELEASE change");
            finish(None);
            undone?;
            Ok(None)
        }
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            tracing::error!(target: "store", event = "panic", reason = %text);
            transaction.execute_batch("ROLLBACK TO change; RELEASE change")?;
            Ok(None)
        }
    }
}

/// Tells the callers of changes that were not run why.
fn refuse(group: impl IntoIterator<Item = Job>, error: &Error) {
    tracing::warn!(target: "store", event = "begin", result = "failed", reason = %error);
    for job in group {
        let (Ok(finish) | Err(finish)) = job(Err(error.again()));
        finish(None);
    }
}
