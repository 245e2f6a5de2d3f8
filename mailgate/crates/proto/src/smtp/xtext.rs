//! xtext: how ENVID, ORCPT and AUTH= hide characters (RFC 3461 §4).

/// Decodes xtext; `None` when it is malformed or hides a control character or octets that are no UTF-8.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => {
                let high = hex(bytes.next()?)?;
                let low = hex(bytes.next()?)?;
                plain.push(high << 4 | low);
            }
            b'=' => return None,
            // Octets above 127 come only with SMTPUTF8 (RFC 6533 §3).
            b'!'..=b'~' | 0x80.. => plain.push(byte),
            _ => return None,
        }
    }
    // A hidden CRLF would become a header line in a DSN.
    String::from_utf8(plain).ok().filter(|text| !text.chars().any(char::is_control))
}

/// Encodes `text` so that [`decode`] gives it again.
#[must_use]
pub fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut coded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b'!'..=b'~') && !matches!(byte, b'+' | b'=') {
            coded.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(coded, "+{byte:02X}");
        }
    }
    coded
}

/// Upper case only (RFC 3461 §4); lower case is seen and harmless (deviates: some clients).
fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
