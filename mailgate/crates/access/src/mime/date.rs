//! The day of the `Date` field (RFC 5322 §3.3), for SEARCH SENTON and its kin.

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Days since 1970-01-01 of the date as written; time and zone are disregarded (RFC 3501 §6.4.4). `None` for nonsense.
pub(crate) fn sent_day(value: &[u8]) -> Option<i64> {
    let text = String::from_utf8_lossy(value);
    let mut words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
    let first = words.next()?;
    let day: i64 =
        if first.starts_with(|c: char| c.is_ascii_digit()) { first } else { words.next()? }.parse().ok()?;
    let month = words.next()?.get(..3)?.to_ascii_lowercase();
    let month = MONTHS.iter().position(|name| *name == month)?;
    let year: i64 = words.next()?.parse().ok()?;
    // RFC 5322 §4.3: years of two and three digits.
    let year = match year {
        0..=49 => year + 2000,
        50..=999 => year + 1900,
        1000..=9999 => year,
        _ => return None,
    };
    let text = format!("\"{day:02}-{}-{year:04} 00:00:00 +0000\"", MONTHS.get(month)?);
    let midnight = mailgate_proto::imap::parse_date_time(&text)?;
    Some(midnight.secs().div_euclid(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_whatever_the_time_and_zone() {
        for (text, day) in [
            ("Thu, 1 Jan 1970 23:59:59 -1200", Some(0)),
            ("2 Jan 1970 00:00:00 +0000", Some(1)),
            ("Fri,  3 January 70 x", Some(2)),
            ("Thu, 29 Feb 2024 12:34:56 +0000", Some(19_782)),
            ("Thu, 30 Feb 2024", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(sent_day(text.as_bytes()), day, "{text}");
        }
    }
}
