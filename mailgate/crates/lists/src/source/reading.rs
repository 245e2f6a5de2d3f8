//! One list as a source brought it, and whether it makes sense.

use super::Failure;
use crate::config::Keys;
use crate::format::{self, Format};
use crate::inflate::inflate;
use crate::notes::Notes;
use crate::prefix::PrefixSet;

/// What a server said of a document, to be asked for news of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Validators {
    pub(crate) etag: Option<String>,
    pub(crate) modified: Option<String>,
}

/// What a list may be at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes, unpacked.
    pub(crate) bytes: u64,
    pub(crate) entries: usize,
}

/// One whole list.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reading {
    pub(crate) set: PrefixSet,
    /// What it says of entries.
    pub(crate) notes: Notes,
    /// What it says of all of them.
    pub(crate) message: Option<String>,
    /// Lines that could not be read.
    pub(crate) refused: usize,
    /// The first of them, and what else is remarkable.
    pub(crate) problems: Vec<String>,
    /// Bytes, unpacked.
    pub(crate) bytes: u64,
    pub(crate) format: Format,
    pub(crate) validators: Validators,
    /// What is wrong with a part of it, while the rest counts.
    pub(crate) partly: Option<String>,
}

impl Reading {
    /// Reads a text, unpacking it first; `name` is what problems call it. Takes long for long lists.
    ///
    /// # Errors
    /// When it is no list.
    pub(crate) fn of(format: Format, name: &str, bytes: Vec<u8>, bounds: Bounds) -> Result<Self, Failure> {
        let text = inflate(bytes, bounds.bytes).map_err(Failure::content)?;
        if let Some(what) = format::strange(&text) {
            return Err(Failure::content(format!("found {what}, expected a list")));
        }
        let parsed = format::parse(format, name, &text, bounds.entries);
        if let (true, Some(first)) = (parsed.set.is_empty(), parsed.problems.first()) {
            let refused = parsed.refused;
            return Err(Failure::content(format!("no line of {refused} can be read, first: {first}")));
        }
        Ok(Self {
            set: parsed.set,
            notes: parsed.notes,
            refused: parsed.refused,
            problems: parsed.problems,
            bytes: text.len() as u64,
            format: parsed.format,
            ..Self::default()
        })
    }

    /// Whether it makes sense to use it instead of the last good one.
    ///
    /// # Errors
    /// A sentence why it does not.
    pub(crate) fn sane(&self, keys: &Keys, is_local: bool, holds_entries: bool) -> Result<(), String> {
        let count = self.set.len();
        // What a download leaves that failed after it had opened its target, or a full disk.
        if self.bytes == 0 && (holds_entries || !is_local) {
            return Err(
                "found a list of no octet, expected entries, or a comment if none are meant".to_owned()
            );
        }
        // More lines that are none than lines that are: an error page of plain text, or a format that was guessed wrongly.
        // A file of this host that is half wrong is half right: its owner is told, and may mean it.
        if !is_local && self.refused > count.max(MOSTLY) {
            let first = self.problems.first().map(String::as_str).unwrap_or_default();
            return Err(format!(
                "found {} lines that cannot be read and {count} that can, first: {first}",
                self.refused
            ));
        }
        let min = keys.min_entries.unwrap_or(if is_local { 0 } else { 1 });
        if count < min {
            let why = self.partly.as_ref().map(|partly| format!(" ({partly})")).unwrap_or_default();
            return Err(format!("found {count} entries, expected at least min_entries = {min}{why}"));
        }
        Ok(())
    }
}

/// So many broken lines say nothing yet about a list.
const MOSTLY: usize = 20;
