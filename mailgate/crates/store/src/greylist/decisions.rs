//! The last decisions of first contact, so that people can ask why: a ring on disk.

use std::net::IpAddr;

use mailgate_model::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row as SqlRow, params};
use serde::Serialize;

use super::Greylist;
use super::rows::{self, each};
use super::writer::Change;
use crate::Error;

/// Decisions kept; the oldest make room. Some 40 MB, and on a server with a decision per second more than a day.
const KEPT: i64 = 100_000;
/// Decisions are deleted so many at a time.
const BITE: i64 = 1_000;
/// Longest text of a stranger that is kept, in octets.
const TEXT_LIMIT: usize = 320;

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// The session.
    pub session: String,
    /// The client's address.
    pub ip: IpAddr,
    /// Who it was taken for; empty when nobody asked.
    pub identity: String,
    /// What it said at HELO.
    pub helo: String,
    /// Reverse-path without angle brackets.
    pub reverse_path: String,
    /// Forward-path without angle brackets; empty for a decision about the connection.
    pub forward_path: String,
    /// What became of it, one word.
    pub result: String,
    /// The reason that decided, one word.
    pub reason: String,
    /// Everything that was found, as JSON.
    #[serde(serialize_with = "json")]
    pub findings: String,
    /// Points of suspicion.
    pub points: i32,
    /// Seconds from the first attempt, where it had to wait; for a deferral, until it passes.
    pub waited: Option<u32>,
    /// The message that came of it, if any.
    pub queue_id: String,
    /// Its Message-ID as said.
    pub message_id: String,
}

fn json<S: serde::Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    value.serialize(serializer)
}

/// Which decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Of this address.
    Address(IpAddr),
    /// Of a session, of a message by its queue id or Message-ID: whichever it is.
    Id(String),
}

const COLUMNS: &str = "at, session, ip, identity, helo, reverse_path, forward_path, result, reason, findings, points, \
                       waited, queue_id, message_id";

pub(super) fn insert(connection: &Connection, decision: &Decision) -> Result<usize, Error> {
    let inserted = connection
        .prepare_cached(
            "INSERT INTO decision (at, session, ip, identity, helo, reverse_path, forward_path, result, reason, findings,
             points, waited, queue_id, message_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            decision.at.millis(),
            decision.session,
            decision.ip.to_canonical().to_string(),
            decision.identity,
            clipped(&decision.helo),
            clipped(&decision.reverse_path),
            clipped(&decision.forward_path),
            decision.result,
            decision.reason,
            decision.findings,
            decision.points,
            decision.waited,
            clipped(&decision.queue_id),
            clipped(&decision.message_id),
        ])?;
    let number = connection.last_insert_rowid();
    if number % BITE == 0 {
        connection.prepare_cached("DELETE FROM decision WHERE number <= ?1")?.execute([number - KEPT])?;
    }
    Ok(inserted)
}

/// The last decision of the session gets its message; a session with several messages has a row for each.
pub(super) fn led_to(
    connection: &Connection,
    session: &str,
    queue_id: &str,
    message_id: &str,
) -> Result<usize, Error> {
    let sql = format!("SELECT {COLUMNS} FROM decision WHERE session = ?1 ORDER BY number DESC LIMIT 1");
    let last = connection.prepare_cached(&sql)?.query_row([session], |row| Ok(read(row))).optional()?;
    let Some(last) = last else { return Ok(0) };
    let last = last?;
    if !last.queue_id.is_empty() {
        let queue_id = queue_id.to_owned();
        return insert(connection, &Decision { queue_id, message_id: message_id.to_owned(), ..last });
    }
    let updated = connection
        .prepare_cached(
            "UPDATE decision SET queue_id = ?2, message_id = ?3 WHERE number =
             (SELECT number FROM decision WHERE session = ?1 ORDER BY number DESC LIMIT 1)",
        )?
        .execute(params![session, clipped(queue_id), clipped(message_id)])?;
    Ok(updated)
}

fn clipped(text: &str) -> &str {
    let end = (0..=TEXT_LIMIT.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

fn read(row: &SqlRow<'_>) -> Result<Decision, Error> {
    let ip: String = row.get(2)?;
    Ok(Decision {
        at: rows::time(row, 0)?,
        session: row.get(1)?,
        ip: ip.parse().map_err(|_| Error::Corrupt(format!("an address {ip:?} among the decisions")))?,
        identity: row.get(3)?,
        helo: row.get(4)?,
        reverse_path: row.get(5)?,
        forward_path: row.get(6)?,
        result: row.get(7)?,
        reason: row.get(8)?,
        findings: row.get(9)?,
        points: row.get(10)?,
        waited: row.get(11)?,
        queue_id: row.get(12)?,
        message_id: row.get(13)?,
    })
}

impl Greylist {
    /// Keeps a decision. Never waits; of two that fit, a crash may lose the later ones.
    pub fn decided(&self, decision: Decision) {
        self.0.writer.push(Change::Decision(Box::new(decision)));
    }

    /// A session whose decision was kept led to a message.
    pub fn led_to(&self, session: &str, queue_id: &str, message_id: &str) {
        self.0.writer.push(Change::Message {
            session: session.to_owned(),
            queue_id: queue_id.to_owned(),
            message_id: message_id.to_owned(),
        });
    }

    /// The last decisions that are wanted, the newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn decisions(&self, wanted: Wanted, limit: usize) -> Result<Vec<Decision>, Error> {
        self.flush().await?;
        let (condition, value) = match wanted {
            Wanted::Address(ip) => ("ip = ?1", ip.to_canonical().to_string()),
            Wanted::Id(id) => {
                let id = id.trim_start_matches('<').trim_end_matches('>').to_owned();
                ("session = ?1 OR queue_id = ?1 OR message_id = ?1", id)
            }
        };
        let sql = format!("SELECT {COLUMNS} FROM decision WHERE {condition} ORDER BY number DESC LIMIT ?2");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let read = move |connection: &Connection| {
            let mut statement = connection.prepare(&sql)?;
            let mut found = statement.query(params![value, limit])?;
            let mut decisions = Vec::new();
            while let Some(row) = found.next()? {
                decisions.push(read(row)?);
            }
            Ok(decisions)
        };
        self.0.writer.database().read(read).await
    }

    /// Seconds that those waited who came again and passed, of the decisions that are kept, sorted.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn waits(&self) -> Result<Vec<u32>, Error> {
        self.flush().await?;
        let read = |connection: &Connection| {
            let mut waits: Vec<u32> = Vec::new();
            each(
                connection,
                "SELECT waited FROM decision WHERE reason = 'retried' AND waited IS NOT NULL ORDER BY waited",
                |row| {
                    waits.push(row.get(0)?);
                    Ok(true)
                },
            )?;
            Ok(waits)
        };
        self.0.writer.database().read(read).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mailgate_model::ManualClock;

    use super::*;

    fn decision(session: &str, ip: &str) -> Decision {
        Decision {
            at: Timestamp::from_secs(1),
            session: session.into(),
            ip: ip.parse().unwrap(),
            identity: "spf:x.org".into(),
            helo: "ü".repeat(400),
            reverse_path: "a@x.org".into(),
            forward_path: "b@y.org".into(),
            result: "accepted".into(),
            reason: "low-suspicion".into(),
            findings: "[]".into(),
            points: 1,
            waited: None,
            queue_id: String::new(),
            message_id: String::new(),
        }
    }

    #[tokio::test]
    async fn decisions_are_found_by_address_session_queue_id_and_message_id() {
        let list = Greylist::memory(Arc::new(ManualClock::at(Timestamp::from_secs(1)))).await.unwrap();
        list.decided(decision("S1", "192.0.2.1"));
        list.decided(decision("S2", "::ffff:192.0.2.1"));
        list.led_to("S2", "Q1", "m1@x.org");
        list.led_to("S2", "Q2", "m2@x.org");
        list.led_to("S9", "Q9", "of nobody");
        let of = async |wanted| list.decisions(wanted, 10).await.unwrap();
        assert_eq!(of(Wanted::Address("192.0.2.1".parse().unwrap())).await.len(), 3);
        for (id, session) in [("S1", "S1"), ("Q1", "S2"), ("<m2@x.org>", "S2")] {
            let found = of(Wanted::Id(id.into())).await;
            assert_eq!(found.iter().map(|one| one.session.as_str()).collect::<Vec<_>>(), [session], "{id}");
            assert!(found[0].helo.len() <= TEXT_LIMIT);
        }
        assert!(of(Wanted::Id("Q9".into())).await.is_empty());
    }

    #[tokio::test]
    async fn the_oldest_decisions_make_room() {
        let list = Greylist::memory(Arc::new(ManualClock::at(Timestamp::from_secs(1)))).await.unwrap();
        let full = |connection: &rusqlite::Transaction<'_>| {
            for number in 0..3 * BITE {
                let mut one = decision(&number.to_string(), "192.0.2.1");
                one.helo.clear();
                insert(connection, &one)?;
                if number == BITE {
                    let jump =
                        "UPDATE decision SET number = ?1 WHERE number = (SELECT max(number) FROM decision)";
                    connection.execute(jump, [KEPT])?;
                }
            }
            Ok(())
        };
        list.0.writer.database().write(full).await.unwrap();
        let left = list.decisions(Wanted::Address("192.0.2.1".parse().unwrap()), usize::MAX).await.unwrap();
        assert!(left.len() < 3 * usize::try_from(BITE).unwrap(), "{}", left.len());
        assert_eq!(left[0].session, (3 * BITE - 1).to_string(), "the newest stay");
    }
}
