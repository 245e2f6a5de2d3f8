//! Whom our own people write to: who answers them is no stranger.
//!
//! Kept for some weeks from the last message: pairs of a local user and a remote address, remote domains, and
//! Message-IDs. Everything that is asked stands in memory; SQLite is written behind.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mailgate_model::Clock;
use mailgate_proto::edgesync::{Body, Key, Kind, Origin, State};
use rusqlite::params;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{Database, Durability, Error};

/// Formats by `PRAGMA user_version`.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE sent (
        kind INTEGER NOT NULL, text TEXT NOT NULL,
        first INTEGER NOT NULL, expires INTEGER NOT NULL, count INTEGER NOT NULL,
        PRIMARY KEY (kind, text)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX sent_expires ON sent (expires);
"];
/// Entries kept, about 120 MB; more are not remembered. A company of 10,000 people with 50 correspondents each.
const ENTRIES_LIMIT: usize = 500_000;
/// Octets of an entry: two paths of RFC 5321 §4.5.3.1.3.
const TEXT_LIMIT: usize = 512;
/// Changes that wait for the disk; more stay in memory only.
const WAITING_LIMIT: usize = 20_000;
/// Changes of one transaction.
const BATCH: usize = 500;

/// Whether somebody here wrote to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Wrote {
    /// This user wrote to this address.
    Address,
    /// Somebody here wrote to the domain; worth something only where SPF says that it is the domain.
    Domain,
    /// Nobody did.
    Never,
}

/// One entry, as other hosts share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// A pair, a domain, or a Message-ID.
    pub key: Key,
    /// Since when, until when, how often.
    pub body: Body,
}

/// The memory; clones share it.
#[derive(Clone)]
pub struct Outbound(Arc<Inner>);

struct Inner {
    entries: Mutex<HashMap<Key, Body>>,
    database: Database,
    writer: mpsc::Sender<Entry>,
    heard: Mutex<Option<mpsc::Sender<Entry>>>,
    clock: Arc<dyn Clock>,
    unsaved: AtomicU64,
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Outbound").field(&self.0.database).finish()
    }
}

impl Outbound {
    /// Opens or creates the database (its folder must exist) and reads it into memory. Must be called inside a tokio
    /// runtime: the writing goes on there.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub async fn open(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        // A power cut may take the last moments: an answer is greylisted then.
        Self::load(Database::open(path, Durability::Normal, MIGRATIONS)?, clock).await
    }

    /// One that ends with the process, for tests.
    ///
    /// # Errors
    /// None in practice; what SQLite says to an empty database.
    pub async fn memory(clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Self::load(Database::memory(MIGRATIONS)?, clock).await
    }

    async fn load(database: Database, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let now = clock.now().millis();
        database
            .write(move |transaction| Ok(transaction.execute("DELETE FROM sent WHERE expires <= ?1", [now])?))
            .await?;
        let entries = database.read(read).await?;
        let (writer, waiting) = mpsc::channel(WAITING_LIMIT);
        tokio::spawn(write(database.clone(), waiting));
        let (entries, heard) = (Mutex::new(entries), Mutex::default());
        Ok(Self(Arc::new(Inner { entries, database, writer, heard, clock, unsaved: AtomicU64::new(0) })))
    }

    /// `local` sent a message to `remotes`, which was accepted here. Remembered for `span` from now. Never waits.
    pub fn sent<'a>(
        &self,
        local: &str,
        remotes: impl IntoIterator<Item = &'a str>,
        message_id: Option<&str>,
        span: Duration,
    ) {
        for remote in remotes {
            let remote = remote.to_lowercase();
            self.remember(Key::of(Kind::CORRESPONDENT, &[&local.to_lowercase(), &remote]), span);
            if let Some((_, domain)) = remote.rsplit_once('@') {
                self.remember(Key::of(Kind::CORRESPONDENT, &["", domain]), span);
            }
        }
        if let Some(id) = message_id {
            self.remember(Key::of(Kind::MESSAGE, &[bare(id)]), span);
        }
    }

    /// Whether `local` wrote to `remote` lately, or anybody here to its domain.
    #[must_use]
    pub fn wrote_to(&self, local: &str, remote: &str) -> Wrote {
        let remote = remote.to_lowercase();
        if self.has(&Key::of(Kind::CORRESPONDENT, &[&local.to_lowercase(), &remote])) {
            return Wrote::Address;
        }
        let domain = remote.rsplit_once('@').map(|(_, domain)| domain).filter(|domain| !domain.is_empty());
        match domain {
            Some(domain) if self.has(&Key::of(Kind::CORRESPONDENT, &["", domain])) => Wrote::Domain,
            _ => Wrote::Never,
        }
    }

    /// Whether a Message-ID is of a message that one of ours sent lately; with or without angle brackets.
    #[must_use]
    pub fn issued(&self, message_id: &str) -> bool {
        self.has(&Key::of(Kind::MESSAGE, &[bare(message_id)]))
    }

    /// How many entries there are, expired ones included until they are swept; and how many were not stored.
    #[must_use]
    pub fn counts(&self) -> (usize, u64) {
        (self.entries().len(), self.0.unsaved.load(Ordering::Relaxed))
    }

    /// Forgets what is over.
    ///
    /// # Errors
    /// When the database cannot be written; memory is swept all the same.
    pub async fn sweep(&self) -> Result<(), Error> {
        let now = self.0.clock.now().millis();
        self.entries().retain(|_, body| !body.is_over(now));
        let delete = move |transaction: &rusqlite::Transaction<'_>| {
            Ok(transaction.execute("DELETE FROM sent WHERE expires <= ?1", [now])?)
        };
        self.0.database.write(delete).await.map(drop)
    }

    /// Everything, and from now on every change made here; a later call takes over from an earlier one.
    #[must_use]
    pub fn follow(&self) -> (Vec<Entry>, mpsc::Receiver<Entry>) {
        let (tell, told) = mpsc::channel(WAITING_LIMIT);
        *self.0.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(tell);
        let all = self.entries().iter().map(|(key, body)| Entry { key: key.clone(), body: *body }).collect();
        (all, told)
    }

    /// Takes what another host says.
    pub fn take(&self, key: &Key, body: Option<Body>) {
        if let Some(body) = body {
            self.put(key.clone(), |known| known.map_or(body, |known| known.join(body)));
        }
    }

    fn has(&self, key: &Key) -> bool {
        let now = self.0.clock.now().millis();
        self.entries().get(key).is_some_and(|body| !body.is_over(now))
    }

    fn remember(&self, key: Key, span: Duration) {
        let now = self.0.clock.now();
        let (at, expires) = (now.millis(), now.plus(span).millis());
        let body = self.put(key.clone(), |known| {
            let known = known.filter(|known| !known.is_over(at));
            Body {
                origin: Origin::Learned,
                state: State::Passed,
                first: known.map_or(at, |known| known.first),
                pass: known.map_or(at, |known| known.pass),
                expires: known.map_or(expires, |known| known.expires.max(expires)),
                blocked: 0,
                passed: known.map_or(1, |known| known.passed.saturating_add(1)),
            }
        });
        let heard = self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(heard), Some(body)) = (heard.as_ref(), body) {
            // Too much at once is found by the next start.
            let _ = heard.try_send(Entry { key, body });
        }
    }

    fn put(&self, key: Key, change: impl FnOnce(Option<Body>) -> Body) -> Option<Body> {
        if key.text.len() > TEXT_LIMIT {
            return None;
        }
        let mut entries = self.entries();
        let known = entries.get(&key).copied();
        if known.is_none() && entries.len() >= ENTRIES_LIMIT {
            self.0.unsaved.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let body = change(known);
        entries.insert(key.clone(), body);
        drop(entries);
        if self.0.writer.try_send(Entry { key, body }).is_err() {
            self.0.unsaved.fetch_add(1, Ordering::Relaxed);
        }
        Some(body)
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Key, Body>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bare(message_id: &str) -> &str {
    message_id.trim().trim_start_matches('<').trim_end_matches('>')
}

fn read(connection: &rusqlite::Connection) -> Result<HashMap<Key, Body>, Error> {
    let mut statement = connection.prepare("SELECT kind, text, first, expires, count FROM sent")?;
    let rows = statement.query_map([], |row| {
        let text: String = row.get(1)?;
        let key = Key { kind: Kind(row.get(0)?), text: text.into() };
        let (origin, state) = (Origin::Learned, State::Passed);
        let (first, expires, passed) = (row.get(2)?, row.get(3)?, row.get(4)?);
        Ok((key, Body { origin, state, first, pass: first, expires, blocked: 0, passed }))
    })?;
    Ok(rows.take(ENTRIES_LIMIT).collect::<Result<_, _>>()?)
}

/// Until the last handle is gone.
async fn write(database: Database, mut waiting: mpsc::Receiver<Entry>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let entries = std::mem::take(&mut batch);
        let written = database.write(move |transaction| {
            for Entry { key, body } in &entries {
                transaction
                    .prepare_cached("INSERT OR REPLACE INTO sent VALUES (?1, ?2, ?3, ?4, ?5)")?
                    .execute(params![key.kind.0, &*key.text, body.first, body.expires, body.passed])?;
            }
            Ok(())
        });
        if let Err(error) = written.await {
            tracing::warn!(target: "store", event = "outbound", result = "failed", reason = %error);
        }
    }
}

#[cfg(test)]
mod tests {
    use mailgate_model::{ManualClock, Timestamp};

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[tokio::test]
    async fn who_was_written_to_is_known_for_the_span_from_the_last_message() {
        let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("outbound.db");
        let outbound = Outbound::open(&file, Arc::new(clock.clone())).await.unwrap();
        outbound.sent("Alice@example.org", ["Bob@Example.net"], Some("<1@mx.example.org>"), DAY * 45);
        let wrote = |outbound: &Outbound, local: &str, remote: &str| outbound.wrote_to(local, remote);
        assert_eq!(wrote(&outbound, "alice@example.org", "bob@example.net"), Wrote::Address);
        assert_eq!(wrote(&outbound, "carol@example.org", "bob@example.net"), Wrote::Domain);
        assert_eq!(wrote(&outbound, "alice@example.org", "bob@example.com"), Wrote::Never);
        assert_eq!(wrote(&outbound, "alice@example.org", ""), Wrote::Never);
        assert!(outbound.issued("1@mx.example.org") && !outbound.issued("2@mx.example.org"));
        clock.advance(DAY * 30);
        outbound.sent("alice@example.org", ["bob@example.net"], None, DAY * 45);
        // It waits for the disk by closing.
        let (all, _) = outbound.follow();
        assert_eq!(all.len(), 3);
        drop(outbound);
        let again = loop {
            let again = Outbound::open(&file, Arc::new(clock.clone())).await.unwrap();
            if again.counts().0 == 3 && again.entries().values().any(|body| body.passed == 2) {
                break again;
            }
            tokio::task::yield_now().await;
        };
        clock.advance(DAY * 44);
        assert_eq!(wrote(&again, "alice@example.org", "bob@example.net"), Wrote::Address);
        assert!(!again.issued("<1@mx.example.org>"), "45 days from the message");
        clock.advance(DAY);
        assert_eq!(wrote(&again, "alice@example.org", "bob@example.net"), Wrote::Never);
        again.sweep().await.unwrap();
        assert_eq!(again.counts(), (0, 0));
    }

    #[tokio::test]
    async fn what_other_hosts_say_counts_and_is_not_told_again() {
        let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
        let outbound = Outbound::memory(Arc::new(clock.clone())).await.unwrap();
        let other = Outbound::memory(Arc::new(clock)).await.unwrap();
        other.sent("alice@example.org", ["bob@example.net"], None, DAY);
        let (_, mut told) = outbound.follow();
        for Entry { key, body } in other.follow().0 {
            outbound.take(&key, Some(body));
        }
        assert_eq!(outbound.wrote_to("alice@example.org", "bob@example.net"), Wrote::Address);
        assert!(told.try_recv().is_err());
        outbound.sent("alice@example.org", ["bob@example.net"], None, DAY);
        assert!(told.try_recv().is_ok());
    }
}
