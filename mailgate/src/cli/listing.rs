//! Aligned listings that fit a terminal.

use mailgate_model::Timestamp;
use serde_json::Value;

/// Keys whose numbers are milliseconds since the epoch.
const TIMES: [&str; 15] = [
    "arrived",
    "changed",
    "expires",
    "finished",
    "first",
    "last_change",
    "last_failure",
    "last_success",
    "next_attempt",
    "next_run",
    "oldest",
    "pass",
    "passes",
    "since",
    "started",
];
/// Keys that are times in some answers and numbers of things in others.
const TIMES_OR_COUNTS: [&str; 3] = ["added", "cleared", "last"];
/// Milliseconds from here on are times: March 1973. There are never so many things.
const TIME_FROM: i64 = 100_000_000_000;
/// Rows inside a card beyond which those that count nothing are left out.
const ROWS_WITH_ZEROS: usize = 6;
/// Widest a column may become before it is cut with an ellipsis.
const CELL_LIMIT: usize = 60;

/// `rows` as a table with the given columns (JSON key, heading); numbers stand to the right.
#[must_use]
pub(super) fn table(rows: &[Value], columns: &[(&str, &str)]) -> String {
    if rows.is_empty() {
        return "nothing to show\n".to_owned();
    }
    grid(&rows.iter().collect::<Vec<_>>(), columns, cell)
}

/// The same with what a cell looks like.
fn grid(rows: &[&Value], columns: &[(&str, &str)], cell: fn(Option<&Value>) -> String) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            columns
                .iter()
                .map(|(key, _)| cell(row.get(key).map(|value| readable(key, value)).as_ref()))
                .collect()
        })
        .collect();
    // Asked once of each column, not of each cell: a greylist has a hundred thousand rows.
    let is_number = |(key, _): &(&str, &str)| {
        let is_number = |value: &Value| value.is_null() || readable(key, value).is_number();
        rows.iter().all(|row| row.get(key).is_none_or(is_number))
    };
    let are_numbers: Vec<bool> = columns.iter().map(is_number).collect();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, (_, heading))| {
            let widest = cells.iter().filter_map(|row| row.get(index)).map(|text| text.chars().count()).max();
            widest.unwrap_or(0).max(heading.chars().count())
        })
        .collect();
    let mut text = String::new();
    let headings: Vec<String> = columns.iter().map(|(_, heading)| (*heading).to_owned()).collect();
    for row in std::iter::once(&headings).chain(&cells) {
        let mut line = String::new();
        for (index, ((cell, width), is_number)) in row.iter().zip(&widths).zip(&are_numbers).enumerate() {
            let (width, gap) = (*width, if index == 0 { "" } else { "  " });
            line.push_str(gap);
            line.push_str(&if *is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// One object as `key  value` lines, in the order of its keys; what is inside it stands indented below.
#[must_use]
pub(super) fn card(object: &Value) -> String {
    let mut text = String::new();
    write_card(object, 0, &mut text);
    text
}

fn write_card(object: &Value, depth: usize, text: &mut String) {
    let Some(fields) = object.as_object() else {
        text.push_str(&(full(object) + "\n"));
        return;
    };
    let indent = "  ".repeat(depth);
    let width = fields.keys().map(|key| key.chars().count()).max().unwrap_or(0);
    for (key, value) in fields {
        match value {
            Value::Array(rows) if rows.iter().any(Value::is_object) => {
                text.push_str(&format!("{indent}{key}\n"));
                for line in inner_table(rows).lines() {
                    text.push_str(&format!("{indent}  {line}\n"));
                }
            }
            Value::Array(lines) if full(value).chars().count() > CELL_LIMIT => {
                text.push_str(&format!("{indent}{key}\n"));
                for line in lines {
                    text.push_str(&format!("{indent}  {}\n", full(line)));
                }
            }
            Value::Object(_) => {
                text.push_str(&format!("{indent}{key}\n"));
                write_card(value, depth + 1, text);
            }
            _ => text.push_str(&format!("{indent}{key:<width$}  {}\n", full(&readable(key, value)))),
        }
    }
}

/// Rows inside a card: a column for each of their keys that says something, the longest text last and whole.
fn inner_table(rows: &[Value]) -> String {
    let counts_nothing = |row: &&Value| {
        let mut numbers =
            row.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_i64()).peekable();
        numbers.peek().is_some() && numbers.all(|number| number == 0)
    };
    let shown: Vec<&Value> =
        rows.iter().filter(|row| rows.len() <= ROWS_WITH_ZEROS || !counts_nothing(row)).collect();
    let mut keys: Vec<&str> = Vec::new();
    for (key, value) in shown.iter().filter_map(|row| row.as_object()).flatten() {
        if !value.is_null() && !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    let text =
        |row: &Value, key: &str| row.get(key).map(|value| full(&readable(key, value))).unwrap_or_default();
    let width = |key: &str| shown.iter().map(|row| text(row, key).chars().count()).max().unwrap_or(0);
    // Stable: columns keep their order but for one that would push the others out of sight.
    keys.sort_by_key(|key| width(key) > CELL_LIMIT / 2);
    let headings: Vec<String> = keys.iter().map(|key| key.to_uppercase().replace('_', " ")).collect();
    let columns: Vec<(&str, &str)> =
        keys.iter().zip(&headings).map(|(key, heading)| (*key, heading.as_str())).collect();
    let mut lines = String::new();
    if !shown.is_empty() {
        lines = grid(&shown, &columns, |value| value.map(full).unwrap_or_default());
    }
    match rows.len() - shown.len() {
        0 => {}
        others if shown.is_empty() => lines.push_str(&format!("all {others} are 0\n")),
        others => lines.push_str(&format!("{others} others are 0\n")),
    }
    lines
}

/// Times as people read them.
fn readable(key: &str, value: &Value) -> Value {
    let is_time =
        |number: &i64| TIMES.contains(&key) || (TIMES_OR_COUNTS.contains(&key) && *number >= TIME_FROM);
    match value.as_i64().filter(is_time) {
        Some(millis) => Value::String(Timestamp::from_millis(millis).to_string()),
        None => value.clone(),
    }
}

fn cell(value: Option<&Value>) -> String {
    let text = value.map(full).unwrap_or_default();
    if text.chars().count() <= CELL_LIMIT {
        return text;
    }
    text.chars().take(CELL_LIMIT - 1).chain(std::iter::once('…')).collect()
}

fn full(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(full).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => fields.values().map(full).collect::<Vec<_>>().join(" "),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        other => other.to_string(),
    };
    plain(&text)
}

/// Strangers' texts must not steer the terminal.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_to_the_right() {
        let rows = [json!({"name": "block", "entries": 12}), json!({"name": "bypass", "entries": 3})];
        let text = table(&rows, &[("name", "TABLE"), ("entries", "ENTRIES")]);
        assert_eq!(text, "TABLE   ENTRIES\nblock        12\nbypass        3\n");
    }

    #[test]
    fn rows_inside_a_card_are_aligned_times_are_readable_and_what_counts_nothing_is_left_out() {
        let counter = |name: &str, count: u64| json!({"name": name, "count": count, "bytes": count * 40});
        let mut counters: Vec<Value> =
            ["short", "land", "martian", "drop", "pass", "reject"].map(|name| counter(name, 0)).into();
        let few = card(&json!({"counters": counters.clone()}));
        assert!(few.contains("  short        0      0\n"), "{few}");
        counters.push(counter("tarpit", 12));
        let long = "the driver does not take the filter: no native XDP with these offloads";
        let object = json!({
            "acts": "kernel",
            "counters": counters,
            "interfaces": [{"reason": long, "name": "lo", "how": "generic", "note": null}],
            "tables": [{"table": "block", "added": 1_795_299_981_179_i64, "packets": null}],
        });
        let want = format!(
            "acts        kernel\ncounters\n  NAME    COUNT  BYTES\n  tarpit     12    480\n  6 others are 0\n\
             interfaces\n  NAME  HOW      REASON\n  lo    generic  {long}\ntables\n  TABLE  ADDED\n  \
             block  2026-11-21T22:26:21Z\n"
        );
        assert_eq!(card(&object), want);
    }

    #[test]
    fn escape_sequences_of_strangers_are_not_printed() {
        assert!(!table(&[json!({"a": "\u{1b}[2J"})], &[("a", "A")]).contains('\u{1b}'));
    }
}
