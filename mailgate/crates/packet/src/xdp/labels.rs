//! What the numbers of tables and rules stand for, kept beside the pins for whoever reads them while no daemon runs.
//!
//! A map holds it, because a bpf file system holds nothing else: a line for each table and rule, a letter before its name.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use super::sys;

/// Pin of the map.
const PIN: &str = "NAMES";
/// Pin of the next one, until it is written.
const NEXT: &str = "NAMES-next";
/// Bytes of the map: sixty tables and as many rules with names of a hundred bytes. What is more is left out.
const ROOM: usize = 16 << 10;
const TABLE: char = 't';
const RULE: char = 'r';

/// Names, each list in the order of the numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// Of tables.
    pub tables: Vec<String>,
    /// Of rules; none while they wait for a confirmation, for nobody knows then which are in force.
    pub rules: Vec<String>,
}

impl Labels {
    /// Puts them beside the pins, in place of those of before.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let map = sys::value_map("names", ROOM as u32)?;
        sys::map_update(map.as_fd(), &0_u32.to_ne_bytes(), &self.bytes())?;
        let next = folder.join(NEXT);
        // Of a daemon that was killed just then.
        let _ = std::fs::remove_file(&next);
        sys::pin(map.as_fd(), &next)?;
        std::fs::rename(next, folder.join(PIN))
    }

    /// Those beside the pins; none where a daemon of an earlier version left nothing.
    pub(super) fn read(folder: &Path) -> Self {
        let mut bytes = vec![0; ROOM];
        let found = sys::open_pin(&folder.join(PIN))
            .and_then(|map| sys::map_lookup(map.as_fd(), &0_u32.to_ne_bytes(), &mut bytes));
        if found.is_ok_and(|found| found) { Self::of(&bytes) } else { Self::default() }
    }

    fn bytes(&self) -> Vec<u8> {
        let tables = self.tables.iter().map(|name| (TABLE, name));
        let lines = tables.chain(self.rules.iter().map(|name| (RULE, name)));
        let mut bytes = Vec::new();
        for (letter, name) in lines {
            let line = format!("{letter}{}\n", name.replace(char::is_control, " "));
            if bytes.len() + line.len() > ROOM {
                break;
            }
            bytes.extend_from_slice(line.as_bytes());
        }
        bytes.resize(ROOM, 0);
        bytes
    }

    fn of(bytes: &[u8]) -> Self {
        let mut labels = Self::default();
        for line in String::from_utf8_lossy(bytes).trim_end_matches('\0').lines() {
            if let Some(name) = line.strip_prefix(TABLE) {
                labels.tables.push(name.to_owned());
            } else if let Some(name) = line.strip_prefix(RULE) {
                labels.rules.push(name.to_owned());
            }
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_they_were_and_too_many_are_cut_at_a_line() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let labels = Labels { tables: names(&["block", "friends"]), rules: names(&["table block", "né"]) };
        assert_eq!(Labels::of(&labels.bytes()), labels);
        assert_eq!(Labels::of(&[0; ROOM]), Labels::default());
        let many = Labels { tables: vec!["x".repeat(999); 20], rules: Vec::new() };
        assert_eq!(many.bytes().len(), ROOM);
        assert_eq!(Labels::of(&many.bytes()).tables, many.tables[..16]);
        let odd = Labels { tables: names(&["a\nrb"]), rules: Vec::new() };
        assert_eq!(Labels::of(&odd.bytes()).tables, ["a rb"], "a name is one line");
    }
}
