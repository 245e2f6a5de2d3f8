//! The last good set of every source on disk, so that a start does not depend on anybody else.
//!
//! One text file each below `lists/copies/`: where the list came from, what it said, every entry, and how many there are,
//! so that half a file is never taken for a whole one. It is written beside, made durable and renamed; its time of
//! modification is when the set was last known to be good. Version 1.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mailgate_model::Timestamp;

use super::Reading;
use crate::disk::Draft;
use crate::format::Format;
use crate::inflate::SIZE_MAX;
use crate::notes::NotesBuilder;
use crate::prefix::{Key as _, Packed as _, PrefixSet, Sense, parse_bytes};

/// First line of each file.
const HEAD: &str = "# mailgate list 1. The last good copy; mailgate reads this at start and replaces it.";

/// Characters of a name that stay readable in that of its file.
const NAME_LIMIT: usize = 48;

/// A copy may be larger than its list by what notes and packing make of it.
const COPY_LIMIT: u64 = 4 * SIZE_MAX;

/// The folder of the copies.
#[derive(Debug)]
pub(crate) struct Copies {
    folder: PathBuf,
}

/// A copy that was read.
#[derive(Debug, PartialEq)]
pub(crate) struct Copied {
    pub(crate) reading: Reading,
    /// When the list was last known to be good.
    pub(crate) at: Timestamp,
}

impl Copies {
    /// In a folder of the station's state.
    pub(crate) fn new(state: &Path) -> Self {
        Self { folder: state.join("copies") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(file_name(name))
    }

    /// Reads the copy of a source, if there is one from this place.
    pub(crate) fn load(&self, name: &str, place: &str) -> Option<Copied> {
        let path = self.path(name);
        let failed = |said: &dyn std::fmt::Display| {
            tracing::warn!(target: "lists", event = "copy", path = %path.display(), error = %said, "not used");
        };
        let (text, at) = match read_file(&path) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                failed(&error);
                return None;
            }
        };
        match read(&text, place) {
            Ok(reading) => Some(Copied { reading, at }),
            Err(said) => {
                failed(&said);
                None
            }
        }
    }

    /// Writes the copy of a source, which is not yet in place.
    ///
    /// # Errors
    /// What the system says, usually that the disk is full.
    pub(crate) fn draft(&self, name: &str, text: &[u8], now: Timestamp) -> io::Result<Draft> {
        Draft::new(&self.path(name), |file| {
            file.write_all(text)?;
            file.set_modified(system_time(now))
        })
    }

    /// Says that the copy is still good.
    pub(crate) fn touch(&self, name: &str, now: Timestamp) {
        let touched = fs::File::options().append(true).open(self.path(name));
        // It only makes the next start fetch sooner than it had to.
        let _ = touched.and_then(|file| file.set_modified(system_time(now)));
    }

    /// Removes what belongs to none of these sources.
    pub(crate) fn retain(&self, names: &[String]) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let wanted: Vec<String> = names.iter().map(|name| file_name(name)).collect();
        for entry in entries.flatten() {
            let found = entry.file_name().to_string_lossy().into_owned();
            // Parts of a source carry the name of its own copy before theirs.
            let of = found.split_once('+').map_or(found.as_str(), |(of, _)| of);
            let is_ours = found.ends_with(".copy") || found.ends_with(".new");
            let is_wanted =
                wanted.iter().any(|name| name == &found || name.strip_suffix(".copy") == Some(of));
            if is_ours && !is_wanted {
                tracing::info!(target: "lists", event = "forget", file = found, "no source of this name any more");
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// The name of the copy of a part of a source.
pub(crate) fn part(source: &str, part: &str) -> String {
    format!("{source}\n{part}")
}

/// Readable where the name is, different where names are.
fn file_name(name: &str) -> String {
    let one = |name: &str| {
        let shown = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
        let readable: String = name.chars().take(NAME_LIMIT).map(shown).collect();
        format!("{readable}-{:016x}", hash(name.as_bytes()))
    };
    match name.split_once('\n') {
        Some((source, part)) => format!("{}+{}.copy", one(source), one(part)),
        None => format!("{}.copy", one(name)),
    }
}

/// FNV-1a, 64 bits (draft-eastlake-fnv): the same on every machine and in every version.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn system_time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(at.millis()).unwrap_or(0))
}

fn read_file(path: &Path) -> io::Result<(Vec<u8>, Timestamp)> {
    let file = fs::File::open(path)?;
    let since = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = Timestamp::default().plus(since);
    let mut text = Vec::new();
    file.take(COPY_LIMIT).read_to_end(&mut text)?;
    Ok((text, at))
}

/// The copy as text.
pub(crate) fn write(name: &str, place: &str, reading: &Reading) -> Vec<u8> {
    let mut text = format!("{HEAD}\n");
    let mut say = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(text, "# {key} {}", escaped(value));
        }
    };
    say("source", Some(name));
    say("from", Some(place));
    say("etag", reading.validators.etag.as_deref());
    say("modified", reading.validators.modified.as_deref());
    say("format", Some(reading.format.name()));
    say("bytes", Some(&reading.bytes.to_string()));
    say("refused", Some(&reading.refused.to_string()));
    say("partly", reading.partly.as_deref());
    say("message", reading.message.as_deref());
    for problem in &reading.problems {
        say("problem", Some(problem));
    }
    for note in reading.notes.texts() {
        say("note", Some(note));
    }
    entries(&mut text, reading);
    let _ = writeln!(text, "# end {}", reading.set.len());
    text.into_bytes()
}

/// Entries and numbers of notes are both sorted by prefix, IPv4 first.
fn entries(text: &mut String, reading: &Reading) {
    let mut numbers = reading.notes.numbers().peekable();
    let v4 = reading.set.v4.iter().map(|entry| (entry.key().prefix(), entry.sense()));
    let v6 = reading.set.v6.iter().map(|entry| (entry.key().prefix(), entry.sense()));
    for (prefix, sense) in v4.chain(v6) {
        let _ = write!(text, "{}{prefix}", if sense == Sense::Hole { "!" } else { "" });
        while numbers.next_if(|(other, _)| *other < prefix).is_some() {}
        while let Some((_, number)) = numbers.next_if(|(other, _)| *other == prefix) {
            let _ = write!(text, " {number}");
        }
        text.push('\n');
    }
}

/// Reads a copy.
///
/// # Errors
/// A sentence: it is of another place, of another version, or not whole.
pub(crate) fn read(text: &[u8], place: &str) -> Result<Reading, String> {
    let mut lines = text.split(|byte| *byte == b'\n');
    if lines.next() != Some(HEAD.as_bytes()) {
        return Err("found another version, expected 1".to_owned());
    }
    let (mut reading, mut notes) = (Reading::default(), NotesBuilder::default());
    let mut texts: Vec<String> = Vec::new();
    let mut is_whole = false;
    for line in lines.filter(|line| !line.is_empty()) {
        if is_whole {
            return Err("found lines after the end".to_owned());
        }
        match line.strip_prefix(b"# ") {
            Some(said) => {
                let said = String::from_utf8_lossy(said);
                let (key, value) = said.split_once(' ').unwrap_or((&said, ""));
                match key {
                    "end" => is_whole = value.parse() == Ok(reading.set.len()),
                    "note" => texts.push(unescaped(value)),
                    "from" if unescaped(value) != place => {
                        return Err(format!(
                            "it came from {}, now it comes from elsewhere",
                            unescaped(value)
                        ));
                    }
                    _ => take(&mut reading, key, &unescaped(value)),
                }
            }
            None => entry(line, &mut reading.set, &texts, &mut notes)?,
        }
    }
    if !is_whole {
        return Err("found no end, expected one: it is cut off".to_owned());
    }
    reading.set.sort();
    reading.notes = notes.done();
    Ok(reading)
}

fn entry(line: &[u8], set: &mut PrefixSet, texts: &[String], notes: &mut NotesBuilder) -> Result<(), String> {
    let mut words = line.split(|byte| *byte == b' ');
    let (sense, prefix) = parse_bytes(words.next().unwrap_or_default())?;
    set.push(prefix, sense);
    for number in words {
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse::<usize>().ok());
        if let Some(text) = number.and_then(|number| texts.get(number)) {
            notes.push(prefix, text);
        }
    }
    Ok(())
}

/// Keys of later versions are passed over.
fn take(reading: &mut Reading, key: &str, value: &str) {
    let some = || Some(value.to_owned());
    match key {
        "etag" => reading.validators.etag = some(),
        "modified" => reading.validators.modified = some(),
        "message" => reading.message = some(),
        "partly" => reading.partly = some(),
        "problem" => reading.problems.push(value.to_owned()),
        "bytes" => reading.bytes = value.parse().unwrap_or_default(),
        "refused" => reading.refused = value.parse().unwrap_or_default(),
        "format" => {
            let formats = [
                Format::Drop,
                Format::DropJson,
                Format::Ipset,
                Format::Nft,
                Format::Plain,
                Format::Rbldnsd,
                Format::Rpz,
                Format::Spamd,
            ];
            reading.format = formats.into_iter().find(|format| format.name() == value).unwrap_or_default();
        }
        _ => {}
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
}

fn unescaped(text: &str) -> String {
    let mut said = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('n') => said.push('\n'),
                Some('r') => said.push('\r'),
                Some(other) => said.push(other),
                None => {}
            },
            c => said.push(c),
        }
    }
    said
}
