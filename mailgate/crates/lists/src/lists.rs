//! The station as others see it: start it, ask it. What edits tables is in `lists/verbs.rs`.

mod explain;
mod plan;
mod sources;
mod verbs;
mod view;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::Clock;
use mailgate_net::http::Http;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::admit::{self, Protected};
use crate::config::{Config, PublishConfig};
use crate::merge::{CONFIG, Hit, Merged};
use crate::prefix::{PrefixSet, Sense};
use crate::publish::{self, Announced};
use crate::rows::{BgpRow, Page, RouteRow, SourceRow, TableRow, Tested};
use crate::shared::{Kind, Shared, State, Status};
use crate::source::Copies;
use crate::table::{Change, Snapshot, TableName};
use crate::{Error, Pattern, bgp, counts, emit, manual};

pub use verbs::{Age, How};

/// The tables. Cheap to clone; all clones are the same tables.
#[derive(Clone)]
pub struct Lists {
    shared: Arc<Shared>,
    peers: bgp::Peers,
    /// What is announced, by list.
    announced: Arc<Mutex<Announced>>,
}

impl Lists {
    /// As [`start_fetching`](Self::start_fetching), where URLs name hosts by their addresses.
    ///
    /// # Errors
    /// As there.
    pub fn start(
        config: Config,
        state_dir: impl AsRef<Path>,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Result<(Self, mpsc::Receiver<Vec<Change>>), Error> {
        Self::start_fetching(config, Vec::new(), state_dir, Http::new(None), clock, shutdown)
    }

    /// The same with networks that no feed keeps out, from the first entry on.
    ///
    /// # Errors
    /// As [`start_fetching`](Self::start_fetching).
    pub fn start_protecting(
        config: Config,
        protected: Vec<Protected>,
        state_dir: impl AsRef<Path>,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Result<(Self, mpsc::Receiver<Vec<Change>>), Error> {
        Self::start_fetching(config, protected, state_dir, Http::new(None), clock, shutdown)
    }

    /// Reads the entries made by hand under `state_dir/lists/` and the last good copies of the sources, and starts the
    /// sources; no feed keeps the `protected` networks out. The first message on the channel is a [`Change::Reload`],
    /// sent as soon as every file has been read or has failed once; what comes from elsewhere is in it as its copy has
    /// it. Everything ends when `shutdown` is cancelled. Needs a running tokio runtime.
    ///
    /// # Errors
    /// [`Error::Config`] when the configuration contradicts itself, [`Error::State`] when saved entries cannot be read.
    pub fn start_fetching(
        config: Config,
        protected: Vec<Protected>,
        state_dir: impl AsRef<Path>,
        http: Http,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Result<(Self, mpsc::Receiver<Vec<Change>>), Error> {
        config.check()?;
        let folder: PathBuf = state_dir.as_ref().join("lists");
        if let Err(error) = std::fs::create_dir_all(&folder) {
            tracing::warn!(target: "lists", event = "save", path = %folder.display(), %error, "nothing can be kept");
        }
        let now = clock.now();
        let mut merged = Merged::new(config.tables(), config.entries_limit, now);
        own_entries(&config, &mut merged, now)?;
        let (files, edited) = manual::load(folder.clone(), &mut merged, now)?;
        let counts = counts::path(&folder);
        counts::load(&counts, &mut merged);

        let copies = Arc::new(Copies::new(&folder));
        let (mut sources, statuses) = sources::prepare(config.sources(), &mut merged, &*clock);
        let shared = Arc::new(Shared::new(merged, config.protected(), statuses, clock, counts));
        {
            let mut state = shared.lock();
            state.unsaved = edited;
            admit::load(&folder, &mut state);
            admit::protect(&mut state, protected, now);
            sources::warm(&mut state, &mut sources, &copies, now);
        }
        let neighbours = sources::neighbours(&sources);
        // Before anybody is told anything: what peers had told before is in the tables then.
        let peers = bgp::start(&shared, neighbours, &folder, &shutdown)?;
        let (sender, receiver) = mpsc::channel(emit::BATCHES);
        tokio::spawn(emit::run(Arc::clone(&shared), sender, shutdown.clone()));
        tokio::spawn(manual::run(Arc::clone(&shared), files, shutdown.clone()));
        tokio::spawn(counts::run(Arc::clone(&shared), shutdown.clone()));
        tokio::spawn(admit::run(Arc::clone(&shared), folder, shutdown.clone()));
        sources::start(&shared, sources, &copies, &http, &shutdown);
        Ok((Self { shared, peers, announced: Arc::default() }, receiver))
    }

    /// All tables with their sizes, in the order of configuration.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn tables(&self) -> Result<Vec<TableRow>, Error> {
        self.shared.with(|state| view::tables(state)).await
    }

    /// At most `limit` entries of a table with their origins, sorted, from the one after `after`.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Stopped`].
    pub async fn show(&self, table: &TableName, after: Option<IpNet>, limit: usize) -> Result<Page, Error> {
        let name = table.clone();
        let show = move |state: &mut State| {
            let table = view::index(state, &name)?;
            Ok(view::page(state, table, after, limit))
        };
        self.shared.with_blocking(show).await?
    }

    /// All tables as the edge sees them now.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.shared.with_blocking(|state| state.merged.snapshot()).await
    }

    /// Which tables hold an address, by which entry, of whom, and what is therefore done.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn test(&self, address: IpAddr) -> Result<Tested, Error> {
        self.shared.with(move |state| view::tested(state, address.to_canonical())).await
    }

    /// How the sources are.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn sources(&self) -> Result<Vec<SourceRow>, Error> {
        let now = self.shared.clock.now();
        self.shared.with(move |state| view::sources(state, now)).await
    }

    /// These networks are kept out by no feed from now on; what a feed has of them goes, and what it has of those that
    /// are protected no more comes.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn protect(&self, networks: Vec<Protected>) -> Result<(), Error> {
        let now = self.shared.clock.now();
        self.shared.with_blocking(move |state| admit::protect(state, networks, now)).await
    }

    /// Makes these the networks of a list of ours: its neighbours are told what is new and what is gone.
    pub fn announce(&self, list: &PublishConfig, networks: Vec<IpNet>) {
        let mut announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner);
        announced.insert(list.name.clone(), (list.clone(), networks));
        for (peer, outbox) in self.peers.outboxes() {
            if list.peers.iter().any(|name| name == peer) {
                outbox.set(publish::adverts(&announced, peer));
            }
        }
    }

    /// Whom no feed keeps out now.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn protected(&self) -> Result<Vec<Protected>, Error> {
        self.shared.with(|state| state.guarded.all().to_vec()).await
    }

    /// Believes a source that is frozen or only watched: what waits comes into the tables. How many entries.
    ///
    /// # Errors
    /// [`Error::UnknownSource`], [`Error::NotFrozen`], [`Error::Stopped`].
    pub async fn thaw(&self, source: &str) -> Result<usize, Error> {
        let (name, now) = (source.to_owned(), self.shared.clock.now());
        let thaw = move |state: &mut State| {
            let Some(origin) = view::origin(state, &name) else {
                let known: Vec<&str> = state.sources.iter().map(|source| source.name.as_str()).collect();
                return Err(Error::UnknownSource { known: known.join(", "), name });
            };
            admit::thaw(state, origin, now).ok_or(Error::NotFrozen(name))
        };
        self.shared.with_blocking(thaw).await?
    }

    /// How the BGP sessions are.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn bgp(&self) -> Result<Vec<BgpRow>, Error> {
        let rows = |state: &mut State| {
            let row = |status: &Status| match &status.kind {
                Kind::Bgp(row) => Some((**row).clone()),
                Kind::Local(_) | Kind::Remote(_) => None,
            };
            state.sources.iter().filter_map(row).collect()
        };
        self.shared.with(rows).await
    }

    /// Ends the session of a BGP neighbour and begins anew; `text` is for the neighbour (RFC 9003). One sentence of what
    /// happens.
    ///
    /// # Errors
    /// [`Error::UnknownNeighbour`], [`Error::Neighbour`], [`Error::Stopped`].
    pub async fn bgp_clear(&self, name: &str, text: &str) -> Result<String, Error> {
        self.peers.clear(name, text.to_owned()).await
    }

    /// Asks a BGP neighbour for all its routes anew (RFC 2918). One sentence of what happens.
    ///
    /// # Errors
    /// As [`bgp_clear`](Self::bgp_clear).
    pub async fn bgp_refresh(&self, name: &str) -> Result<String, Error> {
        self.peers.refresh(name).await
    }

    /// At most `limit` routes of all BGP neighbours or of one, with this community, this prefix and what is inside of it.
    ///
    /// # Errors
    /// [`Error::UnknownNeighbour`], [`Error::Stopped`].
    pub async fn bgp_rib(
        &self,
        neighbor: Option<&str>,
        community: Option<Pattern>,
        within: Option<IpNet>,
        limit: usize,
    ) -> Result<Vec<RouteRow>, Error> {
        self.peers.rib(neighbor, community, within, limit).await
    }

    /// The names of the tables that count hits.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn counting(&self) -> Result<Vec<TableName>, Error> {
        let rows = self.tables().await?;
        Ok(rows.into_iter().filter(|row| row.counters).map(|row| row.name).collect())
    }

    /// Takes what the kernel has counted of every source it knows: all of it each time, not the difference. What is new
    /// goes to the most specific entry that holds the source, in each table that counts. To be called now and then, so
    /// that little is lost when the kernel forgets a source, and before counts are shown or cleared.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn count(&self, hits: Vec<Hit>) -> Result<(), Error> {
        let take = move |state: &mut State| {
            if state.merged.take_hits(&hits) {
                state.uncounted = true;
            }
        };
        self.shared.with_blocking(take).await
    }

    /// The edge has done what the oldest batch told it to, or (`false`) has given up. To be called once for each batch
    /// of the channel, in order; [`Done::in_force`](crate::rows::Done::in_force) depends on it.
    pub fn applied(&self, is_in_force: bool) {
        let revision = self.shared.lock().sent.pop_front();
        if let Some(revision) = revision.filter(|_| is_in_force) {
            self.shared.in_force.send_replace(revision);
        }
    }

    /// Waits until the edge judges by everything that was in the tables at the time of the call, or until `patience`
    /// is over; says which.
    pub async fn in_force(&self, patience: Duration) -> bool {
        let Ok(revision) = self.shared.with(|state| state.merged.revision()).await else { return false };
        let mut in_force = self.shared.in_force.subscribe();
        tokio::select! {
            reached = in_force.wait_for(|reached| *reached >= revision) => reached.is_ok(),
            () = self.shared.clock.sleep(patience) => false,
        }
    }
}

/// Puts the entries that stand in the configuration into their tables.
fn own_entries(config: &Config, merged: &mut Merged, now: mailgate_model::Timestamp) -> Result<(), Error> {
    for (index, table) in (0..).zip(config.tables()) {
        let (entries, _) = table.own_entries();
        let mut set = PrefixSet::default();
        for entry in entries {
            set.push(entry.prefix, if entry.negated { Sense::Hole } else { Sense::Listed });
        }
        set.sort();
        if set.len() > merged.room() {
            return Err(Error::Config(format!(
                "found more entries in lists.table than entries_limit = {}, expected fewer",
                merged.limit()
            )));
        }
        merged.replace(index, CONFIG, set, now);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
