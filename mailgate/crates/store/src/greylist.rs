//! The memory of first contact: who was deferred, who passed, who is trapped.
//!
//! Everything that decides stands in memory, so a lookup never waits for the disk (but for the first moments, in which
//! a tuple that is not yet in memory is looked up there); every change goes to SQLite right behind, in the order in which
//! it was made: it waits only for the transaction before it, some milliseconds. What is slow at a disk, writing the log
//! back and syncing, is done aside (`checkpoint.rs`). A crash loses what was not yet written, less than the last 100 ms,
//! and never a part of a change. A client whose tuple was lost is deferred once more; nothing else can happen.
//!
//! Every network has one standing of an explicit kind: making it trapped replaces passed, and the other way round.
//! Counting contacts never changes a kind (spamd's counters did, spec of its defects: a refresh un-trapped a host).

mod checkpoint;
mod decisions;
mod entry;
pub mod feed;
mod identity;
mod index;
mod load;
mod owner;
mod past;
mod rows;
mod sources;
mod standing;
mod tuples;
mod watch;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::{Clock, Timestamp};

use self::identity::Identities;
use self::index::Index;
use self::sources::Sources;
use self::tuples::Tuples;
use self::writer::{Change, Writer};
use crate::{Database, Durability, Error};

pub use self::decisions::{Called, Decision, Wanted};
pub use self::entry::{Counts, Grey, Kind, Next, Origin, Peer, PeerKind, Said, Standing, Tuple};
pub use self::identity::{Credit, Identity, Known, MESSAGE_DIGEST};
pub use self::past::{FORGIVEN_AFTER, Terms};
pub use self::rows::{Filter, Row};
pub use self::watch::Watch;

/// Expired entries stay this long before they are swept, though no lookup sees them. A clock that jumps ahead by an
/// hour and is set back has then destroyed nothing.
const SWEEP_GRACE: Duration = Duration::from_secs(3600);
/// Tuples deleted in one go of the writer: some milliseconds.
const SWEEP_BITE: usize = 500;

/// Tuples kept at once; about 330 MB of memory and 2 GB on disk. More than 600 attempts a second over four hours.
const TUPLES_LIMIT: usize = 10_000_000;

/// Formats by `PRAGMA user_version`.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/greylist/0001_greylist.sql"),
    include_str!("../migrations/greylist/0002_found_by_hash.sql"),
    include_str!("../migrations/greylist/0003_identities_and_decisions.sql"),
    include_str!("../migrations/greylist/0004_sources_of_decisions.sql"),
];

/// The greylist; clones share it. Dropping the last clone writes what is left.
#[derive(Clone)]
pub struct Greylist(Arc<Inner>);

struct Inner {
    tuples: Arc<Tuples>,
    sources: Sources,
    index: Index,
    identities: Identities,
    writer: Writer,
    clock: Arc<dyn Clock>,
    /// Ends with us; `None` in memory.
    _aside: Option<checkpoint::Aside>,
    /// Nobody else has the file open while we live; `None` in memory. The last field, so that it is given up last.
    _owner: Option<owner::Owner>,
}

impl std::fmt::Debug for Greylist {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Greylist").field(&self.0.writer.database()).finish()
    }
}

impl Greylist {
    /// Opens or creates the database (its folder must exist) and reads it into memory: all but the tuples, and of these
    /// the first; the others follow in the background. Must be called inside a tokio runtime: the writing goes on there.
    ///
    /// # Errors
    /// [`Error::Busy`] when another process has it open, [`Error::Newer`] when a newer release wrote it,
    /// [`Error::Corrupt`] when a row cannot be ours.
    pub async fn open(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        // A power cut may take the last moments of a greylist: those clients are deferred once more.
        let owner = owner::Owner::of(path.as_ref()).await?;
        Self::load(Database::open(path, Durability::Normal, MIGRATIONS)?, clock, Some(owner)).await
    }

    /// A greylist that ends with the process, for tests.
    ///
    /// # Errors
    /// None in practice; what SQLite says to an empty database.
    pub async fn memory(clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Self::load(Database::memory(MIGRATIONS)?, clock, None).await
    }

    async fn load(
        database: Database,
        clock: Arc<dyn Clock>,
        owner: Option<owner::Owner>,
    ) -> Result<Self, Error> {
        database.write(|transaction| rows::convert(transaction)).await?;
        let (secret, (index, identities)) =
            database.read(|connection| Ok((rows::secret(connection)?, rows::load(connection)?))).await?;
        let aside = checkpoint::Aside::start(&database).await?;
        let tuples = Arc::new(Tuples::new(secret, database.connection()?));
        let until = sweepable(clock.now());
        let reached = load::begin(&database, &tuples, until).await?;
        let writer = Writer::start(database, Arc::clone(&clock));
        let sources = Sources::default();
        let inner = Inner { tuples, sources, index, identities, writer, clock, _aside: aside, _owner: owner };
        let inner = Arc::new(inner);
        if reached.is_some() {
            tokio::spawn(load::go_on(Arc::downgrade(&inner), reached, until));
        }
        Ok(Self(inner))
    }

    /// One attempt: `judge` gets the tuple's state as stored (`None` when there is none) and says what becomes of it.
    /// It runs under a lock: two attempts of the same tuple are judged one after the other. Never waits for the disk.
    pub fn attempt(&self, tuple: &Tuple, said: &Said, judge: impl FnOnce(Option<Grey>) -> Next) -> Next {
        let inner = &self.0;
        inner.tuples.change(tuple, |key, state| {
            let next = judge(*state);
            match next {
                // Memory is bounded: while it is full of attempts, new ones are deferred and not remembered. No single
                // source can fill it, else it would keep everybody else deferred for ever.
                Next::Defer(_)
                    if state.is_none()
                        && (inner.tuples.len() >= TUPLES_LIMIT
                            || !inner.sources.admit(&tuple.client, said.ip, inner.clock.now())) =>
                {
                    inner.writer.count_unsaved();
                }
                Next::Defer(grey) => {
                    *state = Some(grey);
                    inner.writer.push(Change::Grey(key, tuple.clone(), said.clipped(), grey));
                }
                Next::Pass(peer) => {
                    *state = None;
                    inner.writer.push(Change::ForgetGrey(key, tuple.clone()));
                    if let Identity::Network(network) = tuple.client {
                        self.learn(network, peer);
                    }
                }
                Next::Consume => {
                    *state = None;
                    inner.writer.push(Change::ForgetGrey(key, tuple.clone()));
                }
            }
            next
        })
    }

    /// What is known of a tuple; changes nothing. One that has ended may still be known.
    #[must_use]
    pub fn state(&self, tuple: &Tuple) -> Option<Grey> {
        self.0.tuples.change(tuple, |_, state| *state)
    }

    /// New tuples of one client that are remembered within an hour; more are deferred and not remembered. 10000 unless
    /// this says otherwise.
    pub fn limit_pending(&self, count: u32) {
        self.0.sources.limit(count);
    }

    /// Whether a recipient is a trap; compared in lower case.
    #[must_use]
    pub fn is_trap(&self, address: &str) -> bool {
        self.0.index.is_trap(&address.to_lowercase())
    }

    /// Restores a tuple from a dump. Two that are the same after normalising become one: the earlier beginning and the
    /// later end hold.
    pub fn restore(&self, tuple: &Tuple, said: &Said, grey: Grey) {
        self.0.tuples.change(tuple, |key, state| {
            let merged = state.map_or(grey, |known| Grey {
                first: known.first.min(grey.first),
                pass: known.pass.min(grey.pass),
                expires: known.expires.max(grey.expires),
                blocked: known.blocked.max(grey.blocked),
                passed: known.passed.max(grey.passed),
            });
            *state = Some(merged);
            self.0.writer.push(Change::Grey(key, tuple.clone(), said.clipped(), merged));
        });
    }

    /// Makes `address` a trap; kept in lower case. Says whether it is new.
    pub fn add_trap_address(&self, address: &str) -> bool {
        let address = address.to_lowercase();
        let now = self.0.clock.now();
        self.0.index.change_traps(|traps| {
            let new = traps.insert(address.clone());
            if new {
                self.0.writer.push(Change::TrapAddress(address, now));
            }
            new
        })
    }

    /// `address` is no trap any more. Says whether it was one.
    pub fn forget_trap_address(&self, address: &str) -> bool {
        let address = address.to_lowercase();
        self.0.index.change_traps(|traps| {
            let was = traps.remove(&address);
            if was {
                self.0.writer.push(Change::ForgetTrapAddress(address));
            }
            was
        })
    }

    /// Removes all tuples of clients inside `network` and says how many.
    ///
    /// # Errors
    /// When the database cannot be read; then nothing was removed.
    pub async fn forget_tuples(&self, network: IpNet) -> Result<usize, Error> {
        let filter = Filter { kind: Some(Kind::Grey), network: Some(network), ..Filter::default() };
        let rows = self.list(filter).await?;
        let mut count = 0;
        for row in rows {
            let Row::Grey { tuple, .. } = row else { continue };
            count += usize::from(self.forget_tuple(&tuple));
        }
        Ok(count)
    }

    /// Removes one tuple. Says whether there was one.
    pub fn forget_tuple(&self, tuple: &Tuple) -> bool {
        self.0.tuples.change(tuple, |key, state| {
            self.0.writer.push(Change::ForgetGrey(key, tuple.clone()));
            state.take().is_some()
        })
    }

    /// What `filter` selects of the entries that have not expired: tuples, then networks, then trap addresses, each
    /// sorted by its key. Every change made before the call is seen.
    ///
    /// # Errors
    /// When the database cannot be read, or the last changes could not be written.
    pub async fn list(&self, filter: Filter) -> Result<Vec<Row>, Error> {
        self.flush().await?;
        let now = self.0.clock.now();
        self.0.writer.database().read(move |connection| rows::list(connection, &filter, now)).await
    }

    /// Waits until every change made before the call is in SQLite.
    ///
    /// # Errors
    /// Why they could not be written; they are tried again.
    pub async fn flush(&self) -> Result<(), Error> {
        self.0.writer.flush().await
    }

    /// Removes what expired more than an hour ago, from memory and disk; says how many entries left memory. To be
    /// called every minute or so.
    ///
    /// # Errors
    /// When the database cannot be written; memory is swept all the same.
    pub async fn sweep(&self) -> Result<usize, Error> {
        let now = self.0.clock.now();
        let until = sweepable(now);
        let forgiven = earlier(now, FORGIVEN_AFTER);
        self.0.sources.sweep(now);
        self.0.index.past().sweep(forgiven);
        let mut swept = self.0.index.sweep(until) + self.0.identities.sweep(until);
        let database = self.0.writer.database();
        for shard in 0..Tuples::SHARDS {
            let keys = self.0.tuples.sweep(shard, until);
            swept += keys.len();
            // In bites, so that the writer serves others in between, and a sweep of millions holds up nobody.
            for bite in keys.chunks(SWEEP_BITE) {
                let bite = bite.to_vec();
                database.write(move |transaction| rows::sweep_tuples(transaction, &bite, until)).await?;
            }
            tokio::task::yield_now().await;
        }
        while database.write(move |transaction| rows::sweep(transaction, until, forgiven)).await? > 0 {}
        Ok(swept)
    }

    /// How many entries there are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (passed, trapped, trap_addresses) = self.0.index.counts();
        Counts {
            grey: self.0.tuples.len(),
            passed,
            trapped,
            trap_addresses,
            identities: self.0.identities.len(),
            unsaved: self.0.writer.unsaved(),
            loading: self.0.tuples.is_loading(),
        }
    }
}

/// What ended then or before is swept now.
fn sweepable(now: Timestamp) -> Timestamp {
    earlier(now, SWEEP_GRACE)
}

fn earlier(now: Timestamp, span: Duration) -> Timestamp {
    Timestamp::from_millis(now.millis() - i64::try_from(span.as_millis()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
