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
/// Widest a column may become before it is cut with an ellipsis.
const CELL_LIMIT: usize = 60;

/// `rows` as a table with the given columns (JSON key, heading); numbers stand to the right.
#[must_use]
pub(super) fn table(rows: &[Value], columns: &[(&str, &str)]) -> String {
    if rows.is_empty() {
        return "nothing to show\n".to_owned();
    }
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
        !TIMES.contains(key)
            && rows.iter().all(|row| row.get(key).is_none_or(|value| value.is_number() || value.is_null()))
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
                for row in rows {
                    let fields = row.as_object().into_iter().flatten();
                    let line: Vec<String> =
                        fields.map(|(key, value)| format!("{key}={}", full(&readable(key, value)))).collect();
                    text.push_str(&format!("{indent}  {}\n", line.join(" ")));
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

/// Times as people read them.
fn readable(key: &str, value: &Value) -> Value {
    match value.as_i64().filter(|_| TIMES.contains(&key)) {
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
    fn escape_sequences_of_strangers_are_not_printed() {
        assert!(!table(&[json!({"a": "\u{1b}[2J"})], &[("a", "A")]).contains('\u{1b}'));
    }
}
