//! Starting the sources, and asking them.

use std::net::IpAddr;
use std::sync::Arc;

use mailgate_model::{Clock, Timestamp};
use mailgate_net::http::Http;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::Lists;
use crate::admit::{self, Gate, Told};
use crate::command::CommandSource;
use crate::config::{BgpConfig, SourceConfig};
use crate::fetch::UrlSource;
use crate::file::{DirectorySource, FileSource, watch};
use crate::merge::{Merged, Origin, SOURCES};
use crate::rows::{Diff, Explained, Reloaded, SourceState};
use crate::shared::{Kind, Shared, State, Status, source_mut};
use crate::source::{Copies, Order, Place, Reading, Runner, Turn, Validators};
use crate::spamd::SpamdSource;
use crate::table::TableName;
use crate::{Error, bgp};

/// Orders that wait for one source; who asks more often waits.
const ORDERS: usize = 4;

/// A source that is about to be started.
pub(super) struct Prepared {
    config: SourceConfig,
    origin: Origin,
    /// Most entries.
    most: usize,
    orders: mpsc::Receiver<Order>,
    known: Validators,
    fetched: Option<Timestamp>,
}

/// Sources by rank, files before peers, each in the order of configuration.
pub(super) fn prepare(
    mut sources: Vec<SourceConfig>,
    merged: &mut Merged,
    clock: &dyn Clock,
) -> (Vec<Prepared>, Vec<Status>) {
    sources.sort_by_key(|source| matches!(source, SourceConfig::Bgp(_)));
    (SOURCES..).zip(sources).map(|(origin, config)| prepared(config, origin, merged, clock)).unzip()
}

fn prepared(
    config: SourceConfig,
    origin: Origin,
    merged: &mut Merged,
    clock: &dyn Clock,
) -> (Prepared, Status) {
    let kind = match &config {
        SourceConfig::Bgp(config) => Kind::Bgp(Box::new(bgp::row(config, clock.now()))),
        SourceConfig::Directory(_) | SourceConfig::File(_) => Kind::Local(config.kind()),
        SourceConfig::Command(_) | SourceConfig::Spamd(_) | SourceConfig::Url(_) => {
            Kind::Remote(config.kind())
        }
    };
    let mut status = Status::new(config.name(), kind, Gate::new(&config, merged));
    status.tables = config.tables().iter().filter_map(|name| merged.index(name)).collect();
    if !config.is_local() {
        status.tables.iter().for_each(|table| merged.fed_by(*table, origin));
    }
    status.from = match &config {
        SourceConfig::Url(config) => config.shown().to_owned(),
        _ => place(&config),
    };
    let (sender, orders) = mpsc::channel(ORDERS);
    if let Some(keys) = config.keys() {
        status.orders = Some(sender);
        status.voice.configured = keys.message;
    }
    let most = status.gate.max_entries();
    let prepared = Prepared { config, origin, most, orders, known: Validators::default(), fetched: None };
    (prepared, status)
}

/// Puts what the copies on disk say into the tables, and forgets copies that are nobody's any more.
pub(super) fn warm(state: &mut State, sources: &mut [Prepared], copies: &Copies, now: Timestamp) {
    let names: Vec<String> = sources.iter().map(|source| source.config.name()).collect();
    copies.retain(&names);
    for source in sources {
        let place = place(&source.config);
        let Some(keys) = source.config.keys() else { continue };
        let Some(copied) = copies.load(&keys.name, &place) else { continue };
        let at = copied.at.min(now);
        // Too old to be used.
        if keys.expire_after.is_none_or(|span| at.plus(span.duration()) > now) {
            warm_one(state, source, copied.reading, at);
        }
    }
}

fn warm_one(state: &mut State, source: &mut Prepared, reading: Reading, at: Timestamp) {
    let Some(table) = source_mut(state, source.origin).and_then(|status| status.tables.first().copied())
    else {
        return;
    };
    // Since the copy was made, not since this start.
    let offered = admit::offer_sets(state, source.origin, vec![(table, reading.set)], Told::Kept, at);
    let Some(status) = source_mut(state, source.origin) else { return };
    if let Err(refusal) = offered {
        let (name, said) = (&status.name, refusal.to_string());
        tracing::error!(target: "lists", event = "copy", source = name, error = said, "not used");
        return;
    }
    source.known = reading.validators.clone();
    source.fetched = Some(at);
    status.refused = reading.refused;
    status.problems = reading.problems;
    status.bytes = reading.bytes;
    status.format = Some(reading.format);
    status.etag = reading.validators.etag;
    status.partly = reading.partly;
    status.last_success = Some(at);
    status.last_change = Some(at);
    status.voice.told = reading.message;
    status.voice.notes = reading.notes;
    if matches!(status.kind, Kind::Remote(_)) {
        status.state = SourceState::Stale;
    }
}

/// Where a source comes from; has to be what its `Source::place` says.
fn place(config: &SourceConfig) -> String {
    match config {
        SourceConfig::Bgp(config) => config.peer.to_string(),
        SourceConfig::Command(config) => config.command.join(" "),
        SourceConfig::Directory(config) => config.path.display().to_string(),
        SourceConfig::File(config) => config.path.display().to_string(),
        SourceConfig::Spamd(config) => config.path.display().to_string(),
        SourceConfig::Url(config) => config.url.clone(),
    }
}

/// The BGP peers among them.
pub(super) fn neighbours(sources: &[Prepared]) -> Vec<(Origin, BgpConfig)> {
    let peer = |source: &Prepared| match &source.config {
        SourceConfig::Bgp(config) => Some((source.origin, config.clone())),
        _ => None,
    };
    sources.iter().filter_map(peer).collect()
}

/// Starts a task for each source but the peers.
pub(super) fn start(
    shared: &Arc<Shared>,
    sources: Vec<Prepared>,
    copies: &Arc<Copies>,
    http: &Http,
    shutdown: &CancellationToken,
) {
    let wakes: Vec<Arc<Notify>> = sources.iter().map(|_| Arc::default()).collect();
    let watched = sources.iter().zip(&wakes).filter_map(|(source, wake)| {
        let watched = match &source.config {
            SourceConfig::Directory(config) => watch::Watched::Folder(config.path.clone()),
            SourceConfig::File(config) => watch::Watched::File(config.path.clone()),
            SourceConfig::Spamd(config) => watch::Watched::File(config.path.clone()),
            SourceConfig::Bgp(_) | SourceConfig::Command(_) | SourceConfig::Url(_) => return None,
        };
        Some((watched, Arc::clone(wake)))
    });
    let watcher = watch::start(&watched.collect::<Vec<_>>());
    if let Some(watcher) = watcher {
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            shutdown.cancelled().await;
            drop(watcher);
        });
    }
    for (source, wake) in sources.into_iter().zip(wakes) {
        start_one(shared, source, wake, copies, http, shutdown);
    }
}

fn start_one(
    shared: &Arc<Shared>,
    source: Prepared,
    wake: Arc<Notify>,
    copies: &Arc<Copies>,
    http: &Http,
    shutdown: &CancellationToken,
) {
    let Prepared { config, origin, most, orders, known, fetched } = source;
    let clock = Arc::clone(&shared.clock);
    let table = config.tables().first().and_then(|name| shared.lock().merged.index(name));
    // The check of the configuration has made sure of both.
    let (Some(keys), Some(table)) = (config.keys(), table) else { return };
    let place = Place {
        shared: Arc::clone(shared),
        origin,
        table,
        keys,
        copies: Arc::clone(copies),
        orders,
        known,
        fetched,
    };
    match config {
        // Peers are started together, see `neighbours`.
        SourceConfig::Bgp(_) => {}
        SourceConfig::Command(config) => {
            let source = CommandSource::new(&config, most, clock);
            Runner::new(place, source, Some(config.interval), wake).start(shutdown);
        }
        SourceConfig::Directory(config) => {
            let source = DirectorySource::new(config.path, config.format, most);
            Runner::new(place, source, None, wake).start(shutdown);
        }
        SourceConfig::File(config) => {
            let source = FileSource::new(config.path, config.format, most).signed_by(config.signed_by);
            Runner::new(place, source, None, wake).start(shutdown);
        }
        SourceConfig::Spamd(config) => {
            let source = SpamdSource::new(&config, most, http.clone(), clock, Arc::clone(copies));
            Runner::new(place, source, Some(config.interval), wake).start(shutdown);
        }
        SourceConfig::Url(config) => {
            let source = UrlSource::new(http.clone(), &config, most);
            Runner::new(place, source, Some(config.interval), wake).start(shutdown);
        }
    }
}

impl Lists {
    /// Fetches one source, or all, at once and as a whole, and says what came of it. Peers are not asked: they send by
    /// themselves.
    ///
    /// # Errors
    /// [`Error::UnknownSource`], [`Error::Source`] for a peer that was named, [`Error::Stopped`].
    pub async fn reload(&self, name: Option<&str>) -> Result<Vec<Reloaded>, Error> {
        let named = name.map(str::to_owned);
        let senders = self.shared.with(move |state| senders(state, named.as_deref())).await??;
        let mut asked = Vec::new();
        for (name, sender) in senders {
            let (answer, answered) = oneshot::channel();
            if let Some(sender) = sender {
                sender.send(Order::Reload(answer)).await.map_err(|_| Error::Stopped)?;
            }
            asked.push((name, answered));
        }
        let mut rows = Vec::new();
        for (name, answered) in asked {
            rows.push(reloaded(name, answered.await.ok()));
        }
        Ok(rows)
    }

    /// What fetching a source now would change, without taking it.
    ///
    /// # Errors
    /// [`Error::UnknownSource`], [`Error::Source`] when it cannot be had, [`Error::Stopped`].
    pub async fn diff(&self, name: &str) -> Result<Diff, Error> {
        let named = name.to_owned();
        let senders = self.shared.with(move |state| senders(state, Some(&named))).await??;
        let Some((name, Some(sender))) = senders.into_iter().next() else { return Err(Error::Stopped) };
        let (answer, answered) = oneshot::channel();
        sender.send(Order::Diff(answer)).await.map_err(|_| Error::Stopped)?;
        let diff = answered.await.map_err(|_| Error::Stopped)?;
        diff.map_err(|said| Error::Source { name, said })
    }

    /// Everything that sources tell an address that they list, for the last word of the tarpit: for each source that holds
    /// it, in the order of tables, the table and the text with `%A` filled in. Texts are printable ASCII; lines end with
    /// `\n`. Sources that hold it and say nothing are left out.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn messages(&self, address: IpAddr) -> Result<Vec<(TableName, String)>, Error> {
        self.shared.with(move |state| super::explain::messages(state, address.to_canonical())).await
    }

    /// Who names an address, since when, what it is told, and what is done with it and why.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn explain(&self, address: IpAddr) -> Result<Explained, Error> {
        self.shared.with(move |state| super::explain::explained(state, address.to_canonical())).await
    }
}

type Senders = Vec<(String, Option<mpsc::Sender<Order>>)>;

fn senders(state: &mut State, name: Option<&str>) -> Result<Senders, Error> {
    let Some(name) = name else {
        return Ok(state.sources.iter().map(|source| (source.name.clone(), source.orders.clone())).collect());
    };
    let at = state.sources.iter().position(|source| source.name == name);
    let found = at.and_then(|at| SOURCES.checked_add(u16::try_from(at).ok()?));
    let Some(source) = found.and_then(|origin| source_mut(state, origin)) else {
        let known: Vec<&str> = state.sources.iter().map(|source| source.name.as_str()).collect();
        let known = if known.is_empty() { "none: there are no sources".to_owned() } else { known.join(", ") };
        return Err(Error::UnknownSource { name: name.to_owned(), known });
    };
    if source.orders.is_none() {
        let said = "it is a BGP peer, which sends by itself; see mailgate bgp".to_owned();
        return Err(Error::Source { name: name.to_owned(), said });
    }
    Ok(vec![(name.to_owned(), source.orders.clone())])
}

fn reloaded(name: String, turn: Option<Turn>) -> Reloaded {
    let row = Reloaded { name, outcome: "skipped", added: 0, altered: 0, deleted: 0, error: None };
    match turn {
        None => row,
        Some(Turn::Failed(failure)) => Reloaded { outcome: "failed", error: Some(failure.said), ..row },
        Some(Turn::Same) => Reloaded { outcome: "unchanged", ..row },
        Some(Turn::Taken(difference)) if difference.is_empty() => Reloaded { outcome: "unchanged", ..row },
        Some(Turn::Taken(difference)) => Reloaded {
            outcome: "taken",
            added: difference.added,
            altered: difference.changed,
            deleted: difference.deleted,
            ..row
        },
    }
}
