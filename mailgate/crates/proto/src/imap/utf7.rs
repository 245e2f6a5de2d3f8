//! Mailbox names on the wire and on disk: modified UTF-7 (RFC 3501 §5.1.3).

/// Base 64 with `,` instead of `/`, without padding.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// Writes `text` in modified UTF-7. Every text has exactly one such form.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut shifted: Vec<u16> = Vec::new();
    for c in text.chars() {
        if (' '..='~').contains(&c) {
            flush(&mut shifted, &mut out);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            let mut units = [0; 2];
            shifted.extend_from_slice(c.encode_utf16(&mut units));
        }
    }
    flush(&mut shifted, &mut out);
    out
}

/// Reads modified UTF-7. `None` when the text is malformed or not in the one form that [`encode`] writes: two
/// spellings of one name would be two names to some programs and one to others.
#[must_use]
pub fn decode(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, tail)) = rest.split_once('&') {
        out.push_str(plain);
        let (shifted, tail) = tail.split_once('-')?;
        if shifted.is_empty() {
            out.push('&');
        } else {
            out.push_str(&String::from_utf16(&units(shifted)?).ok()?);
        }
        rest = tail;
    }
    out.push_str(rest);
    (encode(&out) == text).then_some(out)
}

fn flush(shifted: &mut Vec<u16>, out: &mut String) {
    if shifted.is_empty() {
        return;
    }
    out.push('&');
    let mut bits = 0_u32;
    let mut count = 0;
    for unit in shifted.drain(..) {
        bits = (bits << 16) | u32::from(unit);
        count += 16;
        while count >= 6 {
            count -= 6;
            push_digit(out, bits >> count);
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        push_digit(out, bits << (6 - count));
    }
    out.push('-');
}

fn push_digit(out: &mut String, bits: u32) {
    out.push(ALPHABET.get((bits & 63) as usize).map_or('A', |b| char::from(*b)));
}

fn units(shifted: &str) -> Option<Vec<u16>> {
    let mut units = Vec::with_capacity(shifted.len() * 6 / 16 + 1);
    let mut bits = 0_u32;
    let mut count = 0;
    for byte in shifted.bytes() {
        let digit = ALPHABET.iter().position(|b| *b == byte)?;
        bits = (bits << 6) | u32::try_from(digit).ok()?;
        count += 6;
        if count >= 16 {
            count -= 16;
            units.push(u16::try_from((bits >> count) & 0xffff).ok()?);
            bits &= (1 << count) - 1;
        }
    }
    Some(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_and_write_as_the_standard_shows() {
        for (wire, text) in [
            ("INBOX", "INBOX"),
            ("~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),
            ("Entw&APw-rfe", "Entwürfe"),
            ("Mail &- News", "Mail & News"),
            ("&2D3eAA-", "\u{1f600}"),
        ] {
            assert_eq!(decode(wire).as_deref(), Some(text), "{wire}");
            assert_eq!(encode(text), wire);
        }
    }

    #[test]
    fn malformed_and_second_spellings_are_refused() {
        for wire in
            ["&", "a&b", "&AGE-", "&U,BTFw", "&U,BT*w-", "ü", "&2D0-", "&U,BTFw-&ZeVnLIqe-", "a\u{7f}"]
        {
            assert_eq!(decode(wire), None, "{wire}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_text_round_trips(text in "\\PC{0,40}|[ -~&]{0,40}|.{0,20}") {
            proptest::prop_assert_eq!(decode(&encode(&text)), Some(text));
        }

        #[test]
        fn any_text_decodes_without_panic(text in ".{0,60}|&[A-Za-z+,]{0,30}-") {
            let _ = decode(&text);
        }
    }
}
