//! Every entry that a list yields is one that can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailgate_lists::{parse_entry, parse_list};

fuzz_target!(|text: &[u8]| {
    let list = parse_list("fuzz", text);
    for entry in &list.entries {
        let hole = if entry.negated { "!" } else { "" };
        let again = parse_entry(&format!("{hole}{}", entry.prefix)).unwrap();
        assert_eq!((again.prefix, again.negated), (entry.prefix, entry.negated));
    }
    if let Ok(text) = std::str::from_utf8(text) {
        let _ = parse_entry(text);
    }
});
