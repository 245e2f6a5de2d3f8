//! The station as others see it: start it, ask it, edit the tables by hand.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use mailgate_model::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, SourceConfig};
use crate::merge::{Claim, Found, MANUAL, Merged, Origin, TableIndex};
use crate::prefix::{PrefixSet, canonical};
use crate::rows::{
    Added, BgpRow, Deleted, EntryRow, Match, OriginCount, Replaced, SourceRow, TableRow, Tested,
};
use crate::shared::{Kind, Shared, State, Status};
use crate::table::{Change, Entry, Snapshot, TableName};
use crate::{Error, bgp, emit, file, manual};

/// Most entries by hand in one table; the file they are kept in then has about 100 MB.
pub const MANUAL_LIMIT: usize = 1 << 22;

/// What `lists show` calls entries made by hand.
const MANUAL_NAME: &str = "manual";

/// The tables. Cheap to clone; all clones are the same tables.
#[derive(Clone)]
pub struct Lists {
    shared: Arc<Shared>,
}

impl Lists {
    /// Reads the entries made by hand under `state_dir/lists/`, and starts the sources. The first message on the
    /// channel is a [`Change::Reload`], sent as soon as every file has been read or has failed once. Everything
    /// ends when `shutdown` is cancelled. Needs a running tokio runtime.
    ///
    /// # Errors
    /// [`Error::Config`] when the configuration contradicts itself, [`Error::State`] when saved entries cannot be read.
    pub fn start(
        config: Config,
        state_dir: impl AsRef<Path>,
        clock: Arc<dyn Clock>,
        shutdown: CancellationToken,
    ) -> Result<(Self, mpsc::Receiver<Vec<Change>>), Error> {
        config.check()?;
        let folder: PathBuf = state_dir.as_ref().join("lists");
        let mut merged = Merged::new(config.tables().into_iter().map(|table| (table.name, table.action)));
        manual::load(&folder, &mut merged, clock.now())?;

        let sources = ranked(config.source);
        let statuses = sources.iter().map(|source| status(source, &*clock)).collect();
        let shared = Arc::new(Shared::new(merged, statuses, clock));
        let (sender, receiver) = mpsc::channel(emit::BATCHES);
        tokio::spawn(emit::run(Arc::clone(&shared), sender, shutdown.clone()));
        tokio::spawn(manual::run(Arc::clone(&shared), folder, shutdown.clone()));
        let mut files = Vec::new();
        for (source, origin) in sources.into_iter().zip(MANUAL + 1..) {
            match source {
                SourceConfig::Bgp(config) => {
                    tokio::spawn(bgp::run(Arc::clone(&shared), origin, config, shutdown.clone()));
                }
                SourceConfig::File(config) => files.push((origin, config)),
            }
        }
        file::start(&shared, files, &shutdown);
        Ok((Self { shared }, receiver))
    }

    /// All tables with their sizes, in the order of configuration.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn tables(&self) -> Result<Vec<TableRow>, Error> {
        self.shared.with(|state| table_rows(state)).await
    }

    /// All entries of a table with their origins, sorted.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Stopped`].
    pub async fn show(&self, table: &TableName) -> Result<Vec<EntryRow>, Error> {
        let name = table.clone();
        let show = move |state: &mut State| {
            let table = index(state, &name)?;
            Ok(state.merged.entries(table).map(|found| entry_row(state, found)).collect())
        };
        self.shared.with_blocking(show).await?
    }

    /// All tables as the edge sees them now.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        self.shared.with_blocking(|state| state.merged.snapshot()).await
    }

    /// Makes an entry by hand, or changes one. It is on disk when this returns, and counts at once.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::TooMany`], [`Error::Stopped`]; [`Error::State`] when it counts but could not
    /// be saved.
    pub async fn add(&self, table: &TableName, entry: Entry) -> Result<Added, Error> {
        let name = table.clone();
        let prefix = canonical(entry.prefix);
        let add = move |state: &mut State, table: TableIndex| {
            let claim = Claim::of(&entry);
            let count = state.merged.count(table, MANUAL);
            let before = state.merged.set(table, prefix, MANUAL, Some(claim));
            if before.is_none() && count >= MANUAL_LIMIT {
                state.merged.set(table, prefix, MANUAL, None);
                return Err(Error::TooMany { table: name, limit: MANUAL_LIMIT });
            }
            Ok(match before {
                None => Added::Added,
                Some(before) if before == claim => Added::Unchanged,
                Some(_) => Added::Changed,
            })
        };
        self.edit(table, add).await
    }

    /// Takes away an entry made by hand; those of sources stay.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Stopped`]; [`Error::State`] when it counts but could not be saved.
    pub async fn delete(&self, table: &TableName, prefix: IpNet) -> Result<Deleted, Error> {
        let prefix = canonical(prefix);
        let delete = move |state: &mut State, table: TableIndex| {
            let deleted = state.merged.set(table, prefix, MANUAL, None).is_some();
            let still = state.merged.origins(table, prefix);
            Ok(Deleted { deleted, still: names(state, &still) })
        };
        self.edit(table, delete).await
    }

    /// Makes `entries` the entries made by hand of a table; those of sources stay. Of entries with the same prefix the
    /// last counts.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::TooMany`], [`Error::Stopped`]; [`Error::State`] when it counts but could not
    /// be saved.
    pub async fn replace(&self, table: &TableName, entries: Vec<Entry>) -> Result<Replaced, Error> {
        if entries.len() > MANUAL_LIMIT {
            return Err(Error::TooMany { table: table.clone(), limit: MANUAL_LIMIT });
        }
        let replace = move |state: &mut State, table: TableIndex| {
            let mut set = PrefixSet::<Claim>::default();
            entries.iter().for_each(|entry| set.push(canonical(entry.prefix), Claim::of(entry)));
            set.sort_last();
            let difference = state.merged.replace(table, MANUAL, &set);
            let (added, changed, deleted) = (difference.added, difference.changed, difference.deleted);
            Ok(Replaced { added, changed, deleted })
        };
        self.edit(table, replace).await
    }

    /// Takes away all entries of a table that were made by hand, and says how many; those of sources stay.
    ///
    /// # Errors
    /// [`Error::UnknownTable`], [`Error::Stopped`]; [`Error::State`] when it counts but could not be saved.
    pub async fn flush(&self, table: &TableName) -> Result<usize, Error> {
        Ok(self.replace(table, Vec::new()).await?.deleted)
    }

    /// Which tables hold an address, by which entry, of whom, and what is therefore done.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn test(&self, address: IpAddr) -> Result<Tested, Error> {
        self.shared.with(move |state| tested(state, address.to_canonical())).await
    }

    /// How the sources are.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn sources(&self) -> Result<Vec<SourceRow>, Error> {
        self.shared.with(|state| source_rows(state)).await
    }

    /// How the BGP sessions are.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn bgp(&self) -> Result<Vec<BgpRow>, Error> {
        let rows = |state: &mut State| {
            let row = |status: &Status| match &status.kind {
                Kind::Bgp(row) => Some((**row).clone()),
                Kind::File => None,
            };
            state.sources.iter().filter_map(row).collect()
        };
        self.shared.with(rows).await
    }

    /// Changes entries by hand and waits until they are on disk.
    async fn edit<R, F>(&self, table: &TableName, work: F) -> Result<R, Error>
    where
        R: Send + 'static,
        F: FnOnce(&mut State, TableIndex) -> Result<R, Error> + Send + 'static,
    {
        let name = table.clone();
        let edit = move |state: &mut State| {
            let table = index(state, &name)?;
            let result = work(state, table)?;
            state.edits += 1;
            state.unsaved.insert(table);
            Ok((result, state.edits))
        };
        // One entry takes microseconds, a million a second: always off the runtime's threads.
        let (result, edits) = self.shared.with_blocking(edit).await??;
        manual::saved(&self.shared, edits).await?;
        Ok(result)
    }
}

/// Sources by rank: files before peers, each in the order of configuration.
fn ranked(mut sources: Vec<SourceConfig>) -> Vec<SourceConfig> {
    sources.sort_by_key(|source| matches!(source, SourceConfig::Bgp(_)));
    sources
}

fn status(source: &SourceConfig, clock: &dyn Clock) -> Status {
    let kind = match source {
        SourceConfig::Bgp(config) => Kind::Bgp(Box::new(bgp::row(config, clock.now()))),
        SourceConfig::File(_) => Kind::File,
    };
    Status::new(source.name(), kind)
}

fn index(state: &State, name: &TableName) -> Result<TableIndex, Error> {
    state.merged.index(name).ok_or_else(|| {
        let known: Vec<&str> = state.merged.tables().map(|(name, ..)| name.as_str()).collect();
        Error::UnknownTable { name: name.clone(), known: known.join(", ") }
    })
}

fn origin_name(state: &State, origin: Origin) -> String {
    let source = usize::from(origin).checked_sub(1).and_then(|at| state.sources.get(at));
    source.map_or_else(|| MANUAL_NAME.to_owned(), |source| source.name.clone())
}

fn names(state: &State, origins: &[Origin]) -> Vec<String> {
    origins.iter().map(|origin| origin_name(state, *origin)).collect()
}

fn table_rows(state: &State) -> Vec<TableRow> {
    let row = |(index, (name, action, entries)): (TableIndex, (&TableName, _, _))| TableRow {
        name: name.clone(),
        action,
        entries,
        origins: state
            .merged
            .counts(index)
            .map(|(origin, entries)| OriginCount { origin: origin_name(state, origin), entries })
            .collect(),
    };
    (0..).zip(state.merged.tables()).map(row).collect()
}

fn entry_row(state: &State, found: Found) -> EntryRow {
    let Entry { prefix, negated, expires } = found.entry;
    EntryRow { prefix, negated, expires, origins: names(state, &found.origins) }
}

fn tested(state: &State, address: IpAddr) -> Tested {
    let find = |(index, (table, action, _)): (TableIndex, (&TableName, _, _))| {
        let entry = entry_row(state, state.merged.covering(index, address)?);
        Some(Match { table: table.clone(), action, entry })
    };
    let matches: Vec<Match> = (0..).zip(state.merged.tables()).filter_map(find).collect();
    let action = matches.iter().filter(|found| !found.entry.negated).map(|found| found.action).min();
    Tested { address, action, matches }
}

fn source_rows(state: &State) -> Vec<SourceRow> {
    let tables = state.merged.tables().count();
    let row = |(origin, source): (Origin, &Status)| SourceRow {
        name: source.name.clone(),
        kind: match source.kind {
            Kind::Bgp(_) => "bgp",
            Kind::File => "file",
        },
        state: source.state,
        entries: (0..).take(tables).map(|table| state.merged.count(table, origin)).sum(),
        refused: source.refused,
        problems: source.problems.clone(),
        last_change: source.last_change,
        error: source.error.clone(),
    };
    (MANUAL + 1..).zip(&state.sources).map(row).collect()
}

#[cfg(test)]
mod tests;
