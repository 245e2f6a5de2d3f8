//! Tokens of the IMAP grammar (RFC 3501 §9).

use bytes::Bytes;

/// Why the text is not a command: what was expected.
pub(super) type Expected = &'static str;

/// A place in a command.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// Takes `byte` if it comes next.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let here = self.peek() == Some(byte);
        self.at += usize::from(here);
        here
    }

    pub(super) fn expect(&mut self, byte: u8, expected: Expected) -> Result<(), Expected> {
        if self.eat(byte) { Ok(()) } else { Err(expected) }
    }

    pub(super) fn space(&mut self) -> Result<(), Expected> {
        self.expect(b' ', "a space")
    }

    /// Nothing may follow; a space at the end is forgiven (deviates: several clients send one).
    pub(super) fn end(&mut self) -> Result<(), Expected> {
        self.eat(b' ');
        if self.is_at_end() { Ok(()) } else { Err("the end of the command") }
    }

    /// Takes `word` in any case, if it comes next.
    pub(super) fn word(&mut self, word: &str) -> bool {
        let here =
            self.rest().get(..word.len()).is_some_and(|next| next.eq_ignore_ascii_case(word.as_bytes()));
        if here {
            self.at += word.len();
        }
        here
    }

    fn take_while(&mut self, test: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let length = rest.iter().take_while(|byte| test(**byte)).count();
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn text(&mut self, expected: Expected, test: impl Fn(u8) -> bool) -> Result<String, Expected> {
        let taken = self.take_while(test);
        if taken.is_empty() {
            return Err(expected);
        }
        String::from_utf8(taken.to_vec()).map_err(|_| expected)
    }

    pub(super) fn tag(&mut self) -> Result<String, Expected> {
        self.text("a tag", |byte| byte != b'+' && (is_atom_char(byte) || byte == b']'))
    }

    pub(super) fn atom(&mut self) -> Result<String, Expected> {
        self.text("an atom", is_atom_char)
    }

    /// Letters, digits, hyphens: names of commands, items and mechanisms.
    pub(super) fn name(&mut self) -> Result<String, Expected> {
        let name = self.text("a name", |byte| byte.is_ascii_alphanumeric() || b"-=_.".contains(&byte))?;
        Ok(name.to_ascii_uppercase())
    }

    /// `"..."`; octets above ASCII are let through (deviates: RFC 3501 §4.3; RFC 9051 and clients do it).
    fn quoted(&mut self) -> Result<Vec<u8>, Expected> {
        self.expect(b'"', "a quoted string")?;
        let mut text = Vec::new();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    let escaped = self.bytes.get(self.at + 1).copied().filter(|byte| b"\"\\".contains(byte));
                    text.push(escaped.ok_or("\\\" or \\\\ in a quoted string")?);
                    self.at += 2;
                }
                Some(byte) if !b"\r\n\0".contains(&byte) => {
                    text.push(byte);
                    self.at += 1;
                }
                _ => return Err("the end of a quoted string"),
            }
        }
    }

    /// `{n}` CRLF and n octets, shared with the command and not copied.
    pub(super) fn literal(&mut self) -> Result<Bytes, Expected> {
        const EXPECTED: Expected = "a literal";
        self.expect(b'{', EXPECTED)?;
        let size = self.number()? as usize;
        self.eat(b'+');
        if !self.word("}\r\n") {
            return Err(EXPECTED);
        }
        let end = self.at.checked_add(size).filter(|end| *end <= self.bytes.len()).ok_or(EXPECTED)?;
        let literal = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(literal)
    }

    pub(super) fn string(&mut self) -> Result<Vec<u8>, Expected> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => {
                let literal = self.literal()?;
                // RFC 3501 §9: CHAR8 is any octet but NUL.
                if literal.contains(&0) { Err("a string without NUL") } else { Ok(literal.to_vec()) }
            }
            _ => Err("a string"),
        }
    }

    /// An atom (with `]`) or a string, as UTF-8.
    pub(super) fn astring(&mut self) -> Result<String, Expected> {
        match self.peek() {
            Some(b'"' | b'{') => String::from_utf8(self.string()?).map_err(|_| "text in UTF-8"),
            _ => self.text("an atom or a string", |byte| is_atom_char(byte) || byte == b']'),
        }
    }

    /// A mailbox name or pattern: as `astring` and with wildcards.
    pub(super) fn pattern(&mut self) -> Result<String, Expected> {
        match self.peek() {
            Some(b'"' | b'{') => self.astring(),
            _ => self.text("a mailbox name or pattern", |byte| is_atom_char(byte) || b"]%*".contains(&byte)),
        }
    }

    /// A string or `NIL`.
    pub(super) fn nstring(&mut self) -> Result<Option<Vec<u8>>, Expected> {
        if self.word("NIL") { Ok(None) } else { self.string().map(Some) }
    }

    pub(super) fn number(&mut self) -> Result<u32, Expected> {
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or("a number below 2^32")
    }

    pub(super) fn nonzero(&mut self) -> Result<u32, Expected> {
        self.number().and_then(|number| if number > 0 { Ok(number) } else { Err("a number above 0") })
    }

    /// `(a b c)`; may be empty when `item` is never called for `()`.
    pub(super) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, Expected>,
    ) -> Result<Vec<T>, Expected> {
        self.expect(b'(', "an opening parenthesis")?;
        let mut items = Vec::new();
        while !self.eat(b')') {
            if !items.is_empty() {
                self.space()?;
                // Some clients leave a space before the end (deviates).
                if self.eat(b')') {
                    break;
                }
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// A flag with its backslash, or a keyword (RFC 3501 §9 `flag`).
    pub(super) fn flag(&mut self) -> Result<String, Expected> {
        if self.eat(b'\\') { Ok(format!("\\{}", self.atom()?)) } else { self.atom() }
    }
}

/// RFC 3501 §9 `ATOM-CHAR`: no control characters, spaces, parentheses, braces, wildcards, quotes, `]`.
fn is_atom_char(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"(){%*\"\\]".contains(&byte)
}
