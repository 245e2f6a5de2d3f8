//! What a FETCH asks for (RFC 3501 §6.4.5).

use super::cursor::{Cursor, Expected};

/// Deepest part number that is understood; deeper than any structure we build.
const DEPTH_LIMIT: usize = 128;
/// Items in one FETCH; a client that wants more is not a client.
const ITEM_LIMIT: usize = 256;

/// Whether reading sets `\Seen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peek {
    /// `BODY.PEEK[]`.
    Peeks,
    /// `BODY[]`.
    Reads,
}

/// `<offset.length>`, in octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partial {
    /// Where to begin.
    pub offset: u32,
    /// How much at most, at least 1.
    pub length: u32,
}

/// The last word of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SectionText {
    /// `HEADER`.
    Header,
    /// `HEADER.FIELDS`: these fields.
    HeaderFields(Vec<String>),
    /// `HEADER.FIELDS.NOT`: all but these.
    HeaderFieldsNot(Vec<String>),
    /// `MIME`.
    Mime,
    /// `TEXT`.
    Text,
    /// Nothing: the whole.
    Whole,
}

/// `[1.2.HEADER]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Part numbers, each at least 1.
    pub part: Vec<u32>,
    /// What of the part.
    pub text: SectionText,
}

/// One thing to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchItem {
    /// `BODY`: structure without extensions.
    Body,
    /// `BODY[section]<partial>`.
    BodySection {
        /// Whether `\Seen` stays.
        peek: Peek,
        /// Which bytes.
        section: Section,
        /// How much of them.
        partial: Option<Partial>,
    },
    /// `BODYSTRUCTURE`.
    BodyStructure,
    /// `ENVELOPE`.
    Envelope,
    /// `FLAGS`.
    Flags,
    /// `INTERNALDATE`.
    InternalDate,
    /// `RFC822`: as `BODY[]`.
    Rfc822,
    /// `RFC822.HEADER`: as `BODY.PEEK[HEADER]`.
    Rfc822Header,
    /// `RFC822.SIZE`.
    Rfc822Size,
    /// `RFC822.TEXT`: as `BODY[TEXT]`.
    Rfc822Text,
    /// `UID`.
    Uid,
}

/// All items of a FETCH, macros replaced.
pub(super) fn items(cursor: &mut Cursor<'_>) -> Result<Vec<FetchItem>, Expected> {
    use FetchItem::{Body, Envelope, Flags, InternalDate, Rfc822Size};
    if cursor.peek() == Some(b'(') {
        let items = cursor.list(item)?;
        return match items.len() {
            0 => Err("an item to fetch"),
            1..=ITEM_LIMIT => Ok(items),
            _ => Err("at most 256 items"),
        };
    }
    for (name, items) in [
        ("ALL", vec![Flags, InternalDate, Rfc822Size, Envelope]),
        ("FAST", vec![Flags, InternalDate, Rfc822Size]),
        ("FULL", vec![Flags, InternalDate, Rfc822Size, Envelope, Body]),
    ] {
        if cursor.word(name) {
            return Ok(items);
        }
    }
    item(cursor).map(|item| vec![item])
}

fn item(cursor: &mut Cursor<'_>) -> Result<FetchItem, Expected> {
    let name = cursor.name()?;
    Ok(match name.as_str() {
        "BODY" if cursor.peek() == Some(b'[') => body_section(cursor, Peek::Reads)?,
        "BODY.PEEK" if cursor.peek() == Some(b'[') => body_section(cursor, Peek::Peeks)?,
        "BODY" => FetchItem::Body,
        "BODYSTRUCTURE" => FetchItem::BodyStructure,
        "ENVELOPE" => FetchItem::Envelope,
        "FLAGS" => FetchItem::Flags,
        "INTERNALDATE" => FetchItem::InternalDate,
        "RFC822" => FetchItem::Rfc822,
        "RFC822.HEADER" => FetchItem::Rfc822Header,
        "RFC822.SIZE" => FetchItem::Rfc822Size,
        "RFC822.TEXT" => FetchItem::Rfc822Text,
        "UID" => FetchItem::Uid,
        _ => return Err("an item that FETCH knows"),
    })
}

fn body_section(cursor: &mut Cursor<'_>, peek: Peek) -> Result<FetchItem, Expected> {
    cursor.expect(b'[', "a section")?;
    let section = section(cursor)?;
    cursor.expect(b']', "the end of the section")?;
    let partial = match cursor.eat(b'<') {
        false => None,
        true => {
            let offset = cursor.number()?;
            cursor.expect(b'.', "a dot and a length")?;
            let length = cursor.nonzero()?;
            cursor.expect(b'>', "the end of the range")?;
            Some(Partial { offset, length })
        }
    };
    Ok(FetchItem::BodySection { peek, section, partial })
}

fn section(cursor: &mut Cursor<'_>) -> Result<Section, Expected> {
    let mut part = Vec::new();
    while cursor.peek().is_some_and(|byte| byte.is_ascii_digit()) {
        part.push(cursor.nonzero()?);
        if part.len() > DEPTH_LIMIT {
            return Err("a part that is not that deep");
        }
        if !cursor.eat(b'.') {
            return Ok(Section { part, text: SectionText::Whole });
        }
    }
    if cursor.peek() == Some(b']') {
        return if part.is_empty() {
            Ok(Section { part, text: SectionText::Whole })
        } else {
            Err("a part number or a name after the dot")
        };
    }
    let text = match cursor.name()?.as_str() {
        "HEADER" => SectionText::Header,
        "HEADER.FIELDS" => SectionText::HeaderFields(fields(cursor)?),
        "HEADER.FIELDS.NOT" => SectionText::HeaderFieldsNot(fields(cursor)?),
        "MIME" if !part.is_empty() => SectionText::Mime,
        "TEXT" => SectionText::Text,
        _ => return Err("a section that FETCH knows"),
    };
    Ok(Section { part, text })
}

fn fields(cursor: &mut Cursor<'_>) -> Result<Vec<String>, Expected> {
    cursor.space()?;
    let fields = cursor.list(Cursor::astring)?;
    if fields.is_empty() { Err("a field name") } else { Ok(fields) }
}
