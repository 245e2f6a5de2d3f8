//! What the command line prints.

mod bgp;

use std::net::IpAddr;

use ipnet::IpNet;
use mailgate_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::admit::Reason;
use crate::table::{Action, TableName};
pub use bgp::{BgpRow, BgpSession, RouteRow};

/// How many entries of a table one origin claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OriginCount {
    /// `manual`, `overload`, `config`, or the name of a source.
    pub origin: String,
    /// Entries; one prefix may be claimed by several origins.
    pub entries: usize,
}

/// A row of `mailgate table list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableRow {
    /// Its name.
    pub name: TableName,
    /// What is done with sources in it.
    pub action: Action,
    /// Different prefixes in it.
    pub entries: usize,
    /// Bytes that they take in the daemon, about; what they take in the filter is in `mailgate status`.
    pub memory: usize,
    /// Whether commands that would change it are refused.
    pub readonly: bool,
    /// Whether hits are counted.
    pub counters: bool,
    /// Packets that it held since it was cleared; `None` when it does not count.
    pub packets: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
    /// When it was last cleared as a whole.
    pub cleared: Option<Timestamp>,
    /// Who claims how many; origins without entries are left out.
    pub origins: Vec<OriginCount>,
}

/// A row of `mailgate table show NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryRow {
    /// The prefix.
    pub prefix: IpNet,
    /// A hole in a wider prefix.
    pub negated: bool,
    /// When it ends by itself, milliseconds since 1970.
    pub expires: Option<Timestamp>,
    /// Who claims it.
    pub origins: Vec<String>,
    /// Since when somebody claims it: of entries of files when the file was first read with it, of others when they were
    /// made or announced.
    pub added: Timestamp,
    /// Since when it counts: when it was cleared, else when it was added.
    pub cleared: Timestamp,
    /// Packets since then; `None` when the table does not count.
    pub packets: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
    /// When the last one came.
    pub last: Option<Timestamp>,
    /// Why the daemon made it.
    pub note: Option<String>,
}

/// A part of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page {
    /// Entries of the whole table.
    pub entries: usize,
    /// Whether the table counts hits.
    pub counters: bool,
    /// Whether there are entries after these.
    pub more: bool,
    /// The entries, sorted by prefix.
    pub rows: Vec<EntryRow>,
}

/// What one table has to say about an address: its most specific entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Match {
    /// The table.
    pub table: TableName,
    /// What is done with sources in it.
    pub action: Action,
    /// The entry and its origins. When `negated`, the table does not apply.
    #[serde(flatten)]
    pub entry: EntryRow,
}

/// The answer of `mailgate table test ADDRESS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tested {
    /// The address asked for, IPv4 out of its IPv6 mapping.
    pub address: IpAddr,
    /// What is done, by the order of [`Action`]; `None` when no table holds the address.
    pub action: Option<Action>,
    /// Tables with an entry that covers the address.
    pub matches: Vec<Match>,
}

/// What became of one entry that a command named; the letters of pfctl(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Letter {
    /// It was added.
    #[serde(rename = "A")]
    Added,
    /// It was there, with another sense or end, and was changed.
    #[serde(rename = "C")]
    Changed,
    /// It was deleted.
    #[serde(rename = "D")]
    Deleted,
    /// It holds the address that was asked for.
    #[serde(rename = "M")]
    Matched,
    /// It was named before in the same command and therefore ignored.
    #[serde(rename = "X")]
    Duplicate,
    /// It is there with the opposite sense (`!`) and therefore was neither added nor deleted.
    #[serde(rename = "Y")]
    Conflict,
    /// Its counts were cleared.
    #[serde(rename = "Z")]
    Cleared,
}

/// What became of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Feedback {
    /// What.
    pub letter: Letter,
    /// The prefix.
    pub prefix: IpNet,
    /// A hole in a wider prefix.
    pub negated: bool,
}

/// What a command did to a table, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Entries that the command was about.
    pub asked: usize,
    /// New entries.
    pub added: usize,
    /// Entries with another sense or end.
    pub changed: usize,
    /// Entries gone.
    pub deleted: usize,
    /// Entries whose counts are zero.
    pub cleared: usize,
    /// Entries named twice.
    pub duplicates: usize,
    /// Entries that are there with the opposite sense.
    pub conflicts: usize,
    /// Of the entries deleted, those that a source still claims; to overrule it, add `!prefix`.
    pub still: usize,
    /// The sources that do.
    pub still_from: Vec<String>,
    /// Each entry with its letter, if asked for; entries with which nothing happened are left out.
    pub feedback: Vec<Feedback>,
    /// Whether the packet filter judges by it already; `None` when nothing was to be told to it.
    pub in_force: Option<bool>,
}

/// How a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// No new list came for so long that its entries are gone (`expire_after`).
    Aged,
    /// It failed; its last good set is in use.
    Failed,
    /// New blocking entries wait, because it changed more than it may.
    Frozen,
    /// All is well.
    Good,
    /// It is new; its entries are counted and not used.
    Observing,
    /// Its entries are those of a lost BGP session, or of the copy on disk, until it is heard of again.
    Stale,
    /// It has not yet said anything.
    Waiting,
}

/// Whether a source is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AdmissionState {
    /// It changed more than it may: new blocking entries wait, all else goes on.
    Frozen,
    /// It is new and only watched: nothing of it is used.
    Observing,
    /// It is.
    Open,
}

/// Entries that are not in the tables for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedRow {
    /// Why.
    pub reason: Reason,
    /// How many.
    pub entries: usize,
    /// The first of them.
    pub examples: Vec<IpNet>,
}

/// What became of the entries of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdmissionRow {
    /// Whether it is believed.
    pub state: AdmissionState,
    /// Since when it is not.
    pub since: Option<Timestamp>,
    /// When it is believed by itself.
    pub until: Option<Timestamp>,
    /// Why it is frozen: what was found, what was expected.
    pub why: Option<String>,
    /// Entries that it has.
    pub received: usize,
    /// Of these, those with which nothing is wrong.
    pub accepted: usize,
    /// Of these, those in tables.
    pub installed: usize,
    /// Of these, those that would be in tables if it were believed.
    pub waiting: usize,
    /// Those that are not in tables, by reason.
    pub refused: Vec<RefusedRow>,
}

/// A row of `mailgate lists show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceRow {
    /// Its name.
    pub name: String,
    /// `bgp`, `command`, `directory`, `file`, `spamd` or `url`.
    pub kind: &'static str,
    /// The tables it fills.
    pub tables: Vec<TableName>,
    /// Where it comes from: a path, a URL, a command, an address.
    pub from: String,
    /// How it is.
    pub state: SourceState,
    /// Entries it has in tables.
    pub entries: usize,
    /// Lines, routes or entries that were not accepted; those that only wait are not counted.
    pub refused: usize,
    /// What became of its entries.
    pub admission: AdmissionRow,
    /// The first refused lines, `file:line: found …, expected …`.
    pub problems: Vec<String>,
    /// When its entries last changed.
    pub last_change: Option<Timestamp>,
    /// What is wrong, if something is.
    pub error: Option<String>,
    /// When it last brought a good list, or said that the last one still holds.
    pub last_success: Option<Timestamp>,
    /// When it last failed.
    pub last_failure: Option<Timestamp>,
    /// Why it did, also when that is over.
    pub last_error: Option<String>,
    /// When it fetches next; `None` when it acts by itself.
    pub next_run: Option<Timestamp>,
    /// Bytes of the last list, unpacked.
    pub bytes: u64,
    /// How the last list was written.
    pub format: Option<crate::Format>,
    /// The entity tag of the last list.
    pub etag: Option<String>,
    /// Why there is no copy of the last list on disk; the one of before is still there.
    pub copy_error: Option<String>,
}

/// What became of one source of `mailgate lists reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Its name.
    pub name: String,
    /// `taken`, `unchanged`, `failed`, or `skipped` for BGP peers.
    pub outcome: &'static str,
    /// New entries.
    pub added: usize,
    /// Entries with another sense.
    pub altered: usize,
    /// Entries gone.
    pub deleted: usize,
    /// Why it failed; the last good set is in use.
    pub error: Option<String>,
}

/// The answer of `mailgate lists diff NAME`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Entries in the table now.
    pub entries_before: usize,
    /// Entries of the list as it is there now.
    pub entries_after: usize,
    /// How many would be added.
    pub added: usize,
    /// How many would go.
    pub deleted: usize,
    /// Lines that could not be read.
    pub refused_lines: usize,
    /// Why the list would not be taken; `None` when it would.
    pub would_be_refused: Option<String>,
    /// The first 1000 that would be added.
    pub new: Vec<String>,
    /// The first 1000 that would go.
    pub gone: Vec<String>,
}

/// One source, or the administrator, that names an address in a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Named {
    /// The table.
    pub table: TableName,
    /// What is done with sources in it.
    pub action: Action,
    /// `manual`, `overload`, `config`, or the name of a source.
    pub origin: String,
    /// Its most specific entry that covers the address.
    pub entry: String,
    /// Since when it says so; after a restart since the copy it began with.
    pub since: Timestamp,
    /// Whether this is the entry that decides for the table.
    pub decides: bool,
    /// What the source tells who is on it.
    pub messages: Vec<String>,
}

/// The answer of `mailgate lists explain ADDRESS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// The address asked for, IPv4 out of its IPv6 mapping.
    pub address: IpAddr,
    /// What the tables do with it; `None` when none holds it.
    pub action: Option<Action>,
    /// Why, in one sentence.
    pub why: String,
    /// Who names it.
    pub named: Vec<Named>,
}
