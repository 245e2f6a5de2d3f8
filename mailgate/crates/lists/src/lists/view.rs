//! Tables as rows.

use std::net::IpAddr;

use ipnet::IpNet;
use mailgate_model::Timestamp;

use crate::Error;
use crate::merge::{CONFIG, Found, MANUAL, OVERLOAD, Origin, SOURCES, TableIndex};
use crate::rows::{
    AdmissionState, EntryRow, Match, OriginCount, Page, SourceRow, SourceState, TableRow, Tested,
};
use crate::shared::{Kind, State, Status};
use crate::table::{Action, Entry, TableName};

/// The position of a table.
///
/// # Errors
/// [`Error::UnknownTable`].
pub(super) fn index(state: &State, name: &TableName) -> Result<TableIndex, Error> {
    state.merged.index(name).ok_or_else(|| {
        let known: Vec<&str> = state.merged.tables().map(|(name, ..)| name.as_str()).collect();
        Error::UnknownTable { name: name.clone(), known: known.join(", ") }
    })
}

/// The origin of a source by name.
pub(super) fn origin(state: &State, name: &str) -> Option<Origin> {
    (SOURCES..).zip(&state.sources).find(|(_, source)| source.name == name).map(|(origin, _)| origin)
}

pub(super) fn origin_name(state: &State, origin: Origin) -> String {
    match origin {
        MANUAL => "manual".to_owned(),
        OVERLOAD => "overload".to_owned(),
        CONFIG => "config".to_owned(),
        _ => {
            let source = origin.checked_sub(SOURCES).and_then(|at| state.sources.get(usize::from(at)));
            source.map(|source| source.name.clone()).unwrap_or_default()
        }
    }
}

/// What listings call the origins.
pub(super) fn names(state: &State, origins: impl IntoIterator<Item = Origin>) -> Vec<String> {
    origins.into_iter().map(|origin| origin_name(state, origin)).collect()
}

pub(super) fn tables(state: &State) -> Vec<TableRow> {
    let row = |(index, (name, action, entries)): (TableIndex, (&TableName, Action, usize))| {
        let config = state.merged.config(index)?;
        let tally = state.merged.tally(index)?;
        let total = tally.since.is_some().then(|| tally.total());
        let origin = |(origin, entries)| OriginCount { origin: origin_name(state, origin), entries };
        Some(TableRow {
            name: name.clone(),
            action,
            entries,
            memory: state.merged.bytes(index),
            readonly: config.readonly,
            counters: config.counters,
            packets: total.map(|(packets, _)| packets),
            bytes: total.map(|(_, bytes)| bytes),
            cleared: tally.cleared,
            origins: state.merged.counts(index).map(origin).collect(),
        })
    };
    (0..).zip(state.merged.tables()).filter_map(row).collect()
}

pub(super) fn page(state: &State, table: TableIndex, after: Option<IpNet>, limit: usize) -> Page {
    let mut found = state.merged.entries(table, after);
    let rows = found.by_ref().take(limit).map(|found| entry(state, table, found)).collect();
    Page {
        entries: state.merged.tables().nth(usize::from(table)).map_or(0, |(.., entries)| entries),
        counters: state.merged.config(table).is_some_and(|config| config.counters),
        more: found.next().is_some(),
        rows,
    }
}

fn entry(state: &State, table: TableIndex, found: Found) -> EntryRow {
    let Entry { prefix, negated, expires } = found.entry;
    let added = found.added();
    let tally = state.merged.tally(table);
    let count = tally.filter(|tally| tally.since.is_some());
    let count = count.map(|tally| tally.counts.get(&prefix).copied().unwrap_or_default());
    EntryRow {
        prefix,
        negated,
        expires,
        origins: names(state, found.claims.iter().map(|(origin, _)| *origin)),
        added,
        cleared: tally.map_or(added, |tally| tally.cleared(prefix, added)),
        packets: count.map(|count| count.packets),
        bytes: count.map(|count| count.bytes),
        last: count.and_then(|count| count.last),
        note: state.merged.note(table, prefix).map(|note| note.to_string()),
    }
}

pub(super) fn tested(state: &State, address: IpAddr) -> Tested {
    let find = |(index, (table, ..)): (TableIndex, (&TableName, Action, usize))| {
        let entry = entry(state, index, state.merged.covering(index, address)?);
        let action = state.merged.meaning(index, address)?;
        Some(Match { table: table.clone(), action, entry })
    };
    let matches: Vec<Match> = (0..).zip(state.merged.tables()).filter_map(find).collect();
    let action = matches.iter().filter(|found| !found.entry.negated).map(|found| found.action).min();
    Tested { address, action, matches }
}

pub(super) fn sources(state: &State, now: Timestamp) -> Vec<SourceRow> {
    (SOURCES..).zip(&state.sources).map(|(origin, status)| source(state, origin, status, now)).collect()
}

fn source(state: &State, origin: Origin, source: &Status, now: Timestamp) -> SourceRow {
    let names: Vec<&TableName> = state.merged.tables().map(|(name, ..)| name).collect();
    let tables = 0..TableIndex::try_from(names.len()).unwrap_or(TableIndex::MAX);
    let entries = tables.map(|table| state.merged.count(table, origin)).sum();
    let admission = source.gate.row(entries, now);
    SourceRow {
        name: source.name.clone(),
        kind: match source.kind {
            Kind::Bgp(_) => "bgp",
            Kind::Local(kind) | Kind::Remote(kind) => kind,
        },
        tables: source.tables.iter().filter_map(|at| names.get(usize::from(*at)).copied().cloned()).collect(),
        from: source.from.clone(),
        state: match (source.state, admission.state) {
            (SourceState::Good, AdmissionState::Frozen) => SourceState::Frozen,
            (SourceState::Good, AdmissionState::Observing) => SourceState::Observing,
            (state, _) => state,
        },
        entries,
        refused: source.refused + source.gate.refused(),
        problems: source.problems.clone(),
        last_change: source.last_change,
        error: source.error.clone().or_else(|| source.partly.clone()).or_else(|| admission.why.clone()),
        last_success: source.last_success,
        last_failure: source.last_failure.as_ref().map(|(at, _)| *at),
        last_error: source.last_failure.as_ref().map(|(_, said)| said.clone()),
        next_run: source.next_run,
        bytes: source.bytes,
        format: source.format,
        etag: source.etag.clone(),
        copy_error: source.copy_error.clone(),
        admission,
    }
}
