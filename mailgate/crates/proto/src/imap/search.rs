//! What a SEARCH asks for (RFC 3501 §6.4.4).

use super::cursor::{Cursor, Expected};
use super::date;
use super::sequence::SequenceSet;

/// Deepest nesting of `NOT`, `OR` and parentheses; each level is a level of recursion here and in the search.
const DEPTH_LIMIT: usize = 32;
/// Keys in one SEARCH; each may read every message.
const KEY_LIMIT: usize = 512;

/// One condition. Dates are days since 1970-01-01; texts are UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchKey {
    /// All of them; empty: every message.
    And(Vec<SearchKey>),
    /// A system flag with its backslash.
    Flag(String),
    /// INTERNALDATE earlier than the day.
    Before(i64),
    /// Text in the decoded body.
    Body(String),
    /// A header field contains a text; empty text: the field is there.
    Header(String, String),
    /// A keyword.
    Keyword(String),
    /// More octets than.
    Larger(u32),
    /// Not.
    Not(Box<SearchKey>),
    /// INTERNALDATE on the day.
    On(i64),
    /// One of both.
    Or(Box<SearchKey>, Box<SearchKey>),
    /// `\Recent`.
    Recent,
    /// `Date` earlier than the day.
    SentBefore(i64),
    /// `Date` on the day.
    SentOn(i64),
    /// `Date` on the day or later.
    SentSince(i64),
    /// Message numbers.
    Sequence(SequenceSet),
    /// INTERNALDATE on the day or later.
    Since(i64),
    /// Fewer octets than.
    Smaller(u32),
    /// Text in header or decoded body.
    Text(String),
    /// UIDs.
    Uid(SequenceSet),
}

/// The whole question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// The character set the client claims, in upper case.
    pub charset: Option<String>,
    /// What to find.
    pub key: SearchKey,
}

pub(super) fn search(cursor: &mut Cursor<'_>) -> Result<Search, Expected> {
    let mut charset = None;
    if cursor.word("CHARSET ") {
        charset = Some(cursor.astring()?.to_ascii_uppercase());
        cursor.space()?;
    }
    let mut count = 0;
    let mut keys = vec![key(cursor, 0, &mut count)?];
    while !cursor.is_at_end() {
        cursor.space()?;
        if cursor.is_at_end() {
            break;
        }
        keys.push(key(cursor, 0, &mut count)?);
    }
    Ok(Search { charset, key: one_or_all(keys) })
}

fn one_or_all(mut keys: Vec<SearchKey>) -> SearchKey {
    match keys.pop() {
        Some(only) if keys.is_empty() => only,
        Some(last) => {
            keys.push(last);
            SearchKey::And(keys)
        }
        None => SearchKey::And(keys),
    }
}

fn key(cursor: &mut Cursor<'_>, depth: usize, count: &mut usize) -> Result<SearchKey, Expected> {
    *count += 1;
    if depth > DEPTH_LIMIT || *count > KEY_LIMIT {
        return Err("a simpler search");
    }
    match cursor.peek() {
        Some(b'(') => {
            let keys = cursor.list(|cursor| key(cursor, depth + 1, count))?;
            return if keys.is_empty() { Err("a search key") } else { Ok(one_or_all(keys)) };
        }
        Some(byte) if byte.is_ascii_digit() || byte == b'*' => {
            return SequenceSet::parse(cursor).map(SearchKey::Sequence);
        }
        _ => {}
    }
    let name = cursor.name()?;
    if let Some(key) = without_argument(&name) {
        return Ok(key);
    }
    cursor.space()?;
    let header = |cursor: &mut Cursor<'_>, field: &str| {
        cursor.astring().map(|text| SearchKey::Header(field.to_owned(), text))
    };
    Ok(match name.as_str() {
        "BCC" => header(cursor, "Bcc")?,
        "BEFORE" => SearchKey::Before(date::date(cursor)?),
        "BODY" => SearchKey::Body(cursor.astring()?),
        "CC" => header(cursor, "Cc")?,
        "FROM" => header(cursor, "From")?,
        "HEADER" => {
            let field = cursor.astring()?;
            cursor.space()?;
            SearchKey::Header(field, cursor.astring()?)
        }
        "KEYWORD" => SearchKey::Keyword(cursor.flag()?),
        "LARGER" => SearchKey::Larger(cursor.number()?),
        "NOT" => not(key(cursor, depth + 1, count)?),
        "ON" => SearchKey::On(date::date(cursor)?),
        "OR" => {
            let first = key(cursor, depth + 1, count)?;
            cursor.space()?;
            SearchKey::Or(Box::new(first), Box::new(key(cursor, depth + 1, count)?))
        }
        "SENTBEFORE" => SearchKey::SentBefore(date::date(cursor)?),
        "SENTON" => SearchKey::SentOn(date::date(cursor)?),
        "SENTSINCE" => SearchKey::SentSince(date::date(cursor)?),
        "SINCE" => SearchKey::Since(date::date(cursor)?),
        "SMALLER" => SearchKey::Smaller(cursor.number()?),
        "SUBJECT" => header(cursor, "Subject")?,
        "TEXT" => SearchKey::Text(cursor.astring()?),
        "TO" => header(cursor, "To")?,
        "UID" => SearchKey::Uid(SequenceSet::parse(cursor)?),
        "UNKEYWORD" => not(SearchKey::Keyword(cursor.flag()?)),
        _ => return Err("a key that SEARCH knows"),
    })
}

fn not(key: SearchKey) -> SearchKey {
    SearchKey::Not(Box::new(key))
}

fn without_argument(name: &str) -> Option<SearchKey> {
    let flag = |name: &str| SearchKey::Flag(format!("\\{name}"));
    Some(match name {
        "ALL" => SearchKey::And(Vec::new()),
        "ANSWERED" => flag("Answered"),
        "DELETED" => flag("Deleted"),
        "DRAFT" => flag("Draft"),
        "FLAGGED" => flag("Flagged"),
        "NEW" => SearchKey::And(vec![SearchKey::Recent, not(flag("Seen"))]),
        "OLD" => not(SearchKey::Recent),
        "RECENT" => SearchKey::Recent,
        "SEEN" => flag("Seen"),
        "UNANSWERED" => not(flag("Answered")),
        "UNDELETED" => not(flag("Deleted")),
        "UNDRAFT" => not(flag("Draft")),
        "UNFLAGGED" => not(flag("Flagged")),
        "UNSEEN" => not(flag("Seen")),
        _ => return None,
    })
}
