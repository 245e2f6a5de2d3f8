//! What the tasks of the station share: the tables, how the sources are, who has to wake up.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mailgate_model::{Clock, Timestamp};
use tokio::sync::{Notify, watch};

use crate::Error;
use crate::merge::{Merged, TableIndex};
use crate::rows::{BgpRow, SourceState};

/// Held by [`Lists`](crate::Lists) and by every task.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Wakes `emit`.
    pub(crate) changed: Notify,
    /// Wakes `manual`.
    pub(crate) edited: Notify,
    /// How far entries by hand are on disk.
    pub(crate) saved: watch::Sender<Saved>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Everything that changes.
pub(crate) struct State {
    pub(crate) merged: Merged,
    /// In the order of origins, beginning with origin 1.
    pub(crate) sources: Vec<Status>,
    /// Counts edits by hand.
    pub(crate) edits: u64,
    /// Tables whose entries by hand differ from those on disk.
    pub(crate) unsaved: BTreeSet<TableIndex>,
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
    pub(crate) state: SourceState,
    pub(crate) refused: usize,
    pub(crate) problems: Vec<String>,
    pub(crate) last_change: Option<Timestamp>,
    pub(crate) error: Option<String>,
}

/// What a source is, with what only its kind knows.
pub(crate) enum Kind {
    Bgp(Box<BgpRow>),
    File,
}

impl Status {
    pub(crate) fn new(name: String, kind: Kind) -> Self {
        let state = SourceState::Waiting;
        Self { name, kind, state, refused: 0, problems: Vec::new(), last_change: None, error: None }
    }
}

impl State {
    /// Whether a file has not yet been looked at: until then the edge is told nothing, so that a restart does
    /// not empty the kernel's tables for a moment. Peers are not waited for; they may never come.
    pub(crate) fn is_loading(&self) -> bool {
        self.sources.iter().any(|s| matches!(s.kind, Kind::File) && s.state == SourceState::Waiting)
    }
}

impl Shared {
    pub(crate) fn new(merged: Merged, sources: Vec<Status>, clock: Arc<dyn Clock>) -> Self {
        Self {
            state: Mutex::new(State { merged, sources, edits: 0, unsaved: BTreeSet::new() }),
            changed: Notify::new(),
            edited: Notify::new(),
            saved: watch::Sender::new(Saved::default()),
            clock,
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

    fn tell(&self, pending: bool) {
        if pending {
            self.changed.notify_one();
        }
    }
}
