//! What `mailgate table` says, in the words of pfctl(8) where it has some.

use mailgate_model::Timestamp;
use serde_json::Value;

use super::listing;

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn is(value: &Value, key: &str) -> bool {
    value.get(key) == Some(&Value::Bool(true))
}

fn words(value: &Value, key: &str) -> String {
    let all = value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

fn time(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_i64).map(|millis| Timestamp::from_millis(millis).to_string())
}

/// `!10.0.0.0/8`; a host without its length.
fn entry(row: &Value) -> String {
    let prefix = word(row, "prefix");
    let most = if prefix.contains(':') { "/128" } else { "/32" };
    format!("{}{}", if is(row, "negated") { "!" } else { "" }, prefix.strip_suffix(most).unwrap_or(prefix))
}

/// What became of each entry, and the sentence of the verb.
pub(super) fn done(done: &Value, dry_run: bool, say: fn(&Value) -> String) -> String {
    let mut text = String::new();
    let feedback = done.get("feedback").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for row in feedback {
        text.push_str(&format!("{} {}\n", word(row, "letter"), entry(row)));
    }
    text.push_str(&say(done));
    if number(done, "duplicates") > 0 {
        text.push_str(&format!(" {} named twice.", number(done, "duplicates")));
    }
    if number(done, "conflicts") > 0 {
        text.push_str(&format!(
            " {} there with the opposite \"!\" and left as they are; delete them first, or use replace.",
            number(done, "conflicts")
        ));
    }
    if number(done, "still") > 0 {
        text.push_str(&format!(
            " {} still there from {}; to overrule a source add !ADDRESS.",
            number(done, "still"),
            words(done, "still_from")
        ));
    }
    if dry_run {
        text.push_str(" (dry run: nothing was changed)");
    } else if done.get("in_force") == Some(&Value::Bool(false)) {
        text.push_str(
            "\nSaved, but the packet filter has not taken it yet; the log says why, and it is tried again.",
        );
    }
    text.push('\n');
    text
}

fn of_asked(done: &Value, key: &str, what: &str) -> String {
    format!("{}/{} addresses {what}.", number(done, key), number(done, "asked"))
}

pub(super) fn added(done: &Value) -> String {
    let changed = match number(done, "changed") {
        0 => String::new(),
        changed => format!(" {changed} changed."),
    };
    of_asked(done, "added", "added") + &changed
}

pub(super) fn deleted(done: &Value) -> String {
    of_asked(done, "deleted", "deleted")
}

pub(super) fn expired(done: &Value) -> String {
    of_asked(done, "deleted", "expired")
}

pub(super) fn cleared(done: &Value) -> String {
    of_asked(done, "cleared", "cleared")
}

pub(super) fn flushed(done: &Value) -> String {
    format!("{} addresses deleted.", number(done, "deleted"))
}

pub(super) fn replaced(done: &Value) -> String {
    let part = |key: &str| (number(done, key) > 0).then(|| format!("{} addresses {key}.", number(done, key)));
    let parts: Vec<String> = ["added", "changed", "deleted"].into_iter().filter_map(part).collect();
    if parts.is_empty() { "no changes.".to_owned() } else { parts.join(" ") }
}

/// Rows of `table show`: the entries alone, as `replace --file` reads them, or a paragraph for each.
pub(super) fn rows(rows: &[Value], verbose: bool) -> String {
    let mut text = String::new();
    for row in rows {
        text.push_str(&entry(row));
        text.push('\n');
        if verbose {
            paragraph(row, &mut text);
        }
    }
    text
}

fn paragraph(row: &Value, text: &mut String) {
    let mut line = |label: &str, value: String| text.push_str(&format!("\t{label:<9}{value}\n"));
    line("from", words(row, "origins"));
    line("added", time(row, "added").unwrap_or_default());
    time(row, "expires").into_iter().for_each(|at| line("expires", at));
    line("cleared", time(row, "cleared").unwrap_or_default());
    if row.get("packets").is_some_and(Value::is_u64) {
        line(
            "hits",
            format!("[ Packets: {:<12} Bytes: {:<16} ]", number(row, "packets"), number(row, "bytes")),
        );
        line("last hit", time(row, "last").unwrap_or_else(|| "-".to_owned()));
    }
    match word(row, "note") {
        "" => {}
        note => line("note", listing::plain(note)),
    }
}

/// Rows within a JSON array.
pub(super) fn rows_json(rows: &[Value], is_first: bool) -> String {
    let row = |(n, row): (usize, &Value)| {
        let comma = if n == 0 && is_first { "" } else { "," };
        format!("{comma}\n  {row}")
    };
    rows.iter().enumerate().map(row).collect()
}

/// Rows of `table list` with what people read more easily than numbers.
pub(super) fn with_figures(rows: Value, json: bool) -> Value {
    let Value::Array(mut rows) = rows else { return rows };
    for row in rows.iter_mut().filter(|_| !json) {
        let flags = ["readonly", "counters"].into_iter().filter(|flag| is(row, flag));
        let flags = flags.collect::<Vec<_>>().join(",");
        let memory = bytes(number(row, "memory"));
        let hit = row.get("bytes").and_then(Value::as_u64).map(bytes);
        let Some(fields) = row.as_object_mut() else { continue };
        fields.insert("flags".into(), if flags.is_empty() { Value::Null } else { flags.into() });
        fields.insert("memory".into(), memory.into());
        fields.insert("bytes".into(), hit.into());
    }
    Value::Array(rows)
}

/// `812 B`, `12 KiB`, `38.1 MiB`.
fn bytes(count: u64) -> String {
    const KIB: f64 = 1024.0;
    let float = count as f64;
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.0} KiB", float / KIB),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", float / KIB / KIB),
        _ => format!("{:.1} GiB", float / KIB / KIB / KIB),
    }
}

/// What tables say of addresses, and the exit code.
pub(super) fn tested(rows: &[Value]) -> (String, u8) {
    let mut text = String::new();
    for row in rows {
        let rule = match word(row, "rule") {
            "" => "no rule decides".to_owned(),
            rule => format!("rule {rule} decides: {}", word(row, "rule_does")),
        };
        text.push_str(&format!(
            "{} {}: {rule}; on port 25: {}, {} to the greylist\n",
            if is(row, "matched") { "M" } else { " " },
            word(row, "address"),
            word(row, "on_port_25"),
            word(row, "standing"),
        ));
        let tables = row.get("tables").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for found in tables {
            let hole = if is(found, "negated") { " (a hole: the table does not apply)" } else { "" };
            let end = time(found, "expires").map(|at| format!(" until {at}")).unwrap_or_default();
            text.push_str(&format!(
                "\t{:<12} {:<8} {} from {}{end}{hole}\n",
                word(found, "table"),
                word(found, "action"),
                entry(found),
                words(found, "origins"),
            ));
        }
    }
    let (matched, all) = (rows.iter().filter(|row| is(row, "matched")).count(), rows.len());
    text.push_str(&format!("{matched}/{all} addresses match.\n"));
    let code = match matched {
        0 => 1,
        _ if matched < all => 2,
        _ => 0,
    };
    (text, code)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn verbs_say_what_pfctl_says() {
        let answer = json!({"asked": 3, "added": 1, "changed": 0, "conflicts": 1, "duplicates": 1, "feedback": [
            {"letter": "A", "prefix": "192.0.2.1/32", "negated": false},
            {"letter": "X", "prefix": "192.0.2.1/32", "negated": false},
            {"letter": "Y", "prefix": "2001:db8::1/128", "negated": true},
        ]});
        assert_eq!(
            done(&answer, false, added),
            "A 192.0.2.1\nX 192.0.2.1\nY !2001:db8::1\n1/3 addresses added. 1 named twice. 1 there with the \
             opposite \"!\" and left as they are; delete them first, or use replace.\n"
        );
        assert_eq!(replaced(&json!({"added": 2, "deleted": 3})), "2 addresses added. 3 addresses deleted.");
        assert_eq!(replaced(&json!({})), "no changes.");
        let still = json!({"asked": 1, "deleted": 1, "still": 1, "still_from": ["feed", "block.txt"]});
        assert_eq!(
            done(&still, true, deleted),
            "1/1 addresses deleted. 1 still there from feed, block.txt; to overrule a source add !ADDRESS. \
             (dry run: nothing was changed)\n"
        );
    }

    #[test]
    fn the_exit_code_says_whether_all_some_or_no_addresses_match() {
        let row = |matched: bool| json!({"address": "192.0.2.1", "matched": matched});
        assert_eq!(tested(&[row(true), row(true)]).1, 0);
        assert_eq!(tested(&[row(true), row(false)]).1, 2);
        assert_eq!(tested(&[row(false)]).1, 1);
        assert!(tested(&[row(true), row(false)]).0.ends_with("1/2 addresses match.\n"));
    }

    #[test]
    fn an_entry_is_shown_as_replace_reads_it_and_with_v_as_a_paragraph() {
        let row = json!({"prefix": "192.0.2.0/24", "negated": true, "origins": ["manual"], "added": 0, "cleared": 0,
            "packets": 3, "bytes": 180, "note": "why\u{1b}[2J"});
        assert_eq!(rows(std::slice::from_ref(&row), false), "!192.0.2.0/24\n");
        let told = rows(&[row], true);
        assert!(told.contains("\thits     [ Packets: 3            Bytes: 180              ]\n"), "{told}");
        assert!(told.contains("\tnote     why?[2J\n"), "{told}");
    }
}
