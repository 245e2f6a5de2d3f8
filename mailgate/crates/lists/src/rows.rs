//! What the command line prints.

use std::net::IpAddr;

use ipnet::IpNet;
use mailgate_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::table::{Action, TableName};

/// How many entries of a table one origin claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OriginCount {
    /// `manual`, or the name of a source.
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

/// What adding an entry changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Added {
    /// It is new among the entries made by hand.
    Added,
    /// It was there with another sense or expiry.
    Changed,
    /// It was there.
    Unchanged,
}

/// What deleting an entry changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// Whether there was such an entry made by hand.
    pub deleted: bool,
    /// Sources that still claim the prefix. To overrule them, add `!prefix`.
    pub still: Vec<String>,
}

/// What replacing the entries made by hand changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Replaced {
    /// New entries.
    pub added: usize,
    /// Entries with another sense or expiry.
    pub changed: usize,
    /// Entries gone.
    pub deleted: usize,
}

/// How a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// It failed; its last good set is in use.
    Failed,
    /// All is well.
    Good,
    /// A BGP session is lost; its entries stay until they have aged out.
    Stale,
    /// It has not yet said anything.
    Waiting,
}

/// A row of `mailgate lists show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceRow {
    /// Its name.
    pub name: String,
    /// `bgp` or `file`.
    pub kind: &'static str,
    /// How it is.
    pub state: SourceState,
    /// Entries it has in tables.
    pub entries: usize,
    /// Lines or routes that were not accepted.
    pub refused: usize,
    /// The first refused lines, `file:line: found …, expected …`.
    pub problems: Vec<String>,
    /// When its entries last changed.
    pub last_change: Option<Timestamp>,
    /// What is wrong, if something is.
    pub error: Option<String>,
}

/// A row of `mailgate bgp summary`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BgpRow {
    /// Its name.
    pub name: String,
    /// The neighbour's address.
    pub neighbor: IpAddr,
    /// The neighbour's AS.
    pub remote_as: u32,
    /// Messages received over all sessions.
    pub received_messages: u64,
    /// Messages sent over all sessions.
    pub sent_messages: u64,
    /// `Idle`, `Connect`, `Active`, `OpenSent`, `OpenConfirm` or `Established` (RFC 4271 §8.2.2).
    pub state: &'static str,
    /// Since when the session is up, or down.
    pub since: Timestamp,
    /// Prefixes the neighbour announces now.
    pub received: usize,
    /// Of these, those within the limits.
    pub accepted: usize,
    /// Of these, those that a community puts into a table.
    pub installed: usize,
    /// Installed prefixes by table; one may be in several.
    pub tables: Vec<(TableName, usize)>,
    /// Prefixes kept from a lost session.
    pub stale: usize,
    /// Why the last session ended or could not begin.
    pub error: Option<String>,
}
