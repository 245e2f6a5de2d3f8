//! `[[lists.table]]` and `[[lists.source]]`.

mod admission;
mod bgp;
mod file;

use std::path::PathBuf;

use serde::Deserialize;

use crate::admit::{Protected, Why};
use crate::prefix::parse_entry;
use crate::{Action, Entry, Error, TableName};

pub(crate) use admission::Limits;
pub use admission::{Admission, Priority, Protect};
pub use bgp::{AoAlgorithm, AoConfig, BgpConfig, FirstAs, Mode, Password, StaleBy};
pub use file::FileConfig;

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
    #[serde(default = "entries_limit")]
    pub entries_limit: usize,
    /// Tables beyond the four that always exist (`bypass`, `block`, `drop`, `bruteforce`), or other actions for
    /// those. At most 60 in all. Example: `[[lists.table]] name = "china" action = "reject"`.
    #[serde(default)]
    pub table: Vec<TableConfig>,
    /// Whom no feed keeps out, besides those that never are.
    #[serde(default)]
    pub protect: Protect,
    /// Files and BGP peers. Default: none.
    #[serde(default)]
    pub source: Vec<SourceConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            entries_limit: ENTRIES_LIMIT,
            table: Vec::new(),
            protect: Protect::default(),
            source: Vec::new(),
        }
    }
}

/// One table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableConfig {
    /// Its name. Example: `"block"`.
    pub name: TableName,
    /// What is done with sources in it: `"bypass"`, `"drop"`, `"reject"`, `"tarpit"`, `"grey"` (first
    /// contact is greylisted, whoever it seems to be) or `"score"` (points of suspicion at first contact).
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
#[expect(clippy::large_enum_variant, reason = "a handful, read once at start")]
pub enum SourceConfig {
    /// `kind = "bgp"`.
    Bgp(BgpConfig),
    /// `kind = "file"`.
    File(FileConfig),
}

fn entries_limit() -> usize {
    ENTRIES_LIMIT
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
                SourceConfig::File(FileConfig {
                    name: None,
                    path: path.clone(),
                    table: name.clone(),
                    admission: Admission::default(),
                })
            };
            table.files.iter().map(file).collect::<Vec<_>>()
        };
        self.source.iter().cloned().chain(self.table.iter().flat_map(of_table)).collect()
    }

    /// The networks of `[lists.protect]`, and the neighbours.
    pub(crate) fn protected(&self) -> Vec<Protected> {
        let named = self.protect.networks.iter();
        let named = named.map(|network| Protected { network: *network, why: Why::Configured });
        let peer = |source: &SourceConfig| match source {
            SourceConfig::Bgp(bgp) => Some(Protected { network: bgp.peer.into(), why: Why::Peer }),
            SourceConfig::File(_) => None,
        };
        named.chain(self.source.iter().filter_map(peer)).collect()
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
            let wrong = source.admission().problems();
            problems.extend(wrong.into_iter().map(|said| format!("source {name}: {said}")));
            if let SourceConfig::Bgp(bgp) = source {
                problems.extend(bgp.problems().into_iter().map(|said| format!("source {name}: {said}")));
            }
        }
        problems.extend(self.protect.problems());
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

    /// What it may bring.
    #[must_use]
    pub fn admission(&self) -> &Admission {
        match self {
            Self::Bgp(bgp) => &bgp.admission,
            Self::File(file) => &file.admission,
        }
    }

    /// Whether it is on this host, where nobody but the administrator writes to it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self, Self::File(_))
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

#[cfg(test)]
mod tests;
