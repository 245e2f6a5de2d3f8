//! What MXs tell each other: everything the greylist learns, over TLS between hosts that know each other's keys
//! ([`peer`]), and the datagrams of spamd(8) for hosts that still run it ([`spamd`]).
//!
//! Nothing here is in the way of mail. The greylist tells what changes through a queue that is never waited for; the
//! [`Replica`] holds what is shared; one task per connection sends what there is room for. Where the store itself is
//! shared nothing of this is needed.

pub mod config;
mod peer;
mod spamd;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mailgate_model::{Clock, Domain, Timestamp};
use mailgate_net::{Fingerprint, Pinned};
use mailgate_proto::edgesync::{Applied, Counts, Key, Kind, Replica};
use mailgate_store::greylist::feed::{Follower, Heard, News, Source};
use mailgate_store::outbound::{Entry, Outbound};
use mailgate_store::{Greylist, Marks};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Edge;

use self::config::SyncConfig;
use self::peer::Peer;
pub use self::peer::PeerStatus;
pub use self::spamd::SpamdStatus;

/// The file of our key in the folder of the state.
pub const KEY_FILE: &str = "sync.key";
/// The database of stamps in the folder of the state.
const MARKS_FILE: &str = "sync.db";
/// How often stamps are written; a crash loses so much of them, and peers know them.
const MARKS_INTERVAL: Duration = Duration::from_millis(200);
/// How often what is over is forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Keys that are looked at before others get a turn.
const SWEEP_BITE: usize = 5_000;
/// Connections at a time beyond two of each peer: those of whom we do not know yet who they are.
const SPARE_CONNECTIONS: usize = 64;
/// Connections of one address at a time.
const PER_SOURCE: usize = 4;
/// Records taken before the greylist has to be on disk: a peer is not read faster than we write.
const UNWRITTEN_LIMIT: usize = 2_000;

/// What synchronisation is made of.
pub struct Parts {
    /// `[edge.sync]`.
    pub config: SyncConfig,
    /// The edge whose memory is shared, and which judges what spamd tells.
    pub edge: Arc<Edge>,
    /// Our name, told to peers.
    pub hostname: Domain,
    /// Where key and stamps are kept.
    pub state_dir: PathBuf,
    /// Waited for at shutdown.
    pub tasks: TaskTracker,
    /// Ends every connection.
    pub shutdown: CancellationToken,
}

/// The running synchronisation; clones share it.
#[derive(Clone)]
pub struct Sync(Arc<Shared>);

struct Shared {
    replica: Mutex<Replica>,
    config: SyncConfig,
    hostname: Domain,
    greylist: Greylist,
    outbound: Option<Outbound>,
    clock: Arc<dyn Clock>,
    own: Fingerprint,
    pinned: Pinned,
    peers: Vec<Peer>,
    listens: Vec<SocketAddr>,
    /// The end of our log, for whoever waits for something to tell.
    news: watch::Sender<u64>,
    spamd: Option<Arc<spamd::Counters>>,
    shutdown: CancellationToken,
}

/// How synchronisation goes, as `mailgate sync status` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct SyncStatus {
    /// Our key.
    pub key: String,
    /// Where peers reach us.
    pub listen: Vec<SocketAddr>,
    /// Keys that are shared.
    pub keys: usize,
    /// Deletions that are remembered.
    pub deletions: usize,
    /// Traps known only from friends.
    pub hearsay: usize,
    /// Changes left out because there are too many keys.
    pub left_out: u64,
    /// The peers.
    pub peers: Vec<PeerStatus>,
    /// Datagrams of spamd(8), where they are spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spamd: Option<SpamdStatus>,
}

impl Sync {
    /// Listens, connects and follows the greylist from now on. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the key or the stamps cannot be opened, or a port is taken; the text says which.
    pub async fn start(parts: Parts) -> Result<Self, String> {
        let Parts { config, edge, hostname, state_dir, tasks, shutdown } = parts;
        let (greylist, clock) = (edge.greylist.clone(), Arc::clone(&edge.clock));
        let key_file = config.key_file.clone().unwrap_or_else(|| state_dir.join(KEY_FILE));
        let pinned = Pinned::open(&key_file, config.peer.iter().map(|peer| peer.key)).map_err(say)?;
        let marks = Marks::open(state_dir.join(MARKS_FILE)).map_err(say)?;
        let listeners: Vec<TcpListener> = config
            .listen
            .iter()
            .map(|address| mailgate_net::listen(*address))
            .collect::<Result<_, _>>()
            .map_err(say)?;
        let listens = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let spamd = match &config.spamd {
            Some(spamd) => Some(spamd::Spamd::open(spamd, Arc::clone(&edge))?),
            None => None,
        };
        // Another number after each start: nobody takes our log for that of before.
        let incarnation = clock.now().millis().cast_unsigned() << 16 | u64::from(std::process::id() & 0xffff);
        let shared = Arc::new(Shared {
            replica: Mutex::new(Replica::new(incarnation)),
            peers: config.peer.iter().cloned().map(Peer::new).collect(),
            own: pinned.own(),
            pinned,
            news: watch::channel(0).0,
            spamd: spamd.as_ref().map(spamd::Spamd::counters),
            config,
            hostname,
            greylist: greylist.clone(),
            outbound: edge.outbound.get().cloned(),
            clock,
            listens,
            shutdown: shutdown.clone(),
        });
        let told = spamd.map(|spamd| spamd.start(&tasks, &shutdown));
        let follower = greylist.follow();
        tasks.spawn(Arc::clone(&shared).run(follower, marks, listeners, told, tasks.clone()));
        Ok(Self(shared))
    }

    /// How it goes.
    #[must_use]
    pub fn status(&self) -> SyncStatus {
        let shared = &self.0;
        let Counts { keys, deletions, hearsay, left_out, .. } = shared.replica().counts();
        let log = shared.replica().log_end();
        SyncStatus {
            key: shared.own.to_string(),
            listen: shared.listens.clone(),
            keys,
            deletions,
            hearsay,
            left_out,
            peers: shared.peers.iter().map(|peer| peer.status(log)).collect(),
            spamd: shared.spamd.as_ref().map(|counters| counters.status()),
        }
    }
}

impl Shared {
    fn replica(&self) -> MutexGuard<'_, Replica> {
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> i64 {
        self.clock.now().millis()
    }

    async fn run(
        self: Arc<Self>,
        follower: Follower,
        marks: Marks,
        listeners: Vec<TcpListener>,
        spamd: Option<mpsc::Sender<News>>,
        tasks: TaskTracker,
    ) {
        let shutdown = self.shutdown.clone();
        let sent = match self.load(&follower, &marks).await {
            Ok(sent) => sent,
            Err(error) => {
                tracing::error!(target: "edge", event = "sync", %error, "nothing is shared with other hosts");
                return;
            }
        };
        let limits =
            mailgate_net::Limits { total: 2 * self.peers.len() + SPARE_CONNECTIONS, per_source: PER_SOURCE };
        for listener in listeners {
            let shared = Arc::clone(&self);
            let serve = move |tcp, _| Arc::clone(&shared).welcome(tcp);
            tasks.spawn(mailgate_net::serve(listener, limits, shutdown.clone(), serve));
        }
        for number in 0..self.peers.len() {
            tasks.spawn(Arc::clone(&self).dial(number));
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.follow(follower, spamd) => {}
            () = self.follow_outbound(sent) => {}
            () = self.keep(&marks) => {}
            () = self.sweep() => {}
        }
        // What was marked last.
        let last = self.replica().take_marks();
        if let Err(error) = marks.keep(last).await {
            tracing::warn!(target: "edge", event = "sync", %error, "the last stamps are lost");
        }
    }

    async fn load(
        &self,
        follower: &Follower,
        marks: &Marks,
    ) -> Result<Option<mpsc::Receiver<Entry>>, mailgate_store::Error> {
        let marked = marks.all().await?;
        let all = follower.all().await?;
        let (sent, told) = self.outbound.as_ref().map(Outbound::follow).unzip();
        let mut replica = self.replica();
        for mark in marked {
            replica.load(mark.key, None, mark.stamp, mark.until);
        }
        for (key, body) in all {
            replica.load(key, Some(body), mailgate_proto::edgesync::Stamp::default(), 0);
        }
        for Entry { key, body } in sent.unwrap_or_default() {
            replica.load(key, Some(body), mailgate_proto::edgesync::Stamp::default(), 0);
        }
        // They are stored already.
        drop(replica.take_marks());
        Ok(told)
    }

    /// Takes over what changes here.
    async fn follow(&self, mut follower: Follower, spamd: Option<mpsc::Sender<News>>) {
        loop {
            match follower.next().await {
                Heard::News(news) => {
                    for one in news {
                        if let Some(spamd) = spamd.as_ref().filter(|_| one.source == Source::Here) {
                            // Datagrams may be lost; this is where.
                            let _ = spamd.try_send(one.clone());
                        }
                        self.changed(one.key, one.body);
                    }
                }
                Heard::Lost => {
                    tracing::warn!(target: "edge", event = "sync", "too many changes at once; all is read again");
                    if let Err(error) = self.reload(&follower).await {
                        tracing::error!(target: "edge", event = "sync", %error, "what changed meanwhile is not shared");
                    }
                }
            }
            let end = self.replica().log_end();
            self.news.send_replace(end);
        }
    }

    /// Takes over whom our users write to.
    async fn follow_outbound(&self, told: Option<mpsc::Receiver<Entry>>) {
        let Some(mut told) = told else { return std::future::pending().await };
        while let Some(Entry { key, body }) = told.recv().await {
            self.changed(key, Some(body));
            let end = self.replica().log_end();
            self.news.send_replace(end);
        }
        std::future::pending().await
    }

    fn changed(&self, key: Key, body: Option<mailgate_proto::edgesync::Body>) {
        let mut replica = self.replica();
        if let Some(applied) = replica.local(key, body, self.now()) {
            self.apply(&mut replica, &applied);
        }
    }

    async fn reload(&self, follower: &Follower) -> Result<(), mailgate_store::Error> {
        let mut all: HashMap<Key, _> = follower.all().await?.into_iter().collect();
        // Beyond as many tuples as are read, nothing can be said of those that are missing.
        let tuples = all.keys().filter(|key| key.kind == Kind::TUPLE).count();
        let is_whole = tuples < mailgate_store::greylist::feed::SHARED_TUPLES;
        let known: Vec<(Key, _)> = {
            let replica = self.replica();
            let of_greylist = |key: &Key| !matches!(key.kind, Kind::CORRESPONDENT | Kind::MESSAGE);
            let states = replica.states().filter(|(key, _)| of_greylist(key));
            states.filter_map(|(key, body)| Some((key.clone(), body?))).collect()
        };
        let now = self.now();
        for (key, body) in known {
            match all.remove(&key) {
                Some(same) if same == body => {}
                None if body.is_over(now) || (key.kind == Kind::TUPLE && !is_whole) => {}
                other => self.changed(key, other),
            }
        }
        for (key, body) in all {
            self.changed(key, Some(body));
        }
        Ok(())
    }

    /// Under the lock of the replica, so that changes of one key reach the greylist in their order.
    fn apply(&self, replica: &mut Replica, applied: &Applied) {
        if matches!(applied.key.kind, Kind::CORRESPONDENT | Kind::MESSAGE) {
            if let Some(outbound) = &self.outbound {
                outbound.take(&applied.key, applied.is);
            }
            return;
        }
        if !self.greylist.exchange(&applied.key, applied.was, applied.is) {
            replica.missed(applied);
        }
    }

    async fn keep(&self, marks: &Marks) {
        loop {
            self.clock.sleep(MARKS_INTERVAL).await;
            let some = self.replica().take_marks();
            if let Err(error) = marks.keep(some).await {
                tracing::warn!(target: "edge", event = "sync", %error, "stamps are not stored");
            }
        }
    }

    async fn sweep(&self) {
        loop {
            self.clock.sleep(SWEEP_INTERVAL).await;
            loop {
                let now = self.now();
                if !self.replica().sweep(now, SWEEP_BITE) {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    }
}

fn say(error: impl std::fmt::Display) -> String {
    format!("sync: {error}")
}

fn time(millis: i64) -> Option<Timestamp> {
    (millis > 0).then(|| Timestamp::from_millis(millis))
}
