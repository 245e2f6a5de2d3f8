//! `[[lists.table]]` and `[[lists.source]]`.

mod admission;
mod bgp;
mod fetched;
mod file;
mod keys;
mod publish;

use std::path::PathBuf;

use serde::Deserialize;

use crate::admit::{Protected, Why};
use crate::prefix::parse_entry;
use crate::{Action, Entry, Error, TableName};

pub(crate) use admission::Limits;
pub use admission::{Admission, Priority, Protect};
pub use bgp::{AoAlgorithm, AoConfig, BgpConfig, FirstAs, Mode, Password, StaleBy};
pub use fetched::{CommandConfig, SpamdConfig, UrlConfig};
pub use file::{DirectoryConfig, FileConfig};
pub use keys::Keys;
pub use publish::{Learned, PublishConfig};

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
    /// Lists of ours for others. Default: none.
    #[serde(default)]
    pub publish: Vec<PublishConfig>,
    /// Files, folders, URLs, commands, spamd.conf files and BGP peers. Default: none.
    #[serde(default)]
    pub source: Vec<SourceConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            entries_limit: ENTRIES_LIMIT,
            table: Vec::new(),
            protect: Protect::default(),
            publish: Vec::new(),
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
pub enum SourceConfig {
    /// `kind = "bgp"`.
    Bgp(BgpConfig),
    /// `kind = "command"`.
    Command(CommandConfig),
    /// `kind = "directory"`.
    Directory(DirectoryConfig),
    /// `kind = "file"`.
    File(FileConfig),
    /// `kind = "spamd"`.
    Spamd(SpamdConfig),
    /// `kind = "url"`.
    Url(UrlConfig),
}

fn entries_limit() -> usize {
    ENTRIES_LIMIT
}

impl Config {
    /// All tables: the standard ones first, then those of the configuration in its order, then those that sources bring
    /// with their `action`.
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
        for (name, action) in self.source.iter().filter_map(SourceConfig::own_table) {
            if !tables.iter().any(|table| table.name == name) {
                tables.push(TableConfig::new(name, action));
            }
        }
        tables
    }

    /// All sources: those of `[[lists.source]]`, then the files of tables.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceConfig> {
        let of_table = |table: &TableConfig| {
            let name = table.name.clone();
            let file = move |path: &PathBuf| SourceConfig::File(FileConfig::new(path.clone(), name.clone()));
            table.files.iter().map(file).collect::<Vec<_>>()
        };
        self.source.iter().cloned().chain(self.table.iter().flat_map(of_table)).collect()
    }

    /// Whether a table lets pass and is filled by feeds too; the edge is told it as two.
    #[must_use]
    pub fn is_fed_bypass(&self, table: &TableConfig) -> bool {
        let feeds = self.source.iter().filter(|source| !source.is_local());
        table.action == Action::Bypass && feeds.flat_map(SourceConfig::tables).any(|name| name == table.name)
    }

    /// The networks of `[lists.protect]`, and the neighbours.
    pub(crate) fn protected(&self) -> Vec<Protected> {
        let named = self.protect.networks.iter();
        let named = named.map(|network| Protected { network: *network, why: Why::Configured });
        let peer = |source: &SourceConfig| match source {
            SourceConfig::Bgp(bgp) => Some(Protected { network: bgp.peer.into(), why: Why::Peer }),
            _ => None,
        };
        named.chain(self.source.iter().filter_map(peer)).collect()
    }

    /// All contradictions, one sentence each; empty when there is none.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let tables = self.tables();
        let mut problems = Vec::new();
        // A bypass that a feed fills is two of them to the edge.
        let fed = tables.iter().filter(|table| self.is_fed_bypass(table)).count();
        if tables.len() + fed > TABLE_LIMIT {
            let twice = if fed > 0 {
                format!(" and {fed} bypasses with a feed, which count twice")
            } else {
                String::new()
            };
            problems.push(format!("found {} tables{twice}, expected at most {TABLE_LIMIT}", tables.len()));
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
            problems
                .extend(source.problems(&tables).into_iter().map(|said| format!("source {name}: {said}")));
        }
        problems.extend(self.protect.problems());
        let announcing = |source: &SourceConfig| match source {
            SourceConfig::Bgp(bgp) if bgp.announces => Some(source.name()),
            _ => None,
        };
        let announcing: Vec<String> = self.source.iter().filter_map(announcing).collect();
        for (nth, list) in self.publish.iter().enumerate() {
            problems.extend(
                list.problems(&announcing).into_iter().map(|said| format!("publish {}: {said}", list.name)),
            );
            if self.publish.iter().take(nth).any(|other| other.name == list.name) {
                problems.push(format!("found publish {} twice, expected different names", list.name));
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
            _ => self.keys().map(|keys| keys.name).unwrap_or_default(),
        }
    }

    /// `bgp`, `command`, `directory`, `file`, `spamd` or `url`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bgp(_) => "bgp",
            Self::Command(_) => "command",
            Self::Directory(_) => "directory",
            Self::File(_) => "file",
            Self::Spamd(_) => "spamd",
            Self::Url(_) => "url",
        }
    }

    /// What every source but a peer is told; `None` of a peer.
    #[must_use]
    pub fn keys(&self) -> Option<Keys> {
        match self {
            Self::Bgp(_) => None,
            Self::Command(config) => Some(config.keys()),
            Self::Directory(config) => Some(config.keys()),
            Self::File(config) => Some(config.keys()),
            Self::Spamd(config) => Some(config.keys()),
            Self::Url(config) => Some(config.keys()),
        }
    }

    /// What it may bring.
    #[must_use]
    pub fn admission(&self) -> &Admission {
        match self {
            Self::Bgp(bgp) => &bgp.admission,
            Self::Command(config) => &config.admission,
            Self::Directory(config) => &config.admission,
            Self::File(config) => &config.admission,
            Self::Spamd(config) => &config.admission,
            Self::Url(config) => &config.admission,
        }
    }

    /// Whether it is on this host, where nobody but the administrator writes to it. A spamd.conf counts as such, because
    /// it names its lists one by one and is to be read as it was.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Directory(_) | Self::File(_) | Self::Spamd(_) => true,
            Self::Bgp(_) | Self::Command(_) | Self::Url(_) => false,
        }
    }

    /// The tables it may fill.
    #[must_use]
    pub fn tables(&self) -> Vec<TableName> {
        match self {
            Self::Bgp(bgp) => bgp.communities.values().cloned().collect(),
            _ => self.keys().and_then(|keys| keys.table().ok()).into_iter().collect(),
        }
    }

    /// The table that it brings itself.
    fn own_table(&self) -> Option<(TableName, Action)> {
        let keys = self.keys()?;
        Some((keys.table().ok()?, keys.action?))
    }

    fn problems(&self, tables: &[TableConfig]) -> Vec<String> {
        let mut problems = match self {
            Self::Bgp(config) => config.problems(),
            Self::Command(config) => config.problems(),
            Self::Directory(_) | Self::File(_) => Vec::new(),
            Self::Spamd(config) => config.problems(),
            Self::Url(config) => config.problems(),
        };
        problems.extend(self.admission().problems());
        problems.extend(self.keys().into_iter().flat_map(|keys| keys.problems()));
        if let Some((name, action)) = self.own_table()
            && let Some(other) = tables.iter().find(|table| table.name == name && table.action != action)
        {
            problems.push(format!(
                "found action {}, expected {}: that is what table {name} does",
                action.name(),
                other.action.name()
            ));
        }
        problems
    }
}

#[cfg(test)]
mod tests;
