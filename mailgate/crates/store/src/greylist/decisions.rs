//! The last decisions of first contact, so that people can ask why: a ring on disk.

use std::net::IpAddr;

use ipnet::Ipv6Net;
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
/// Decisions kept of one source, its newest: whoever tries a thousand times a minute makes nobody else's be forgotten.
const KEPT_OF_SOURCE: i64 = 200;
/// Bits of an IPv6 address that are one source.
const IPV6_SOURCE: u8 = 64;
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
    let source = source(decision.ip);
    let inserted = connection
        .prepare_cached(
            "INSERT INTO decision (at, session, ip, identity, helo, reverse_path, forward_path, result, reason, findings,
             points, waited, queue_id, message_id, source)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
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
            source,
        ])?;
    let number = connection.last_insert_rowid();
    connection
        .prepare_cached(
            "DELETE FROM decision WHERE number =
             (SELECT number FROM decision WHERE source = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
        )?
        .execute(params![source, KEPT_OF_SOURCE])?;
    if number % BITE == 0 {
        // Counted, not by their numbers: those of a busy source are spent and say nothing of how many are left.
        connection
            .prepare_cached(
                "DELETE FROM decision WHERE number <=
                 (SELECT number FROM decision ORDER BY number DESC LIMIT 1 OFFSET ?1)",
            )?
            .execute([KEPT])?;
    }
    Ok(inserted)
}

fn source(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            Ipv6Net::new(ip, IPV6_SOURCE).map_or_else(|_| ip.to_string(), |net| net.trunc().to_string())
        }
    }
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
                "SELECT waited FROM decision WHERE reason IN ('retried', 'same-message') AND waited IS NOT NULL ORDER BY waited",
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

/// What a person made of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Called {
    /// It is junk.
    Junk,
    /// It was called junk before, and is none.
    Good,
}

impl Called {
    /// The word that stands as the decision's result before and after.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Junk => ("accepted", "junk"),
            Self::Good => ("junk", "accepted"),
        }
    }
}

impl Greylist {
    /// Writes down what a person made of the message with this queue id or Message-ID; the decisions that this changed. A
    /// message that was called so already changes nothing, and one whose Message-ID several clients used is not known by
    /// it, because anybody may write the Message-ID of somebody else.
    ///
    /// # Errors
    /// [`Error::Conflict`] for such a Message-ID; otherwise when the database cannot be written.
    pub async fn called(&self, id: &str, called: Called) -> Result<Vec<Decision>, Error> {
        self.flush().await?;
        let id = id.trim_matches(['<', '>', ' ']).to_owned();
        let (before, after) = called.words();
        let write = move |connection: &rusqlite::Transaction<'_>| {
            let sql = format!(
                "SELECT {COLUMNS} FROM decision WHERE queue_id <> '' AND (queue_id = ?1 OR message_id = ?1)"
            );
            let mut decisions = Vec::new();
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query([&id])?;
            while let Some(row) = rows.next()? {
                decisions.push(read(row)?);
            }
            if decisions.iter().any(|one| decisions.first().is_some_and(|first| first.ip != one.ip)) {
                return Err(Error::Conflict(format!(
                    "found messages of several clients with the Message-ID {id:?}, expected a queue id"
                )));
            }
            decisions.retain(|one| one.result == before);
            connection
                .prepare_cached("UPDATE decision SET result = ?2 WHERE queue_id = ?1 AND result = ?3")?
                .execute(params![
                    decisions.first().map(|one| one.queue_id.clone()).unwrap_or_default(),
                    after,
                    before
                ])?;
            decisions.truncate(1);
            Ok(decisions)
        };
        self.0.writer.database().write(write).await
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
    async fn a_message_is_called_junk_once_and_found_by_its_message_id_only_where_that_is_plain() {
        let list = Greylist::memory(Arc::new(ManualClock::at(Timestamp::from_secs(1)))).await.unwrap();
        for (session, ip, queue_id, message_id) in [
            ("S1", "192.0.2.1", "Q1", "m1"),
            ("S2", "192.0.2.2", "Q2", "m2"),
            ("S3", "192.0.2.3", "Q3", "m2"),
        ] {
            list.decided(decision(session, ip));
            list.led_to(session, queue_id, message_id);
        }
        list.decided(decision("S4", "192.0.2.4"));
        let called = async |id: &str, called| list.called(id, called).await.map(|found| found.len());
        assert_eq!(called("<m1>", Called::Good).await.unwrap(), 0, "nobody called it junk");
        assert_eq!(called("<m1>", Called::Junk).await.unwrap(), 1);
        assert_eq!(called("Q1", Called::Junk).await.unwrap(), 0, "once");
        assert_eq!(list.decisions(Wanted::Id("Q1".into()), 9).await.unwrap()[0].result, "junk");
        assert_eq!(called("Q1", Called::Good).await.unwrap(), 1);
        assert!(matches!(called("m2", Called::Junk).await, Err(Error::Conflict(_))));
        assert_eq!(called("Q3", Called::Junk).await.unwrap(), 1);
        assert_eq!(list.decisions(Wanted::Id("Q2".into()), 9).await.unwrap()[0].result, "accepted");
        assert_eq!(called("", Called::Junk).await.unwrap(), 0, "what led to no message has no id");
    }

    /// A ring full of the decisions of as many sources; then `count` more, of the source that `ip` says.
    async fn full_and(count: i64, ip: impl Fn(i64) -> String + Send + 'static) -> Greylist {
        let list = Greylist::memory(Arc::new(ManualClock::at(Timestamp::from_secs(1)))).await.unwrap();
        let fill = move |connection: &rusqlite::Transaction<'_>| {
            connection.execute(
                "WITH RECURSIVE n(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
                 INSERT INTO decision SELECT n, 1, 'old', '2001:db8::1', '', '', '', '', 'r', 'r', '[]', 0, NULL, '', '',
                 'source ' || n FROM n",
                [KEPT],
            )?;
            for number in 0..count {
                insert(connection, &decision(&number.to_string(), &ip(number)))?;
            }
            Ok(())
        };
        list.0.writer.database().write(fill).await.unwrap();
        list
    }

    async fn kept(list: &Greylist, ip: &str) -> Vec<Decision> {
        list.decisions(Wanted::Address(ip.parse().unwrap()), usize::MAX).await.unwrap()
    }

    #[tokio::test]
    async fn the_oldest_decisions_make_room() {
        let list = full_and(2 * BITE, |n| format!("10.0.{}.{}", n / 256, n % 256)).await;
        let old = i64::try_from(kept(&list, "2001:db8::1").await.len()).unwrap();
        assert_eq!(old, KEPT - 2 * BITE);
        assert_eq!(kept(&list, "10.0.0.0").await.len(), 1);
    }

    #[tokio::test]
    async fn a_source_that_tries_without_end_makes_nobody_else_be_forgotten() {
        for (ips, shown) in
            [(["192.0.2.1"; 2], KEPT_OF_SOURCE), (["2001:db8:1::1", "2001:db8:1::2"], KEPT_OF_SOURCE / 2)]
        {
            let list = full_and(2 * BITE, move |n| ips[usize::try_from(n % 2).unwrap()].to_owned()).await;
            let old = i64::try_from(kept(&list, "2001:db8::1").await.len()).unwrap();
            assert!(old >= KEPT - KEPT_OF_SOURCE, "{old}");
            let own = kept(&list, ips[1]).await;
            assert_eq!(i64::try_from(own.len()).unwrap(), shown);
            assert_eq!(own[0].session, (2 * BITE - 1).to_string(), "its newest");
        }
    }
}
