//! Entries made by hand live on disk: one text file per table, replaced as a whole, so that it is always either
//! the old or the new one. Each line is an entry, followed by `until=` and seconds since 1970 if it ends.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mailgate_model::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::merge::{Claim, MANUAL, Merged, TableIndex};
use crate::prefix::parse_entry;
use crate::shared::{Saved, Shared, State};
use crate::table::{Entry, TableName};

/// Pause before a save that failed is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Said instead of a number of edits when nothing will be saved any more.
const STOPPED: u64 = u64::MAX;

/// First lines of each file.
const HEAD: &str = "# Entries made by hand. mailgate reads this at start and replaces it at each change.\n";

/// Reads all files of `folder`; a line that cannot be read is reported and left out.
pub(crate) fn load(folder: &Path, merged: &mut Merged, now: Timestamp) -> Result<(), Error> {
    let names: Vec<TableName> = merged.tables().map(|(name, ..)| name.clone()).collect();
    for (table, name) in (0..).zip(&names) {
        let path = folder.join(format!("{name}.txt"));
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Error::State { path, source }),
        };
        for (number, line) in (1_u64..).zip(text.split(|byte| *byte == b'\n')) {
            match parse_line(&String::from_utf8_lossy(line)) {
                Ok(None) => {}
                Ok(Some(entry)) if entry.expires.is_some_and(|at| at <= now) => {}
                Ok(Some(entry)) => {
                    merged.set(table, entry.prefix, MANUAL, Some(Claim::of(&entry)));
                }
                Err(said) => tracing::warn!(
                    target: "lists", event = "skip", at = %format_args!("{}:{number}", path.display()), reason = said
                ),
            }
        }
    }
    Ok(())
}

fn parse_line(line: &str) -> Result<Option<Entry>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let Some((entry, until)) = line.split_once(' ') else { return parse_entry(line).map(Some) };
    let wrong =
        || format!("found {:?}, expected until= and seconds", until.chars().take(40).collect::<String>());
    let secs = until.trim().strip_prefix("until=").ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
    Ok(Some(Entry { expires: Some(Timestamp::from_secs(secs)), ..parse_entry(entry)? }))
}

fn write_entry(text: &mut String, entry: &Entry) {
    let sign = if entry.negated { "!" } else { "" };
    // Writing to a string cannot fail.
    let _ = match entry.expires {
        // Rounded up, so that a restart never ends an entry early.
        Some(at) => {
            writeln!(text, "{sign}{} until={}", entry.prefix, at.plus(Duration::from_millis(999)).secs())
        }
        None => writeln!(text, "{sign}{}", entry.prefix),
    };
}

/// Saves whenever told, until `shutdown` and everything is on disk.
pub(crate) async fn run(shared: Arc<Shared>, folder: std::path::PathBuf, shutdown: CancellationToken) {
    loop {
        let stopping = shutdown.is_cancelled();
        let take = |state: &mut State| {
            let unsaved = std::mem::take(&mut state.unsaved);
            let tables: Vec<(TableIndex, TableName, Vec<Entry>)> = (0..)
                .zip(state.merged.tables())
                .filter(|(index, _)| unsaved.contains(index))
                .map(|(index, (name, ..))| (index, name.clone(), state.merged.manual(index)))
                .collect();
            (state.edits, tables)
        };
        let Ok((edits, tables)) = shared.quietly(take).await else { return };
        let failed = save_all(&shared, &folder, edits, tables).await;
        if stopping {
            shared.saved.send_replace(Saved { edits: STOPPED, error: None });
            return;
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = shared.edited.notified() => {}
            () = shared.clock.sleep(RETRY), if failed => {}
        }
    }
}

/// Saves and tells who waits; `true` when something failed and has to be tried again.
async fn save_all(
    shared: &Arc<Shared>,
    folder: &Path,
    edits: u64,
    tables: Vec<(TableIndex, TableName, Vec<Entry>)>,
) -> bool {
    let mut error = None;
    for (index, name, entries) in tables {
        let path = folder.join(format!("{name}.txt"));
        let target = path.clone();
        let saved = tokio::task::spawn_blocking(move || save(&target, &entries)).await;
        let saved = saved.unwrap_or_else(|_| Err(io::Error::other("the daemon is stopping")));
        if let Err(cause) = saved {
            tracing::error!(target: "lists", event = "save", path = %path.display(), error = %cause);
            error = Some(Arc::new((path, cause)));
            let _ = shared.quietly(move |state| state.unsaved.insert(index)).await;
        }
    }
    let failed = error.is_some();
    shared.saved.send_replace(Saved { edits, error });
    failed
}

/// Writes beside, makes durable, renames, makes the name durable.
fn save(path: &Path, entries: &[Entry]) -> io::Result<()> {
    let mut text = String::with_capacity(HEAD.len() + entries.len() * 24);
    text.push_str(HEAD);
    entries.iter().for_each(|entry| write_entry(&mut text, entry));
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let beside = path.with_extension("new");
    let mut file = fs::File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(folder)?.sync_all()
}

/// Wakes the task and waits until the edit `edits` has been tried.
pub(crate) async fn saved(shared: &Shared, edits: u64) -> Result<(), Error> {
    let mut saved = shared.saved.subscribe();
    shared.edited.notify_one();
    let saved = saved.wait_for(|saved| saved.edits >= edits).await.map_err(|_| Error::Stopped)?;
    match &saved.error {
        None if saved.edits == STOPPED => Err(Error::Stopped),
        None => Ok(()),
        Some(error) => {
            let (path, source) = &**error;
            Err(Error::State {
                path: path.clone(),
                source: io::Error::new(source.kind(), source.to_string()),
            })
        }
    }
}
