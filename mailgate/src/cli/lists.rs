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
    /// Believes a source that is frozen or only watched: what waits comes into the tables.
    Thaw {
        /// Its name, as `lists show` has it.
        source: String,
    },
}

impl Verb {
    pub(super) fn question(self) -> Question {
        match self {
            Self::Show => Question { call: Call::ListsShow, show: Show::Text(sources) },
            Self::Thaw { source } => Question { call: Call::ListsThaw { source }, show: Show::Card },
        }
    }
}

const COLUMNS: [(&str, &str); 9] = [
    ("name", "SOURCE"),
    ("kind", "KIND"),
    ("state", "STATE"),
    ("received", "RECEIVED"),
    ("entries", "INSTALLED"),
    ("waiting", "WAITING"),
    ("refused", "REFUSED"),
    ("last_change", "CHANGED"),
    ("error", "LAST ERROR"),
];

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
            let _ = writeln!(text, "{name}: {line}");
        }
    }
    text
}

fn notes(row: &Value) -> Vec<String> {
    let of = |key: &str| row.pointer(&format!("/admission/{key}"));
    let time = |key: &str| of(key).and_then(Value::as_i64).map(|at| Timestamp::from_millis(at).to_string());
    let mut notes = Vec::new();
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
