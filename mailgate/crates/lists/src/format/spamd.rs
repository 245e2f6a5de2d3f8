//! Address lists of spamd-setup(8): an address, a prefix or a range begins the line, the rest of the line is ignored.

use super::{Collector, Span, lines};
use crate::prefix::{Sense, parse_bytes, quoted};

/// Reads the text. spamd-setup passes over IPv6; here it counts.
pub(super) fn read(text: &[u8], collector: &mut Collector<'_>) {
    for (number, line) in lines(text) {
        if collector.is_full() {
            break;
        }
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        match span(line) {
            Ok(span) => collector.span(Sense::Listed, span, None),
            Err(said) => collector.problem(number, &said),
        }
    }
}

/// What a line begins with.
fn span(line: &[u8]) -> Result<Span, String> {
    // Letters belong to an IPv6 address only before the first white space.
    let end = line.iter().position(|byte| !is_of_address(*byte)).unwrap_or(line.len());
    let (first, rest) = line.split_at(end);
    let rest = rest.trim_ascii_start();
    if let Some(last) = rest.strip_prefix(b"-") {
        let last = last.trim_ascii_start();
        let end = last.iter().position(|byte| !is_of_address(*byte)).unwrap_or(last.len());
        if let Some(last) = last.get(..end).and_then(super::range::address) {
            let first = super::range::address(first);
            let first = first.ok_or_else(|| format!("found {}, expected an address", quoted(line)))?;
            return Span::new(first, last);
        }
    }
    parse_bytes(first).map(|(_, prefix)| Span::of(prefix))
}

fn is_of_address(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':' | b'/')
}
