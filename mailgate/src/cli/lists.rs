//! `mailgate lists`: the sources of the tables.

use std::fmt::Write as _;

use clap::Subcommand;
use mailgate_model::Timestamp;
use serde_json::Value;

use super::{Question, Show, listing};
use crate::admin::Call;

/// What can be asked of the sources.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Every source with its state, what it brings, what of that is in tables, and why the rest is not.
    Show,
    /// What fetching a source now would change, without taking it.
    Diff {
        /// Its name, as `lists show` has it.
        source: String,
    },
    /// Who names an address, by which entry, since when and saying what; what is done with it, and why.
    Explain {
        /// IPv4 or IPv6.
        address: std::net::IpAddr,
    },
    /// Fetches a source, or all, at once and as a whole, and says what came of it.
    Reload {
        /// Its name, as `lists show` has it.
        source: Option<String>,
    },
    /// Believes a source that is frozen or only watched: what waits comes into the tables.
    Thaw {
        /// Its name, as `lists show` has it.
        source: String,
    },
}

impl Verb {
    pub(super) fn question(self) -> Question {
        match self {
            Self::Diff { source } => Question { call: Call::ListsDiff { source }, show: Show::Text(diff) },
            Self::Explain { address } => {
                Question { call: Call::ListsExplain { address }, show: Show::Text(explained) }
            }
            Self::Reload { source } => {
                Question { call: Call::ListsReload { source }, show: Show::Table(RELOADED) }
            }
            Self::Show => Question { call: Call::ListsShow, show: Show::Text(sources) },
            Self::Thaw { source } => Question { call: Call::ListsThaw { source }, show: Show::Card },
        }
    }
}

const RELOADED: &[(&str, &str)] = &[
    ("name", "SOURCE"),
    ("outcome", "OUTCOME"),
    ("added", "ADDED"),
    ("altered", "ALTERED"),
    ("deleted", "DELETED"),
    ("error", "ERROR"),
];

const NAMED: &[(&str, &str)] = &[
    ("origin", "SOURCE"),
    ("table", "TABLE"),
    ("action", "ACTION"),
    ("entry", "ENTRY"),
    ("since", "SINCE"),
    ("decides", "DECIDES"),
    ("messages", "MESSAGE"),
];

const COLUMNS: [(&str, &str); 11] = [
    ("name", "SOURCE"),
    ("kind", "KIND"),
    ("state", "STATE"),
    ("received", "RECEIVED"),
    ("entries", "INSTALLED"),
    ("waiting", "WAITING"),
    ("refused", "REFUSED"),
    ("last_change", "CHANGED"),
    ("last_success", "LAST GOOD"),
    ("next_run", "NEXT"),
    ("error", "LAST ERROR"),
];

/// What would change: `+` and `-` before entries, as diff(1) has it.
fn diff(answer: &Value) -> String {
    let number = |key: &str| answer.get(key).and_then(Value::as_u64).unwrap_or(0);
    let (before, after) = (number("entries_before"), number("entries_after"));
    let (added, deleted) = (number("added"), number("deleted"));
    let mut text =
        format!("{before} entries now, {after} then: {added} would be added, {deleted} would go\n");
    if let Some(said) = answer.get("would_be_refused").and_then(Value::as_str) {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(text, "it would not be taken: {}", listing::plain(said));
    }
    for (key, sign, all) in [("gone", '-', deleted), ("new", '+', added)] {
        let names: Vec<&str> = answer
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for name in &names {
            let _ = writeln!(text, "{sign} {}", listing::plain(name));
        }
        let more = all.saturating_sub(names.len() as u64);
        if more > 0 {
            let _ = writeln!(text, "{sign} and {more} more");
        }
    }
    text
}

/// What is done and why, then who says so.
fn explained(answer: &Value) -> String {
    let of = |key: &str| answer.get(key).and_then(Value::as_str).map(listing::plain);
    let mut text = String::new();
    for (key, label) in
        [("why", "tables"), ("rule", "rule"), ("rule_does", "filter"), ("on_port_25", "port 25")]
    {
        if let Some(said) = of(key) {
            let _ = writeln!(text, "{label:<8} {said}");
        }
    }
    let named = answer.get("named").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !named.is_empty() {
        text.push('\n');
        text.push_str(&listing::table(named, NAMED));
    }
    text
}

/// A table, then a line for each thing that an administrator should know.
fn sources(answer: &Value) -> String {
    let rows = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    let flat = |row: &Value| {
        let mut row = row.clone();
        for key in ["received", "waiting"] {
            let value = row.pointer(&format!("/admission/{key}")).cloned().unwrap_or_default();
            if let Some(fields) = row.as_object_mut() {
                fields.insert(key.to_owned(), value);
            }
        }
        row
    };
    let flat: Vec<Value> = rows.iter().map(flat).collect();
    let mut text = listing::table(&flat, &COLUMNS);
    for row in rows {
        let name = row.get("name").and_then(Value::as_str).unwrap_or_default();
        for line in notes(row) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}: {}", listing::plain(name), listing::plain(&line));
        }
    }
    text
}

fn notes(row: &Value) -> Vec<String> {
    let of = |key: &str| row.pointer(&format!("/admission/{key}"));
    let time = |key: &str| of(key).and_then(Value::as_i64).map(|at| Timestamp::from_millis(at).to_string());
    let mut notes = Vec::new();
    if let Some(error) = row.get("copy_error").and_then(Value::as_str) {
        notes.push(format!("no copy of the last list on disk, the one of before is still there: {error}"));
    }
    if let Some(first) = row.pointer("/problems/0").and_then(Value::as_str) {
        notes.push(format!("first line that could not be read: {first}"));
    }
    let until = time("until").map_or("until `mailgate lists thaw`".to_owned(), |at| format!("until {at}"));
    match of("state").and_then(Value::as_str) {
        Some("frozen") => {
            let why = of("why").and_then(Value::as_str).unwrap_or_default();
            notes.push(format!("frozen {until}, new blocking entries wait: {why}"));
        }
        Some("observing") => notes.push(format!("new and only watched {until}")),
        _ => {}
    }
    for refused in of("refused").and_then(Value::as_array).into_iter().flatten() {
        let reason = refused.get("reason").and_then(Value::as_str).unwrap_or_default();
        let entries = refused.get("entries").and_then(Value::as_u64).unwrap_or(0);
        let examples = refused.get("examples").and_then(Value::as_array).into_iter().flatten();
        let examples: Vec<&str> = examples.filter_map(Value::as_str).collect();
        let shown = if examples.is_empty() { String::new() } else { format!(": {}", examples.join(" ")) };
        let more = if examples.len() as u64 == entries || examples.is_empty() { "" } else { " ..." };
        notes.push(format!("not in a table, {reason}: {entries}{shown}{more}"));
    }
    notes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sources_are_a_table_and_below_it_stands_what_is_wrong_with_each() {
        let rows = json!([{
            "name": "feed", "kind": "bgp", "state": "frozen", "entries": 7, "refused": 2, "error": null,
            "admission": {
                "state": "frozen", "since": 0, "until": null, "why": "found 20, expected 10", "received": 12, "waiting": 3,
                "refused": [{ "reason": "protected", "entries": 2, "examples": ["192.0.2.0/24"] }],
            },
        }]);
        let text = sources(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0].starts_with("SOURCE  KIND  STATE   RECEIVED  INSTALLED  WAITING  REFUSED"),
            "{text}"
        );
        assert_eq!(
            lines[2..],
            [
                "feed: frozen until `mailgate lists thaw`, new blocking entries wait: found 20, expected 10",
                "feed: not in a table, protected: 2: 192.0.2.0/24 ...",
            ]
        );
    }
}
