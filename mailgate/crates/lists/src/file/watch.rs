//! Being told by the system that files have changed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

/// What is watched.
pub(crate) enum Watched {
    /// One file; its folder is watched, because editors replace files.
    File(PathBuf),
    /// Everything in a folder.
    Folder(PathBuf),
}

impl Watched {
    fn folder(&self) -> &Path {
        match self {
            Self::File(path) => match path.parent() {
                Some(folder) if folder != Path::new("") => folder,
                _ => Path::new("."),
            },
            Self::Folder(path) => path,
        }
    }

    /// The name that matters; `None` when all do.
    fn name(&self) -> Option<OsString> {
        match self {
            Self::File(path) => Some(path.file_name().unwrap_or_default().to_owned()),
            Self::Folder(_) => None,
        }
    }
}

/// Watches; `None` when there is nothing to watch or the system cannot, and then looking has to do.
pub(crate) fn start(files: &[(Watched, Arc<Notify>)]) -> Option<RecommendedWatcher> {
    if files.is_empty() {
        return None;
    }
    let names: Vec<(PathBuf, Option<OsString>, Arc<Notify>)> = files
        .iter()
        .map(|(watched, wake)| (watched.folder().to_owned(), watched.name(), Arc::clone(wake)))
        .collect();
    let told = move |event: notify::Result<Event>| {
        let Ok(event) = event else { return };
        if !is_complete(event.kind) {
            return;
        }
        for (folder, name, wake) in &names {
            let is_it = |path: &PathBuf| match name {
                Some(name) => path.file_name() == Some(name),
                None => path.parent() == Some(folder),
            };
            if event.paths.iter().any(is_it) {
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
    for folder in files.iter().map(|(watched, _)| watched.folder()).collect::<BTreeSet<_>>() {
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
