//! Spamhaus DROP: text with the number of the listing behind `;`, or one JSON object per line.

use serde::Deserialize;

use super::{Collector, lines};
use crate::prefix::{parse_bytes, quoted};

/// Longest line of JSON: a record takes 70 bytes, the metadata 300.
const LINE_LIMIT: usize = 4096;

/// Longest number of a listing that becomes a note.
const ID_LIMIT: usize = 32;

/// Reads the text.
pub(super) fn read_text(text: &[u8], collector: &mut Collector<'_>) {
    for (number, line) in lines(text) {
        if collector.is_full() {
            break;
        }
        let mut parts = line.splitn(2, |byte| matches!(byte, b';' | b'#'));
        let entry = parts.next().unwrap_or_default().trim_ascii();
        if entry.is_empty() {
            continue;
        }
        let id = super::words(parts.next().unwrap_or_default()).next().and_then(id);
        match parse_bytes(entry) {
            Ok((sense, prefix)) => collector.entry(sense, prefix, id),
            Err(said) => collector.problem(number, &said),
        }
    }
}

/// One line: an entry, or what is said of all.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    cidr: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    sblid: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "type", borrow)]
    kind: Option<std::borrow::Cow<'a, str>>,
    records: Option<u64>,
}

/// Reads the JSON. The last line says how many entries there are; another number is told as a problem.
pub(super) fn read_json(text: &[u8], collector: &mut Collector<'_>) {
    let mut seen = 0_u64;
    for (number, line) in lines(text).filter(|(_, line)| !line.is_empty()) {
        if collector.is_full() {
            break;
        }
        let short = line.len() <= LINE_LIMIT;
        let read = short.then(|| serde_json::from_slice::<Line<'_>>(line).ok()).flatten();
        match read {
            Some(Line { cidr: Some(cidr), sblid, .. }) => {
                seen += 1;
                let id = sblid.as_deref().map(str::as_bytes).and_then(id);
                match parse_bytes(cidr.trim().as_bytes()) {
                    Ok((sense, prefix)) => collector.entry(sense, prefix, id),
                    Err(said) => collector.problem(number, &said),
                }
            }
            Some(Line { kind: Some(_), records, .. }) => {
                if let Some(records) = records.filter(|records| *records != seen) {
                    let said = format!("found {seen} entries, expected {records} as the list itself says");
                    collector.problem(number, &said);
                }
            }
            _ => {
                let found = quoted(line);
                collector.problem(number, &format!("found {found}, expected a JSON object with \"cidr\""));
            }
        }
    }
}

/// The number of a listing, if it looks like one.
fn id(word: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(word).ok()?;
    let is_fine = !text.is_empty()
        && text.len() <= ID_LIMIT
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    is_fine.then_some(text)
}
