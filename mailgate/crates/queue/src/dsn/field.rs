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

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_cleaned_text_is_one_bounded_line(text in "\\PC{0,900}|(?s).{0,900}") {
            let cleaned = clean(&text);
            proptest::prop_assert!(cleaned.len() <= TEXT_LIMIT);
            proptest::prop_assert!(!cleaned.chars().any(char::is_control));
        }
    }
}
