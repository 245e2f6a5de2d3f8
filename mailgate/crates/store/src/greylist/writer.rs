//! Brings changes to SQLite in the order in which they were made, many at a time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::{Clock, Timestamp};
use tokio::sync::{Notify, watch};

use super::feed::Feed;
use super::past::Times;
use super::tuples::Key;
use super::{Decision, Grey, Identity, Known, Peer, Said, Tuple, rows};
use crate::{Database, Error};

/// Changes that may wait while the database fails; about 100 MB. Later ones stay in memory only and are counted.
const WAITING_LIMIT: usize = 200_000;
/// Changes of one transaction, at least and at most. A change is safe when its transaction ends, so a large one would keep
/// many waiting; small ones cost more each.
const BATCH: std::ops::RangeInclusive<usize> = 50..=2000;
/// What a transaction should take: two of them, the one before and its own, are what a change waits for, and with it half
/// of the 100 ms that a crash may cost.
const TRANSACTION: Duration = Duration::from_millis(25);
/// Between two attempts while the database fails.
const RETRY: Duration = Duration::from_secs(1);

/// One change as it is stored.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Decision(Box<Decision>),
    ForgetIdentity(Identity),
    Identity(Identity, Known),
    /// A decision of before led to a message.
    Message {
        session: String,
        queue_id: String,
        message_id: String,
    },
    Grey(Key, Tuple, Said, Grey),
    /// As another host says; what was said here stays.
    Shared(Key, Tuple, Grey),
    ForgetGrey(Key, Tuple),
    Peer(IpNet, Peer),
    ForgetPeer(IpNet),
    TrapAddress(String, Timestamp),
    ForgetTrapAddress(String),
    /// How often a network was trapped; `None` when that is forgiven.
    Past(IpNet, Option<Times>),
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    database: Database,
    feed: Feed,
}

struct Shared {
    waiting: Mutex<Waiting>,
    some: Notify,
    closed: AtomicBool,
    unsaved: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    changes: VecDeque<Change>,
    /// Changes ever taken in.
    pushed: u64,
}

#[derive(Default, Clone)]
struct Progress {
    written: u64,
    failures: u64,
    why: String,
}

impl Writer {
    pub(super) fn start(database: Database, clock: Arc<dyn Clock>) -> Self {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            some: Notify::new(),
            closed: AtomicBool::new(false),
            unsaved: AtomicU64::new(0),
        });
        let (progress, seen) = watch::channel(Progress::default());
        tokio::spawn(run(Arc::clone(&shared), database.clone(), progress, clock));
        Self { shared, progress: seen, database, feed: Feed::default() }
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// Where changes are heard.
    pub(super) fn feed(&self) -> &Feed {
        &self.feed
    }

    pub(super) fn unsaved(&self) -> u64 {
        self.shared.unsaved.load(Ordering::Relaxed)
    }

    /// Something was not stored.
    pub(super) fn count_unsaved(&self) {
        self.shared.unsaved.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a change in. Called under the lock of what is changed, so that the order is the same here.
    pub(super) fn push(&self, change: Change) {
        self.feed.note(&change);
        let mut waiting = self.shared.lock();
        if waiting.changes.len() >= WAITING_LIMIT {
            self.shared.unsaved.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.changes.push_back(change);
        waiting.pushed += 1;
        drop(waiting);
        self.shared.some.notify_one();
    }

    pub(super) async fn flush(&self) -> Result<(), Error> {
        let wanted = self.shared.lock().pushed;
        let mut progress = self.progress.clone();
        let failures = progress.borrow_and_update().failures;
        let reached = progress.wait_for(|now| now.written >= wanted || now.failures > failures).await;
        let reached = reached.map_err(|_| Error::Closed)?;
        if reached.written >= wanted { Ok(()) } else { Err(Error::Unavailable(reached.why.clone())) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.some.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, most: usize) -> Vec<Change> {
        let mut waiting = self.lock();
        let count = waiting.changes.len().min(most);
        waiting.changes.drain(..count).collect()
    }
}

async fn run(
    shared: Arc<Shared>,
    database: Database,
    progress: watch::Sender<Progress>,
    clock: Arc<dyn Clock>,
) {
    let mut most = *BATCH.start() * 4;
    loop {
        let closed = shared.closed.load(Ordering::Acquire);
        let batch = Arc::new(shared.take(most));
        if batch.is_empty() {
            if closed {
                return;
            }
            shared.some.notified().await;
            continue;
        }
        let begun = clock.now();
        let result = database.write({
            let batch = Arc::clone(&batch);
            move |transaction| batch.iter().try_for_each(|change| rows::apply(transaction, change))
        });
        let written = batch.len() as u64;
        let result = result.await;
        let took = clock.now().since(begun);
        if took > TRANSACTION {
            most = (most / 2).max(*BATCH.start());
        } else if took < TRANSACTION / 4 && batch.len() == most {
            most = (most * 2).min(*BATCH.end());
        }
        match result {
            Ok(()) => progress.send_modify(|progress| progress.written += written),
            Err(error) => {
                tracing::warn!(target: "store", event = "greylist", result = "deferred", reason = %error);
                give_back(&shared, &batch);
                progress.send_modify(|progress| {
                    progress.failures += 1;
                    progress.why = error.to_string();
                });
                if closed {
                    return;
                }
                clock.sleep(RETRY).await;
            }
        }
    }
}

/// A batch that could not be written goes back to the head of the line.
fn give_back(shared: &Shared, batch: &[Change]) {
    let mut waiting = shared.lock();
    batch.iter().rev().for_each(|change| waiting.changes.push_front(change.clone()));
}
