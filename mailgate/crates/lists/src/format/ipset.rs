//! What `ipset save` prints: `create` and `add` lines, of the old `-N` and `-A` form too.

use super::{Collector, Span, lines, words};
use crate::prefix::{Sense, parse_bytes, quoted};

/// Reads all sets of the text as one. `nomatch` makes a hole; `timeout` is not taken over, because the list is read
/// anew before it matters.
pub(super) fn read(text: &[u8], collector: &mut Collector<'_>) {
    for (number, line) in lines(text) {
        if collector.is_full() {
            break;
        }
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let mut found = words(line);
        match found.next() {
            Some(b"add" | b"-A" | b"--add") => {
                let element = found.nth(1).unwrap_or_default();
                add(number, element, line, collector);
            }
            Some(
                b"create" | b"-N" | b"--create" | b"flush" | b"-F" | b"destroy" | b"-X" | b"COMMIT" | b"swap",
            ) => {}
            _ => collector.problem(number, &format!("found {}, expected create or add", quoted(line))),
        }
    }
}

fn add(number: u64, element: &[u8], line: &[u8], collector: &mut Collector<'_>) {
    let options = || words(line).skip(3);
    let sense = if options().any(|word| word == b"nomatch") { Sense::Hole } else { Sense::Listed };
    let note = comment(line);
    let note = note.as_deref();
    if element.contains(&b',') {
        let said = format!("found {}, expected an address or prefix alone", quoted(element));
        return collector.problem(number, &said);
    }
    if element.contains(&b'-') {
        return match Span::parse(element) {
            Ok(span) => collector.span(sense, span, note),
            Err(said) => collector.problem(number, &said),
        };
    }
    match parse_bytes(element) {
        Ok((Sense::Listed, prefix)) => collector.entry(sense, prefix, note),
        Ok((Sense::Hole, _)) => collector.problem(number, "found !, expected nomatch at the end of the line"),
        Err(said) => collector.problem(number, &said),
    }
}

/// What stands in quotes after `comment`.
fn comment(line: &[u8]) -> Option<String> {
    let text = super::lossy(line);
    let (_, after) = text.split_once(" comment \"")?;
    let (said, _) = after.split_once('"')?;
    Some(said.replace('%', "%%"))
}
