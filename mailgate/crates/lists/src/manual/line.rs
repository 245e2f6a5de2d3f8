//! One edit as one line: `[!]PREFIX [until=TIME] [added=TIME] [by=overload] [note=TEXT]`, or `-PREFIX [by=overload]` for
//! one that was withdrawn. Times are seconds since 1970, with three decimals where they are needed.

use std::fmt::Write as _;

use mailgate_model::Timestamp;

use super::Record;
use crate::merge::{Claim, MANUAL, OVERLOAD};
use crate::prefix::{Sense, parse_entry, quoted};
use crate::table::Addition;

/// Of an entry that the daemon made.
const BY_OVERLOAD: &str = "overload";

/// Reads one line; without `added=` the entry is as old as `now` says.
pub(super) fn read_line(line: &str, now: Timestamp) -> Result<Record, String> {
    let (line, note) = match line.split_once(" note=") {
        Some((line, note)) => {
            (line, Some(note.chars().take(Addition::NOTE_LIMIT).collect::<String>().into()))
        }
        None => (line, None),
    };
    let mut words = line.split_ascii_whitespace();
    let first = words.next().unwrap_or_default();
    let (text, is_gone) = match first.strip_prefix('-') {
        Some(text) => (text, true),
        None => (first, false),
    };
    let entry = parse_entry(text)?;
    let (mut expires, mut added, mut by) = (None, now, MANUAL);
    for word in words {
        match word.split_once('=') {
            Some(("until", at)) => expires = Some(time(at)?),
            Some(("added", at)) => added = time(at)?,
            Some(("by", BY_OVERLOAD)) => by = OVERLOAD,
            _ => return Err(format!("found {}, expected until=, added= or by=", quoted(word.as_bytes()))),
        }
    }
    let sense = if entry.negated { Sense::Hole } else { Sense::Listed };
    let claim = (!is_gone).then(|| Claim::new(sense, added, expires));
    Ok(Record { by, prefix: entry.prefix, claim, note })
}

fn time(text: &str) -> Result<Timestamp, String> {
    let wrong = || format!("found {}, expected seconds since 1970", quoted(text.as_bytes()));
    let (secs, millis) = text.split_once('.').unwrap_or((text, "0"));
    let secs: i64 = secs.parse().map_err(|_| wrong())?;
    let millis: u16 = millis.parse().ok().filter(|n| *n < 1000).ok_or_else(wrong)?;
    Ok(Timestamp::from_millis(Timestamp::from_secs(secs).millis().saturating_add(i64::from(millis))))
}

/// Writes one line.
pub(super) fn write_line(text: &mut String, record: &Record) {
    let sign = match &record.claim {
        None => "-",
        Some(claim) if claim.sense == Sense::Hole => "!",
        Some(_) => "",
    };
    // Writing to a string cannot fail.
    let _ = write!(text, "{sign}{}", record.prefix);
    if let Some(claim) = &record.claim {
        claim.expires().into_iter().for_each(|at| write_time(text, "until", at));
        write_time(text, "added", claim.added);
    }
    if record.by == OVERLOAD {
        text.push_str(" by=");
        text.push_str(BY_OVERLOAD);
    }
    if let Some(note) = &record.note {
        text.push_str(" note=");
        text.push_str(note);
    }
    text.push('\n');
}

fn write_time(text: &mut String, key: &str, at: Timestamp) {
    let millis = at.millis().rem_euclid(1000);
    let _ = match millis {
        0 => write!(text, " {key}={}", at.secs()),
        _ => write!(text, " {key}={}.{millis:03}", at.secs()),
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_the_first_release_are_read() {
        let now = Timestamp::from_secs(7);
        let record = read_line("!10.1.0.0/16 until=1000060", now).unwrap();
        let claim = Claim::new(Sense::Hole, now, Some(Timestamp::from_secs(1_000_060)));
        assert_eq!(
            record,
            Record { by: MANUAL, prefix: "10.1.0.0/16".parse().unwrap(), claim: Some(claim), note: None }
        );
    }

    #[test]
    fn what_is_no_line_is_refused_with_what_was_expected() {
        for (line, want) in [
            ("192.0.2.1 until=soon", "seconds since 1970"),
            ("192.0.2.1 until=1.9999", "seconds since 1970"),
            ("192.0.2.1 for=ever", "expected until="),
            ("-", "expected an address"),
        ] {
            let said = read_line(line, Timestamp::default()).unwrap_err();
            assert!(said.contains(want), "{line}: {said}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            bits: u128, v4: bool, length in 0_u8..=128, hole: bool, gone: bool, overload: bool,
            added in 0_i64..4_000_000_000_000, expires in prop::option::of(0_i64..4_000_000_000_000),
            note in prop::option::of("[ -~]{1,40}"),
        ) {
            let address = if v4 {
                std::net::IpAddr::V4(((bits >> 96) as u32).into())
            } else {
                std::net::IpAddr::V6((bits | 1 << 127).into())
            };
            let prefix = ipnet::IpNet::new(address, if v4 { length % 33 } else { length }).unwrap().trunc();
            let sense = if hole { Sense::Hole } else { Sense::Listed };
            let claim = Claim::new(sense, Timestamp::from_millis(added), expires.map(Timestamp::from_millis));
            let record = Record {
                by: if overload { OVERLOAD } else { MANUAL },
                prefix,
                claim: (!gone).then_some(claim),
                note: note.map(|note| note.trim().to_owned().into()),
            };
            let mut text = String::new();
            write_line(&mut text, &record);
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert_eq!(read_line(text.strip_suffix('\n').unwrap(), Timestamp::default()).unwrap(), record);
        }
    }
}
