//! Content as text in Unicode: transfer encodings, character sets, encoded words (RFC 2045 §6, RFC 2047).

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use encoding_rs::Encoding;

use super::structure::Part;

/// Lenient: real mail has wrong padding and stray bits.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The body of a text part; `None` for other parts.
pub(crate) fn body_text(part: &Part, content: &[u8]) -> Option<String> {
    if part.media().0 != "text" {
        return None;
    }
    let body = content.get(part.body.clone())?;
    let bytes = match part.encoding.as_str() {
        "base64" => base64_lenient(body),
        "quoted-printable" => quoted_printable(body),
        _ => return Some(charset_text(part.content_type.parameter("charset"), body)),
    };
    Some(charset_text(part.content_type.parameter("charset"), &bytes))
}

fn charset_text(charset: Option<&[u8]>, bytes: &[u8]) -> String {
    let encoding = charset.and_then(Encoding::for_label).unwrap_or(encoding_rs::UTF_8);
    encoding.decode_without_bom_handling(bytes).0.into_owned()
}

fn base64_lenient(bytes: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> =
        bytes.iter().copied().filter(|b| b.is_ascii_alphanumeric() || b"+/".contains(b)).collect();
    // A single left-over digit cannot be decoded.
    let usable = if digits.len() % 4 == 1 { digits.len() - 1 } else { digits.len() };
    BASE64.decode(digits.get(..usable).unwrap_or_default()).unwrap_or_default()
}

fn quoted_printable(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte != b'=' {
            out.push(*byte);
        } else if let [a, b, after @ ..] = tail
            && let (Some(high), Some(low)) = (hex(*a), hex(*b))
        {
            out.push(high << 4 | low);
            rest = after;
        } else {
            // A soft line break: white space up to the line end goes.
            let blank = tail.iter().take_while(|b| b" \t".contains(b)).count();
            let end = tail.get(blank..).unwrap_or_default();
            if let Some(after) = end.strip_prefix(b"\r\n").or_else(|| end.strip_prefix(b"\n")) {
                rest = after;
            } else {
                out.push(b'=');
            }
        }
    }
    out
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// A field's value with its encoded words decoded; bytes that are no UTF-8 become U+FFFD.
pub(crate) fn decode_words(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let mut out = String::with_capacity(text.len());
    let mut rest: &str = &text;
    // Space between two encoded words is not shown (RFC 2047 §6.2).
    let mut after_word = false;
    while let Some(at) = rest.find("=?") {
        let (before, word) = rest.split_at(at);
        if let Some((decoded, tail)) = encoded_word(word) {
            if !(after_word && before.trim().is_empty()) {
                out.push_str(before);
            }
            out.push_str(&decoded);
            rest = tail;
            after_word = true;
        } else {
            let (marker, tail) = word.split_at(2);
            out.push_str(before);
            out.push_str(marker);
            rest = tail;
            after_word = false;
        }
    }
    out.push_str(rest);
    out
}

/// `=?charset?q?text?=` and what follows it.
fn encoded_word(text: &str) -> Option<(String, &str)> {
    let (charset, rest) = text.strip_prefix("=?")?.split_once('?')?;
    let (method, rest) = rest.split_once('?')?;
    let (word, tail) = rest.split_once("?=")?;
    if word.contains(char::is_whitespace) || charset.len() > 64 {
        return None;
    }
    // RFC 2231 §5: a language may follow the character set.
    let charset = charset.split('*').next().unwrap_or_default();
    let bytes = match method {
        "b" | "B" => base64_lenient(word.as_bytes()),
        "q" | "Q" => quoted_printable(word.replace('_', " ").as_bytes()),
        _ => return None,
    };
    Some((charset_text(Some(charset.as_bytes()), &bytes), tail))
}

#[cfg(test)]
mod tests {
    use super::super::structure::Structure;
    use super::*;

    #[test]
    fn encoded_words_are_read_and_joined() {
        for (raw, text) in [
            ("=?ISO-8859-1?Q?a?= b", "a b"),
            ("=?ISO-8859-1?Q?a?= =?utf-8?B?w7w=?=", "aü"),
            ("x =?utf-8*de?q?gr=C3=BC=C3=9F_dich?=!", "x grüß dich!"),
            ("=?bad?x?y?= =?", "=?bad?x?y?= =?"),
            ("=?utf-8?b?aGk?=", "hi"),
            ("plain", "plain"),
        ] {
            assert_eq!(decode_words(raw.as_bytes()), text, "{raw}");
        }
    }

    #[test]
    fn bodies_are_read_through_encoding_and_character_set() {
        for (message, text) in [
            (
                "Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nf=FCr =\r\ndich",
                "für dich",
            ),
            (
                "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nw7x4\r\n",
                "üx",
            ),
            ("\r\n= =3D =zz", "= =3D =zz"),
        ] {
            let structure = Structure::parse(message.as_bytes());
            assert_eq!(body_text(&structure.parts[0], message.as_bytes()).as_deref(), Some(text));
        }
        let image = "Content-Type: image/png\r\n\r\nx";
        assert_eq!(body_text(&Structure::parse(image.as_bytes()).parts[0], image.as_bytes()), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_decodes_without_panic(text in "(=\\?|\\?=|utf-8|[?qb=A-F0-9 ü\r\n]){0,30}") {
            let _ = (decode_words(text.as_bytes()), quoted_printable(text.as_bytes()), base64_lenient(text.as_bytes()));
        }
    }
}
