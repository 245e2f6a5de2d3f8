//! What a LIST asks for (RFC 3501 §6.3.8, RFC 5258, RFC 5819, RFC 6154).

use super::command::{StatusItem, status_items};
use super::cursor::{Cursor, Expected};

/// Patterns in one LIST; each is compared with every mailbox.
const PATTERN_LIMIT: usize = 64;
/// Octets of all patterns and the reference of one LIST together: the time that LIST takes is this times the length of
/// all names. Names have at most 240 octets.
const OCTET_LIMIT: usize = 2048;

/// Which mailboxes (RFC 5258 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListSelect {
    /// `RECURSIVEMATCH`.
    RecursiveMatch,
    /// `REMOTE`: none of ours are.
    Remote,
    /// `SPECIAL-USE`: those with a use.
    SpecialUse,
    /// `SUBSCRIBED`, existing or not.
    Subscribed,
}

/// What to tell about each (RFC 5258 §3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListReturn {
    /// `CHILDREN`.
    Children,
    /// `SPECIAL-USE`.
    SpecialUse,
    /// `STATUS (...)` (RFC 5819).
    Status(Vec<StatusItem>),
    /// `SUBSCRIBED`.
    Subscribed,
}

/// A LIST with all its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Selection options.
    pub select: Vec<ListSelect>,
    /// Reference name, as on the wire.
    pub reference: String,
    /// Patterns, as on the wire.
    pub patterns: Vec<String>,
    /// Return options.
    pub returns: Vec<ListReturn>,
    /// Whether the extended syntax was used: then several patterns and options are possible.
    pub extended: bool,
}

/// `LSUB` and `LIST` share reference and pattern.
pub(super) fn plain(cursor: &mut Cursor<'_>) -> Result<(String, String), Expected> {
    let reference = cursor.astring()?;
    cursor.space()?;
    let pattern = cursor.pattern()?;
    if reference.len() + pattern.len() > OCTET_LIMIT {
        return Err("a shorter pattern");
    }
    Ok((reference, pattern))
}

pub(super) fn list(cursor: &mut Cursor<'_>) -> Result<List, Expected> {
    let mut extended = false;
    let mut select = Vec::new();
    if cursor.peek() == Some(b'(') {
        extended = true;
        select = cursor.list(|cursor| match cursor.name()?.as_str() {
            "RECURSIVEMATCH" => Ok(ListSelect::RecursiveMatch),
            "REMOTE" => Ok(ListSelect::Remote),
            "SPECIAL-USE" => Ok(ListSelect::SpecialUse),
            "SUBSCRIBED" => Ok(ListSelect::Subscribed),
            _ => Err("a selection option that LIST knows"),
        })?;
        cursor.space()?;
        // RFC 5258 §3.1: matching children of what is not selected makes no sense alone.
        if select == [ListSelect::RecursiveMatch] {
            return Err("another selection option beside RECURSIVEMATCH");
        }
    }
    let reference = cursor.astring()?;
    cursor.space()?;
    let patterns = if cursor.peek() == Some(b'(') {
        extended = true;
        cursor.list(Cursor::pattern)?
    } else {
        vec![cursor.pattern()?]
    };
    if patterns.len() > PATTERN_LIMIT || patterns.is_empty() {
        return Err("one to 64 patterns");
    }
    // The reference stands before every pattern.
    if patterns.iter().map(|pattern| reference.len() + pattern.len()).sum::<usize>() > OCTET_LIMIT {
        return Err("shorter patterns");
    }
    let mut returns = Vec::new();
    if cursor.word(" RETURN ") {
        extended = true;
        returns = cursor.list(|cursor| match cursor.name()?.as_str() {
            "CHILDREN" => Ok(ListReturn::Children),
            "SPECIAL-USE" => Ok(ListReturn::SpecialUse),
            "STATUS" => {
                cursor.space()?;
                status_items(cursor).map(ListReturn::Status)
            }
            "SUBSCRIBED" => Ok(ListReturn::Subscribed),
            _ => Err("a return option that LIST knows"),
        })?;
    }
    Ok(List { select, reference, patterns, returns, extended })
}
