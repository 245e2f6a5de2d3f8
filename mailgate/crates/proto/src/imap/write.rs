//! Responses of the server (RFC 3501 §7, §4): every value in a form that no content can break out of.

use std::fmt::Display;

use bytes::{BufMut, Bytes, BytesMut};

use super::utf7;

/// Longest text that is written in quotes; longer ones become literals.
const QUOTED_LIMIT: usize = 1024;

/// Builds responses. What strangers wrote goes through [`string`](Self::string), [`astring`](Self::astring) or
/// [`text`](Self::text), never through [`raw`](Self::raw).
#[derive(Debug, Default)]
pub struct Writer(BytesMut);

impl Writer {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Octets written and not taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes what was written.
    #[must_use]
    pub fn take(&mut self) -> Bytes {
        self.0.split().freeze()
    }

    /// Our own words.
    pub fn raw(&mut self, text: &str) -> &mut Self {
        self.0.put_slice(text.as_bytes());
        self
    }

    /// A number, or another value of ours that cannot contain CR or LF.
    pub fn value(&mut self, value: impl Display) -> &mut Self {
        self.raw(&value.to_string())
    }

    /// CRLF.
    pub fn end(&mut self) -> &mut Self {
        self.raw("\r\n")
    }

    /// A quoted string where possible, else a literal (RFC 3501 §4.3).
    pub fn string(&mut self, bytes: &[u8]) -> &mut Self {
        // RFC 3501 §9: QUOTED-CHAR is TEXT-CHAR, 7-bit without CR and LF.
        let quotable = bytes.len() <= QUOTED_LIMIT && bytes.iter().all(|b| matches!(b, b' '..=b'~' | b'\t'));
        if !quotable {
            return self.literal(bytes);
        }
        self.0.put_u8(b'"');
        for byte in bytes {
            if b"\"\\".contains(byte) {
                self.0.put_u8(b'\\');
            }
            self.0.put_u8(*byte);
        }
        self.0.put_u8(b'"');
        self
    }

    /// A string or `NIL`.
    pub fn nstring(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        match bytes {
            Some(bytes) => self.string(bytes),
            None => self.raw("NIL"),
        }
    }

    /// A literal. NUL, which no literal may contain, becomes 0x80 as other servers do (RFC 3501 §4.3.1).
    pub fn literal(&mut self, bytes: &[u8]) -> &mut Self {
        self.announce(bytes.len());
        if bytes.contains(&0) {
            self.0.extend(bytes.iter().map(|byte| if *byte == 0 { 0x80 } else { *byte }));
        } else {
            self.0.put_slice(bytes);
        }
        self
    }

    /// The head of a literal whose octets follow by other means.
    pub fn announce(&mut self, size: usize) -> &mut Self {
        self.raw("{").value(size).raw("}\r\n")
    }

    /// An atom where possible, else a string.
    pub fn astring(&mut self, text: &str) -> &mut Self {
        let atom = !text.is_empty()
            && text.len() <= QUOTED_LIMIT
            && !text.eq_ignore_ascii_case("NIL")
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.$+,&/#~!=@".contains(&b));
        if atom { self.raw(text) } else { self.string(text.as_bytes()) }
    }

    /// A mailbox name in modified UTF-7.
    pub fn mailbox(&mut self, name: &str) -> &mut Self {
        self.astring(&utf7::encode(name))
    }

    /// Human text at the end of a response: control and 8-bit characters become `?`.
    pub fn text(&mut self, text: &str) -> &mut Self {
        let clean: String = text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
        self.raw(&clean)
    }

    /// Items in parentheses with spaces between.
    pub fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.raw("(");
        for (n, item) in items.into_iter().enumerate() {
            if n > 0 {
                self.raw(" ");
            }
            each(self, item);
        }
        self.raw(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> String {
        let mut writer = Writer::new();
        write(&mut writer);
        String::from_utf8_lossy(&writer.take()).into_owned()
    }

    #[test]
    fn no_content_breaks_out_of_its_value() {
        assert_eq!(written(|w| _ = w.string(b"a\"\\b")), "\"a\\\"\\\\b\"");
        assert_eq!(written(|w| _ = w.string(b"a\r\n* BYE")), "{8}\r\na\r\n* BYE");
        assert_eq!(written(|w| _ = w.string("ü".as_bytes())), "{2}\r\nü");
        assert_eq!(written(|w| _ = w.nstring(None)), "NIL");
        assert_eq!(written(|w| _ = w.astring("nil")), "\"nil\"");
        assert_eq!(written(|w| _ = w.astring("")), "\"\"");
        assert_eq!(written(|w| _ = w.mailbox("Entwürfe x")), "\"Entw&APw-rfe x\"");
        assert_eq!(written(|w| _ = w.text("a\r\nb ü")), "a??b ?");
        let list = written(|w| {
            w.list([1, 2], |w, n| {
                w.value(n);
            });
        });
        assert_eq!(list, "(1 2)");
        assert_eq!(written(|w| _ = w.literal(b"a\0")), "{2}\r\na\u{fffd}");
    }
}
