//! One address, prefix or range per line, `#` or `;` begins a comment, `!` makes a hole.

use ipnet::IpNet;

use super::parts::{self, Part};
use super::{Collector, Span, lines};
use crate::prefix::{Sense, parse_bytes};
use crate::table::Entry;

/// Broken lines that are described; the others are only counted.
pub(crate) const PROBLEMS_SHOWN: usize = 20;

/// What a list holds, for those who hand it to `Lists::replace`.
#[derive(Debug, Clone, Default)]
pub struct List {
    /// Its entries, in its order and without end.
    pub entries: Vec<Entry>,
    /// Lines that could not be read.
    pub refused: usize,
    /// The first 20 of them, `name:line: found …, expected …`.
    pub problems: Vec<String>,
}

/// Reads a list as file sources do: one address or prefix per line, `#` and `;` begin comments, `!` makes a hole. A
/// line that cannot be read is left out and reported; `name` is what reports call the text.
#[must_use]
pub fn parse_list(name: &str, text: &[u8]) -> List {
    let mut list = List::default();
    let (refused, problems) = each_line(name, text, |sense, prefix| {
        list.entries.push(Entry { prefix, negated: sense == Sense::Hole, expires: None });
        true
    });
    List { refused, problems, ..list }
}

/// Reads a whole text; ranges `a-b` too, which commands do not take.
pub(super) fn read(text: &[u8], collector: &mut Collector<'_>) {
    parts::read(text, collector, line);
}

/// Reads a line that is not of the simplest form.
pub(super) fn line(line: &[u8], part: &mut Part) {
    let entry = without_comment(line);
    if entry.is_empty() {
        return;
    }
    match parse_bytes(entry) {
        Ok((sense, prefix)) => part.set().push(prefix, sense),
        Err(_) if entry.contains(&b'-') => match ranged(entry) {
            Ok((sense, span)) => span.prefixes().for_each(|prefix| part.set().push(prefix, sense)),
            Err(said) => part.problem(said),
        },
        Err(said) => part.problem(said),
    }
}

fn ranged(entry: &[u8]) -> Result<(Sense, Span), String> {
    match entry.strip_prefix(b"!") {
        Some(rest) => Ok((Sense::Hole, Span::parse(rest)?)),
        None => Ok((Sense::Listed, Span::parse(entry)?)),
    }
}

fn without_comment(line: &[u8]) -> &[u8] {
    line.split(|byte| matches!(byte, b'#' | b';')).next().unwrap_or_default().trim_ascii()
}

/// Tells every entry until `told` wants no more, and returns how many lines could not be read, with the first of them.
fn each_line(name: &str, text: &[u8], mut told: impl FnMut(Sense, IpNet) -> bool) -> (usize, Vec<String>) {
    let (mut refused, mut problems) = (0, Vec::new());
    for (number, line) in lines(super::without_bom(text)) {
        let entry = without_comment(line);
        if entry.is_empty() {
            continue;
        }
        match parse_bytes(entry) {
            Ok((sense, prefix)) if told(sense, prefix) => {}
            Ok(_) => break,
            Err(said) => {
                refused += 1;
                if problems.len() < PROBLEMS_SHOWN {
                    problems.push(format!("{name}:{number}: {said}"));
                }
            }
        }
    }
    (refused, problems)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Format, Parsed};
    use super::*;
    use crate::prefix::{Key as _, Packed as _};

    fn parse(name: &str, text: &[u8], most: usize) -> Parsed {
        super::super::parse(Format::Plain, name, text, most)
    }

    fn read(text: &str) -> Vec<String> {
        let set = parse("list", text.as_bytes(), 100).set;
        let sign = |sense: Sense| if sense == Sense::Hole { "!" } else { "" };
        let v4 = set.v4.iter().map(|entry| format!("{}{}", sign(entry.sense()), entry.key().prefix()));
        let v6 = set.v6.iter().map(|entry| format!("{}{}", sign(entry.sense()), entry.key().prefix()));
        v4.chain(v6).collect()
    }

    #[test]
    fn comments_blanks_and_line_ends_of_all_systems_are_understood() {
        let text = "\u{feff}# head\r\n\n192.0.2.1\r\n  198.51.100.0/24 ; SBL1\n!198.51.100.7 # ours\n;\n2001:db8::/32";
        assert_eq!(read(text), ["192.0.2.1/32", "198.51.100.0/24", "!198.51.100.7/32", "2001:db8::/32"]);
    }

    #[test]
    fn duplicates_count_once_and_a_hole_wins_over_its_own_prefix() {
        assert_eq!(
            read("192.0.2.1\n192.0.2.1/32\n!192.0.2.2\n192.0.2.2\n"),
            ["192.0.2.1/32", "!192.0.2.2/32"]
        );
    }

    #[test]
    fn broken_lines_are_told_with_their_place_and_skipped() {
        let parsed = parse("/etc/block.txt", b"192.0.2.1\nnonsense\n192.0.2.2\n10.0.0.0/40\n", 100);
        assert_eq!(parsed.set.v4.len(), 2);
        assert_eq!(parsed.refused, 2);
        assert!(
            parsed.problems[0].starts_with("/etc/block.txt:2: found \"nonsense\", expected"),
            "{:?}",
            parsed.problems
        );
        assert!(parsed.problems[1].starts_with("/etc/block.txt:4: found"), "{:?}", parsed.problems);
    }

    #[test]
    fn a_file_of_garbage_tells_a_few_problems_and_counts_all() {
        let parsed = parse("x", "<html>\n".repeat(10_000).as_bytes(), 100);
        assert_eq!((parsed.refused, parsed.problems.len()), (10_000, PROBLEMS_SHOWN));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(text: Vec<u8>) {
            parse("x", &text, 100);
        }
    }
}
