//! Texts of strangers on their way into a field.

/// Octets of a cleaned text: with name and type it stays below the 998 of a line (RFC 5322 §2.1.1).
const TEXT_LIMIT: usize = 800;

/// One line without control characters, bounded.
pub(super) fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len().min(TEXT_LIMIT));
    for c in text.chars() {
        if cleaned.len() + c.len_utf8() > TEXT_LIMIT {
            break;
        }
        // Line and paragraph separators end a line for some readers.
        let ends_line = c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        cleaned.push(if ends_line { ' ' } else { c });
    }
    cleaned.trim().to_owned()
}

/// Decodes xtext (RFC 3461 §4); `None` when it is none.
pub(super) fn xtext_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => {
                let (high, low) = (hex(bytes.next()?)?, hex(bytes.next()?)?);
                decoded.push(high << 4 | low);
            }
            b'!'..=b'~' if byte != b'=' => decoded.push(byte),
            _ => return None,
        }
    }
    // What it decodes to should be printable ASCII (RFC 3461 §4.2 and §4.4); the caller cleans the rest.
    String::from_utf8(decoded).ok()
}

/// Upper case only (RFC 3461 §4).
fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xtext_is_decoded_or_refused() {
        assert_eq!(xtext_decoded("a+2Bb+3D").as_deref(), Some("a+b="));
        for text in ["+", "+2", "+2b", "+ZZ", "a=b", "a b", "ü", "+FF"] {
            assert_eq!(xtext_decoded(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_cleaned_text_is_one_bounded_line(text in "\\PC{0,900}|(?s).{0,900}") {
            let cleaned = clean(&text);
            proptest::prop_assert!(cleaned.len() <= TEXT_LIMIT);
            proptest::prop_assert!(!cleaned.chars().any(char::is_control));
        }
    }
}
