//! The texts in which lists come. Pure: bytes in, a set, its notes and its problems out.
//!
//! Each format is one file with one function that tells a [`Collector`] what it finds. No text can make it take more
//! than [`ENTRY_LIMIT`] entries, and every line that cannot be read is counted, the first few with their place.

pub(crate) mod cidr;
mod detect;
mod drop;
mod ipset;
mod nft;
mod parts;
mod range;
mod rbldnsd;
mod rpz;
mod spamd;
pub(crate) mod spamd_conf;
mod swift;
#[cfg(test)]
mod tests;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::notes::{Notes, NotesBuilder};
use crate::prefix::{PrefixSet, Sense};
use crate::table::Entry;

pub(crate) use cidr::PROBLEMS_SHOWN;
pub(crate) use range::{Span, Sweep};

/// Most entries of one list, twice the default of `lists.entries_limit`: a range may stand for up to 254 prefixes, so a
/// limit of bytes alone would not bound the memory.
const ENTRY_LIMIT: usize = 10_000_000;

/// How a list is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Found out from its first lines.
    #[default]
    Auto,
    /// Spamhaus DROP as text: `prefix ; SBL1234`.
    Drop,
    /// Spamhaus DROP as one JSON object per line, `cidr` and `sblid`.
    DropJson,
    /// What `ipset save` prints.
    Ipset,
    /// What `nft list ruleset` prints, or a file with `add element`.
    Nft,
    /// One address, prefix or range `a-b` per line; FireHOL's netsets too.
    Plain,
    /// A data file of rbldnsd(8): `ip4set`, `ip4trie`, `ip6trie`, `ip6tset`, `combined`.
    Rbldnsd,
    /// A response policy zone: the `rpz-ip` and `rpz-client-ip` triggers.
    Rpz,
    /// The address lists of spamd-setup(8): what follows the address is ignored, ranges `a - b`.
    Spamd,
}

impl Format {
    /// As it is written in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Drop => "drop",
            Self::DropJson => "drop-json",
            Self::Ipset => "ipset",
            Self::Nft => "nft",
            Self::Plain => "plain",
            Self::Rbldnsd => "rbldnsd",
            Self::Rpz => "rpz",
            Self::Spamd => "spamd",
        }
    }
}

/// What a text holds.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// Sorted, without duplicates.
    pub(crate) set: PrefixSet,
    /// What is said of entries.
    pub(crate) notes: Notes,
    /// Lines that could not be read.
    pub(crate) refused: usize,
    /// The first of them, `name:line: found …, expected …`.
    pub(crate) problems: Vec<String>,
    /// How it was read.
    pub(crate) format: Format,
}

/// Takes what a format finds.
pub(crate) struct Collector<'a> {
    name: &'a str,
    set: PrefixSet,
    notes: NotesBuilder,
    refused: usize,
    problems: Vec<String>,
}

impl<'a> Collector<'a> {
    fn new(name: &'a str, most: usize) -> Self {
        Self {
            name,
            set: PrefixSet::limited(most.min(ENTRY_LIMIT)),
            notes: NotesBuilder::default(),
            refused: 0,
            problems: Vec::new(),
        }
    }

    /// Whether there are more entries than may be, so that reading on makes no sense.
    fn is_full(&self) -> bool {
        self.set.is_overfull()
    }

    /// An entry.
    fn entry(&mut self, sense: Sense, prefix: IpNet, note: Option<&str>) {
        self.set.push(prefix, sense);
        if let Some(note) = note.filter(|_| sense == Sense::Listed && !self.is_full()) {
            self.notes.push(prefix, note);
        }
    }

    /// A range, as the prefixes that make it up.
    fn span(&mut self, sense: Sense, span: Span, note: Option<&str>) {
        span.prefixes().for_each(|prefix| self.entry(sense, prefix, note));
    }

    /// A line that cannot be read.
    fn problem(&mut self, line: u64, said: &str) {
        self.refused += 1;
        if self.problems.len() < PROBLEMS_SHOWN {
            self.problems.push(format!("{}:{line}: {said}", self.name));
        }
    }

    fn done(mut self, format: Format) -> Parsed {
        self.set.sort();
        Parsed {
            set: self.set,
            notes: self.notes.done(),
            refused: self.refused,
            problems: self.problems,
            format,
        }
    }
}

/// Reads a whole text; `name` is what problems call it. With more than `most` entries nothing is read any more, and the
/// set says that it is overfull.
pub(crate) fn parse(format: Format, name: &str, text: &[u8], most: usize) -> Parsed {
    let text = without_bom(text);
    let format = if format == Format::Auto { detect::format(text) } else { format };
    let mut collector = Collector::new(name, most);
    match format {
        Format::Auto | Format::Plain => cidr::read(text, &mut collector),
        Format::Drop => drop::read_text(text, &mut collector),
        Format::DropJson => drop::read_json(text, &mut collector),
        Format::Ipset => ipset::read(text, &mut collector),
        Format::Nft => nft::read(text, &mut collector),
        Format::Rbldnsd => rbldnsd::read(text, &mut collector),
        Format::Rpz => rpz::read(text, &mut collector),
        Format::Spamd => spamd::read(text, &mut collector),
    }
    collector.done(format)
}

/// What a text is that is no list; `None` when it may be one.
pub(crate) fn strange(text: &[u8]) -> Option<&'static str> {
    detect::strange(without_bom(text))
}

/// A list in any of the known formats, as list sources read it.
///
/// # Errors
/// What the text is instead, such as an HTML page.
pub fn read_list(format: Format, name: &str, text: &[u8]) -> Result<(Format, crate::List), &'static str> {
    use crate::prefix::{Key as _, Packed as _};
    if let Some(what) = strange(text) {
        return Err(what);
    }
    let parsed = parse(format, name, text, ENTRY_LIMIT);
    let entry = |prefix, sense| Entry { prefix, negated: sense == Sense::Hole, expires: None };
    let v4 = parsed.set.v4.iter().map(|packed| entry(packed.key().prefix(), packed.sense()));
    let v6 = parsed.set.v6.iter().map(|packed| entry(packed.key().prefix(), packed.sense()));
    let entries = v4.chain(v6).collect();
    Ok((parsed.format, crate::List { entries, refused: parsed.refused, problems: parsed.problems }))
}

/// One black list of a spamd.conf: its name, what those on it are told, and the names of the lists taken out of it.
pub type SpamdList = (String, Option<String>, Vec<String>);

/// What a spamd.conf(5) comes to: its black lists in their order, and what is remarkable about it.
///
/// # Errors
/// A sentence with what was found and what was expected.
pub fn read_spamd_conf(text: &[u8]) -> Result<(Vec<SpamdList>, Vec<String>), String> {
    let conf = spamd_conf::parse(text)?;
    let black = |black: spamd_conf::Black| {
        let message = match black.message {
            spamd_conf::Message::File(_) => None,
            spamd_conf::Message::Text(text) => Some(text),
        };
        (black.list.name, message, black.white.into_iter().map(|white| white.name).collect())
    };
    Ok((conf.black.into_iter().map(black).collect(), conf.warnings))
}

/// A byte order mark, which some editors put first.
fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// The lines with their numbers, without their ends and without white space around them.
fn lines(text: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    (1_u64..).zip(text.split(|byte| *byte == b'\n')).map(|(number, line)| (number, line.trim_ascii()))
}

/// The words of a line.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// As text, for notes.
fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes.get(..bytes.len().min(crate::notes::NOTE_LIMIT)).unwrap_or_default())
}
