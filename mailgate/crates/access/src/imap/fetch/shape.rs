//! BODY and BODYSTRUCTURE (RFC 3501 §7.4.2). Recursion is as deep as a structure may be, 64 levels.

use mailgate_proto::imap::Writer;

use super::{Opened, envelope, section};
use crate::mime::{self, Kind, Parameterized, Part};

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// `BODY`.
    Basic,
    /// `BODYSTRUCTURE`.
    Extended,
}

/// Writes the structure of a part and what is in it.
pub(crate) fn write(opened: &Opened, index: usize, detail: Detail, out: &mut Writer) {
    let Some(part) = opened.structure.part(index) else {
        out.raw("NIL");
        return;
    };
    let header = section::header(opened, index);
    out.raw("(");
    if let Kind::Multipart(children) = &part.kind {
        if children.is_empty() {
            // The grammar wants at least one; there is nothing to show of it.
            out.raw("(\"text\" \"plain\" NIL NIL NIL \"7bit\" 0 0)");
        }
        for child in children {
            write(opened, *child, detail, out);
        }
        out.raw(" ").string(part.media().1.as_bytes());
        if detail == Detail::Extended {
            out.raw(" ");
            write_parameters(&part.content_type, out);
            write_extension(header, out);
        }
    } else {
        write_leaf(opened, index, part, detail, out);
    }
    out.raw(")");
}

fn write_leaf(opened: &Opened, index: usize, part: &Part, detail: Detail, out: &mut Writer) {
    let header = section::header(opened, index);
    let text = |name: &str| mime::field(header, name).map(|field| mime::unfolded(field.value));
    let (media, sub) = match (part.media(), &part.kind) {
        // Without the structure that these types promise (too deep, encoded, no boundary) they are mere octets.
        (("message", "rfc822" | "global"), Kind::Leaf) => ("application", "octet-stream"),
        (("multipart", _), Kind::Leaf) => ("text", "plain"),
        (media, _) => media,
    };
    out.string(media.as_bytes()).raw(" ").string(sub.as_bytes()).raw(" ");
    write_parameters(&part.content_type, out);
    out.raw(" ").nstring(text("Content-ID").as_deref());
    out.raw(" ").nstring(text("Content-Description").as_deref()).raw(" ");
    let encoding = if part.encoding.is_empty() { "7bit" } else { &part.encoding };
    out.string(encoding.as_bytes()).raw(" ").value(part.body.len());
    let body = opened.content.get(part.body.clone()).unwrap_or_default();
    let lines = || body.iter().filter(|byte| **byte == b'\n').count();
    if let Kind::Message(inner) = part.kind {
        out.raw(" ");
        envelope::write(section::header(opened, inner), out);
        out.raw(" ");
        write(opened, inner, detail, out);
        out.raw(" ").value(lines());
    } else if media == "text" {
        out.raw(" ").value(lines());
    }
    if detail == Detail::Extended {
        out.raw(" ").nstring(text("Content-MD5").as_deref());
        write_extension(header, out);
    }
}

/// Disposition, language, location.
fn write_extension(header: &[u8], out: &mut Writer) {
    out.raw(" ");
    match mime::field(header, "Content-Disposition").map(|field| mime::parameterized(field.value)) {
        Some(disposition) if !disposition.value.is_empty() => {
            out.raw("(").string(disposition.value.as_bytes()).raw(" ");
            write_parameters(&disposition, out);
            out.raw(")");
        }
        _ => drop(out.raw("NIL")),
    }
    out.raw(" ");
    let languages = mime::field(header, "Content-Language").map(|field| mime::unfolded(field.value));
    let languages = languages.unwrap_or_default();
    let languages: Vec<&[u8]> = languages
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|language| !language.is_empty())
        .collect();
    if languages.is_empty() {
        out.raw("NIL");
    } else {
        out.list(languages, |out, language| {
            out.string(language);
        });
    }
    let location = mime::field(header, "Content-Location").map(|field| mime::unfolded(field.value));
    out.raw(" ").nstring(location.as_deref());
}

fn write_parameters(value: &Parameterized, out: &mut Writer) {
    if value.parameters.is_empty() {
        out.raw("NIL");
        return;
    }
    out.list(&value.parameters, |out, (name, value)| {
        out.string(name.as_bytes()).raw(" ").string(value);
    });
}

#[cfg(test)]
mod tests;
