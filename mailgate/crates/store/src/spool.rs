//! The spool: every message between its 250 and its last recipient.
//!
//! Where a message is, and what a crash or power cut leaves:
//!
//! | moment | on disk | after a restart |
//! |---|---|---|
//! | before `commit` | nothing, or a whole or partial file without row | file is swept; the peer got no 250 and comes again |
//! | `commit` returned | row, recipients, content (row or file, both fsynced) | everything is there and due |
//! | attempt running | the same; the lease is in memory only | no lease; due again (agents are idempotent or may repeat) |
//! | outcome recorded | changed recipient rows, DSN as a message of its own, in one transaction | the same |
//! | last recipient done | `history` row; message rows gone; then the file is unlinked | a file left over is swept |
//!
//! Order is what keeps this true: a file and its folder entry are fsynced *before* the row that names it, and the row
//! is gone *before* the file. A row without its file can therefore only come from a damaged disk or from hands; such a
//! message is held and shouted about, never dropped.

mod content;
mod lease;
mod operate;
mod progress;
mod rows;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mailgate_model::{Clock, Envelope, QueueId, Timestamp};
use rusqlite::{Transaction, params};
use tokio::sync::Notify;

pub use self::lease::Lease;
pub use self::operate::{Finished, Listed, Selection, Shown, Totals, Trace};
pub use self::progress::{Due, Loaded, Progress, Recorded, Report};
pub use self::rows::{RecipientRow, State};
use crate::{Database, Durability, Error};
use content::Contents;
use lease::Leases;

/// Contents up to this many octets live in the database, where one fsync of the WAL covers content and envelope of a
/// whole group of messages. Above it, writing the content twice (WAL, then database) costs more than the two fsyncs
/// of a file and its folder.
pub const ROW_LIMIT: usize = 64 * 1024;

const MIGRATIONS: &[&str] = &[include_str!("../migrations/spool/0001_spool.sql")];

/// Proof that a message is durable: the only way to a 250 after the content. Neither made elsewhere nor copied.
#[derive(Debug)]
#[must_use = "a committed message that nobody answers for is sent again by the peer"]
pub struct Receipt {
    id: QueueId,
}

impl Receipt {
    /// The message's id in the queue.
    #[must_use]
    pub fn id(&self) -> QueueId {
        self.id
    }
}

/// Holds accepted messages until every recipient is done. Clones share it.
#[derive(Clone)]
pub struct Spool(Arc<Inner>);

struct Inner {
    database: Database,
    contents: Contents,
    clock: Arc<dyn Clock>,
    arrivals: Notify,
    leases: Leases,
    /// Files of messages whose transaction failed, with the number of commits at that time.
    doubtful: Mutex<Vec<(u64, QueueId)>>,
    /// Locked as long as the spool is open: a second daemon would lease the same attempts.
    lock: Arc<File>,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Spool").field(&self.0.database).finish()
    }
}

impl Spool {
    /// Opens or creates the spool in the folder `dir` (made with mode 0700 if missing): `queue.db` and `content/`.
    /// Sweeps files without row and holds messages whose file is missing.
    ///
    /// # Errors
    /// [`Error::Busy`] when another process has it open; [`Error::Newer`]; what the disk says.
    pub fn open(dir: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        content::create_private(dir)?;
        let lock = content::lock(dir)?;
        let database = Database::open(dir.join("queue.db"), Durability::Full, MIGRATIONS)?;
        let contents = Contents::open(dir.join("content"))?;
        content::reconcile(&dir.join("queue.db"), &contents)?;
        Ok(Self(Arc::new(Inner {
            database,
            contents,
            clock,
            arrivals: Notify::new(),
            leases: Leases::default(),
            doubtful: Mutex::default(),
            lock: Arc::new(lock),
        })))
    }

    /// Takes responsibility for a message: when it returns, envelope and content survive a power cut, every recipient
    /// is due at once, and [`arrivals`](Self::arrivals) has been notified.
    ///
    /// If the returned future is dropped, the message may be committed all the same.
    ///
    /// # Errors
    /// Nothing is kept of the message then (at worst an unnamed file until the next start). [`Error::Conflict`] when
    /// `id` exists or the envelope has no recipient.
    pub async fn commit(&self, id: QueueId, envelope: Envelope, content: Bytes) -> Result<Receipt, Error> {
        if envelope.recipients.is_empty() {
            return Err(Error::Conflict(format!("message {id} has no recipient")));
        }
        let now = self.0.clock.now();
        let new = Arc::new(self.prepare(id, envelope, content).await?);
        let inserted = Arc::clone(&new);
        if let Err(error) = self.write((), move |transaction| inserted.insert(transaction, now)).await {
            self.doubt(std::slice::from_ref(&*new));
            return Err(error);
        }
        self.0.arrivals.notify_one();
        self.settle(None).await;
        Ok(Receipt { id })
    }

    /// Notified after each commit and whenever something else became due at once. One waiter: the scheduler.
    #[must_use]
    pub fn arrivals(&self) -> &Notify {
        &self.0.arrivals
    }

    /// Transactions made durable since it was opened, for measurements.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.0.database.commits()
    }

    /// Writes to the database. `guard` and the lock on the folder are kept until the change is durable or given up, even
    /// when the caller's future is dropped meanwhile: a lease or the whole spool must not pass on while a change of
    /// its former holder is still on its way.
    async fn write<T, G, F>(&self, guard: G, change: F) -> Result<T, Error>
    where
        T: Send + 'static,
        G: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Error> + Send + 'static,
    {
        let kept = (guard, Arc::clone(&self.0.lock));
        let written = self.0.database.write(move |transaction| Ok((change(transaction)?, kept))).await?;
        Ok(written.0)
    }

    /// Remembers the files of messages that could not be committed. They must not go at once: when the fsync of the
    /// WAL fails, its frames may still be on the disk and come back after a power cut, naming the file. The next
    /// successful commit overwrites those frames.
    fn doubt(&self, news: &[New]) {
        let commits = self.0.database.commits();
        let mut doubtful = self.0.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        doubtful.extend(news.iter().filter(|new| new.row.is_none()).map(|new| (commits, new.id)));
    }

    /// The same message is tried again: its file will be written anew, and must not be unlinked behind its back.
    fn forget_doubt(&self, id: QueueId) -> bool {
        let mut doubtful = self.0.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        let before = doubtful.len();
        doubtful.retain(|(_, other)| *other != id);
        doubtful.len() != before
    }

    /// After a successful commit: unlinks the file of a finished message and those that are in doubt no more.
    async fn settle(&self, finished: Option<QueueId>) {
        let commits = self.0.database.commits();
        let mut gone: Vec<QueueId> = finished.into_iter().collect();
        self.0.doubtful.lock().unwrap_or_else(PoisonError::into_inner).retain(|(then, id)| {
            let keep = *then >= commits;
            if !keep {
                gone.push(*id);
            }
            keep
        });
        self.0.contents.remove(gone).await;
    }

    /// Writes a large content to its file; a small one stays in memory for the row.
    async fn prepare(&self, id: QueueId, envelope: Envelope, content: Bytes) -> Result<New, Error> {
        let size = content.len();
        let row = if size <= ROW_LIMIT {
            Some(content)
        } else {
            if self.forget_doubt(id) {
                self.0.contents.remove(vec![id]).await;
            }
            self.0.contents.write(id, content, Arc::clone(&self.0.lock)).await?;
            None
        };
        Ok(New { id, envelope, size: i64::try_from(size).unwrap_or(i64::MAX), row })
    }
}

/// A message whose content is where its row will say it is.
struct New {
    id: QueueId,
    envelope: Envelope,
    size: i64,
    row: Option<Bytes>,
}

impl New {
    fn insert(&self, transaction: &Transaction<'_>, now: Timestamp) -> Result<(), Error> {
        let id = self.id.bits().cast_signed();
        let place = if self.row.is_some() { "row" } else { "file" };
        transaction
            .prepare_cached(
                "INSERT INTO message (id, arrived, reverse_path, envid, ret, smtputf8, eight_bit, size, place)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                id,
                now.millis(),
                self.envelope.reverse_path.to_string(),
                self.envelope.envid,
                self.envelope.ret.map(rows::ret_text),
                self.envelope.smtputf8,
                self.envelope.eight_bit,
                self.size,
                place
            ])?;
        if let Some(bytes) = &self.row {
            transaction
                .prepare_cached("INSERT INTO content (id, bytes) VALUES (?1, ?2)")?
                .execute(params![id, bytes.as_ref()])?;
        }
        let mut insert = transaction.prepare_cached(
            "INSERT INTO recipient (id, number, address, host, original, notify, orcpt, state, attempts,
                                    next_attempt, delay_said, changed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'queued', 0, ?8, 0, ?8)",
        )?;
        for (number, recipient) in (0_u32..).zip(&self.envelope.recipients) {
            insert.execute(params![
                id,
                number,
                recipient.address.to_string(),
                recipient.address.host().to_string(),
                recipient.original.to_string(),
                rows::notify_bits(recipient.notify),
                recipient.orcpt,
                now.millis()
            ])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
