//! `[[lists.table]]` and `[[lists.source]]`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use mailgate_model::Span;
use serde::Deserialize;

use crate::bgp::Pattern;
use crate::prefix::parse_entry;
use crate::{Action, Entry, Error, TableName};

/// Most tables in all: the edge keeps the set of tables that hold an address in 64 bits, and
/// four of them are its own.
pub const TABLE_LIMIT: usize = 60;

/// The tables that exist in every installation; a `[[lists.table]]` of the same name changes the action.
const STANDARD: [(&str, Action); 4] = [
    ("bypass", Action::Bypass),
    ("block", Action::Tarpit),
    ("drop", Action::Drop),
    ("bruteforce", Action::Drop),
];

/// Default of [`Config::entries_limit`].
///
/// Five million hosts are what the filter is measured with: 40 MB here, 44 MB in the kernel, and half a gigabyte of
/// memory in all while they are loaded, which a small host of 1 GB still has. PF has 200000 (`table-entries` of
/// pf.conf(5)).
pub const ENTRIES_LIMIT: usize = 5_000_000;

/// Tables, and what fills them besides `mailgate table add`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Most entries of all origins in all tables. What would exceed it is refused as a whole before anything is
    /// changed: a file keeps its last good set, `table add` fails. A warning comes at four fifths.
    /// Default: 5000000.
    #[serde(default = "defaults::entries_limit")]
    pub entries_limit: usize,
    /// Tables beyond the four that always exist (`bypass`, `block`, `drop`, `bruteforce`), or other actions for
    /// those. At most 60 in all. Example: `[[lists.table]] name = "china" action = "reject"`.
    #[serde(default)]
    pub table: Vec<TableConfig>,
    /// Files and BGP peers. Default: none.
    #[serde(default)]
    pub source: Vec<SourceConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self { entries_limit: ENTRIES_LIMIT, table: Vec::new(), source: Vec::new() }
    }
}

/// One table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableConfig {
    /// Its name. Example: `"block"`.
    pub name: TableName,
    /// What is done with sources in it: `"bypass"`, `"drop"`, `"reject"` or `"tarpit"`.
    pub action: Action,
    /// Entries that stand here, as between the braces of pf.conf(5). Default: none.
    /// Example: `["10.0.0.0/8", "!10.1.0.0/16"]`.
    #[serde(default)]
    pub entries: Vec<String>,
    /// Files that fill it, as `persist file` of pf.conf(5): short for a `[[lists.source]]` of kind `file` each.
    /// Default: none. Example: `["/etc/mailgate/block.txt"]`.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// Whether packets, bytes and the last hit are counted for each entry, as `counters` of pf.conf(5). Costs memory for
    /// each entry that is hit. Default: false.
    #[serde(default)]
    pub counters: bool,
    /// Whether entries come only from the configuration, files and peers, as `const` of pf.conf(5): commands that would
    /// change them are refused. Default: false.
    #[serde(default)]
    pub readonly: bool,
}

impl TableConfig {
    /// A table that nothing fills, does not count and may be edited.
    #[must_use]
    pub fn new(name: TableName, action: Action) -> Self {
        Self { name, action, entries: Vec::new(), files: Vec::new(), counters: false, readonly: false }
    }

    /// The entries that stand in the configuration, and what is wrong with the others.
    pub(crate) fn own_entries(&self) -> (Vec<Entry>, Vec<String>) {
        let mut problems = Vec::new();
        let read = |text: &String| parse_entry(text).map_err(|said| problems.push(said)).ok();
        (self.entries.iter().filter_map(read).collect(), problems)
    }
}

/// One source of prefixes.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum SourceConfig {
    /// `kind = "bgp"`.
    Bgp(BgpConfig),
    /// `kind = "file"`.
    File(FileConfig),
}

/// A file with one address or prefix per line.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// What `lists show` calls it. Default: the path. Example: `"spamhaus"`.
    #[serde(default)]
    pub name: Option<String>,
    /// The file. Example: `"/etc/mailgate/block.txt"`.
    pub path: PathBuf,
    /// The table it fills. Example: `"block"`.
    pub table: TableName,
}

/// A BGP neighbour whose routes are list entries. Nothing is announced to it and no route reaches the host.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BgpConfig {
    /// What `lists show` calls it. Default: the address of the peer. Example: `"eu.bgp-spamd.net"`.
    #[serde(default)]
    pub name: Option<String>,
    /// The neighbour. Example: `"217.31.80.170"`.
    pub peer: IpAddr,
    /// Its port. Default: 179.
    #[serde(default = "defaults::port")]
    pub port: u16,
    /// The address to speak from. Default: chosen by the system.
    #[serde(default)]
    pub local_address: Option<IpAddr>,
    /// Our AS, 1 to 4294967295; any private one will do. Example: `65500`.
    pub local_as: u32,
    /// The neighbour's AS. Example: `65066`.
    pub peer_as: u32,
    /// Our BGP identifier. Default: the IPv4 address we speak from, else `192.0.0.8`.
    #[serde(default)]
    pub router_id: Option<Ipv4Addr>,
    /// Hold time we propose; the smaller of both sides' counts. `"0s"` (never) or `"3s"` to `"65535s"`.
    /// Default: `"90s"`.
    #[serde(default = "defaults::hold_time")]
    pub hold_time: Span,
    /// First pause before connecting anew; doubles with each failure, with jitter. Default: `"5s"`.
    #[serde(default = "defaults::retry_min")]
    pub retry_min: Span,
    /// Longest pause before connecting anew. Default: `"2m"`.
    #[serde(default = "defaults::retry_max")]
    pub retry_max: Span,
    /// Which community puts a prefix into which table; what carries none of them is counted and not used
    /// (RFC 8212). `ASN:value`, `ASN:value:value` (large) or a name such as `blackhole`; a part may be `*`.
    /// Example: `{ "65066:666" = "block", "65066:42" = "bypass" }`.
    pub communities: BTreeMap<Pattern, TableName>,
    /// Most prefixes the neighbour may announce; one more ends the session (RFC 4486 §4). Default: 500000.
    #[serde(default = "defaults::max_prefix")]
    pub max_prefix: u32,
    /// Shortest IPv4 prefix accepted, 1 to 32; a default route never is. Default: 24.
    #[serde(default = "defaults::shortest_v4")]
    pub shortest_v4: u8,
    /// Shortest IPv6 prefix accepted, 1 to 128; a default route never is. Default: 48.
    #[serde(default = "defaults::shortest_v6")]
    pub shortest_v6: u8,
    /// Whether the first AS of a path must be the neighbour's: `"enforce"`, or `"any"` for a route server that
    /// does not put itself into the path (RFC 7947 §2.2.2.1). Default: `"enforce"`.
    #[serde(default)]
    pub first_as: FirstAs,
    /// How long entries stay after the session is lost. Default: `"24h"`.
    #[serde(default = "defaults::stale")]
    pub stale: Span,
}

/// What the first AS of a path must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FirstAs {
    /// Anything.
    Any,
    /// The neighbour's.
    #[default]
    Enforce,
}

mod defaults {
    use mailgate_model::Span;

    pub(super) fn entries_limit() -> usize {
        super::ENTRIES_LIMIT
    }
    pub(super) fn port() -> u16 {
        179
    }
    pub(super) fn hold_time() -> Span {
        Span::from_secs(90)
    }
    pub(super) fn retry_min() -> Span {
        Span::from_secs(5)
    }
    pub(super) fn retry_max() -> Span {
        Span::from_secs(120)
    }
    pub(super) fn max_prefix() -> u32 {
        500_000
    }
    pub(super) fn shortest_v4() -> u8 {
        24
    }
    pub(super) fn shortest_v6() -> u8 {
        48
    }
    pub(super) fn stale() -> Span {
        Span::from_secs(86_400)
    }
}

impl Config {
    /// All tables: the standard ones first, then those of the configuration in its order.
    #[must_use]
    pub fn tables(&self) -> Vec<TableConfig> {
        let standard = STANDARD
            .iter()
            .filter_map(|(name, action)| Some(TableConfig::new(TableName::parse(name).ok()?, *action)));
        let mut tables: Vec<TableConfig> = standard.collect();
        for wanted in &self.table {
            match tables.iter_mut().find(|table| table.name == wanted.name) {
                Some(table) => table.clone_from(wanted),
                None => tables.push(wanted.clone()),
            }
        }
        tables
    }

    /// All sources: those of `[[lists.source]]`, then the files of tables.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceConfig> {
        let of_table = |table: &TableConfig| {
            let name = table.name.clone();
            let file = move |path: &PathBuf| {
                SourceConfig::File(FileConfig { name: None, path: path.clone(), table: name.clone() })
            };
            table.files.iter().map(file).collect::<Vec<_>>()
        };
        self.source.iter().cloned().chain(self.table.iter().flat_map(of_table)).collect()
    }

    /// All contradictions, one sentence each; empty when there is none.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let tables = self.tables();
        let mut problems = Vec::new();
        if tables.len() > TABLE_LIMIT {
            problems.push(format!("found {} tables, expected at most {TABLE_LIMIT}", tables.len()));
        }
        if self.entries_limit == 0 {
            problems.push("found entries_limit 0, expected at least 1".into());
        }
        for (nth, table) in self.table.iter().enumerate() {
            let (_, wrong) = table.own_entries();
            problems.extend(wrong.into_iter().map(|said| format!("table {}: {said}", table.name)));
            if self.table.iter().take(nth).any(|other| other.name == table.name) {
                problems.push(format!("found table {} twice in lists.table, expected once", table.name));
            }
        }
        let known = |name: &TableName| tables.iter().any(|table| table.name == *name);
        let mut names = std::collections::BTreeSet::new();
        for source in &self.sources() {
            let name = source.name();
            if !names.insert(name.clone()) {
                problems.push(format!("found source {name} twice, expected different names"));
            }
            let unknown = source.tables().into_iter().filter(|table| !known(table));
            problems.extend(unknown.map(|table| {
                format!("source {name}: found table {table}, expected one of {}", list(&tables))
            }));
            if let SourceConfig::Bgp(bgp) = source {
                problems.extend(bgp.problems().into_iter().map(|said| format!("source {name}: {said}")));
            }
        }
        problems
    }

    /// # Errors
    /// [`Error::Config`] with all problems.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let problems = self.problems();
        if problems.is_empty() { Ok(()) } else { Err(Error::Config(problems.join("; "))) }
    }
}

fn list(tables: &[TableConfig]) -> String {
    tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>().join(", ")
}

impl SourceConfig {
    /// What `lists show` calls it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Bgp(bgp) => bgp.name.clone().unwrap_or_else(|| bgp.peer.to_string()),
            Self::File(file) => file.name.clone().unwrap_or_else(|| file.path.display().to_string()),
        }
    }

    /// The tables it may fill.
    #[must_use]
    pub fn tables(&self) -> Vec<TableName> {
        match self {
            Self::Bgp(bgp) => bgp.communities.values().cloned().collect(),
            Self::File(file) => vec![file.table.clone()],
        }
    }
}

impl BgpConfig {
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let hold = self.hold_time.duration().as_secs();
        // RFC 4271 §4.2: zero, or at least three seconds, in sixteen bits.
        if hold != 0 && !(3..=65_535).contains(&hold) {
            problems.push(format!("found hold_time {}, expected 0s or 3s to 65535s", self.hold_time));
        }
        if self.local_as == 0 || self.peer_as == 0 {
            problems.push("found AS 0, expected 1 to 4294967295".into());
        }
        if !(1..=32).contains(&self.shortest_v4) {
            problems.push(format!("found shortest_v4 {}, expected 1 to 32", self.shortest_v4));
        }
        if !(1..=128).contains(&self.shortest_v6) {
            problems.push(format!("found shortest_v6 {}, expected 1 to 128", self.shortest_v6));
        }
        if self.local_address.is_some_and(|local| local.is_ipv4() != self.peer.is_ipv4()) {
            problems.push("found local_address and peer of different families, expected the same".into());
        }
        if self.router_id.is_some_and(|id| id.is_unspecified()) {
            problems.push("found router_id 0.0.0.0, expected another (RFC 6286 §2.1)".into());
        }
        if self.retry_min > self.retry_max || self.retry_min.duration().is_zero() {
            problems.push("expected retry_min above 0s and not longer than retry_max".into());
        }
        if self.communities.is_empty() {
            problems
                .push("found no communities, expected at least one such as \"65066:666\" = \"block\"".into());
        }
        problems
    }
}

#[cfg(test)]
mod tests;
