//! `dovecot-uidlist`: which UID each file of a mailbox has. Read in Dovecot's formats 1 and 3, written in format 3, so
//! that both programs can serve the same mailbox one after the other.
//!
//! ```text
//! 3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1
//! 25006 :1276528487.M364837P9451.kurkku,S=1355,W=1394
//! 25017 W2481 :1276533073.M242911P3632.kurkku
//! ```

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::filename;
use crate::Error;

/// The name in each mailbox folder.
pub(super) const FILE: &str = "dovecot-uidlist";

/// When and what was read: a file that looks the same is not read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stamp {
    pub(super) mtime: i64,
    pub(super) size: i64,
    pub(super) inode: i64,
}

/// Looks at a file; all zero when it does not exist.
pub(super) fn stamp(path: &Path) -> Stamp {
    fs::metadata(path).map_or_else(
        |_| Stamp::default(),
        |metadata| Stamp {
            mtime: metadata.mtime().wrapping_mul(1_000_000_000).wrapping_add(metadata.mtime_nsec()),
            size: i64::try_from(metadata.size()).unwrap_or(i64::MAX),
            inode: metadata.ino().cast_signed(),
        },
    )
}

/// One line: a message that has, or once had, this UID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) uid: u32,
    /// Fields of Dovecot that we keep and do not use.
    pub(super) extra: Box<str>,
    pub(super) base: Box<str>,
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UidList {
    pub(super) validity: u32,
    /// Greater than every UID ever given (RFC 3501 §2.3.1.1).
    pub(super) next: u32,
    /// Header fields of Dovecot that we keep and do not use.
    pub(super) extra: String,
    /// UIDs strictly rise.
    pub(super) rows: Vec<Row>,
    /// The last line was cut off: nothing may be appended.
    pub(super) torn: bool,
}

/// Reads the file; `None` when it does not exist.
///
/// # Errors
/// [`Error::Corrupt`] when its first line makes no sense.
pub(super) fn read(path: &Path) -> Result<Option<UidList>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("reading", path, &error)),
    };
    let text = String::from_utf8_lossy(&bytes);
    parse(&text).map(Some).ok_or_else(|| Error::Corrupt(format!("{}: first line", path.display())))
}

fn parse(text: &str) -> Option<UidList> {
    let torn = !text.ends_with('\n');
    let mut lines = text.lines();
    let (mut validity, mut next, mut extra) = (None, 1, String::new());
    let header = lines.next()?;
    match header.split_once(' ')? {
        ("1", fields) => {
            let (first, second) = fields.split_once(' ')?;
            (validity, next) = (first.parse().ok(), second.parse().ok()?);
        }
        ("3", fields) => {
            for field in fields.split(' ') {
                match (field.strip_prefix('V'), field.strip_prefix('N')) {
                    (Some(number), _) => validity = number.parse().ok(),
                    (_, Some(number)) => next = number.parse().ok()?,
                    _ => {
                        extra.push(' ');
                        extra.push_str(field);
                    }
                }
            }
        }
        _ => return None,
    }
    let mut list = UidList { validity: validity.filter(|v| *v > 0)?, next, extra, rows: Vec::new(), torn };
    let mut lines = lines.peekable();
    while let Some(line) = lines.next() {
        // A line that was cut off by a crash, or makes no sense, names no UID: its file gets a new one.
        let whole = !torn || lines.peek().is_some();
        if let Some(row) =
            row(line).filter(|row| whole && list.rows.last().is_none_or(|last| last.uid < row.uid))
        {
            list.next = list.next.max(row.uid.saturating_add(1));
            list.rows.push(row);
        }
    }
    Some(list)
}

fn row(line: &str) -> Option<Row> {
    let (uid, rest) = line.split_once(' ')?;
    let (extra, entry) = match rest.strip_prefix(':') {
        Some(entry) => ("", entry),
        None => rest.split_once(" :").unwrap_or(("", rest)),
    };
    let base = filename::split(entry).0;
    let uid = uid.parse().ok().filter(|uid| *uid > 0)?;
    (!base.is_empty()).then(|| Row { uid, extra: extra.into(), base: base.into() })
}

impl Row {
    /// The line with its LF.
    pub(super) fn write(&self, out: &mut String) {
        // Writing into a String cannot fail.
        let _ = match &*self.extra {
            "" => writeln!(out, "{} :{}", self.uid, self.base),
            extra => writeln!(out, "{} {extra} :{}", self.uid, self.base),
        };
    }
}

/// The header with its LF; `extra` begins with a space unless empty.
pub(super) fn header(validity: u32, next: u32, extra: &str) -> String {
    format!("3 V{validity} N{next}{extra}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_3_of_dovecot_round_trips_with_fields_we_do_not_know() {
        let text = "3 V1275660208 N25022 G3085f01b\n25006 :1276528487.M364837P9451.kurkku,S=1355,W=1394:2,\n\
                    25017 W2481 Pabc :1276533073.M242911P3632.kurkku:2,F\n";
        let list = parse(text).unwrap();
        assert_eq!((list.validity, list.next, list.rows.len()), (1_275_660_208, 25_022, 2));
        assert_eq!(&*list.rows[1].base, "1276533073.M242911P3632.kurkku");
        let mut written = header(list.validity, list.next, &list.extra);
        list.rows.iter().for_each(|row| row.write(&mut written));
        assert_eq!(parse(&written).unwrap(), list);
        assert!(written.contains("25017 W2481 Pabc :1276533073"));
    }

    #[test]
    fn format_1_is_read() {
        let list = parse("1 1173189136 20221\n20001 1178911399.M1P2.host:2,S\n").unwrap();
        assert_eq!((list.validity, list.next, list.rows[0].uid), (1_173_189_136, 20_221, 20_001));
    }

    #[test]
    fn the_next_uid_is_above_every_row_and_torn_lines_are_dropped() {
        let list = parse("3 V5 N2\n7 :a\n9 :b\n4 :c\nx\n10 :d").unwrap();
        assert_eq!((list.next, list.rows.len(), list.torn), (10, 2, true));
    }

    #[test]
    fn a_first_line_without_sense_is_damage() {
        for text in ["", "\n", "3 N5\n", "9 V1 N1\n", "3 V0 N1\n", "1 x 5\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_parses_without_panic(text in "[0-9VNG: \n.]{0,80}|3 V1 N1\n(.{0,20}\n){0,5}") {
            let _ = parse(&text);
        }
    }
}
