//! Data files of rbldnsd(8): the datasets of addresses, alone or inside a `combined` one.
//!
//! An entry may be an address, a prefix with missing octets (`127/8`, `10.1`), or a range (`10.0-10.3`,
//! `127.0.0.1-255`); `!` makes a hole. What follows is the answer: `:127.0.0.2:text`, or the text alone, in which `$`
//! stands for the address and `$1` for a text defined before.

use std::net::{IpAddr, Ipv4Addr};

use super::{Collector, Span, lines};
use crate::prefix::{Sense, parse_bytes, quoted};

/// What has been said so far that counts for the following lines.
#[derive(Default)]
struct Scope {
    /// What is said of entries that say nothing themselves, as a note.
    text: Option<String>,
    variables: [String; 10],
    /// Inside a dataset that has no addresses.
    is_foreign: bool,
}

/// Reads all datasets of the text as one; those of names are passed over.
pub(super) fn read(text: &[u8], collector: &mut Collector<'_>) {
    let mut scope = Scope::default();
    for (number, line) in lines(text) {
        if collector.is_full() {
            break;
        }
        let Some(first) = line.first() else { continue };
        if let Some(special) = special(line) {
            scope.take(special);
            continue;
        }
        match first {
            b'#' | b';' => {}
            _ if scope.is_foreign => {}
            b':' => scope.text = scope.note(line),
            _ => entry(number, line, &scope, collector),
        }
    }
}

/// What follows the dollar sign of a line that is not an entry.
fn special(line: &[u8]) -> Option<&[u8]> {
    [&b"$"[..], b"#$", b";$", b":$"].iter().find_map(|mark| line.strip_prefix(*mark))
}

impl Scope {
    fn take(&mut self, special: &[u8]) {
        let mut words = super::words(special);
        let word = words.next().unwrap_or_default();
        if let [digit @ b'0'..=b'9'] = word {
            let text = super::lossy(special.get(1..).unwrap_or_default()).trim().to_owned();
            if let Some(variable) = self.variables.get_mut(usize::from(digit - b'0')) {
                *variable = text;
            }
        } else if word.eq_ignore_ascii_case(b"DATASET") {
            let kind = words.next().unwrap_or_default().to_ascii_lowercase();
            let kind = kind.split(|byte| *byte == b':').next().unwrap_or_default();
            let has_addresses =
                matches!(kind, b"ip4set" | b"ip4tset" | b"ip4trie" | b"ip6tset" | b"ip6trie" | b"acl");
            // An access list of clients of the server is none of its entries.
            *self = Self { is_foreign: !has_addresses || kind == b"acl", ..Self::default() };
        }
    }

    /// The text of `:127.0.0.2:text`, `:2:text` or `text`.
    fn note(&self, value: &[u8]) -> Option<String> {
        let template = match value.strip_prefix(b":") {
            Some(rest) => {
                let at = rest.iter().position(|byte| *byte == b':')?;
                rest.get(at + 1..).unwrap_or_default()
            }
            None => value,
        };
        let template = template.trim_ascii();
        (!template.is_empty()).then(|| self.substituted(&super::lossy(template)))
    }

    /// `$` becomes the address, `$1` a variable, `$$` a dollar sign.
    fn substituted(&self, template: &str) -> String {
        let mut note = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('$') {
            // A note is cut there anyway; a line of nothing but `$1` would grow a hundredfold.
            if note.len() > crate::notes::NOTE_LIMIT {
                return note;
            }
            note.push_str(&before.replace('%', "%%"));
            let digit = after.bytes().next();
            let variable = digit.and_then(|byte| self.variables.get(usize::from(byte.checked_sub(b'0')?)));
            rest = match (digit, variable) {
                (Some(b'$'), _) => {
                    note.push('$');
                    after.get(1..).unwrap_or_default()
                }
                (_, Some(variable)) => {
                    note.push_str(&variable.replace('%', "%%"));
                    after.get(1..).unwrap_or_default()
                }
                _ => {
                    note.push_str(crate::notes::ADDRESS);
                    after
                }
            };
        }
        note.push_str(&rest.replace('%', "%%"));
        note
    }
}

fn entry(number: u64, line: &[u8], scope: &Scope, collector: &mut Collector<'_>) {
    let (sense, line) = match line.strip_prefix(b"!") {
        Some(rest) => (Sense::Hole, rest.trim_ascii_start()),
        None => (Sense::Listed, line),
    };
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (address, rest) = line.split_at(end);
    let value = rest.trim_ascii();
    let own = match value.first() {
        None | Some(b'#' | b';') => None,
        Some(_) => scope.note(value),
    };
    let note = own.as_deref().or(scope.text.as_deref());
    match span(address) {
        Ok(span) => collector.span(sense, span, note),
        Err(said) => collector.problem(number, &said),
    }
}

/// What an entry names. Bits beyond the length are dropped by rbldnsd; here they are refused, as everywhere.
fn span(text: &[u8]) -> Result<Span, String> {
    if text.contains(&b':') {
        return parse_bytes(text).map(|(_, prefix)| Span::of(prefix));
    }
    let wrong = || {
        format!(
            "found {}, expected such as 192.0.2.1, 192.0.2, 192.0.2/24 or 192.0.2.1-192.0.2.9",
            quoted(text)
        )
    };
    if let Some(at) = text.iter().position(|byte| *byte == b'-') {
        let (first, rest) = text.split_at(at);
        let (low, count) = octets(first).ok_or_else(wrong)?;
        let last = rest.get(1..).unwrap_or_default();
        let (mut high, given) = octets(last).ok_or_else(wrong)?;
        if given == 1 && count > 1 {
            // One octet alone replaces the last one given of the first address.
            let [octet, ..] = high;
            high = low;
            if let Some(slot) = high.get_mut(count - 1) {
                *slot = octet;
            }
            fill(&mut high, count);
        } else {
            fill(&mut high, given);
        }
        return Span::new(ip(low), ip(high));
    }
    let (address, length) = match text.iter().position(|byte| *byte == b'/') {
        Some(at) => (text.get(..at).unwrap_or_default(), Some(text.get(at + 1..).unwrap_or_default())),
        None => (text, None),
    };
    let (low, count) = octets(address).ok_or_else(wrong)?;
    match length {
        None => {
            let mut high = low;
            fill(&mut high, count);
            Span::new(ip(low), ip(high))
        }
        Some(length) => {
            let whole = format!("{}/{}", ip(low), String::from_utf8_lossy(length));
            parse_bytes(whole.as_bytes()).map(|(_, prefix)| Span::of(prefix))
        }
    }
}

/// One to four octets, the others zero, and how many there are.
fn octets(text: &[u8]) -> Option<([u8; 4], usize)> {
    let mut all = [0_u8; 4];
    let mut count = 0;
    for part in text.split(|byte| *byte == b'.') {
        let slot = all.get_mut(count)?;
        if part.is_empty() || part.len() > 3 || (part.len() > 1 && part.starts_with(b"0")) {
            return None;
        }
        let part =
            std::str::from_utf8(part).ok().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?;
        *slot = part.parse().ok()?;
        count += 1;
    }
    Some((all, count))
}

/// Completes an address to the last one it stands for.
fn fill(octets: &mut [u8; 4], given: usize) {
    octets.iter_mut().skip(given).for_each(|octet| *octet = u8::MAX);
}

fn ip(octets: [u8; 4]) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(octets))
}
