//! One table, filled by one file, without a running station: for measuring how long that takes.
//!
//! The way of a file source from the bytes on disk to what the edge is told, through the same reader, gate and tables. Only
//! the copy is left out that a station keeps for its next start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mailgate_model::Clock;

use crate::admit::{self, Gate, Told};
use crate::config::{FileConfig, SourceConfig, TableConfig};
use crate::file::read;
use crate::merge::{Merged, SOURCES};
use crate::shared::{Kind, Shared, Status};
use crate::source::{Bounds, Reading};
use crate::table::{Action, Change, TableName};

/// What the edge is told of a table that one file fills.
///
/// # Errors
/// A sentence: the file cannot be read, or is no list.
pub fn changes_of_file(
    name: TableName,
    action: Action,
    path: &Path,
    clock: Arc<dyn Clock>,
) -> Result<Vec<Change>, String> {
    let now = clock.now();
    let source = SourceConfig::File(FileConfig::new(path.to_owned(), name.clone()));
    let limit = crate::config::ENTRIES_LIMIT;
    let mut merged = Merged::new([TableConfig::new(name, action)], limit, now);
    merged.reload();
    let gate = Gate::new(&source, &merged);
    let most = gate.max_entries();
    let status = Status::new(source.name(), Kind::Local(source.kind()), gate);
    let shared = Shared::new(merged, Vec::new(), vec![status], clock, PathBuf::new());
    let bytes = read(path).map_err(|error| error.to_string())?;
    let bounds = Bounds { bytes: crate::inflate::SIZE_MAX, entries: most };
    let reading = Reading::of(crate::Format::Auto, &path.to_string_lossy(), bytes, bounds)
        .map_err(|failure| failure.said)?;
    let mut state = shared.lock();
    admit::offer_sets(&mut state, SOURCES, vec![(0, reading.set)], Told::Fresh, now)
        .map_err(|refusal| refusal.to_string())?;
    Ok(state.merged.take_changes().unwrap_or_default())
}
