//! `mailgate why`: what was decided about an address, a session or a message, and why.

use std::fmt::Write as _;

use mailgate_model::Timestamp;
use serde_json::Value;

use super::{Question, Show};
use crate::admin::Call;

/// What is asked about.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An address, the id of a session (`s=` in the log), a queue id, or a Message-ID.
    #[arg(value_name = "ADDRESS|SESSION|QUEUE-ID|MESSAGE-ID")]
    about: String,
}

impl Arguments {
    pub(super) fn question(self) -> Question {
        Question { call: Call::Why { about: self.about }, show: Show::Text(text) }
    }
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn text(why: &Value) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    if let Some(now) = why.get("now").filter(|now| now.is_object()) {
        let reason = now
            .get("reason")
            .and_then(Value::as_str)
            .map(|reason| format!(" ({reason})"))
            .unwrap_or_default();
        let tables: Vec<&str> = now
            .get("tables")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let _ = writeln!(
            text,
            "{} is {} now; a connection goes to: {}{reason}",
            word(now, "ip"),
            word(now, "standing"),
            word(now, "route")
        );
        if !tables.is_empty() {
            let _ = writeln!(text, "  listed in {}", tables.join(", "));
        }
    }
    let decisions = why.get("decisions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if decisions.is_empty() {
        let _ = writeln!(text, "no decision about {} is kept; the last 100000 are", word(why, "about"));
    }
    decisions.iter().for_each(|decision| one(decision, &mut text));
    text
}

fn one(decision: &Value, text: &mut String) {
    let at = decision
        .get("at")
        .and_then(Value::as_i64)
        .map_or_else(String::new, |at| Timestamp::from_millis(at).to_string());
    let _ = writeln!(
        text,
        "{at}  {}: {}  session {}",
        word(decision, "result"),
        word(decision, "reason"),
        word(decision, "session")
    );
    let (identity, helo, points) =
        (word(decision, "identity"), word(decision, "helo"), decision.get("points"));
    if !identity.is_empty() {
        let points = points.and_then(Value::as_i64).unwrap_or_default();
        let _ = writeln!(
            text,
            "  client {} as {identity}, helo {helo}, {points} points of suspicion",
            word(decision, "ip")
        );
        let (from, to) = (word(decision, "reverse_path"), word(decision, "forward_path"));
        let _ = writeln!(text, "  from <{from}> to <{to}>");
    }
    for finding in decision.get("findings").and_then(Value::as_array).into_iter().flatten() {
        let points = finding.get("points").and_then(Value::as_i64).unwrap_or_default();
        let detail = finding
            .get("detail")
            .and_then(Value::as_str)
            .map(|detail| format!(" ({detail})"))
            .unwrap_or_default();
        let _ = writeln!(text, "  {points:+4}  {}{detail}", word(finding, "reason"));
    }
    match (word(decision, "result"), decision.get("waited").and_then(Value::as_u64)) {
        ("deferred" | "spared", Some(wait)) => drop(writeln!(text, "  a retry passes after {wait} s")),
        (_, Some(waited)) => drop(writeln!(text, "  it had waited {waited} s")),
        _ => {}
    }
    let (queue_id, message_id) = (word(decision, "queue_id"), word(decision, "message_id"));
    if !queue_id.is_empty() {
        let _ = writeln!(text, "  became message {queue_id} <{message_id}>");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_decision_is_told_with_its_reasons_and_its_message() {
        let told = text(&json!({
            "about": "192.0.2.1",
            "now": {"ip": "192.0.2.1", "standing": "unknown", "route": "greylist", "tables": ["suspects"], "entries": []},
            "decisions": [{
                "at": 0, "session": "S1", "ip": "192.0.2.1", "identity": "192.0.2.0/24", "helo": "x",
                "reverse_path": "a@x.org", "forward_path": "b@y.org", "result": "deferred", "reason": "first-attempt",
                "findings": [{"reason": "no-reverse", "points": 4}, {"reason": "dnsbl", "points": 6, "detail": "zen"}],
                "points": 10, "waited": 180, "queue_id": "Q1", "message_id": "m@x",
            }],
        }));
        assert_eq!(
            told,
            "192.0.2.1 is unknown now; a connection goes to: greylist\n  listed in suspects\n\
             1970-01-01T00:00:00Z  deferred: first-attempt  session S1\n  \
             client 192.0.2.1 as 192.0.2.0/24, helo x, 10 points of suspicion\n  from <a@x.org> to <b@y.org>\n    \
             +4  no-reverse\n    +6  dnsbl (zen)\n  a retry passes after 180 s\n  became message Q1 <m@x>\n"
        );
        assert!(text(&json!({"about": "S9", "decisions": []})).starts_with("no decision about S9 is kept"));
    }
}
