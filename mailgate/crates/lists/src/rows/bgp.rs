//! Rows of neighbours and their routes.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use mailgate_model::Timestamp;
use serde::Serialize;

use crate::table::TableName;

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
    /// Prefixes not accepted, by reason.
    pub refused: Vec<(String, usize)>,
    /// Prefixes kept from a lost session, or not yet sent again.
    pub stale: usize,
    /// Prefixes announced to the neighbour.
    pub announced: usize,
    /// Whether the session is held down because it came and went too often, or had too many prefixes.
    pub damped: bool,
    /// Attributes that were malformed (RFC 7606), over all sessions.
    pub faults: u64,
    /// Bytes that its routes take in the daemon, about; entries of tables come on top.
    pub memory: usize,
    /// What was agreed on, while the session is established.
    pub session: Option<BgpSession>,
    /// Why the last session ended or could not begin.
    pub error: Option<String>,
}

/// What both sides of a BGP session agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BgpSession {
    /// The neighbour's BGP identifier.
    pub identifier: Ipv4Addr,
    /// Whose connection it is: `us` or `neighbour`.
    pub opened_by: &'static str,
    /// Seconds of silence that end it; 0 for never.
    pub hold_time: u64,
    /// Seconds that the neighbour asks for when it restarts (RFC 4724); `None` when it says nothing of restarts.
    pub restart_time: Option<u64>,
    /// What both can, such as `ipv4-unicast`, `enhanced-route-refresh`, `add-path-ipv4`.
    pub capabilities: Vec<&'static str>,
}

/// A row of `mailgate bgp rib`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteRow {
    /// The prefix.
    pub prefix: IpNet,
    /// Which of several paths (RFC 7911); 0 where there is one.
    pub path: u32,
    /// Who announced it.
    pub neighbor: String,
    /// All its communities; none are kept of a feed that has more than 65536 different sets.
    pub communities: Vec<String>,
    /// The tables it is in.
    pub tables: Vec<TableName>,
    /// Why it is in none.
    pub refused: Option<&'static str>,
    /// Announced in an earlier session and not yet in this one.
    pub stale: bool,
}
