//! Notices when certificate files change.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use super::certificates::Certificates;
use crate::Error;

/// Without events (network file systems, a symbolic link that changes elsewhere) files are looked at this often.
const POLL: Duration = Duration::from_secs(60);
/// Programs write certificate and key one after the other; this much silence means they are done.
const SETTLE: Duration = Duration::from_millis(200);

/// Watches until dropped.
pub(super) struct Watch {
    /// Holds the sender of events; without it the thread ends.
    _watcher: Option<RecommendedWatcher>,
    _stop: mpsc::Sender<()>,
}

impl Watch {
    pub(super) fn start(certificates: &Arc<Certificates>) -> Result<Self, Error> {
        let (events, changed) = mpsc::channel();
        let watcher = watcher(certificates, events.clone());
        let watched = Arc::downgrade(certificates);
        let spawned =
            std::thread::Builder::new().name("tls-watch".to_owned()).spawn(move || run(&changed, &watched));
        spawned.map_err(|source| Error::File {
            doing: "starting a thread for",
            path: "certificates".into(),
            source,
        })?;
        Ok(Self { _watcher: watcher, _stop: events })
    }
}

fn watcher(certificates: &Certificates, events: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the files is an event too, and would wake us for ever.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = events.send(());
        }
    });
    let watched = watcher.and_then(|mut watcher| {
        for folder in certificates.folders() {
            watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    });
    watched
        .inspect_err(|error| {
            tracing::warn!(target: "net", event = "certificates", result = "unwatched", %error, "changes are found by looking every minute");
        })
        .ok()
}

fn run(changed: &mpsc::Receiver<()>, certificates: &Weak<Certificates>) {
    loop {
        match changed.recv_timeout(POLL) {
            Ok(()) => while changed.recv_timeout(SETTLE).is_ok() {},
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let Some(certificates) = certificates.upgrade() else { return };
        certificates.refresh();
    }
}
