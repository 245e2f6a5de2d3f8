//! Header fields (RFC 5322 §2.2) and fields with parameters (RFC 2045 §5.1).

/// Parameters read from one field; more are a flood.
const PARAMETER_LIMIT: usize = 64;

/// One field: its name and everything from the name to the end of its last line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) name: &'a [u8],
    /// With name, colon, folding and final CRLF.
    pub(crate) raw: &'a [u8],
    /// What follows the colon, still folded.
    pub(crate) value: &'a [u8],
}

/// The fields of a header, in order. Lines that are no fields are left out.
pub(crate) fn fields(header: &[u8]) -> impl Iterator<Item = Field<'_>> {
    let mut rest = header;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() || rest.starts_with(b"\r\n") {
                return None;
            }
            let mut end = line_end(rest, 0);
            while matches!(rest.get(end), Some(b' ' | b'\t')) {
                end = line_end(rest, end);
            }
            let (raw, tail) = rest.split_at_checked(end)?;
            rest = tail;
            let Some(colon) = raw.iter().position(|byte| *byte == b':') else { continue };
            let name = raw.get(..colon).unwrap_or_default().trim_ascii_end();
            if !name.is_empty() && name.iter().all(u8::is_ascii_graphic) {
                return Some(Field { name, raw, value: raw.get(colon + 1..).unwrap_or_default() });
            }
        }
    })
}

/// Where the line that begins at `from` ends, after its LF.
pub(super) fn line_end(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    rest.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| from + at + 1)
}

/// The first field of that name, in any case.
pub(crate) fn field<'a>(header: &'a [u8], name: &str) -> Option<Field<'a>> {
    fields(header).find(|field| field.name.eq_ignore_ascii_case(name.as_bytes()))
}

/// A value without its folding and without space around it.
pub(crate) fn unfolded(value: &[u8]) -> Vec<u8> {
    value.iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect::<Vec<u8>>().trim_ascii().to_vec()
}

/// A value such as `text/plain; charset=utf-8`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Parameterized {
    /// In lower case: `text/plain`, `attachment`, `base64`.
    pub(crate) value: String,
    /// Names in lower case, values as they are.
    pub(crate) parameters: Vec<(String, Vec<u8>)>,
}

impl Parameterized {
    pub(crate) fn parameter(&self, name: &str) -> Option<&[u8]> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }
}

/// Reads a value with parameters, as much of it as makes sense.
pub(crate) fn parameterized(value: &[u8]) -> Parameterized {
    let mut scan = Scan { rest: value };
    let mut main = scan.token();
    scan.space();
    if scan.eat(b'/') {
        main.push(b'/');
        scan.space();
        main.extend(scan.token());
    }
    let mut result =
        Parameterized { value: String::from_utf8_lossy(&main).to_ascii_lowercase(), parameters: Vec::new() };
    while result.parameters.len() < PARAMETER_LIMIT && scan.skip_to_parameter() {
        let name = scan.token();
        scan.space();
        if name.is_empty() || !scan.eat(b'=') {
            continue;
        }
        scan.space();
        let value = if scan.rest.first() == Some(&b'"') { scan.quoted() } else { scan.token_value() };
        result.parameters.push((String::from_utf8_lossy(&name).to_ascii_lowercase(), value));
    }
    result
}

struct Scan<'a> {
    rest: &'a [u8],
}

impl Scan<'_> {
    fn eat(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Skips white space and comments (RFC 5322 §3.2.2).
    fn space(&mut self) {
        loop {
            match self.rest.split_first() {
                Some((b' ' | b'\t' | b'\r' | b'\n', rest)) => self.rest = rest,
                Some((b'(', _)) => self.comment(),
                _ => return,
            }
        }
    }

    fn comment(&mut self) {
        let mut depth = 0_usize;
        while let Some((byte, rest)) = self.rest.split_first() {
            self.rest = rest;
            match byte {
                b'\\' => self.rest = rest.get(1..).unwrap_or_default(),
                b'(' => depth += 1,
                b')' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    fn take_while(&mut self, test: impl Fn(u8) -> bool) -> Vec<u8> {
        let length = self.rest.iter().take_while(|byte| test(**byte)).count();
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken.to_vec()
    }

    fn token(&mut self) -> Vec<u8> {
        self.space();
        self.take_while(|byte| !byte.is_ascii_whitespace() && !b"()<>@,;:\\\"/[]?=".contains(&byte))
    }

    /// A parameter's value outside quotes; more is let through than a token may have (deviates: RFC 2045 §5.1, real
    /// mail has `boundary=a/b=c`).
    fn token_value(&mut self) -> Vec<u8> {
        self.take_while(|byte| !byte.is_ascii_whitespace() && !b";\"(".contains(&byte))
    }

    fn quoted(&mut self) -> Vec<u8> {
        self.eat(b'"');
        let mut text = Vec::new();
        while let Some((byte, rest)) = self.rest.split_first() {
            self.rest = rest;
            match byte {
                b'"' => break,
                b'\\' => {
                    if let Some((escaped, rest)) = rest.split_first() {
                        text.push(*escaped);
                        self.rest = rest;
                    }
                }
                b'\r' | b'\n' => {}
                _ => text.push(*byte),
            }
        }
        text
    }

    fn skip_to_parameter(&mut self) -> bool {
        loop {
            self.space();
            match self.rest.split_first() {
                Some((b';', rest)) => {
                    self.rest = rest;
                    return true;
                }
                Some((b'"', _)) => drop(self.quoted()),
                Some((_, rest)) => self.rest = rest,
                None => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_across_folding_and_garbage() {
        let header = b"A: 1\r\nno field\r\nB : x\r\n\ty\r\n: none\r\nc:z\r\n\r\nD: body\r\n";
        let found: Vec<_> = fields(header).map(|f| (f.name, unfolded(f.value))).collect();
        assert_eq!(found, [(&b"A"[..], b"1".to_vec()), (b"B", b"x\ty".to_vec()), (b"c", b"z".to_vec())]);
        assert_eq!(field(header, "b").unwrap().raw, b"B : x\r\n\ty\r\n");
        assert!(field(header, "D").is_none());
    }

    #[test]
    fn parameters_are_read_with_quotes_comments_and_sloppiness() {
        let value = parameterized(
            b" Text / Plain (a \\) comment); charset=\"u\\tf-8\" ; FORMAT = flowed;bad; x=a/b=c;;y=\"un",
        );
        assert_eq!(value.value, "text/plain");
        let got: Vec<_> = value.parameters.iter().map(|(n, v)| (n.as_str(), v.as_slice())).collect();
        let want: [(&str, &[u8]); 4] =
            [("charset", b"utf-8"), ("format", b"flowed"), ("x", b"a/b=c"), ("y", b"un")];
        assert_eq!(got, want);
        assert_eq!(parameterized(b"").value, "");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_read_without_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80), text in "[a-z:;=\"()\\\\ \r\n\t/]{0,60}") {
            for bytes in [bytes, text.into_bytes()] {
                let _ = (fields(&bytes).count(), parameterized(&bytes), unfolded(&bytes));
            }
        }
    }
}
