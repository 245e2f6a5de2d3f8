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
pub mod feed;
mod identity;
mod index;
mod load;
mod past;
mod rows;
mod sources;
mod tuples;
mod watch;
mod writer;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::{Clock, Timestamp};
use serde::{Deserialize, Serialize};

use self::identity::Identities;
use self::index::Index;
use self::sources::Sources;
use self::tuples::Tuples;
use self::writer::{Change, Writer};
use crate::{Database, Durability, Error};

pub use self::decisions::{Decision, Wanted};
pub use self::identity::{Credit, Identity, Known};
pub use self::past::{FORGIVEN_AFTER, Terms};
pub use self::rows::{Filter, Row};
pub use self::watch::Watch;

/// Expired entries stay this long before they are swept, though no lookup sees them. A clock that jumps ahead by an
/// hour and is set back has then destroyed nothing.
const SWEEP_GRACE: Duration = Duration::from_secs(3600);
/// Tuples deleted in one go of the writer: some milliseconds.
const SWEEP_BITE: usize = 500;
/// Longest text kept of what a client said: a path of RFC 5321 §4.5.3.1.3 with room for UTF-8.
const SAID_LIMIT: usize = 512;

/// Tuples kept at once; about 330 MB of memory and 2 GB on disk. More than 600 attempts a second over four hours.
const TUPLES_LIMIT: usize = 10_000_000;

/// Formats by `PRAGMA user_version`.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE tuple (
        client TEXT NOT NULL, reverse_path TEXT NOT NULL, forward_path TEXT NOT NULL,
        helo TEXT NOT NULL, said_reverse TEXT NOT NULL, said_forward TEXT NOT NULL,
        first INTEGER NOT NULL, pass INTEGER NOT NULL, expires INTEGER NOT NULL,
        blocked INTEGER NOT NULL, passed INTEGER NOT NULL,
        PRIMARY KEY (client, reverse_path, forward_path)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tuple_expires ON tuple (expires);
    CREATE TABLE peer (
        network TEXT PRIMARY KEY, kind TEXT NOT NULL CHECK (kind IN ('passed', 'trapped')),
        origin TEXT NOT NULL CHECK (origin IN ('admin', 'learned')),
        first INTEGER NOT NULL, pass INTEGER NOT NULL, expires INTEGER NOT NULL,
        blocked INTEGER NOT NULL, passed INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX peer_expires ON peer (expires);
    CREATE TABLE trap_address (address TEXT PRIMARY KEY, added INTEGER NOT NULL) STRICT, WITHOUT ROWID;
", "
    -- Found by a hash, so that memory and the order of loading need no text; its rows are taken over at the opening.
    ALTER TABLE tuple RENAME TO tuple_1;
    DROP INDEX tuple_expires;
    CREATE TABLE secret (value BLOB NOT NULL) STRICT;
    INSERT INTO secret VALUES (randomblob(16));
    CREATE TABLE tuple (
        key INTEGER PRIMARY KEY,
        first INTEGER NOT NULL, pass INTEGER NOT NULL, expires INTEGER NOT NULL,
        blocked INTEGER NOT NULL, passed INTEGER NOT NULL,
        client TEXT NOT NULL, reverse_path TEXT NOT NULL, forward_path TEXT NOT NULL,
        helo TEXT NOT NULL, said_reverse TEXT, said_forward TEXT
    ) STRICT;
    CREATE TABLE trap_history (
        network TEXT PRIMARY KEY, times INTEGER NOT NULL, last INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
", "
    ALTER TABLE tuple ADD COLUMN ip TEXT;
    CREATE TABLE identity (
        name TEXT PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, expires INTEGER NOT NULL,
        messages INTEGER NOT NULL, retries INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX identity_expires ON identity (expires);
    CREATE TABLE decision (
        number INTEGER PRIMARY KEY, at INTEGER NOT NULL, session TEXT NOT NULL, ip TEXT NOT NULL,
        identity TEXT NOT NULL, helo TEXT NOT NULL, reverse_path TEXT NOT NULL, forward_path TEXT NOT NULL,
        result TEXT NOT NULL, reason TEXT NOT NULL, findings TEXT NOT NULL, points INTEGER NOT NULL,
        waited INTEGER, queue_id TEXT NOT NULL DEFAULT '', message_id TEXT NOT NULL DEFAULT ''
    ) STRICT;
    CREATE INDEX decision_session ON decision (session);
    CREATE INDEX decision_ip ON decision (ip);
"];

/// The key of one delivery attempt (RFC 6647 §2.3), normalised by the caller. HELO is no part of it: pools of one
/// sender say many names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Who the client is: its address as a network, or wider, or a proved name.
    pub client: Identity,
    /// Normalised reverse-path, empty for the null path.
    pub reverse_path: String,
    /// Normalised forward-path.
    pub forward_path: String,
}

/// What the client said, kept for people to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// The address it came from.
    pub ip: Option<IpAddr>,
    /// Argument of HELO or EHLO.
    pub helo: String,
    /// Reverse-path without angle brackets.
    pub reverse_path: String,
    /// Forward-path without angle brackets.
    pub forward_path: String,
}

/// A tuple that was deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grey {
    /// The first attempt; the clock of the delay starts here and is never restarted.
    pub first: Timestamp,
    /// From when on an attempt passes.
    pub pass: Timestamp,
    /// From when on an attempt counts as the first again.
    pub expires: Timestamp,
    /// Attempts that were deferred.
    pub blocked: u32,
    /// Attempts that passed; 0, because a pass consumes the tuple, except in imported data.
    pub passed: u32,
}

/// Which of the two standings a network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerKind {
    /// Goes straight to reception.
    Passed,
    /// Goes to the tarpit.
    Trapped,
}

/// Who gave a network its standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A command of the administrator; what is learned does not overrule it.
    Admin,
    /// The behaviour of the client.
    Learned,
}

/// The standing of one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Passed or trapped.
    pub kind: PeerKind,
    /// Who said so.
    pub origin: Origin,
    /// The first contact known.
    pub first: Timestamp,
    /// When it got this standing.
    pub pass: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// Attempts deferred, or hits of a trap.
    pub blocked: u32,
    /// Messages accepted since.
    pub passed: u32,
}

/// What is known of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Passed; the network that says so.
    Passed(IpNet, Peer),
    /// Trapped; the network that says so.
    Trapped(IpNet, Peer),
    /// Nothing.
    Unknown,
}

/// What the judge of an attempt wants done with the tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Keep this as the tuple's state; the attempt is deferred.
    Defer(Grey),
    /// The tuple is consumed and the network of its client gets this standing. A standing given by the administrator
    /// stays.
    Pass(Peer),
    /// The tuple is consumed; what its client earned is told otherwise.
    Consume,
}

/// The kinds of entry that people list, add and delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A tuple that was deferred.
    Grey,
    /// A network that passed.
    Passed,
    /// A network in the tarpit.
    Trapped,
    /// An address whose use traps the client.
    TrapAddress,
}

/// How many entries there are, expired ones included until they are swept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Tuples.
    pub grey: usize,
    /// Networks that passed.
    pub passed: usize,
    /// Networks in the tarpit.
    pub trapped: usize,
    /// Trap addresses.
    pub trap_addresses: usize,
    /// Identities that had mail accepted or came again.
    pub identities: usize,
    /// Changes that could not be stored because the database failed for long, and tuples that were not remembered
    /// because there are too many.
    pub unsaved: u64,
    /// Tuples are still being read from disk; those that are not yet counted act all the same.
    pub loading: bool,
}

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
    /// [`Error::Newer`] when a newer release wrote it, [`Error::Corrupt`] when a row cannot be ours.
    pub async fn open(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        // A power cut may take the last moments of a greylist: those clients are deferred once more.
        Self::load(Database::open(path, Durability::Normal, MIGRATIONS)?, clock).await
    }

    /// A greylist that ends with the process, for tests.
    ///
    /// # Errors
    /// None in practice; what SQLite says to an empty database.
    pub async fn memory(clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Self::load(Database::memory(MIGRATIONS)?, clock).await
    }

    async fn load(database: Database, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        database.write(|transaction| rows::convert(transaction)).await?;
        let (secret, (index, identities)) =
            database.read(|connection| Ok((rows::secret(connection)?, rows::load(connection)?))).await?;
        let aside = checkpoint::Aside::start(&database).await?;
        let tuples = Arc::new(Tuples::new(secret, database.connection()?));
        let until = sweepable(clock.now());
        let reached = load::begin(&database, &tuples, until).await?;
        let writer = Writer::start(database, Arc::clone(&clock));
        let sources = Sources::default();
        let inner = Inner { tuples, sources, index, identities, writer, clock, _aside: aside };
        let inner = Arc::new(inner);
        if reached.is_some() {
            tokio::spawn(load::go_on(Arc::downgrade(&inner), reached, until));
        }
        Ok(Self(inner))
    }

    /// What is known of `ip` now. Among entries of one kind the longest prefix decides. A standing given by the
    /// administrator beats a learned one, unless a trap names a smaller network; trapped beats passed otherwise.
    #[must_use]
    pub fn standing(&self, ip: IpAddr) -> Standing {
        self.0.index.standing(ip, self.0.clock.now())
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
                            || !inner.sources.admit(&tuple.client, inner.clock.now())) =>
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

    /// Gives `network` a standing that was learned. One that the administrator gave to the same network stays, and
    /// that is returned.
    pub fn learn(&self, network: IpNet, peer: Peer) -> Peer {
        let now = self.0.clock.now();
        self.0.index.change(network.trunc(), |state| match state {
            Some(admin) if admin.origin == Origin::Admin && admin.expires > now => *admin,
            _ => {
                *state = Some(peer);
                self.0.writer.push(Change::Peer(network.trunc(), peer));
                peer
            }
        })
    }

    /// Traps `network` until now + `span`. Trapping again counts and renews, and never shortens. Returns the standing
    /// the network has now: still passed when the administrator said so.
    pub fn trap(&self, network: IpNet, span: Duration) -> Peer {
        let now = self.0.clock.now();
        let known = self.0.index.at(network.trunc());
        let again = known.filter(|peer| peer.kind == PeerKind::Trapped && peer.expires > now);
        let peer = Peer {
            kind: PeerKind::Trapped,
            origin: Origin::Learned,
            first: again.map_or(now, |peer| peer.first),
            pass: again.map_or(now, |peer| peer.pass),
            // Counted from now, never inherited from an earlier standing.
            expires: again.map_or(now, |peer| peer.expires).max(now.plus(span)),
            blocked: again.map_or(1, |peer| peer.blocked.saturating_add(1)),
            passed: 0,
        };
        self.learn(network, peer)
    }

    /// As [`trap`](Self::trap), for a span that doubles with each time the network was trapped before, as long as that is
    /// not forgiven: by [`FORGIVEN_AFTER`] without a trap, by accepted mail, or by the administrator who frees it.
    pub fn trap_under(&self, network: IpNet, terms: &Terms) -> Peer {
        let network = network.trunc();
        let (now, past) = (self.0.clock.now(), self.0.index.past());
        let known = self.0.index.at(network);
        let again = known.is_some_and(|peer| peer.kind == PeerKind::Trapped && peer.expires > now);
        let before = past.times(network, now);
        // Who is trapped and hits again stays as long again, and is no worse for it.
        let span = terms.span(if again { before.saturating_sub(1) } else { before });
        let peer = self.trap(network, span);
        if peer.kind == PeerKind::Trapped {
            let times = if again { past.again(network, now) } else { past.add(network, now) };
            if let Some(times) = times {
                self.0.writer.push(Change::Past(network, Some(times)));
            }
        }
        peer
    }

    /// How often `network` was trapped, as far as that is not forgiven.
    #[must_use]
    pub fn times_trapped(&self, network: IpNet) -> u32 {
        self.0.index.past().times(network.trunc(), self.0.clock.now())
    }

    fn forgive(&self, inside: impl Fn(&IpNet) -> bool) {
        for network in self.0.index.past().forgive(inside) {
            self.0.writer.push(Change::Past(network, None));
        }
    }

    /// A message from `ip` was accepted: its passed entry is kept for `span` from now and counts one more. Says
    /// whether there was one. Trapped and unknown addresses stay what they are.
    pub fn accepted(&self, ip: IpAddr, span: Duration) -> bool {
        let now = self.0.clock.now();
        // Whatever length traps have; nearly always there is nothing to forgive.
        let lengths = if ip.to_canonical().is_ipv4() { 32..=32 } else { 32..=128 };
        for network in lengths.filter_map(|length| IpNet::new(ip.to_canonical(), length).ok()) {
            let network = network.trunc();
            if self.0.index.past().forgive_one(network) {
                self.0.writer.push(Change::Past(network, None));
            }
        }
        let Standing::Passed(network, _) = self.0.index.standing(ip, now) else { return false };
        self.0.index.change(network, |state| match state {
            Some(peer) if peer.kind == PeerKind::Passed => {
                peer.passed = peer.passed.saturating_add(1);
                // Never shortened: of two statements the one that lasts longer holds.
                peer.expires = peer.expires.max(now.plus(span));
                self.0.writer.push(Change::Peer(network, *peer));
                true
            }
            _ => false,
        })
    }

    /// The watcher is to hear of `ip` again, because its copy seems not to know.
    pub fn tell_again(&self, ip: IpAddr) {
        match self.standing(ip) {
            Standing::Passed(network, _) | Standing::Trapped(network, _) => {
                self.0.index.noted().note(network)
            }
            Standing::Unknown => {}
        }
    }

    /// Whether a recipient is a trap; compared in lower case.
    #[must_use]
    pub fn is_trap(&self, address: &str) -> bool {
        self.0.index.is_trap(&address.to_lowercase())
    }

    /// Gives `network` a standing by command of the administrator; replaces whatever it had, and passing a network
    /// frees every trapped address inside it.
    pub fn admit(&self, network: IpNet, peer: Peer) {
        let network = network.trunc();
        if peer.kind == PeerKind::Passed {
            for inside in self.0.index.trapped_inside(network) {
                self.forget_peer(inside, PeerKind::Trapped);
            }
            self.forgive(|past| network.contains(past));
        }
        self.0.index.change(network, |state| {
            *state = Some(peer);
            self.0.writer.push(Change::Peer(network, peer));
        });
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

    /// Removes the standing of exactly `network` if it is of `kind`. Says whether there was one.
    pub fn forget_peer(&self, network: IpNet, kind: PeerKind) -> bool {
        let network = network.trunc();
        if kind == PeerKind::Trapped && self.0.index.past().forgive_one(network) {
            self.0.writer.push(Change::Past(network, None));
        }
        self.0.index.change(network, |state| {
            let found = state.is_some_and(|peer| peer.kind == kind);
            if found {
                *state = None;
                self.0.writer.push(Change::ForgetPeer(network));
            }
            found
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

impl Said {
    fn clipped(&self) -> Self {
        let clip = |text: &str| -> String {
            let end = (0..=SAID_LIMIT.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
            text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
        };
        Self {
            ip: self.ip,
            helo: clip(&self.helo),
            reverse_path: clip(&self.reverse_path),
            forward_path: clip(&self.forward_path),
        }
    }
}

#[cfg(test)]
mod tests;
