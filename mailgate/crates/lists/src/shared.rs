//! What the tasks of the station share: the tables, how the sources are, who has to wake up.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mailgate_model::{Clock, Timestamp};
use tokio::sync::{Notify, mpsc, watch};

use crate::Error;
use crate::admit::{Desk, Gate, Guarded, Protected};
use crate::manual::Record;
use crate::merge::{Merged, Origin, SOURCES, TableIndex};
use crate::notes::{Notes, clean, rendered};
use crate::rows::{BgpRow, SourceState};
use crate::rush::Rush;
use crate::source::Order;

/// Held by [`Lists`](crate::Lists) and by every task.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Wakes `emit`.
    pub(crate) changed: Notify,
    /// Wakes `manual`.
    pub(crate) edited: Notify,
    /// How far entries by hand are on disk.
    pub(crate) saved: watch::Sender<Saved>,
    /// Up to where the edge judges by what it was told.
    pub(crate) in_force: watch::Sender<u64>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The file of the counts; whoever writes it holds this.
    pub(crate) counts: Mutex<PathBuf>,
}

/// Everything that changes.
pub(crate) struct State {
    pub(crate) merged: Merged,
    /// Whom no source keeps out.
    pub(crate) guarded: Guarded,
    /// Of these, those that the configuration of the lists names, and the neighbours.
    pub(crate) peers: Vec<Protected>,
    /// In the order of origins, beginning with [`SOURCES`].
    pub(crate) sources: Vec<Status>,
    /// Counts edits by hand and by the daemon.
    pub(crate) edits: u64,
    /// Tables whose edited entries have to be written as a whole.
    pub(crate) unsaved: BTreeSet<TableIndex>,
    /// Edits that are not yet on disk, oldest first.
    pub(crate) journal: Vec<(TableIndex, Record)>,
    /// Whether counts differ from those on disk.
    pub(crate) uncounted: bool,
    /// Up to where each batch on its way to the edge goes.
    pub(crate) sent: VecDeque<u64>,
    /// While a peer tells its whole table, what is pending waits.
    pub(crate) rush: Rush,
    /// Whether the warning about the limit has been given.
    pub(crate) warned: bool,
}

/// How far entries by hand are on disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Saved {
    /// All edits up to this one have been tried.
    pub(crate) edits: u64,
    /// Why the last try failed.
    pub(crate) error: Option<Arc<(std::path::PathBuf, std::io::Error)>>,
}

/// How a source is.
pub(crate) struct Status {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The tables it may fill.
    pub(crate) tables: Vec<TableIndex>,
    pub(crate) state: SourceState,
    /// What it may bring, and what became of it.
    pub(crate) gate: Gate,
    /// Lines that could not be read, or routes that are not list entries.
    pub(crate) refused: usize,
    pub(crate) problems: Vec<String>,
    pub(crate) last_change: Option<Timestamp>,
    pub(crate) error: Option<String>,
    /// What is wrong with a part of the last list.
    pub(crate) partly: Option<String>,
    /// Why there is no copy of the last list on disk.
    pub(crate) copy_error: Option<String>,
    pub(crate) last_success: Option<Timestamp>,
    /// The last failure, also when it is over.
    pub(crate) last_failure: Option<(Timestamp, String)>,
    pub(crate) next_run: Option<Timestamp>,
    /// Bytes of the last list, unpacked.
    pub(crate) bytes: u64,
    pub(crate) etag: Option<String>,
    pub(crate) format: Option<crate::Format>,
    /// Where it comes from.
    pub(crate) from: String,
    pub(crate) voice: Voice,
    /// Takes orders, where the source can.
    pub(crate) orders: Option<mpsc::Sender<Order>>,
}

/// What those on a list are told.
#[derive(Debug, Default)]
pub(crate) struct Voice {
    /// What the configuration says.
    pub(crate) configured: Option<String>,
    /// What the list says of all.
    pub(crate) told: Option<String>,
    /// What it says of single entries.
    pub(crate) notes: Notes,
}

impl Voice {
    /// What one address is told; nothing twice.
    pub(crate) fn messages(&self, address: IpAddr) -> Vec<String> {
        let notes: Vec<String> =
            self.notes.of(address).into_iter().map(|note| rendered(note, address)).collect();
        let told = self.told.as_deref().map(|told| rendered(told, address));
        let mut messages = match &self.configured {
            Some(text) => {
                let said: Vec<&str> = told.iter().chain(&notes).map(String::as_str).collect();
                vec![rendered(&text.replace("%N", &said.join(", ").replace('%', "%%")), address)]
            }
            None if notes.is_empty() => told.into_iter().collect(),
            None => notes,
        };
        messages.iter_mut().for_each(|message| *message = clean(message));
        messages.retain(|message| !message.is_empty());
        messages
    }
}

/// What a source is, with what only its kind knows.
pub(crate) enum Kind {
    Bgp(Box<BgpRow>),
    /// What is read from this machine's disk, and therefore waited for at the start.
    Local(&'static str),
    /// What comes from elsewhere.
    Remote(&'static str),
}

impl Status {
    pub(crate) fn new(name: String, kind: Kind, gate: Gate) -> Self {
        let state = SourceState::Waiting;
        Self {
            name,
            kind,
            tables: Vec::new(),
            state,
            gate,
            refused: 0,
            problems: Vec::new(),
            last_change: None,
            error: None,
            partly: None,
            copy_error: None,
            last_success: None,
            last_failure: None,
            next_run: None,
            bytes: 0,
            etag: None,
            format: None,
            from: String::new(),
            voice: Voice::default(),
            orders: None,
        }
    }
}

impl State {
    /// Whether a file has not yet been looked at: until then the edge is told nothing, so that a restart does
    /// not empty the kernel's tables for a moment. Peers are not waited for; they may never come.
    pub(crate) fn is_loading(&self) -> bool {
        self.sources.iter().any(|s| matches!(s.kind, Kind::Local(_)) && s.state == SourceState::Waiting)
    }

    /// Whether `asked` more entries fit.
    ///
    /// # Errors
    /// [`Error::Full`].
    pub(crate) fn expect_room(&self, asked: usize) -> Result<(), Error> {
        self.merged.expect_room(asked)
    }

    /// The gate of a source with what it works on.
    pub(crate) fn desk(&mut self, origin: Origin, now: Timestamp) -> Option<Desk<'_>> {
        let Self { merged, guarded, sources, .. } = self;
        let Status { name, gate, .. } = sources.get_mut(usize::from(origin.checked_sub(SOURCES)?))?;
        Some(Desk { merged, gate, guarded, origin, source: name, now })
    }

    /// Warns once when four fifths of the limit are reached, and again when it happens anew.
    fn warn(&mut self) {
        let (held, limit) = (self.merged.claims(), self.merged.limit());
        let is_near = held >= limit - limit / 5;
        if is_near && !self.warned {
            tracing::warn!(target: "lists", event = "nearly_full", entries = held, limit,
                "four fifths of lists.entries_limit; beyond it lists are refused");
        }
        self.warned = is_near;
    }
}

/// How the source of an origin is.
pub(crate) fn source_mut(state: &mut State, origin: Origin) -> Option<&mut Status> {
    state.sources.get_mut(usize::from(origin.checked_sub(SOURCES)?))
}

impl Shared {
    pub(crate) fn new(
        merged: Merged,
        peers: Vec<Protected>,
        sources: Vec<Status>,
        clock: Arc<dyn Clock>,
        counts: PathBuf,
    ) -> Self {
        Self {
            state: Mutex::new(State {
                merged,
                guarded: Guarded::new(peers.iter().copied()),
                peers,
                sources,
                edits: 0,
                unsaved: BTreeSet::new(),
                journal: Vec::new(),
                uncounted: false,
                sent: VecDeque::new(),
                rush: Rush::default(),
                warned: false,
            }),
            changed: Notify::new(),
            edited: Notify::new(),
            saved: watch::Sender::new(Saved::default()),
            in_force: watch::Sender::new(0),
            clock,
            counts: Mutex::new(counts),
        }
    }

    /// For threads that may wait: a set of a million entries is merged under this lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the state without making a thread of the runtime wait for the lock.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the runtime is ending.
    pub(crate) async fn with<R, F>(self: &Arc<Self>, work: F) -> Result<R, Error>
    where
        R: Send + 'static,
        F: FnOnce(&mut State) -> R + Send + 'static,
    {
        if let Ok(mut state) = self.state.try_lock() {
            let result = work(&mut state);
            state.warn();
            let pending = state.merged.is_pending();
            drop(state);
            self.tell(pending);
            return Ok(result);
        }
        self.with_blocking(work).await
    }

    /// The same for work that itself takes long.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the runtime is ending.
    pub(crate) async fn with_blocking<R, F>(self: &Arc<Self>, work: F) -> Result<R, Error>
    where
        R: Send + 'static,
        F: FnOnce(&mut State) -> R + Send + 'static,
    {
        let tell = move |state: &mut State| {
            let result = work(state);
            state.warn();
            (result, state.merged.is_pending())
        };
        let (result, pending) = self.quietly(tell).await?;
        self.tell(pending);
        Ok(result)
    }

    /// The same without waking `emit`.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the runtime is ending.
    pub(crate) async fn quietly<R, F>(self: &Arc<Self>, work: F) -> Result<R, Error>
    where
        R: Send + 'static,
        F: FnOnce(&mut State) -> R + Send + 'static,
    {
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&mut shared.lock())).await.map_err(|_| Error::Stopped)
    }

    /// Works on a thread that may wait, for the lock or for the disk.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the runtime is ending.
    pub(crate) async fn off_runtime<R, F>(self: &Arc<Self>, work: F) -> Result<R, Error>
    where
        R: Send + 'static,
        F: FnOnce(&Self) -> R + Send + 'static,
    {
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&shared)).await.map_err(|_| Error::Stopped)
    }

    fn tell(&self, pending: bool) {
        if pending {
            self.changed.notify_one();
        }
    }
}
