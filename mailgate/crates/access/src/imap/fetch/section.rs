//! Which bytes a section names (RFC 3501 §6.4.5).

use std::fmt::Write as _;

use mailgate_proto::imap::{Partial, Section, SectionText, Writer};

use super::Opened;
use crate::mime::{self, Kind};

/// Bytes of a message.
pub(crate) enum Piece<'a> {
    Borrowed(&'a [u8]),
    /// Put together from fields.
    Made(Vec<u8>),
}

impl Piece<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Made(bytes) => bytes,
        }
    }
}

/// `BODY[section]<offset>`, as the response repeats it.
pub(crate) fn label(section: &Section, partial: Option<Partial>) -> String {
    let mut words: Vec<String> = section.part.iter().map(u32::to_string).collect();
    let names = |names: &[String]| {
        let mut out = Writer::new();
        out.list(names, |out, name| {
            out.astring(name);
        });
        String::from_utf8_lossy(&out.take()).into_owned()
    };
    match &section.text {
        SectionText::Header => words.push("HEADER".to_owned()),
        SectionText::HeaderFields(fields) => words.push(format!("HEADER.FIELDS {}", names(fields))),
        SectionText::HeaderFieldsNot(fields) => words.push(format!("HEADER.FIELDS.NOT {}", names(fields))),
        SectionText::Mime => words.push("MIME".to_owned()),
        SectionText::Text => words.push("TEXT".to_owned()),
        SectionText::Whole => {}
    }
    let mut label = format!("BODY[{}]", words.join("."));
    if let Some(partial) = partial {
        // Writing into a String cannot fail.
        let _ = write!(label, "<{}>", partial.offset);
    }
    label
}

/// The header of a part, with its empty line.
pub(crate) fn header(opened: &Opened, part: usize) -> &[u8] {
    let range = opened.structure.part(part).map(|part| part.header.clone());
    range.and_then(|range| opened.content.get(range)).unwrap_or_default()
}

fn body(opened: &Opened, part: usize) -> &[u8] {
    let range = opened.structure.part(part).map(|part| part.body.clone());
    range.and_then(|range| opened.content.get(range)).unwrap_or_default()
}

/// The bytes of a section; `None` when there is no such part.
pub(crate) fn cut<'a>(opened: &'a Opened, section: &Section, partial: Option<Partial>) -> Option<Piece<'a>> {
    let piece = whole(opened, section)?;
    let Some(Partial { offset, length }) = partial else { return Some(piece) };
    let range = |bytes: &[u8]| {
        let from = (offset as usize).min(bytes.len());
        from..from.saturating_add(length as usize).min(bytes.len())
    };
    Some(match piece {
        Piece::Borrowed(bytes) => Piece::Borrowed(bytes.get(range(bytes)).unwrap_or_default()),
        Piece::Made(bytes) => Piece::Made(bytes.get(range(&bytes)).unwrap_or_default().to_vec()),
    })
}

fn whole<'a>(opened: &'a Opened, section: &Section) -> Option<Piece<'a>> {
    let part = opened.structure.find(&section.part)?;
    // HEADER and TEXT of a part mean the message in it; of the whole, the message itself.
    let message = || match opened.structure.part(part).map(|part| &part.kind) {
        _ if section.part.is_empty() => Some(part),
        Some(Kind::Message(inner)) => Some(*inner),
        _ => None,
    };
    Some(match &section.text {
        SectionText::Whole if section.part.is_empty() => Piece::Borrowed(&opened.content),
        SectionText::Whole => Piece::Borrowed(body(opened, part)),
        SectionText::Mime => Piece::Borrowed(header(opened, part)),
        SectionText::Header => Piece::Borrowed(header(opened, message()?)),
        SectionText::Text => Piece::Borrowed(body(opened, message()?)),
        SectionText::HeaderFields(names) => fields(header(opened, message()?), |name| has(names, name)),
        SectionText::HeaderFieldsNot(names) => fields(header(opened, message()?), |name| !has(names, name)),
    })
}

fn has(names: &[String], name: &[u8]) -> bool {
    names.iter().any(|wanted| wanted.as_bytes().eq_ignore_ascii_case(name))
}

fn fields(header: &[u8], keep: impl Fn(&[u8]) -> bool) -> Piece<'static> {
    let mut bytes = Vec::new();
    for field in mime::fields(header).filter(|field| keep(field.name)) {
        bytes.extend_from_slice(field.raw);
        if !field.raw.ends_with(b"\n") {
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes.extend_from_slice(b"\r\n");
    Piece::Made(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mime::Structure;
    use bytes::Bytes;

    const MESSAGE: &str = "From: a@b\r\nTo: c@d\r\nSubject: x\r\n y\r\nContent-Type: multipart/mixed; boundary=A\r\n\r\n\
        --A\r\n\r\none\r\n--A\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\ninner text\r\n--A--\r\n";

    fn section(part: &[u32], text: SectionText) -> Section {
        Section { part: part.to_vec(), text }
    }

    #[test]
    fn sections_name_the_bytes_the_standard_says() {
        let content = Bytes::from_static(MESSAGE.as_bytes());
        let opened = Opened { structure: Structure::parse(&content), content };
        let cut = |part: &[u32], text, partial| {
            cut(&opened, &section(part, text), partial)
                .map(|p| String::from_utf8(p.bytes().to_vec()).unwrap())
        };
        let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(cut(&[], SectionText::Whole, None).as_deref(), Some(MESSAGE));
        assert_eq!(cut(&[1], SectionText::Whole, None).as_deref(), Some("one"));
        assert_eq!(cut(&[1], SectionText::Mime, None).as_deref(), Some("\r\n"));
        assert_eq!(cut(&[1], SectionText::Header, None), None);
        assert_eq!(cut(&[2], SectionText::Header, None).as_deref(), Some("Subject: in\r\n\r\n"));
        assert_eq!(cut(&[2], SectionText::Text, None).as_deref(), Some("inner text"));
        assert_eq!(cut(&[2, 1], SectionText::Whole, None).as_deref(), Some("inner text"));
        assert_eq!(cut(&[3], SectionText::Whole, None), None);
        assert_eq!(
            cut(&[], SectionText::HeaderFields(fields(&["subject", "X"])), None).as_deref(),
            Some("Subject: x\r\n y\r\n\r\n")
        );
        assert_eq!(
            cut(&[], SectionText::HeaderFieldsNot(fields(&["subject", "content-type"])), None).as_deref(),
            Some("From: a@b\r\nTo: c@d\r\n\r\n")
        );
        let partial = |offset, length| Some(Partial { offset, length });
        assert_eq!(cut(&[1], SectionText::Whole, partial(1, 1)).as_deref(), Some("n"));
        assert_eq!(cut(&[1], SectionText::Whole, partial(2, 99)).as_deref(), Some("e"));
        assert_eq!(cut(&[1], SectionText::Whole, partial(99, 1)).as_deref(), Some(""));
    }

    #[test]
    fn labels_repeat_the_question_without_what_could_break_out() {
        let hostile = section(&[1, 2], SectionText::HeaderFields(vec!["Date".into(), "a] \"b".into()]));
        assert_eq!(
            label(&hostile, Some(Partial { offset: 5, length: 9 })),
            "BODY[1.2.HEADER.FIELDS (Date \"a] \\\"b\")]<5>"
        );
        assert_eq!(label(&section(&[], SectionText::Whole), None), "BODY[]");
    }
}
