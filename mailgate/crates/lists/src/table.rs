//! Named tables of prefixes, as the edge sees them.

mod entries;

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use mailgate_model::Timestamp;
use serde::{Deserialize, Serialize};

pub use entries::Entries;

/// The name of a table: 1 to 31 of `a-z 0-9 - _`, beginning with a letter, as in PF.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName(Arc<str>);

impl TableName {
    /// Longest name (pf.conf(5) has the same limit).
    pub const LIMIT: usize = 31;

    /// Reads a name.
    ///
    /// # Errors
    /// A sentence with what was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        let all_well =
            text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
        if starts_well && all_well && text.len() <= Self::LIMIT {
            Ok(Self(text.into()))
        } else {
            Err(format!(
                "found table name {:?}, expected 1 to {} of a-z, 0-9, - and _, beginning with a letter",
                text.chars().take(40).collect::<String>(),
                Self::LIMIT
            ))
        }
    }

    /// The name under which the edge is told, of a bypass that feeds fill too, what the administrator says in it. No
    /// table of a configuration can be called so; sets of nftables can.
    #[must_use]
    pub fn own(&self) -> Self {
        Self(format!("{}/own", self.0).into())
    }

    /// Whether it was made by [`TableName::own`].
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.0.contains('/')
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for TableName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<TableName> for String {
    fn from(name: TableName) -> Self {
        name.0.to_string()
    }
}

/// What the edge does with a source that a table holds. The order is the order of precedence: the first that
/// applies wins, so bypass beats block, and a block beats the bypass of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Straight to the MTA.
    Bypass,
    /// Packets vanish, on every port.
    Drop,
    /// The connection is refused.
    Reject,
    /// One byte a second.
    Tarpit,
    /// Straight to the MTA, because a feed says so and nobody here says anything else. No table of the configuration has
    /// this action; one of action `bypass` has it as far as feeds fill it.
    #[serde(rename = "feed-bypass", skip_deserializing)]
    FeedBypass,
    /// Judged by the edge and deferred as if suspicious, unless it has earned trust there. No packet is stopped.
    Grey,
    /// Judged by the edge with points of suspicion for each such table. No packet is stopped.
    Score,
}

impl Action {
    /// The word for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Tarpit => "tarpit",
            Self::FeedBypass => "feed-bypass",
            Self::Grey => "grey",
            Self::Score => "score",
        }
    }
}

/// One entry of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The prefix; host bits are zero.
    pub prefix: IpNet,
    /// A hole: `!10.0.0.1` inside `10.0.0.0/8`. The most specific entry of a table decides.
    pub negated: bool,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
}

/// Who makes entries, besides files and peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The administrator.
    Hand,
    /// The daemon, when a source exceeds a limit (`overload` of pf.conf(5)).
    Overload,
}

/// An entry to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    /// The entry.
    pub entry: Entry,
    /// Why, in one line that `table show -v` prints; longer than [`Addition::NOTE_LIMIT`] is cut.
    pub note: Option<String>,
}

impl Addition {
    /// Longest note in characters.
    pub const NOTE_LIMIT: usize = 120;

    /// A prefix that is listed until `expires`.
    #[must_use]
    pub fn listed(prefix: IpNet, expires: Option<Timestamp>, note: impl Into<String>) -> Self {
        Self { entry: Entry { prefix, negated: false, expires }, note: Some(note.into()) }
    }
}

impl From<Entry> for Addition {
    fn from(entry: Entry) -> Self {
        Self { entry, note: None }
    }
}

/// One table with what it means and what it holds.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name.
    pub name: TableName,
    /// What is done with sources in it.
    pub action: Action,
    /// Shared so that a million entries are not copied.
    pub entries: Arc<Entries>,
}

/// All tables at one moment, in the order of configuration, then what the administrator says in those bypasses that feeds
/// fill too ([`TableName::own`]). At most 64, the bits of a set.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The tables.
    pub tables: Vec<Table>,
}

/// One difference between two snapshots, for the edge to apply without rebuilding everything.
#[derive(Debug, Clone)]
pub enum Change {
    /// A table now has this entry; an entry of the same prefix is replaced.
    Add(TableName, Entry),
    /// A table no longer has an entry of this prefix.
    Delete(TableName, IpNet),
    /// Tables were added, removed, or replaced as a whole: take everything anew.
    Reload(Snapshot),
}
