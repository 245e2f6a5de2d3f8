//! What must hold for a list of any format: every entry can be written and read again, and the whole too.

use mailgate_lists::{Format, parse_entry, read_list};

/// Reads a text as a list of one format.
pub fn check(format: Format, text: &[u8]) {
    let Ok((_, list)) = read_list(format, "fuzz", text) else { return };
    assert!(list.problems.len() <= 20 && list.problems.len() <= list.refused);
    let mut written = String::new();
    for entry in &list.entries {
        let line = format!("{}{}", if entry.negated { "!" } else { "" }, entry.prefix);
        let again = parse_entry(&line).unwrap();
        assert_eq!((again.prefix, again.negated), (entry.prefix, entry.negated));
        written.push_str(&line);
        written.push('\n');
    }
    let (_, again) = read_list(Format::Plain, "again", written.as_bytes()).unwrap();
    assert_eq!((again.entries, again.refused), (list.entries, 0));
}
