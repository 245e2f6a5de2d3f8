//! The ledger of deliveries: what makes a second attempt at the same recipient a no-op.
//!
//! A row is durable *before* the file gets its name, and settled after. So a repeated attempt knows without looking
//! that nothing happened (no row), that all happened (settled), or that a crash came in between (a row, not settled):
//! only then the mailboxes are searched for the file, whose name is the same for every attempt.

use std::path::Path;
use std::time::Duration;

use mailgate_model::{QueueId, Timestamp};
use rusqlite::OptionalExtension;

use crate::{Database, Durability, Error};

const MIGRATIONS: &[&str] = &["CREATE TABLE delivery (
        id INTEGER NOT NULL, idx INTEGER NOT NULL, at INTEGER NOT NULL, settled INTEGER NOT NULL,
        PRIMARY KEY (id, idx)) STRICT, WITHOUT ROWID;
    CREATE INDEX delivery_at ON delivery (at);
    CREATE TABLE born (at INTEGER NOT NULL) STRICT;"];

/// How long a delivery is remembered: far longer than any message may stay in the queue.
const REMEMBERED: Duration = Duration::from_secs(40 * 86_400);
/// Forgotten rows removed per new one; more than one, so that the ledger shrinks when there are many.
const SWEEP: i64 = 4;

/// What is known of an attempt before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// The first attempt.
    New,
    /// Done before.
    Settled,
    /// Begun before, outcome unknown.
    Unsettled,
}

/// Remembers deliveries for forty days.
#[derive(Debug, Clone)]
pub(super) struct Ledger(Database);

impl Ledger {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        Database::open(path, Durability::Full, MIGRATIONS).map(Self)
    }

    #[cfg(test)]
    pub(super) fn database(&self) -> &Database {
        &self.0
    }

    /// Records the intent durably and tells what was known before.
    pub(super) async fn begin(&self, id: QueueId, index: u32, now: Timestamp) -> Result<Standing, Error> {
        let key = (id.bits().cast_signed(), index);
        self.0
            .write(move |transaction| {
                let settled: Option<bool> = transaction
                    .prepare_cached("SELECT settled FROM delivery WHERE id = ?1 AND idx = ?2")?
                    .query_row(key, |row| row.get(0))
                    .optional()?;
                if let Some(settled) = settled {
                    return Ok(if settled { Standing::Settled } else { Standing::Unsettled });
                }
                let born: Option<i64> =
                    transaction.query_row("SELECT max(at) FROM born", [], |row| row.get(0))?;
                if born.is_none() {
                    transaction.execute("INSERT INTO born VALUES (?1)", [now.millis()])?;
                }
                transaction.prepare_cached("INSERT INTO delivery VALUES (?1, ?2, ?3, 0)")?.execute((
                    key.0,
                    key.1,
                    now.millis(),
                ))?;
                let old = now.millis() - i64::try_from(REMEMBERED.as_millis()).unwrap_or(i64::MAX);
                transaction
                    .prepare_cached(
                        "DELETE FROM delivery WHERE (id, idx) IN
                            (SELECT id, idx FROM delivery WHERE at < ?1 ORDER BY at LIMIT ?2)",
                    )?
                    .execute((old, SWEEP))?;
                // A message older than the ledger may have been delivered under a ledger that was lost.
                let older = id.time().millis() <= born.unwrap_or(now.millis());
                Ok(if older { Standing::Unsettled } else { Standing::New })
            })
            .await
    }

    /// Records that the file is in place.
    pub(super) async fn settle(&self, id: QueueId, index: u32) -> Result<(), Error> {
        let key = (id.bits().cast_signed(), index);
        self.0
            .write(move |transaction| {
                transaction
                    .prepare_cached("UPDATE delivery SET settled = 1 WHERE id = ?1 AND idx = ?2")?
                    .execute(key)?;
                Ok(())
            })
            .await
    }
}
