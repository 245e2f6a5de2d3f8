//! What the scheduler does with the spool: what is due, the message itself, and what became of it.

use std::time::Duration;

use bytes::Bytes;
use mailgate_model::{Address, Envelope, Outcome, QueueId, Timestamp};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::rows::{self, RECIPIENT_COLUMNS, RecipientRow, State};
use super::{Lease, Spool};
use crate::Error;

/// A recipient whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The message.
    pub id: QueueId,
    /// Index of the recipient in the accepted envelope.
    pub number: u32,
    /// Where it goes.
    pub address: Address,
    /// Attempts so far.
    pub attempts: u32,
    /// Since when it is due.
    pub next_attempt: Timestamp,
    /// Octets of the content.
    pub size: u64,
}

/// A message as an attempt needs it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// When it was accepted.
    pub arrived: Timestamp,
    /// The envelope; `recipients` holds only the leased ones that are still queued, in the order of `recipients` below.
    pub envelope: Envelope,
    /// The same recipients with all that is known of them.
    pub recipients: Vec<RecipientRow>,
    /// The content.
    pub content: Bytes,
}

/// What changes for one recipient after an attempt.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Index of the recipient in the accepted envelope; must be leased.
    pub number: u32,
    /// Where it stands now; a recipient that the operator holds meanwhile stays held unless this is final.
    pub state: State,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// When it is tried again, if it is.
    pub next_attempt: Timestamp,
    /// Whether a delay is now reported.
    pub delay_said: bool,
    /// How the attempt ended.
    pub outcome: Outcome,
}

/// A message of our own (a DSN), committed together with the outcome it reports.
#[derive(Debug, Clone)]
pub struct Report {
    /// A fresh id.
    pub id: QueueId,
    /// Null reverse-path and at least one recipient.
    pub envelope: Envelope,
    /// The whole message, CRLF line ends.
    pub content: Bytes,
}

/// What recording did to the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// Every recipient is done; only the history knows the message now.
    Finished,
    /// Recipients are left.
    Open,
}

impl Spool {
    /// Up to about `limit` recipients that are due at `now` and not leased, longest due first, those of one message
    /// together; without those at `except` (hosts as written right of the `@`), which are at their limit.
    ///
    /// # Errors
    /// What the database says.
    pub async fn due(&self, now: Timestamp, limit: usize, except: Vec<String>) -> Result<Vec<Due>, Error> {
        // Looked at before the rows: what is not leased now has its last outcome in the database, so the rows read next
        // are up to date. The other way round, an attempt could end in between and its old row look due.
        let leased = self.0.leases.held();
        // Leased rows are still in the index; asking for that many more keeps `limit` useful.
        let limit = i64::try_from(limit.saturating_add(leased.len())).unwrap_or(i64::MAX);
        let except = rows::json(&except)?;
        let mut due = self
            .0
            .database
            .read(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT r.id, r.number, r.address, r.attempts, r.next_attempt, m.size
                     FROM recipient r JOIN message m ON m.id = r.id
                     WHERE r.state = 'queued' AND r.next_attempt <= ?1
                       AND r.host NOT IN (SELECT value FROM json_each(?2))
                     ORDER BY r.next_attempt, r.id LIMIT ?3",
                )?;
                let mut rows = statement.query(params![now.millis(), except, limit])?;
                let mut due = Vec::new();
                while let Some(row) = rows.next()? {
                    due.push(Due {
                        id: rows::id_from(row.get(0)?),
                        number: row.get(1)?,
                        address: rows::address(&row.get::<_, String>(2)?)?,
                        attempts: row.get(3)?,
                        next_attempt: Timestamp::from_millis(row.get(4)?),
                        size: u64::try_from(row.get::<_, i64>(5)?).unwrap_or(0),
                    });
                }
                Ok(due)
            })
            .await?;
        due.retain(|due| !leased.contains(&(due.id, due.number)));
        Ok(due)
    }

    /// The earliest time after `now` at which something becomes due; `None` when nothing waits.
    ///
    /// # Errors
    /// What the database says.
    pub async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        self.0
            .database
            .read(move |connection| {
                let next: Option<i64> = connection
                    .prepare_cached(
                        "SELECT min(next_attempt) FROM recipient WHERE state = 'queued' AND next_attempt > ?1",
                    )?
                    .query_row([now.millis()], |row| row.get(0))?;
                Ok(next.map(Timestamp::from_millis))
            })
            .await
    }

    /// Takes the sole right to work on these recipients; `None` when somebody has one of them (or the list is empty).
    #[must_use]
    pub fn lease(&self, id: QueueId, indices: Vec<u32>) -> Option<Lease> {
        self.0.leases.take(id, indices)
    }

    /// The message of a lease; `None` when none of the leased recipients is queued and due any more.
    ///
    /// # Errors
    /// [`Error::Corrupt`] or [`Error::Missing`] when the content is not what was written.
    pub async fn load(&self, lease: &Lease) -> Result<Option<Loaded>, Error> {
        let (id, indices) = (lease.id(), lease.indices().to_vec());
        let now = self.0.clock.now();
        let found =
            self.0.database.read(move |connection| read_message(connection, id, &indices, now)).await?;
        let Some(mut message) = found else { return Ok(None) };
        let content = match message.row.take() {
            Some(bytes) => bytes,
            None => self.0.contents.read(id, message.size).await?,
        };
        if content.len() != message.size {
            return Err(Error::Corrupt(format!("content of {id} has another size than its message")));
        }
        let Stored { arrived, envelope, recipients, .. } = message;
        Ok(Some(Loaded { arrived, envelope, recipients, content }))
    }

    /// Records how an attempt ended and commits the DSNs that report it, all in one transaction. When that was the
    /// last of the message's recipients, the message becomes a row of the history. On error nothing was recorded; the
    /// caller keeps the lease and tries again, for a recorded outcome is what prevents a second delivery.
    ///
    /// # Errors
    /// [`Error::Conflict`] for a recipient that is not leased or done already, for a report without recipient or with a
    /// used id: trying again will not help. Else what the disk says.
    pub async fn record(
        &self,
        lease: &Lease,
        progress: Vec<Progress>,
        reports: Vec<Report>,
    ) -> Result<Recorded, Error> {
        let id = lease.id();
        if let Some(alien) = progress.iter().find(|p| !lease.indices().contains(&p.number)) {
            return Err(Error::Conflict(format!("recipient {} of {id} is not leased", alien.number)));
        }
        if reports.iter().any(|report| report.envelope.recipients.is_empty()) {
            return Err(Error::Conflict(format!("a report on {id} has no recipient")));
        }
        let now = self.0.clock.now();
        let arriving = !reports.is_empty();
        let mut news = Vec::with_capacity(reports.len());
        for report in reports {
            match self.prepare(report.id, report.envelope, report.content).await {
                Ok(new) => news.push(new),
                Err(error) => {
                    self.doubt(&news);
                    return Err(error);
                }
            }
        }
        let news = std::sync::Arc::new(news);
        let inserted = std::sync::Arc::clone(&news);
        let written = self.write(lease.kept(), move |transaction| {
            for one in &progress {
                update_recipient(transaction, id, one, now)?;
            }
            for new in inserted.iter() {
                new.insert(transaction, now)?;
            }
            finish_message(transaction, id, now)
        });
        let finished = match written.await {
            Ok(finished) => finished,
            Err(error) => {
                self.doubt(&news);
                return Err(error);
            }
        };
        if arriving {
            self.0.arrivals.notify_one();
        }
        self.settle(finished.file.then_some(id)).await;
        Ok(if finished.done { Recorded::Finished } else { Recorded::Open })
    }

    /// Forgets finished messages beyond the newest `count` and those older than `age`; says how many.
    ///
    /// # Errors
    /// What the database says.
    pub async fn trim_history(&self, count: u64, age: Duration) -> Result<usize, Error> {
        let oldest =
            self.0.clock.now().millis().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.write((), move |transaction| {
                let aged = transaction.execute("DELETE FROM history WHERE finished < ?1", [oldest])?;
                let surplus = transaction.execute(
                    "DELETE FROM history WHERE id IN (SELECT id FROM history ORDER BY finished DESC LIMIT -1 OFFSET ?1)",
                    [count],
                )?;
                Ok(aged + surplus)
            })
            .await
    }
}

struct Stored {
    arrived: Timestamp,
    envelope: Envelope,
    recipients: Vec<RecipientRow>,
    size: usize,
    row: Option<Bytes>,
}

fn read_message(
    connection: &Connection,
    id: QueueId,
    indices: &[u32],
    now: Timestamp,
) -> Result<Option<Stored>, Error> {
    let mut recipients = read_recipients(connection, id)?;
    recipients
        .retain(|row| row.state == State::Queued && row.next_attempt <= now && indices.contains(&row.number));
    if recipients.is_empty() {
        return Ok(None);
    }
    let mut statement = connection.prepare_cached(
        "SELECT m.arrived, m.reverse_path, m.envid, m.ret, m.smtputf8, m.eight_bit, m.size, m.place, c.bytes
         FROM message m LEFT JOIN content c ON c.id = m.id WHERE m.id = ?1",
    )?;
    let mut rows = statement.query([id.bits().cast_signed()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let place: String = row.get(7)?;
    let bytes: Option<Vec<u8>> = row.get(8)?;
    if place == "row" && bytes.is_none() {
        return Err(Error::Corrupt(format!("content of {id} is missing")));
    }
    Ok(Some(Stored {
        arrived: Timestamp::from_millis(row.get(0)?),
        envelope: Envelope {
            reverse_path: rows::reverse_path(row.get(1)?)?,
            recipients: recipients.iter().map(|row| row.recipient.clone()).collect(),
            envid: row.get(2)?,
            ret: rows::ret_from(row.get(3)?),
            smtputf8: row.get(4)?,
            eight_bit: row.get(5)?,
        },
        recipients,
        size: usize::try_from(row.get::<_, i64>(6)?).unwrap_or(0),
        row: bytes.map(Bytes::from),
    }))
}

pub(super) fn read_recipients(connection: &Connection, id: QueueId) -> Result<Vec<RecipientRow>, Error> {
    let sql = format!("SELECT {RECIPIENT_COLUMNS} FROM recipient WHERE id = ?1 ORDER BY number");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([id.bits().cast_signed()])?;
    let mut recipients = Vec::new();
    while let Some(row) = rows.next()? {
        recipients.push(RecipientRow::read(row)?);
    }
    Ok(recipients)
}

fn update_recipient(
    transaction: &Transaction<'_>,
    id: QueueId,
    progress: &Progress,
    now: Timestamp,
) -> Result<(), Error> {
    let changed = transaction
        .prepare_cached(
            "UPDATE recipient
             SET state = CASE WHEN state = 'held' AND ?3 = 'queued' THEN 'held' ELSE ?3 END,
                 attempts = ?4, next_attempt = ?5, delay_said = ?6, changed = ?7, outcome = ?8
             WHERE id = ?1 AND number = ?2 AND state IN ('held', 'queued')",
        )?
        .execute(params![
            id.bits().cast_signed(),
            progress.number,
            progress.state.as_str(),
            progress.attempts,
            progress.next_attempt.millis(),
            progress.delay_said,
            now.millis(),
            rows::json(&progress.outcome)?
        ])?;
    if changed == 0 {
        // Recorded before, or deleted: the reports that come with this must not be sent a second time.
        return Err(Error::Conflict(format!("recipient {} of {id} is done already", progress.number)));
    }
    Ok(())
}

/// Whether a message was finished, and whether it leaves a file behind.
pub(super) struct Finish {
    pub(super) done: bool,
    pub(super) file: bool,
}

/// Turns a message whose recipients are all final into a row of the history.
pub(super) fn finish_message(
    transaction: &Transaction<'_>,
    id: QueueId,
    now: Timestamp,
) -> Result<Finish, Error> {
    let bits = id.bits().cast_signed();
    let open: bool = transaction
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM recipient WHERE id = ?1 AND state IN ('held', 'queued'))",
        )?
        .query_row([bits], |row| row.get(0))?;
    let place: Option<String> = transaction
        .prepare_cached("SELECT place FROM message WHERE id = ?1")?
        .query_row([bits], |row| row.get(0))
        .optional()?;
    let Some(place) = place.filter(|_| !open) else { return Ok(Finish { done: false, file: false }) };
    let recipients = rows::json(&read_recipients(transaction, id)?)?;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO history (id, arrived, finished, reverse_path, size, recipients)
             SELECT id, arrived, ?2, reverse_path, size, ?3 FROM message WHERE id = ?1",
        )?
        .execute(params![bits, now.millis(), recipients])?;
    transaction.prepare_cached("DELETE FROM message WHERE id = ?1")?.execute([bits])?;
    Ok(Finish { done: true, file: place == "file" })
}
