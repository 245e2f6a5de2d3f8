//! Files as sources: read at start, read again when they change, kept when they fail.
//!
//! Two ways to notice a change. The system tells when a writer closes the file or another is renamed into its
//! place; then it is read at once. And it is looked at every [`POLL`]; when it differs from what was read and has
//! stood still from one look to the next, it is read. The second way covers file systems that tell nothing,
//! folders that come later, and writers that never close; waiting for stillness avoids reading half a file.

#[cfg(test)]
mod tests;
mod watch;

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::admit::{self, Refusal, Told};
use crate::config::FileConfig;
use crate::format::cidr;
use crate::merge::{Difference, Origin, TableIndex};
use crate::rows::SourceState;
use crate::shared::{Shared, State, source_mut};

/// Two looks and the reading fit into a second.
const POLL: Duration = Duration::from_millis(400);

/// Largest file, about ten million lines.
const FILE_LIMIT: u64 = 256 * 1024 * 1024;

/// Starts one task for each file.
pub(crate) fn start(shared: &Arc<Shared>, files: Vec<(Origin, FileConfig)>, shutdown: &CancellationToken) {
    let wakes: Vec<(PathBuf, Arc<Notify>)> =
        files.iter().map(|(_, config)| (config.path.clone(), Arc::default())).collect();
    let watcher = Arc::new(watch::start(&wakes));
    for ((origin, config), (_, wake)) in files.into_iter().zip(wakes) {
        let Some(table) = shared.lock().merged.index(&config.table) else { continue };
        let source =
            Source { shared: Arc::clone(shared), origin, table, path: config.path, read: None, error: None };
        let watcher = Arc::clone(&watcher);
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            // Watching ends with the last task.
            let _watcher = watcher;
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = source.run(&wake) => {}
            }
        });
    }
}

/// One file.
struct Source {
    shared: Arc<Shared>,
    origin: Origin,
    table: TableIndex,
    path: PathBuf,
    /// What the file looked like when it was last read; `None` when it has to be read anew.
    read: Option<Signature>,
    /// What is wrong with it now.
    error: Option<String>,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signature {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Signature {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Source {
    /// Runs until the runtime ends, and then returns the error.
    async fn run(mut self, wake: &Notify) -> Result<(), Error> {
        let mut last = self.look().await?;
        loop {
            match &last {
                Ok(signature) => self.read(*signature).await?,
                Err(said) => self.fail(said.clone()).await?,
            }
            last = loop {
                let told = tokio::select! {
                    () = wake.notified() => true,
                    () = self.shared.clock.sleep(POLL) => false,
                };
                let now = self.look().await?;
                let still = told || now == last;
                last = now;
                if still && self.is_news(&last) {
                    break last;
                }
            };
        }
    }

    /// Whether what was seen differs from what is known.
    fn is_news(&self, seen: &Result<Signature, String>) -> bool {
        match seen {
            Ok(signature) => self.read != Some(*signature),
            Err(said) => self.error.as_ref() != Some(said),
        }
    }

    async fn look(&self) -> Result<Result<Signature, String>, Error> {
        let path = self.path.clone();
        let look = move || metadata(&path).map(|found| Signature::of(&found)).map_err(|e| e.to_string());
        tokio::task::spawn_blocking(look).await.map_err(|_| Error::Stopped)
    }

    async fn read(&mut self, signature: Signature) -> Result<(), Error> {
        let (path, origin) = (self.path.clone(), self.origin);
        let most =
            self.shared.with(move |state| source_mut(state, origin).map(|source| source.gate.max_entries()));
        let most = most.await?.unwrap_or(0);
        let parse = move || {
            read(&path).map(|text| (text.is_empty(), cidr::parse(&path.to_string_lossy(), &text, most)))
        };
        let (is_bare, parsed) = match tokio::task::spawn_blocking(parse).await.map_err(|_| Error::Stopped)? {
            Ok(parsed) => parsed,
            // Tried again at the next look.
            Err(error) => return self.fail(error.to_string()).await,
        };
        if let (true, Some(first)) = (parsed.set.is_empty(), parsed.problems.first()) {
            // An error page instead of a list, for instance. Not tried again before it changes.
            let said = format!("no line of {} can be read, first: {first}", parsed.refused);
            self.fail(said).await?;
            self.read = Some(signature);
            return Ok(());
        }
        if is_bare && self.holds_entries().await? {
            // What a download leaves that failed after it had opened its target, or a full disk.
            let said =
                "found a file of no octet, expected entries, or a comment if none are meant".to_owned();
            self.fail(said).await?;
            self.read = Some(signature);
            return Ok(());
        }
        for problem in &parsed.problems {
            tracing::warn!(target: "lists", event = "skip", reason = problem);
        }
        let (origin, table, now) = (self.origin, self.table, self.shared.clock.now());
        let refused = parsed.refused;
        let take = move |state: &mut State| {
            let offered = admit::offer_sets(state, origin, vec![(table, parsed.set)], Told::Fresh, now)?;
            let difference = offered.difference;
            if let Some(status) = source_mut(state, origin) {
                status.state = SourceState::Good;
                status.error = None;
                status.refused = parsed.refused;
                status.problems = parsed.problems;
                if !difference.is_empty() || status.last_change.is_none() {
                    status.last_change = Some(now);
                }
            }
            // A first reading without any entry changes nothing but ends the waiting of `emit`.
            Ok::<_, Refusal>(difference)
        };
        let Difference { added, changed, deleted } = match self.shared.with_blocking(take).await? {
            Ok(difference) => difference,
            Err(full) => {
                // Tried again when the file changes, not before: reading five million lines for nothing is costly.
                self.fail(full.to_string()).await?;
                self.read = Some(signature);
                return Ok(());
            }
        };
        self.shared.changed.notify_one();
        tracing::info!(
            target: "lists", event = "read", path = %self.path.display(), added, changed, deleted, refused
        );
        self.read = Some(signature);
        self.error = None;
        Ok(())
    }

    /// Whether an earlier reading left entries in the table.
    async fn holds_entries(&self) -> Result<bool, Error> {
        let (table, origin) = (self.table, self.origin);
        self.shared.with(move |state| state.merged.count(table, origin) > 0).await
    }

    /// Keeps the last good set and says why, once.
    async fn fail(&mut self, said: String) -> Result<(), Error> {
        self.read = None;
        if self.error.as_ref() == Some(&said) {
            return Ok(());
        }
        tracing::warn!(target: "lists", event = "fail", path = %self.path.display(), error = said);
        self.error = Some(said.clone());
        let origin = self.origin;
        let fail = move |state: &mut State| {
            if let Some(status) = source_mut(state, origin) {
                status.state = SourceState::Failed;
                status.error = Some(said);
            }
        };
        self.shared.with(fail).await?;
        self.shared.changed.notify_one();
        Ok(())
    }
}

/// Refuses what is not a file: opening a pipe would wait for its writer.
fn metadata(path: &Path) -> io::Result<Metadata> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_file() {
        Ok(metadata)
    } else {
        Err(io::Error::other("found something that is not a file, expected a file"))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let length = metadata(path)?.len();
    let mut text = Vec::with_capacity(usize::try_from(length.min(FILE_LIMIT)).unwrap_or(0));
    File::open(path)?.take(FILE_LIMIT + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(io::Error::other(format!("found more than {FILE_LIMIT} bytes, expected at most that")));
    }
    Ok(text)
}
