//! Entries made by hand and by the daemon live on disk: for each table one text file, replaced as a whole, and a
//! journal of what has been edited since, which an edit makes longer by a line. When the journal has outgrown the file,
//! the file is replaced and begins a new journal. So an edit costs one synchronous write whatever the table holds, and
//! what is on disk is always the old or the new state.

mod line;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::disk;
use crate::merge::{Claim, MANUAL, Merged, OVERLOAD, Origin, TableIndex};
use crate::shared::{Saved, Shared, State};
use crate::table::TableName;
use line::{read_line, write_line};

/// Pause before a save that failed is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// Said instead of a number of edits when nothing will be saved any more.
const STOPPED: u64 = u64::MAX;

/// A journal may be as long as this, or as its file.
const JOURNAL_MIN: u64 = 64 * 1024;

/// First lines of each file.
const HEAD: &str =
    "# Entries made by hand and by the daemon. mailgate reads this at start and replaces it.\n";

/// What the line begins with that names the journal that goes on from here.
const GENERATION: &str = "# generation ";

/// One edit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) by: Origin,
    pub(crate) prefix: IpNet,
    /// `None` when it was withdrawn.
    pub(crate) claim: Option<Claim>,
    pub(crate) note: Option<Arc<str>>,
}

/// The files of the tables.
pub(crate) struct Files {
    folder: PathBuf,
    tables: BTreeMap<TableIndex, Kept>,
}

/// The files of one table.
#[derive(Default)]
struct Kept {
    generation: u64,
    bytes: u64,
    journal: Option<fs::File>,
    journal_bytes: u64,
}

/// What has to be written.
#[derive(Default)]
struct Work {
    /// As a whole.
    whole: Vec<(TableIndex, TableName, Vec<Record>)>,
    /// At the end of the journal.
    lines: BTreeMap<TableIndex, (TableName, String)>,
}

/// Reads all files of `folder`; a line that cannot be read is reported and left out. Returns the files, and the tables
/// whose journal is not empty.
pub(crate) fn load(
    folder: PathBuf,
    merged: &mut Merged,
    now: Timestamp,
) -> Result<(Files, BTreeSet<TableIndex>), Error> {
    let names: Vec<TableName> = merged.tables().map(|(name, ..)| name.clone()).collect();
    let mut files = Files { folder, tables: BTreeMap::new() };
    let mut edited = BTreeSet::new();
    for (table, name) in (0..).zip(&names) {
        let text = read(&files.whole(name))?;
        let mut kept = Kept { bytes: text.len() as u64, ..Kept::default() };
        let mut reading = Reading { merged, table, now, full: 0 };
        for line in reading.take(&files.whole(name), &text) {
            kept.generation =
                line.strip_prefix(GENERATION).and_then(|n| n.parse().ok()).unwrap_or(kept.generation);
        }
        let journal = files.journal(name, kept.generation);
        let text = read(&journal)?;
        // A line without its end was being written when the machine stopped, and nobody was told that it is there.
        let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        reading.take(&journal, text.get(..end).unwrap_or_default());
        if reading.full > 0 {
            let limit = reading.merged.limit();
            tracing::error!(target: "lists", event = "full", table = %name, entries = reading.full, limit,
                "left out; raise lists.entries_limit");
        } else if !text.is_empty() {
            edited.insert(table);
        }
        files.tables.insert(table, kept);
    }
    Ok((files, edited))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    match fs::read(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(Error::State { path: path.to_owned(), source }),
    }
}

/// Brings lines into a table.
struct Reading<'a> {
    merged: &'a mut Merged,
    table: TableIndex,
    now: Timestamp,
    /// Entries that did not fit.
    full: usize,
}

impl Reading<'_> {
    /// Returns the comments.
    fn take<'t>(&mut self, path: &Path, text: &'t [u8]) -> Vec<&'t str> {
        let mut comments = Vec::new();
        for (number, line) in (1_u64..).zip(text.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            match std::str::from_utf8(line).map_err(|error| error.to_string()).and_then(|line| {
                if line.is_empty() || line.starts_with('#') {
                    comments.push(line);
                    return Ok(None);
                }
                read_line(line, self.now).map(Some)
            }) {
                Ok(record) => record.into_iter().for_each(|record| self.apply(record)),
                Err(said) => tracing::warn!(
                    target: "lists", event = "skip", at = %format_args!("{}:{number}", path.display()), reason = said
                ),
            }
        }
        comments
    }

    fn apply(&mut self, record: Record) {
        let Record { by, prefix, claim, note } = record;
        let claim = claim.filter(|claim| claim.expires().is_none_or(|at| at > self.now));
        if claim.is_some() && self.merged.room() == 0 && self.merged.claim(self.table, prefix, by).is_none() {
            self.full += 1;
            return;
        }
        self.merged.set(self.table, prefix, by, claim);
        if by == OVERLOAD {
            self.merged.annotate(self.table, prefix, note.filter(|_| claim.is_some()));
        }
    }
}

impl Files {
    fn whole(&self, name: &TableName) -> PathBuf {
        self.folder.join(format!("{name}.txt"))
    }

    fn journal(&self, name: &TableName, generation: u64) -> PathBuf {
        self.folder.join(format!("{name}.{generation}.journal"))
    }

    /// Takes what has been edited. A journal that would become longer than its file makes a new file.
    fn take(&self, state: &mut State) -> (u64, Work) {
        let mut work = Work::default();
        let mut unsaved = std::mem::take(&mut state.unsaved);
        for (table, record) in std::mem::take(&mut state.journal) {
            let Some(config) = state.merged.config(table).filter(|_| !unsaved.contains(&table)) else {
                continue;
            };
            let (_, text) = work.lines.entry(table).or_insert_with(|| (config.name.clone(), String::new()));
            write_line(text, &record);
            let kept = self.tables.get(&table);
            let (bytes, journal) = kept.map_or((0, 0), |kept| (kept.bytes, kept.journal_bytes));
            if journal + text.len() as u64 > bytes.max(JOURNAL_MIN) {
                work.lines.remove(&table);
                unsaved.insert(table);
            }
        }
        for table in unsaved {
            let Some(name) = state.merged.config(table).map(|config| config.name.clone()) else { continue };
            let of = |by| {
                let record = move |(prefix, claim, note)| Record { by, prefix, claim: Some(claim), note };
                state.merged.claimed(table, by).map(record)
            };
            work.whole.push((table, name, of(MANUAL).chain(of(OVERLOAD)).collect()));
        }
        (state.edits, work)
    }

    /// Writes; returns the first error, and the tables that have to be written as a whole.
    fn write(&mut self, work: Work) -> (Option<(PathBuf, io::Error)>, BTreeSet<TableIndex>) {
        let (mut error, mut failed) = (None, BTreeSet::new());
        let mut tried = |table, path: PathBuf, result: io::Result<()>| {
            if let Err(cause) = result {
                tracing::error!(target: "lists", event = "save", path = %path.display(), error = %cause);
                error.get_or_insert((path, cause));
                failed.insert(table);
            }
        };
        for (table, name, records) in work.whole {
            let result = self.replace(table, &name, &records);
            tried(table, self.whole(&name), result);
        }
        for (table, (name, text)) in work.lines {
            let result = self.append(table, &name, &text);
            tried(table, self.whole(&name), result);
        }
        (error, failed)
    }

    /// Writes beside, makes durable, renames, makes the name durable; the journal of before is of no use any more.
    fn replace(&mut self, table: TableIndex, name: &TableName, records: &[Record]) -> io::Result<()> {
        let generation = self.tables.get(&table).map_or(0, |kept| kept.generation);
        let mut text = String::with_capacity(HEAD.len() + records.len() * 40);
        text.push_str(HEAD);
        text.push_str(&format!("{GENERATION}{}\n", generation + 1));
        records.iter().for_each(|record| write_line(&mut text, record));
        disk::replace(&self.whole(name), &text)?;
        let kept =
            Kept { generation: generation + 1, bytes: text.len() as u64, journal: None, journal_bytes: 0 };
        self.tables.insert(table, kept);
        match fs::remove_file(self.journal(name, generation)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn append(&mut self, table: TableIndex, name: &TableName, text: &str) -> io::Result<()> {
        let generation = self.tables.get(&table).map_or(0, |kept| kept.generation);
        let path = self.journal(name, generation);
        let folder = self.folder.clone();
        let kept = self.tables.entry(table).or_default();
        let mut journal = match kept.journal.take() {
            Some(journal) => journal,
            None => {
                disk::folder(&path)?;
                let journal = fs::File::options().append(true).create(true).open(path)?;
                fs::File::open(folder)?.sync_all()?;
                journal
            }
        };
        journal.write_all(text.as_bytes())?;
        journal.sync_data()?;
        kept.journal_bytes += text.len() as u64;
        kept.journal = Some(journal);
        Ok(())
    }
}

/// Saves whenever told, until `shutdown` and everything is on disk.
pub(crate) async fn run(shared: Arc<Shared>, mut files: Files, shutdown: CancellationToken) {
    loop {
        let stopping = shutdown.is_cancelled();
        let save = move |shared: &Shared| {
            let (edits, work) = files.take(&mut shared.lock());
            let (error, failed) = files.write(work);
            if !failed.is_empty() {
                shared.lock().unsaved.extend(failed);
            }
            (files, edits, error)
        };
        let Ok((back, edits, error)) = shared.off_runtime(save).await else { return };
        files = back;
        let failed = error.is_some();
        shared.saved.send_replace(Saved { edits, error: error.map(Arc::new) });
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
