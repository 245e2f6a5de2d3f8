//! The header section as raw fields: enough to count, to remove and to add, without parsing the message.

use std::ops::Range;

/// One field with its folded lines, as a place in the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    /// What stands in front of the colon, trailing space removed (RFC 5322 §4.5 allows space there).
    pub(crate) name: &'a str,
    /// What follows the colon, folding and CRLF included.
    pub(crate) value: &'a [u8],
    /// From the name to the last CRLF.
    pub(crate) place: Range<usize>,
}

impl Field<'_> {
    /// Whether this is field `name`, in any case.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// Iterates over the fields up to the empty line. Lines that are no field are passed over.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    content: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// `content` has CRLF line ends.
    pub(crate) fn of(content: &'a [u8]) -> Self {
        Self { content, at: 0 }
    }

    /// End of the line that begins at `start`, its LF included.
    fn line_end(&self, start: usize) -> usize {
        let rest = self.content.get(start..).unwrap_or_default();
        rest.iter().position(|b| *b == b'\n').map_or(self.content.len(), |at| start + at + 1)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            let start = self.at;
            let rest = self.content.get(start..).unwrap_or_default();
            if rest.is_empty() || rest.starts_with(b"\r\n") {
                return None;
            }
            let mut end = self.line_end(start);
            while matches!(self.content.get(end), Some(b' ' | b'\t')) {
                end = self.line_end(end);
            }
            self.at = end;
            let whole = self.content.get(start..end).unwrap_or_default();
            let Some(colon) = whole.iter().position(|b| *b == b':') else { continue };
            let (name, value) = whole.split_at_checked(colon).unwrap_or_default();
            // RFC 5322 §2.2: printable ASCII without colon.
            let Ok(name) = std::str::from_utf8(name) else { continue };
            let name = name.trim_end_matches([' ', '\t']);
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
                continue;
            }
            return Some(Field { name, value: value.get(1..).unwrap_or_default(), place: start..end });
        }
    }
}

/// The header section: everything in front of the empty line.
pub(crate) fn section(content: &[u8]) -> &[u8] {
    let end = match content.starts_with(b"\r\n") {
        true => 0,
        false => content.windows(4).position(|four| four == b"\r\n\r\n").map_or(content.len(), |at| at + 2),
    };
    content.get(..end).unwrap_or(content)
}

/// Whether a value of `Authentication-Results` claims to be ours (RFC 8601 §5): its authserv-id, after comments, is
/// `authserv_id` in any case. An id that cannot be read is not taken for ours.
pub(crate) fn claims_to_be(value: &[u8], authserv_id: &str) -> bool {
    let text = String::from_utf8_lossy(value);
    let text = without_comments(&text);
    let text = text.trim_start();
    let id = match text.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default(),
        None => text.split(|c: char| c == ';' || c.is_whitespace()).next().unwrap_or_default(),
    };
    id.trim_end_matches('.').eq_ignore_ascii_case(authserv_id)
}

/// Comments become spaces (RFC 5322 §3.2.2); they nest, and an unclosed one takes the rest.
fn without_comments(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let (mut depth, mut escaped, mut quoted) = (0_usize, false, false);
    for c in text.chars() {
        match c {
            _ if escaped => {
                escaped = false;
                if depth == 0 {
                    plain.push(c);
                }
            }
            '\\' => escaped = true,
            '"' if depth == 0 => {
                quoted = !quoted;
                plain.push(c);
            }
            '(' if !quoted => depth += 1,
            ')' if !quoted && depth > 0 => {
                depth -= 1;
                plain.push(' ');
            }
            c if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_with_their_folded_lines_and_end_at_the_empty_line() {
        let content = b"A: 1\r\n 2\r\nb :x\r\njunk\r\n: y\r\nC:\r\n\r\nD: body\r\n";
        let found: Vec<(&str, &[u8])> = Fields::of(content).map(|field| (field.name, field.value)).collect();
        assert_eq!(found, [("A", &b" 1\r\n 2\r\n"[..]), ("b", b"x\r\n"), ("C", b"\r\n")]);
        assert_eq!(section(content), &content[..content.len() - 11]);
        assert_eq!(section(b"\r\nbody\r\n"), b"");
        assert_eq!(section(b"A: 1\r\n"), b"A: 1\r\n");
    }

    #[test]
    fn our_authserv_id_is_recognised_in_every_disguise() {
        for value in [
            " mx.example.org; spf=pass",
            "\r\n\tMX.Example.ORG 1; spf=pass",
            " (hi (there)) mx.example.org (x);none",
            "\"mx.example.org\"; none",
            " mx.example.org.;",
            "mx.example.org",
            " (a \\) b) mx.example.org; x",
        ] {
            assert!(claims_to_be(value.as_bytes(), "mx.example.org"), "{value:?}");
        }
        for value in ["", " mx.example.com; none", " amx.example.org; none", " (mx.example.org) other; none"]
        {
            assert!(!claims_to_be(value.as_bytes(), "mx.example.org"), "{value:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn places_cover_the_section_in_order(content in "([A-Za-z: \t.]{0,6}\r\n){0,12}") {
            let mut end = 0;
            for field in Fields::of(content.as_bytes()) {
                proptest::prop_assert!(field.place.start >= end && field.place.end > field.place.start);
                proptest::prop_assert!(field.place.end <= section(content.as_bytes()).len());
                end = field.place.end;
            }
        }
    }
}
