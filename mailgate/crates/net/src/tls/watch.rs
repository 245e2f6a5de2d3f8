//! Notices when certificate files change.

use std::path::PathBuf;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Programs write certificate and key one after the other; this much silence means they are done.
const SETTLE: Duration = Duration::from_millis(200);

/// Changes in some folders, reported until dropped.
pub(super) struct Changes {
    /// Ends the reports when dropped; `None` when the system reports nothing.
    _watcher: Option<RecommendedWatcher>,
    seen: mpsc::Receiver<()>,
}

impl Changes {
    pub(super) fn of(folders: &[PathBuf]) -> Self {
        // One place is enough: a report says that something changed, not what.
        let (report, seen) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading the files is reported too, and would wake us for ever.
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = report.try_send(());
            }
        });
        let watching = watcher.and_then(|mut watcher| {
            for folder in folders {
                watcher.watch(folder, RecursiveMode::NonRecursive)?;
            }
            Ok(watcher)
        });
        if let Err(error) = &watching {
            tracing::warn!(target: "net", event = "certificate", %error, "changes are found by looking now and then");
        }
        Self { _watcher: watching.ok(), seen }
    }

    /// Ends when something changed and nothing more did for a moment; never without reports of the system.
    pub(super) async fn settled(&mut self) {
        if self.seen.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        while let Ok(Some(())) = tokio::time::timeout(SETTLE, self.seen.recv()).await {}
    }
}
