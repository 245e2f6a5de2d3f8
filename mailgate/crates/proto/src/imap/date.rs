//! Dates (RFC 3501 §9 `date` and `date-time`).

use mailgate_model::Timestamp;

use super::cursor::{Cursor, Expected};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY: i64 = 86_400;

/// Days from 1970-01-01 to a civil date; `None` when there is no such date.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) || !(0..=9999).contains(&year) {
        return None;
    }
    // Years begin in March, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468)
}

fn month(cursor: &mut Cursor<'_>) -> Result<i64, Expected> {
    let found = MONTHS.iter().zip(1..).find(|(name, _)| cursor.word(name));
    found.map(|(_, number)| number).ok_or("a month such as Jan")
}

/// `1-Feb-1994`, in quotes or not, as days since 1970-01-01.
pub(super) fn date(cursor: &mut Cursor<'_>) -> Result<i64, Expected> {
    let quoted = cursor.eat(b'"');
    let day = i64::from(cursor.number()?);
    cursor.expect(b'-', "a hyphen in the date")?;
    let month = month(cursor)?;
    cursor.expect(b'-', "a hyphen in the date")?;
    let year = i64::from(cursor.number()?);
    if quoted {
        cursor.expect(b'"', "the end of the date")?;
    }
    days(year, month, day).ok_or("a date that exists")
}

/// `"17-Jul-1996 02:44:25 -0700"`, the day with a space or a zero before it.
pub(super) fn date_time(cursor: &mut Cursor<'_>) -> Result<Timestamp, Expected> {
    cursor.expect(b'"', "a date in quotes")?;
    cursor.eat(b' ');
    let day = i64::from(cursor.number()?);
    cursor.expect(b'-', "a hyphen in the date")?;
    let month = month(cursor)?;
    cursor.expect(b'-', "a hyphen in the date")?;
    let year = i64::from(cursor.number()?);
    cursor.space()?;
    let mut clock = [0_i64; 3];
    for (n, slot) in clock.iter_mut().enumerate() {
        if n > 0 {
            cursor.expect(b':', "a colon in the time")?;
        }
        *slot = i64::from(cursor.number()?);
    }
    cursor.space()?;
    let west = match cursor.peek() {
        Some(b'+') => false,
        Some(b'-') => true,
        _ => return Err("a zone such as +0100"),
    };
    cursor.eat(if west { b'-' } else { b'+' });
    let zone = i64::from(cursor.number()?);
    cursor.expect(b'"', "the end of the date")?;
    let [hour, minute, second] = clock;
    // A second 60 is a leap second.
    if hour > 23 || minute > 59 || second > 60 || zone > 2359 || zone % 100 > 59 {
        return Err("a time that exists");
    }
    let offset = (zone / 100 * 60 + zone % 100) * 60;
    let local =
        days(year, month, day).ok_or("a date that exists")? * DAY + hour * 3600 + minute * 60 + second;
    Ok(Timestamp::from_secs(if west { local + offset } else { local - offset }))
}

/// Reads a date-time in quotes.
#[must_use]
pub fn parse_date_time(text: &str) -> Option<Timestamp> {
    let bytes = bytes::Bytes::copy_from_slice(text.as_bytes());
    let mut cursor = Cursor::new(&bytes);
    date_time(&mut cursor).ok().filter(|_| cursor.is_at_end())
}

/// Writes a date-time in quotes, in UTC.
#[must_use]
pub fn write_date_time(time: Timestamp) -> String {
    let (year, month, day, hour, minute, second, _) = time.civil();
    let name = MONTHS.get(month.saturating_sub(1) as usize).unwrap_or(&"Jan");
    let year = year.clamp(0, 9999);
    format!("\"{day:2}-{name}-{year:04} {hour:02}:{minute:02}:{second:02} +0000\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_times_read_and_write() {
        for (text, secs) in [
            ("\"17-Jul-1996 02:44:25 -0700\"", 837_596_665),
            ("\" 1-Jan-1970 00:00:00 +0000\"", 0),
            ("\"01-jan-1970 01:00:00 +0100\"", 0),
            ("\"29-Feb-2024 12:34:56 +0000\"", 1_709_210_096),
        ] {
            assert_eq!(parse_date_time(text), Some(Timestamp::from_secs(secs)), "{text}");
        }
        assert_eq!(write_date_time(Timestamp::from_secs(1_709_210_096)), "\"29-Feb-2024 12:34:56 +0000\"");
        assert_eq!(write_date_time(Timestamp::from_secs(0)), "\" 1-Jan-1970 00:00:00 +0000\"");
    }

    #[test]
    fn dates_that_do_not_exist_are_refused() {
        for text in [
            "\"30-Feb-2024 00:00:00 +0000\"",
            "\"01-Foo-2024 00:00:00 +0000\"",
            "\"01-Jan-2024 24:00:00 +0000\"",
            "\"01-Jan-2024 00:00:00\"",
            "\"01-Jan-2024 00:00:00 +9999\"",
            "\"01-Jan-99999 00:00:00 +0000\"",
            "01-Jan-2024",
        ] {
            assert_eq!(parse_date_time(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn written_date_times_read_back(secs in 0_i64..200_000_000_000) {
            let time = Timestamp::from_secs(secs);
            proptest::prop_assert_eq!(parse_date_time(&write_date_time(time)), Some(time));
        }
    }
}
