//! What the operator does with the spool: list, show, trace, retry, hold, release, delete.

use mailgate_model::{Domain, Outcome, QueueId, ReversePath, Status, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::Spool;
use super::progress::{finish_message, read_recipients};
use super::rows::{self, RecipientRow};
use crate::Error;

/// Which messages an order is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Every message.
    All,
    /// Recipients at this domain.
    Domain(Domain),
    /// One message.
    Message(QueueId),
}

/// One line of `queue list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The message.
    pub id: QueueId,
    /// When it was accepted.
    pub arrived: Timestamp,
    /// Octets of the content.
    pub size: u64,
    /// Where bounces go; empty for null.
    pub reverse_path: ReversePath,
    /// Recipients in all.
    pub recipients: u32,
    /// Recipients not yet done.
    pub open: u32,
    /// Recipients on hold.
    pub held: u32,
    /// The earliest next attempt; `None` when nothing is queued.
    pub next_attempt: Option<Timestamp>,
    /// The first open recipient, as an example.
    pub example: Option<String>,
}

/// A queued message with everything known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The message.
    pub id: QueueId,
    /// When it was accepted.
    pub arrived: Timestamp,
    /// Octets of the content.
    pub size: u64,
    /// Where bounces go; empty for null.
    pub reverse_path: ReversePath,
    /// ENVID in xtext.
    pub envid: Option<String>,
    /// Whether an attempt runs right now.
    pub running: bool,
    /// All recipients, done or not.
    pub recipients: Vec<RecipientRow>,
}

/// A message that is gone, as the history knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// The message.
    pub id: QueueId,
    /// When it was accepted.
    pub arrived: Timestamp,
    /// When its last recipient was done.
    pub finished: Timestamp,
    /// Octets of the content.
    pub size: u64,
    /// Where bounces went; empty for null.
    pub reverse_path: ReversePath,
    /// All recipients and how they ended.
    pub recipients: Vec<RecipientRow>,
}

/// What is known of a queue id: the answer to `mailgate why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "where", rename_all = "lowercase")]
pub enum Trace {
    /// Done; the history knows how.
    Finished(Finished),
    /// Still in the queue.
    Queued(Shown),
    /// Never seen, or forgotten by the history.
    Unknown,
}

/// Sums over the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Messages.
    pub messages: u64,
    /// Octets of their contents.
    pub octets: u64,
    /// Recipients waiting for an attempt.
    pub queued: u64,
    /// Recipients on hold.
    pub held: u64,
    /// Recipients under work right now.
    pub running: u64,
    /// Arrival of the oldest message.
    pub oldest: Option<Timestamp>,
}

impl Spool {
    /// Messages in order of arrival, at most `limit` of them, beginning after `after`.
    ///
    /// # Errors
    /// What the database says.
    pub async fn list(&self, limit: u32, after: Option<QueueId>) -> Result<Vec<Listed>, Error> {
        let after = after.map_or(i64::MIN, |id| id.bits().cast_signed());
        self.0
            .database
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT m.id, m.arrived, m.size, m.reverse_path, count(*),
                            sum(r.state IN ('queued', 'held')), sum(r.state = 'held'),
                            min(CASE WHEN r.state = 'queued' THEN r.next_attempt END),
                            (SELECT address FROM recipient o WHERE o.id = m.id AND o.state IN ('queued', 'held')
                             ORDER BY o.number LIMIT 1)
                     FROM message m JOIN recipient r ON r.id = m.id WHERE m.id > ?1
                     GROUP BY m.id ORDER BY m.id LIMIT ?2",
                )?;
                let mut rows = statement.query(params![after, limit])?;
                let mut listed = Vec::new();
                while let Some(row) = rows.next()? {
                    listed.push(Listed {
                        id: rows::id_from(row.get(0)?),
                        arrived: Timestamp::from_millis(row.get(1)?),
                        size: unsigned(row.get(2)?),
                        reverse_path: rows::reverse_path(row.get(3)?)?,
                        recipients: row.get(4)?,
                        open: row.get(5)?,
                        held: row.get(6)?,
                        next_attempt: row.get::<_, Option<i64>>(7)?.map(Timestamp::from_millis),
                        example: row.get(8)?,
                    });
                }
                Ok(listed)
            })
            .await
    }

    /// Everything known of one id: queued, finished or unknown.
    ///
    /// # Errors
    /// What the database says.
    pub async fn trace(&self, id: QueueId) -> Result<Trace, Error> {
        let running = self.0.leases.holds_any_of(id);
        self.0
            .database
            .read(move |connection| {
                if let Some(shown) = show(connection, id, running)? {
                    return Ok(Trace::Queued(shown));
                }
                Ok(finished(connection, id)?.map_or(Trace::Unknown, Trace::Finished))
            })
            .await
    }

    /// Sums over the queue.
    ///
    /// # Errors
    /// What the database says.
    pub async fn totals(&self) -> Result<Totals, Error> {
        let running = self.0.leases.len() as u64;
        self.0
            .database
            .read(move |connection| {
                let (messages, octets, oldest): (i64, i64, Option<i64>) = connection
                    .query_row("SELECT count(*), coalesce(sum(size), 0), min(arrived) FROM message", [], |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                    })?;
                let (queued, held): (i64, i64) = connection.query_row(
                    "SELECT coalesce(sum(state = 'queued'), 0), coalesce(sum(state = 'held'), 0) FROM recipient",
                    [],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )?;
                Ok(Totals {
                    messages: unsigned(messages),
                    octets: unsigned(octets),
                    queued: unsigned(queued),
                    held: unsigned(held),
                    running,
                    oldest: oldest.map(Timestamp::from_millis),
                })
            })
            .await
    }

    /// The content of a queued message, to be read by the operator; `None` when it is not queued.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn content(&self, id: QueueId) -> Result<Option<bytes::Bytes>, Error> {
        let bits = id.bits().cast_signed();
        let found: Option<(i64, Option<Vec<u8>>)> = self
            .0
            .database
            .read(move |connection| {
                Ok(connection
                    .query_row(
                        "SELECT m.size, c.bytes FROM message m LEFT JOIN content c ON c.id = m.id WHERE m.id = ?1",
                        [bits],
                        |row| Ok((row.get(0)?, row.get(1)?)),
                    )
                    .optional()?)
            })
            .await?;
        match found {
            None => Ok(None),
            Some((_, Some(bytes))) => Ok(Some(bytes.into())),
            Some((size, None)) => {
                self.0.contents.read(id, usize::try_from(size).unwrap_or(0)).await.map(Some)
            }
        }
    }

    /// Makes queued recipients due now; says how many. Held ones stay held.
    ///
    /// # Errors
    /// What the database says.
    pub async fn retry(&self, which: Selection) -> Result<usize, Error> {
        let changed =
            self.change(which, "UPDATE recipient SET next_attempt = ?3 WHERE state = 'queued'").await?;
        self.0.arrivals.notify_one();
        Ok(changed)
    }

    /// Puts queued recipients on hold: they are neither tried nor expired until released. A running attempt ends as
    /// it ends.
    ///
    /// # Errors
    /// What the database says.
    pub async fn hold(&self, which: Selection) -> Result<usize, Error> {
        self.change(which, "UPDATE recipient SET state = 'held', changed = ?3 WHERE state = 'queued'").await
    }

    /// Releases held recipients, due at once; says how many.
    ///
    /// # Errors
    /// What the database says.
    pub async fn release(&self, which: Selection) -> Result<usize, Error> {
        let changed = self
            .change(which, "UPDATE recipient SET state = 'queued', next_attempt = ?3 WHERE state = 'held'")
            .await?;
        self.0.arrivals.notify_one();
        Ok(changed)
    }

    /// Deletes one message without telling anybody; the history keeps that it was the operator. `false` when there is
    /// no such message.
    ///
    /// # Errors
    /// [`Error::Conflict`] while an attempt runs.
    pub async fn delete(&self, id: QueueId) -> Result<bool, Error> {
        // The lease is held so that no attempt begins meanwhile.
        let indices: Vec<u32> = self
            .0
            .database
            .read(move |connection| {
                Ok(read_recipients(connection, id)?.iter().map(|row| row.number).collect())
            })
            .await?;
        if indices.is_empty() {
            return Ok(false);
        }
        let lease = self.lease(id, indices).ok_or_else(|| {
            Error::Conflict(format!("{id} is being tried right now, ask again in a moment"))
        })?;
        let now = self.0.clock.now();
        let outcome = rows::json(&Outcome::Failed {
            status: Status::new(5, 7, 0),
            remote: None,
            detail: "deleted by the operator".to_owned(),
        })?;
        let finish = self
            .write(lease.kept(), move |transaction| {
                transaction.execute(
                    "UPDATE recipient SET state = 'failed', changed = ?2, outcome = ?3
                     WHERE id = ?1 AND state IN ('held', 'queued')",
                    params![id.bits().cast_signed(), now.millis(), outcome],
                )?;
                finish_message(transaction, id, now)
            })
            .await?;
        self.settle(finish.file.then_some(id)).await;
        drop(lease);
        Ok(finish.done)
    }

    /// Runs `sql` (an UPDATE with a WHERE, `?3` is the time) on what is selected.
    async fn change(&self, which: Selection, sql: &'static str) -> Result<usize, Error> {
        let now = self.0.clock.now().millis();
        let (id, host) = match which {
            Selection::All => (None, None),
            Selection::Domain(domain) => (None, Some(domain.as_str().to_owned())),
            Selection::Message(id) => (Some(id.bits().cast_signed()), None),
        };
        self.write((), move |transaction| {
            let sql = format!("{sql} AND (?1 IS NULL OR id = ?1) AND (?2 IS NULL OR host = ?2)");
            Ok(transaction.execute(&sql, params![id, host, now])?)
        })
        .await
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn show(connection: &Connection, id: QueueId, running: bool) -> Result<Option<Shown>, Error> {
    let mut statement =
        connection.prepare_cached("SELECT arrived, size, reverse_path, envid FROM message WHERE id = ?1")?;
    let mut rows = statement.query([id.bits().cast_signed()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(Shown {
        id,
        arrived: Timestamp::from_millis(row.get(0)?),
        size: unsigned(row.get(1)?),
        reverse_path: rows::reverse_path(row.get(2)?)?,
        envid: row.get(3)?,
        running,
        recipients: read_recipients(connection, id)?,
    }))
}

fn finished(connection: &Connection, id: QueueId) -> Result<Option<Finished>, Error> {
    let mut statement = connection.prepare_cached(
        "SELECT arrived, finished, size, reverse_path, recipients FROM history WHERE id = ?1",
    )?;
    let mut rows = statement.query([id.bits().cast_signed()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(Finished {
        id,
        arrived: Timestamp::from_millis(row.get(0)?),
        finished: Timestamp::from_millis(row.get(1)?),
        size: unsigned(row.get(2)?),
        reverse_path: rows::reverse_path(row.get(3)?)?,
        recipients: serde_json::from_str(&row.get::<_, String>(4)?)
            .map_err(|error| Error::Corrupt(format!("history of {id}: {error}")))?,
    }))
}
