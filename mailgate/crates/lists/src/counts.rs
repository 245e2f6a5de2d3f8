//! Counts on disk, so that a restart does not forget them: one text file for all tables, replaced as a whole every
//! minute and at the end. It also says what the kernel had counted by then, which goes on while no daemon runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::merge::{Baseline, Count, Merged, Tally};
use crate::shared::{Shared, State};

/// How often changed counts are written.
const INTERVAL: Duration = Duration::from_secs(60);

/// First line of the file.
const HEAD: &str = "# What tables have counted. mailgate reads this at start and replaces it.\n";

/// Where the counts are.
pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join("counts.state")
}

/// Reads the counts; those of entries and tables that are gone are left out. A file that cannot be read costs the
/// counts, not the start.
pub(crate) fn load(path: &Path, merged: &mut Merged) {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!(target: "lists", event = "counts", path = %path.display(), %error, "not read");
            return;
        }
    };
    let Some((tables, baseline)) = read(&text) else {
        tracing::warn!(target: "lists", event = "counts", path = %path.display(), "not understood, counts begin anew");
        return;
    };
    *merged.baseline() = baseline;
    let names: Vec<_> = merged.tables().map(|(name, ..)| name.to_string()).collect();
    for (index, name) in (0..).zip(names) {
        let Some(saved) = tables.get(&name) else { continue };
        let held: Vec<_> =
            saved.counts.iter().filter(|(prefix, _)| merged.find(index, **prefix).is_some()).collect();
        let held = held.into_iter().map(|(prefix, count)| (*prefix, *count)).collect();
        let Some(tally) = merged.tally_mut(index) else { continue };
        tally.cleared = saved.cleared;
        tally.counts = held;
        // Not counting now, or not then: what was counted before says nothing about idleness since.
        tally.since = tally.since.map(|now| saved.since.unwrap_or(now));
    }
}

/// Reads the whole file; `None` when it is not one of ours.
fn read(text: &str) -> Option<(BTreeMap<String, Tally>, Baseline)> {
    let mut tables: BTreeMap<String, Tally> = BTreeMap::new();
    let mut baseline = Baseline::default();
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        match *words.as_slice() {
            ["table", name, since, cleared] => {
                name.clone_into(&mut current);
                let tally = Tally { since: time(since)?, cleared: time(cleared)?, ..Tally::default() };
                tables.insert(current.clone(), tally);
            }
            ["entry", prefix, packets, bytes, last, cleared] => {
                let prefix: IpNet = prefix.parse().ok()?;
                let (packets, bytes) = (packets.parse().ok()?, bytes.parse().ok()?);
                let count = Count { packets, bytes, last: time(last)?, cleared: time(cleared)? };
                tables.get_mut(&current)?.counts.insert(prefix, count);
            }
            ["source", address, packets, bytes] => {
                let address: IpAddr = address.parse().ok()?;
                baseline.0.insert(address, (packets.parse().ok()?, bytes.parse().ok()?));
            }
            _ => return None,
        }
    }
    Some((tables, baseline))
}

/// Milliseconds since 1970, or `-`.
fn time(text: &str) -> Option<Option<Timestamp>> {
    if text == "-" { Some(None) } else { text.parse().ok().map(Timestamp::from_millis).map(Some) }
}

fn write(state: &mut State) -> String {
    let shown = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| at.millis().to_string());
    let mut text = HEAD.to_owned();
    // Writing to a string cannot fail.
    let names: Vec<_> = state.merged.tables().map(|(name, ..)| name.clone()).collect();
    for (index, name) in (0..).zip(names) {
        let Some(tally) = state.merged.tally(index) else { continue };
        let _ = writeln!(text, "table {name} {} {}", shown(tally.since), shown(tally.cleared));
        for (prefix, count) in &tally.counts {
            let Count { packets, bytes, last, cleared } = *count;
            let _ = writeln!(text, "entry {prefix} {packets} {bytes} {} {}", shown(last), shown(cleared));
        }
    }
    for (source, (packets, bytes)) in &state.merged.baseline().0 {
        let _ = writeln!(text, "source {source} {packets} {bytes}");
    }
    text
}

/// Writes every minute what has changed, and at `shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    loop {
        let stopping = tokio::select! {
            () = shutdown.cancelled() => true,
            () = shared.clock.sleep(INTERVAL) => false,
        };
        // What goes wrong is logged, and tried again.
        let written = shared.off_runtime(|shared| flush(shared).is_ok()).await;
        if written.is_err() || stopping {
            return;
        }
    }
}

/// Writes what has changed since the last time.
///
/// # Errors
/// [`Error::State`]; it is tried again within a minute.
pub(crate) fn flush(shared: &Shared) -> Result<(), Error> {
    // One at a time: all write the same file beside.
    let path = shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
    let mut state = shared.lock();
    let text = std::mem::take(&mut state.uncounted).then(|| write(&mut state));
    drop(state);
    let Some(text) = text else { return Ok(()) };
    crate::disk::replace(&path, &text).map_err(|source| {
        tracing::error!(target: "lists", event = "save", path = %path.display(), error = %source);
        shared.lock().uncounted = true;
        Error::State { path: path.clone(), source }
    })
}
