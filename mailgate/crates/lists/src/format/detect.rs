//! What a text is, from its first lines.

use super::{Format, lines, words};

/// How much is looked at.
const LOOKED_AT: usize = 64 * 1024;

/// What a text is that is no list: the error pages that servers send with status 200.
pub(super) fn strange(text: &[u8]) -> Option<&'static str> {
    let head = text.get(..text.len().min(LOOKED_AT)).unwrap_or_default();
    if head.contains(&0) {
        return Some("binary data");
    }
    let begin = head.trim_ascii_start();
    let first = begin.first()?;
    let starts = |with: &[u8]| begin.get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with));
    if *first == b'<' || starts(b"html") {
        return Some("an HTML or XML page");
    }
    if (*first == b'{' || *first == b'[') && !is_drop_json(begin) {
        return Some("a JSON document");
    }
    None
}

fn is_drop_json(text: &[u8]) -> bool {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    [&b"\"cidr\""[..], b"\"metadata\""].iter().any(|key| holds(line, key))
}

/// The format of a text.
pub(super) fn format(text: &[u8]) -> Format {
    let head = text.get(..text.len().min(LOOKED_AT)).unwrap_or_default();
    // A line cut in the middle may look like something else.
    let end = if head.len() < text.len() { head.iter().rposition(|byte| *byte == b'\n') } else { None };
    let head = end.and_then(|end| head.get(..end)).unwrap_or(head);
    let found = lines(head).find_map(|(_, line)| of_line(line));
    found.unwrap_or(Format::Plain)
}

/// What a line gives away; `None` when it may be of several formats.
fn of_line(line: &[u8]) -> Option<Format> {
    let first = *line.first()?;
    let lower = line.get(..line.len().min(512)).unwrap_or_default().to_ascii_lowercase();
    let has = |part: &[u8]| holds(&lower, part);
    if has(b".rpz-ip") || has(b".rpz-client-ip") {
        return Some(Format::Rpz);
    }
    let mut found = words(&lower);
    let (word, next) = (found.next().unwrap_or_default(), found.next().unwrap_or_default());
    match first {
        b'{' if is_drop_json(line) => Some(Format::DropJson),
        b'#' if line.starts_with(b"#!") && has(b"nft") => Some(Format::Nft),
        b';' if has(b"spamhaus drop") || has(b"spamhaus edrop") => Some(Format::Drop),
        b'#' | b';' => None,
        b':' => Some(Format::Rbldnsd),
        b'$' => match word {
            b"$origin" => Some(Format::Rpz),
            b"$ttl" => None,
            _ => Some(Format::Rbldnsd),
        },
        _ => match word {
            b"add" if matches!(next, b"element" | b"table" | b"set" | b"rule" | b"chain") => {
                Some(Format::Nft)
            }
            b"table" | b"flush" | b"set" | b"elements" | b"define" => Some(Format::Nft),
            b"create" | b"add" | b"-n" | b"-a" => Some(Format::Ipset),
            b"@" => Some(Format::Rpz),
            _ if words(&lower).skip(1).any(|word| word == b"cname" || word == b"soa") => Some(Format::Rpz),
            _ if next.starts_with(b":") => Some(Format::Rbldnsd),
            _ if next == b";" && super::words(&lower).nth(2).is_some_and(|word| word.starts_with(b"sbl")) => {
                Some(Format::Drop)
            }
            _ => None,
        },
    }
}

fn holds(line: &[u8], part: &[u8]) -> bool {
    line.windows(part.len()).any(|window| window == part)
}
