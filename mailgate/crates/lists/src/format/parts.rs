//! Plain lists, read by several processors at once.
//!
//! A long text is cut at line ends into as many parts as there are processors, and what is found in them is put together
//! in their order, so that entries, problems and line numbers are those of one reader from the first line to the last.
//! Only where the limit of entries stops a reader would the order matter: such a text is read anew by one alone.

use std::num::NonZero;
use std::thread;

use super::cidr::PROBLEMS_SHOWN;
use super::{Collector, swift};
use crate::prefix::PrefixSet;

/// Bytes of a part at least: reading fewer takes no longer than starting a thread.
const PART_MIN: usize = 128 * 1024;
/// Most parts; more readers would wait for memory.
const PARTS_MAX: usize = 8;

/// What a part of a text holds.
pub(super) struct Part {
    set: PrefixSet,
    lines: u64,
    refused: usize,
    /// The first lines that cannot be read, counted from 1 in this part.
    problems: Vec<(u64, String)>,
}

/// Reads a plain list into a collector. `slowly` reads a line that is not of the simplest form.
pub(super) fn read(text: &[u8], collector: &mut Collector<'_>, slowly: fn(&[u8], &mut Part)) {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let parts = processors.min(PARTS_MAX).min(text.len() / PART_MIN);
    read_in(parts, text, collector, slowly);
}

/// The same in so many parts.
pub(super) fn read_in(
    parts: usize,
    text: &[u8],
    collector: &mut Collector<'_>,
    slowly: fn(&[u8], &mut Part),
) {
    let most = collector.set.room();
    let read = |text| Part::read(text, most, slowly);
    let texts = cut(text, parts.max(1));
    let found: Option<Vec<Part>> = thread::scope(|scope| {
        let (first, others) = texts.split_first()?;
        let others: Vec<_> = others.iter().map(|text| scope.spawn(|| read(text))).collect();
        let first = read(first);
        // Whoever ended in a panic is replaced by the one reader below, who then panics for all to see.
        std::iter::once(Some(first)).chain(others.into_iter().map(|one| one.join().ok())).collect()
    });
    let found = found.unwrap_or_default();
    let entries: usize = found.iter().map(|part| part.set.len()).sum();
    let is_all = entries <= most && !found.iter().any(|part| part.set.is_overfull());
    if is_all && !found.is_empty() || found.len() == 1 {
        put_together(found, collector);
    } else {
        put_together(vec![read(text)], collector);
    }
}

fn put_together(parts: Vec<Part>, collector: &mut Collector<'_>) {
    let mut lines = 0;
    for part in parts {
        collector.refused += part.refused;
        let room = PROBLEMS_SHOWN.saturating_sub(collector.problems.len());
        for (line, said) in part.problems.into_iter().take(room) {
            collector.problems.push(format!("{}:{}: {said}", collector.name, lines + line));
        }
        lines += part.lines;
        collector.set.append(part.set);
    }
}

/// A text in about equal parts, each of whole lines.
fn cut(text: &[u8], parts: usize) -> Vec<&[u8]> {
    let mut rest = text;
    let mut found = Vec::with_capacity(parts);
    for left in (2..=parts).rev() {
        let about = rest.len() / left;
        let (_, behind) = rest.split_at(about);
        let Some(end) = behind.iter().position(|byte| *byte == b'\n') else { break };
        let (part, others) = rest.split_at(about + end + 1);
        found.push(part);
        rest = others;
    }
    found.push(rest);
    found
}

impl Part {
    fn read(text: &[u8], most: usize, slowly: fn(&[u8], &mut Self)) -> Self {
        /// A line of an address, end included; of prefixes they are somewhat longer.
        const LINE: usize = 14;
        let set = PrefixSet::limited(most).with_room(text.len() / LINE);
        let mut part = Self { set, lines: 0, refused: 0, problems: Vec::new() };
        let mut rest = text;
        while !rest.is_empty() && !part.set.is_overfull() {
            part.lines += 1;
            let bytes = match swift::line(rest) {
                Some((entry, bytes)) => {
                    part.set.push_packed(entry);
                    bytes
                }
                None => {
                    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                    slowly(rest.get(..end).unwrap_or_default().trim_ascii(), &mut part);
                    end + 1
                }
            };
            rest = rest.get(bytes..).unwrap_or_default();
        }
        part
    }

    /// The entries.
    pub(super) fn set(&mut self) -> &mut PrefixSet {
        &mut self.set
    }

    /// The line that is read cannot be.
    pub(super) fn problem(&mut self, said: String) {
        self.refused += 1;
        if self.problems.len() < PROBLEMS_SHOWN {
            self.problems.push((self.lines, said));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Format, Parsed};
    use super::*;

    /// As [`super::super::parse`] reads a plain list, in so many parts.
    fn in_parts(parts: usize, text: &[u8], most: usize) -> Parsed {
        let mut collector = Collector::new("list", most);
        read_in(parts, text, &mut collector, super::super::cidr::line);
        collector.done(Format::Plain)
    }

    /// One line after the other, each by the thorough reader alone.
    fn thoroughly(text: &[u8], most: usize) -> Parsed {
        let set = PrefixSet::limited(most);
        let mut part = Part { set, lines: 0, refused: 0, problems: Vec::new() };
        for (_, line) in super::super::lines(text) {
            if part.set.is_overfull() {
                break;
            }
            part.lines += 1;
            super::super::cidr::line(line, &mut part);
        }
        let mut collector = Collector::new("list", most);
        put_together(vec![part], &mut collector);
        collector.done(Format::Plain)
    }

    fn same(text: &[u8], most: usize) -> Result<(), TestCaseError> {
        let wanted = thoroughly(text, most);
        for parts in [1, 2, 3, 8] {
            let found = in_parts(parts, text, most);
            prop_assert_eq!(
                &found.set,
                &wanted.set,
                "{} parts of {:?}",
                parts,
                String::from_utf8_lossy(text)
            );
            prop_assert_eq!(&found.problems, &wanted.problems, "{} parts", parts);
            prop_assert_eq!(found.refused, wanted.refused, "{} parts", parts);
        }
        Ok(())
    }

    /// What a line may be: nearly entries, entries, and what has nothing to do with any.
    fn line() -> impl Strategy<Value = Vec<u8>> {
        let octet = prop_oneof![
            "[0-9]{1,3}",
            "[0-9]{0,4}",
            Just("0".to_owned()),
            Just("255".to_owned()),
            Just("256".to_owned())
        ];
        let dotted = prop::collection::vec(octet, 3..6).prop_map(|octets| octets.join("."));
        let length = prop_oneof![Just(String::new()), "/[0-9]{0,4}", "/(8|16|24|32)"];
        let before = prop_oneof![9 => Just(""), 1 => Just("!"), 1 => Just(" "), 1 => Just("\t! ")];
        let behind = prop_oneof![
            9 => Just(String::new()),
            1 => "[ \\-#;,./a-f:0-9]{0,8}",
            1 => Just(" # said".to_owned()),
            1 => Just("-192.0.2.255".to_owned()),
        ];
        let entry = (before, dotted, length, behind).prop_map(|(before, dotted, length, behind)| {
            format!("{before}{dotted}{length}{behind}").into_bytes()
        });
        let hosts = any::<u32>().prop_map(|bits| std::net::Ipv4Addr::from(bits).to_string().into_bytes());
        let nets = (any::<u32>(), 0_u8..33).prop_map(|(bits, length)| {
            let net = ipnet::Ipv4Net::new(bits.into(), length).unwrap_or_default().trunc();
            net.to_string().into_bytes()
        });
        let v6 = any::<u128>().prop_map(|bits| std::net::Ipv6Addr::from(bits).to_string().into_bytes());
        let bytes = prop::collection::vec(any::<u8>(), 0..24);
        let long = (1..2000_usize).prop_map(|length| b"9".repeat(length));
        prop_oneof![6 => hosts, 4 => nets, 6 => entry, 1 => v6, 1 => bytes, 1 => long]
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        let end = prop_oneof![6 => Just(&b"\n"[..]), 2 => Just(&b"\r\n"[..]), 1 => Just(&b"\r"[..]), 1 => Just(&b"\n\n"[..])];
        let lines = prop::collection::vec((line(), end), 0..40);
        (lines, any::<bool>()).prop_map(|(lines, ends)| {
            let mut text: Vec<u8> =
                lines.into_iter().flat_map(|(line, end)| [line, end.to_vec()].concat()).collect();
            if !ends {
                text.pop();
            }
            text
        })
    }

    #[test]
    fn whatever_stands_at_a_border_is_read_once() {
        let text = b"192.0.2.1\n198.51.100.0/24\r\n\n# x\n10.0.0.1-10.0.0.9\nnonsense\n255.255.255.255\n2001:db8::/32\n1.2.3.4";
        for length in 0..=text.len() {
            same(&text[..length], 100).unwrap();
            same(&text[length..], 100).unwrap();
        }
    }

    #[test]
    fn what_is_cut_is_whole_lines_and_all_of_them() {
        let text = b"a\nbb\nccc\n\nd";
        for parts in 1..12 {
            let found = cut(text, parts);
            assert!(found.len() <= parts);
            assert_eq!(found.concat(), text);
            assert!(found.iter().rev().skip(1).all(|part| part.ends_with(b"\n")), "{found:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn any_text_in_any_parts_is_what_one_thorough_reader_finds(text in text(), most in prop_oneof![Just(1000_usize), 0..50_usize]) {
            same(&text, most)?;
        }

        #[test]
        fn any_bytes_in_any_parts_are_what_one_thorough_reader_finds(text in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), b'0'..=b'9', Just(b'.')], 0..400)) {
            same(&text, 1000)?;
        }
    }
}
