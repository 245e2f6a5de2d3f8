//! What the gates know and must not forget: since when each source is known, its usual size, whether it is frozen. One
//! text file, replaced as a whole when something has changed.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mailgate_model::Timestamp;
use tokio_util::sync::CancellationToken;

use super::growth::Freeze;
use super::reopen::tick;
use crate::disk;
use crate::shared::{Shared, State};

/// How often it is looked whether a feed is believed again, and whether something has to be written.
const INTERVAL: Duration = Duration::from_secs(5);

/// First line of the file.
const HEAD: &str = "# What is known of each source. mailgate reads this at start and replaces it.\n";

/// Name of the file in the folder of the lists.
const FILE: &str = "admission.state";

/// Reads what was known; a file that cannot be read costs that knowledge, not the start.
pub(crate) fn load(folder: &Path, state: &mut State) {
    let path = folder.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!(target: "lists", event = "admission", path = %path.display(), %error, "not read");
            return;
        }
    };
    let mut current = None;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, first, usual)) = source(line) {
            current = state.sources.iter().position(|source| source.name == name);
            if let Some(source) = current.and_then(|at| state.sources.get_mut(at)) {
                source.gate.first = first;
                source.gate.growth.usual = usual;
            }
        } else if let Some(freeze) = frozen(line) {
            if let Some(source) = current.and_then(|at| state.sources.get_mut(at)) {
                source.gate.freeze = Some(freeze);
            }
        } else {
            tracing::warn!(target: "lists", event = "admission", path = %path.display(), line, "not understood, left out");
        }
    }
}

/// `source FIRST USUAL NAME`.
fn source(line: &str) -> Option<(&str, Option<Timestamp>, usize)> {
    let mut words = line.strip_prefix("source ")?.splitn(3, ' ');
    let first: i64 = words.next()?.parse().ok()?;
    let usual = words.next()?.parse().ok()?;
    Some((words.next()?, (first >= 0).then(|| Timestamp::from_millis(first)), usual))
}

/// `frozen SINCE CONFIRMED WHY`, of the source before.
fn frozen(line: &str) -> Option<Freeze> {
    let mut words = line.strip_prefix("frozen ")?.splitn(3, ' ');
    let since = Timestamp::from_millis(words.next()?.parse().ok()?);
    let confirmed = words.next()?.parse().ok()?;
    Some(Freeze { since, confirmed, why: words.next()?.to_owned() })
}

pub(super) fn written(state: &State) -> String {
    let mut text = HEAD.to_owned();
    // Writing to a string cannot fail.
    for source in &state.sources {
        let gate = &source.gate;
        let first = gate.first.map_or(-1, Timestamp::millis);
        let _ = writeln!(text, "source {first} {} {}", gate.growth.usual, source.name.replace('\n', " "));
        if let Some(Freeze { since, confirmed, why }) = &gate.freeze {
            let _ = writeln!(text, "frozen {} {confirmed} {}", since.millis(), why.replace('\n', " "));
        }
    }
    text
}

/// Looks at the gates now and then until `shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, folder: PathBuf, shutdown: CancellationToken) {
    loop {
        let is_last = tokio::select! {
            () = shutdown.cancelled() => true,
            () = shared.clock.sleep(INTERVAL) => false,
        };
        let now = shared.clock.now();
        let look = move |state: &mut State| {
            tick(state, now);
            let is_dirty = state.sources.iter().any(|source| source.gate.is_dirty);
            state.sources.iter_mut().for_each(|source| source.gate.is_dirty = false);
            is_dirty.then(|| written(state))
        };
        let Ok(text) = shared.with_blocking(look).await else { return };
        if let Some(text) = text {
            let path = folder.join(FILE);
            let saved = tokio::task::spawn_blocking(move || (disk::replace(&path, &text), path)).await;
            if let Ok((Err(error), path)) = saved {
                tracing::error!(target: "lists", event = "save", path = %path.display(), %error);
                let again = |state: &mut State| {
                    state.sources.iter_mut().take(1).for_each(|source| source.gate.is_dirty = true);
                };
                if shared.with(again).await.is_err() {
                    return;
                }
            }
        }
        if is_last {
            return;
        }
    }
}
