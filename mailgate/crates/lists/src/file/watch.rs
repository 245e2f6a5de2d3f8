//! Being told by the system that files have changed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// Watches the folders of the files, because editors replace files; `None` when the system cannot, and then
/// looking has to do.
pub(super) fn start(files: &[(PathBuf, Arc<Notify>)]) -> Option<RecommendedWatcher> {
    if files.is_empty() {
        return None;
    }
    let names: Vec<(OsString, Arc<Notify>)> = files
        .iter()
        .filter_map(|(path, wake)| Some((path.file_name()?.to_owned(), Arc::clone(wake))))
        .collect();
    let told = move |event: notify::Result<Event>| {
        let Ok(event) = event else { return };
        if !is_complete(event.kind) {
            return;
        }
        for (name, wake) in &names {
            if event.paths.iter().any(|path| path.file_name() == Some(name)) {
                wake.notify_one();
            }
        }
    };
    let failed = |error: notify::Error, path: &Path| {
        tracing::debug!(target: "lists", event = "watch", path = %path.display(), %error);
    };
    let mut watcher = match notify::recommended_watcher(told) {
        Ok(watcher) => watcher,
        Err(error) => {
            failed(error, Path::new("inotify"));
            return None;
        }
    };
    for folder in files.iter().map(|(path, _)| folder(path)).collect::<BTreeSet<_>>() {
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            failed(error, folder);
        }
    }
    Some(watcher)
}

/// Whether the file is now as its writer wants it: a mere write or creation is likely to be half of something.
fn is_complete(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(_)
    )
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}
