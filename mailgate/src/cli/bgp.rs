//! `mailgate bgp`: the neighbours, as bgpctl(8) shows them.

use std::fmt::Write as _;

use clap::Subcommand;
use ipnet::IpNet;
use serde_json::Value;

use super::{Question, Show, listing};
use crate::admin::Call;

/// What can be asked of the neighbours.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// One line per neighbour: messages, state, prefixes received, accepted, installed and refused.
    Summary,
    /// Everything about one neighbour: what was agreed on, prefixes by table, refused ones by reason.
    Neighbor {
        /// Its name, as `bgp summary` has it.
        name: String,
    },
    /// What neighbours announce: prefix, communities, the tables it is in or why it is in none.
    Rib {
        /// This prefix or address, and what is inside of it.
        prefix: Option<String>,
        /// Only routes with this community, such as 65066:666, 65066:*, 65066:1:666 or rt:65066:666.
        #[arg(long, short)]
        community: Option<String>,
        /// Only routes of this neighbour.
        #[arg(long, short)]
        neighbor: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// End the session of a neighbour and begin anew; with `soft` ask it for all routes anew.
    Clear {
        /// Its name, as `bgp summary` has it.
        name: String,
        /// `soft`: the session stays (RFC 2918).
        #[arg(value_parser = ["soft"])]
        how: Option<String>,
        /// What the neighbour is told (RFC 9003).
        #[arg(long, short, default_value = "")]
        message: String,
    },
}

impl Verb {
    pub(super) fn question(self) -> Question {
        match self {
            Self::Summary => Question { call: Call::BgpSummary, show: Show::Text(summary) },
            Self::Neighbor { name } => {
                Question { call: Call::BgpNeighbor { name }, show: Show::Text(neighbor) }
            }
            Self::Rib { prefix, community, neighbor, limit } => {
                Question { call: Call::BgpRib { prefix, community, neighbor, limit }, show: Show::Text(rib) }
            }
            Self::Clear { name, how, message } => {
                let soft = how.is_some();
                Question { call: Call::BgpClear { name, soft, message }, show: Show::Card }
            }
        }
    }
}

/// Reads a prefix or an address.
pub(crate) fn prefix(text: &str) -> Result<IpNet, String> {
    text.parse()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| format!("found {text:?}, expected an address or a prefix such as 192.0.2.0/24"))
}

const SUMMARY: &[(&str, &str)] = &[
    ("name", "NEIGHBOUR"),
    ("remote_as", "AS"),
    ("received_messages", "MSGRCVD"),
    ("sent_messages", "MSGSENT"),
    ("since", "UP/DOWN"),
    ("state", "STATE"),
    ("received", "PREFIXES"),
    ("accepted", "ACCEPTED"),
    ("installed", "INSTALLED"),
    ("refused", "REFUSED"),
    ("stale", "STALE"),
    ("error", "LAST ERROR"),
];

fn summary(value: &Value) -> String {
    let rows = value.as_array().cloned().unwrap_or_default();
    let flat = rows.into_iter().map(|mut row| {
        let refused: u64 = pairs(&row, "refused").map(|(_, count)| count).sum();
        if let Some(row) = row.as_object_mut() {
            row.insert("refused".into(), refused.into());
        }
        row
    });
    let flat: Vec<Value> = flat.collect();
    listing::table(&flat, SUMMARY)
}

/// Pairs of a name and a count.
fn pairs<'a>(row: &'a Value, key: &str) -> impl Iterator<Item = (&'a str, u64)> {
    let list = row.get(key).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|pair| Some((pair.get(0)?.as_str()?, pair.get(1)?.as_u64()?)))
}

fn neighbor(value: &Value) -> String {
    let mut text = String::new();
    let shown = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            list.iter().map(|one| one.as_str().unwrap_or_default()).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    };
    let mut line = |name: &str, value: String| {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{name:18} {value}");
    };
    for (key, name) in [
        ("name", "neighbour"),
        ("neighbor", "address"),
        ("remote_as", "AS"),
        ("state", "state"),
        ("since", "since"),
        ("damped", "held down"),
        ("received_messages", "messages received"),
        ("sent_messages", "messages sent"),
        ("received", "prefixes"),
        ("accepted", "accepted"),
        ("installed", "installed"),
        ("stale", "stale"),
        ("announced", "announced"),
        ("faults", "malformed"),
        ("memory", "bytes"),
        ("error", "last error"),
    ] {
        line(name, value.get(key).map(shown).unwrap_or_default());
    }
    for (table, count) in pairs(value, "tables") {
        line("in table", format!("{table} {count}"));
    }
    for (reason, count) in pairs(value, "refused") {
        line("refused", format!("{count} {reason}"));
    }
    if let Some(session) = value.get("session").and_then(Value::as_object) {
        for (key, value) in session {
            line(&key.replace('_', " "), shown(value));
        }
    }
    text
}

const RIB: &[(&str, &str)] = &[
    ("prefix", "PREFIX"),
    ("path", "PATH"),
    ("neighbor", "NEIGHBOUR"),
    ("tables", "TABLES"),
    ("communities", "COMMUNITIES"),
    ("note", "NOTE"),
];

fn rib(value: &Value) -> String {
    let rows = value.as_array().cloned().unwrap_or_default();
    let flat = rows.into_iter().map(|mut row| {
        let is_stale = row.get("stale").and_then(Value::as_bool).unwrap_or_default();
        let refused = row.get("refused").and_then(Value::as_str).unwrap_or_default();
        let note = if is_stale { format!("stale {refused}") } else { refused.to_owned() };
        let joined = |key: &str| {
            let list = row.get(key).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        };
        let (tables, communities) = (joined("tables"), joined("communities"));
        if let Some(row) = row.as_object_mut() {
            row.insert("note".into(), note.trim().into());
            row.insert("tables".into(), tables.into());
            row.insert("communities".into(), communities.into());
        }
        row
    });
    let flat: Vec<Value> = flat.collect();
    listing::table(&flat, RIB)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn listings_say_how_many_were_refused_and_why() {
        let row = json!({
            "name": "feed", "remote_as": 65066, "state": "Established", "received": 5, "accepted": 3, "installed": 2,
            "refused": [["prefix too short", 2]], "tables": [["block", 2]], "session": {"hold_time": 90, "capabilities": ["a", "b"]},
        });
        let text = summary(&json!([row]));
        assert!(text.lines().next().unwrap().contains("REFUSED"), "{text}");
        assert!(text.contains("feed") && text.contains("Established"), "{text}");
        let text = neighbor(&row);
        assert!(text.contains("refused            2 prefix too short"), "{text}");
        assert!(text.contains("capabilities       a b"), "{text}");
        let text = rib(&json!([{
            "prefix": "192.0.2.1/32", "path": 0, "neighbor": "feed", "tables": ["block"],
            "communities": ["65066:666", "1:2:3"], "refused": null, "stale": true,
        }]));
        assert!(text.contains("65066:666 1:2:3") && text.contains("stale"), "{text}");
    }

    #[test]
    fn a_prefix_may_be_an_address() {
        assert_eq!(prefix("192.0.2.1").unwrap().to_string(), "192.0.2.1/32");
        assert!(prefix("x").unwrap_err().contains("expected an address"));
    }
}
