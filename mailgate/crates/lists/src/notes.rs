//! What a list says of its entries: why an address is in it. One text for each different thing said, and for each
//! entry that says something a number; entries that say nothing cost nothing.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::prefix::{Key as _, Key4, Key6};

/// Longest note in bytes: two lines of a reply (RFC 5321 §4.5.3.1.5 has 512 each).
pub(crate) const NOTE_LIMIT: usize = 800;

/// Bytes of all different notes of a list; beyond it entries come without.
const TEXT_LIMIT: usize = 16 * 1024 * 1024;

/// Stands for the address in a note, as in spamd.conf(5).
pub(crate) const ADDRESS: &str = "%A";

/// Notes by prefix; sorted after [`sort`](Self::sort).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    text: String,
    /// Where each note ends in `text`.
    ends: Vec<u32>,
    v4: Vec<(Key4, u32)>,
    v6: Vec<(Key6, u32)>,
    lengths: BTreeSet<(bool, u8)>,
}

/// Makes [`Notes`], saying nothing twice.
#[derive(Debug, Default)]
pub(crate) struct NotesBuilder {
    notes: Notes,
    known: HashMap<Box<str>, u32>,
}

impl NotesBuilder {
    /// Says something of a prefix. `%A` in it stands for the address, `%%` for a percent sign.
    pub(crate) fn push(&mut self, prefix: IpNet, note: &str) {
        let Some(number) = self.number(note) else { return };
        match prefix {
            IpNet::V4(net) => self.notes.v4.push((Key4::of(net), number)),
            IpNet::V6(net) => self.notes.v6.push((Key6::of(net), number)),
        }
    }

    fn number(&mut self, note: &str) -> Option<u32> {
        // Nearly always the text of the entry before.
        if let Some(number) = self.known.get(note) {
            return Some(*number);
        }
        let note = clean(note);
        if note.is_empty() {
            return None;
        }
        if let Some(number) = self.known.get(note.as_str()) {
            return Some(*number);
        }
        if self.notes.text.len() + note.len() > TEXT_LIMIT {
            return None;
        }
        let number = u32::try_from(self.notes.ends.len()).ok()?;
        self.notes.text.push_str(&note);
        self.notes.ends.push(u32::try_from(self.notes.text.len()).ok()?);
        self.known.insert(note.into(), number);
        Some(number)
    }

    /// The notes, sorted.
    pub(crate) fn done(self) -> Notes {
        let mut notes = self.notes;
        // A text that is said in another order is the same text.
        let mut order: Vec<u32> = (0..u32::try_from(notes.ends.len()).unwrap_or(u32::MAX)).collect();
        order.sort_unstable_by(|a, b| notes.text_of(*a).cmp(&notes.text_of(*b)));
        let mut renumbered = vec![0_u32; order.len()];
        let (mut text, mut ends) = (String::with_capacity(notes.text.len()), Vec::with_capacity(order.len()));
        for (new, old) in (0..).zip(&order) {
            text.push_str(notes.text_of(*old).unwrap_or_default());
            ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
            if let Some(number) = renumbered.get_mut(*old as usize) {
                *number = new;
            }
        }
        let renumber = |number: &mut u32| {
            *number = renumbered.get(*number as usize).copied().unwrap_or_default();
        };
        notes.v4.iter_mut().for_each(|(_, number)| renumber(number));
        notes.v6.iter_mut().for_each(|(_, number)| renumber(number));
        (notes.text, notes.ends) = (text, ends);
        notes.v4.sort_unstable();
        notes.v4.dedup();
        notes.v4.shrink_to_fit();
        notes.v6.sort_unstable();
        notes.v6.dedup();
        notes.v6.shrink_to_fit();
        let v4 = notes.v4.iter().map(|(key, _)| (true, key.length()));
        let v6 = notes.v6.iter().map(|(key, _)| (false, key.length()));
        notes.lengths = v4.chain(v6).collect();
        notes
    }
}

/// What may be sent to a stranger and printed on a terminal: printable ASCII and line ends, not longer than
/// [`NOTE_LIMIT`].
pub(crate) fn clean(text: &str) -> String {
    let shown = |c: char| if c == '\n' || c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.trim().chars().filter(|c| *c != '\r').take(NOTE_LIMIT).map(shown).collect()
}

/// A note as it is said of one address.
pub(crate) fn rendered(note: &str, address: IpAddr) -> String {
    let mut said = String::with_capacity(note.len());
    let mut rest = note;
    while let Some((before, after)) = rest.split_once('%') {
        said.push_str(before);
        rest = match after.as_bytes().first() {
            Some(b'A') => {
                said.push_str(&address.to_string());
                after.get(1..).unwrap_or_default()
            }
            Some(b'%') => {
                said.push('%');
                after.get(1..).unwrap_or_default()
            }
            _ => {
                said.push('%');
                after
            }
        };
    }
    said.push_str(rest);
    said
}

impl Notes {
    fn text_of(&self, number: u32) -> Option<&str> {
        let at = number as usize;
        let end = *self.ends.get(at)? as usize;
        let begin = at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
        self.text.get(begin..end)
    }

    /// Different texts.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        (0..u32::try_from(self.ends.len()).unwrap_or(u32::MAX)).filter_map(|number| self.text_of(number))
    }

    /// Every prefix that says something, with the number of its text.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = (IpNet, u32)> {
        let v4 = self.v4.iter().map(|(key, number)| (key.prefix(), *number));
        v4.chain(self.v6.iter().map(|(key, number)| (key.prefix(), *number)))
    }

    /// What is said of exactly this prefix.
    pub(crate) fn of_prefix(&self, prefix: IpNet) -> impl Iterator<Item = &str> {
        let (v4, v6) = match prefix {
            IpNet::V4(net) => (at_key(&self.v4, Key4::of(net)), [].as_slice()),
            IpNet::V6(net) => ([].as_slice(), at_key(&self.v6, Key6::of(net))),
        };
        let numbers = v4.iter().map(|(_, number)| *number).chain(v6.iter().map(|(_, number)| *number));
        numbers.filter_map(|number| self.text_of(number))
    }

    /// Everything that is said of an address, most specific prefix first, nothing twice.
    pub(crate) fn of(&self, address: IpAddr) -> Vec<&str> {
        let mut said: Vec<&str> = Vec::new();
        let lengths = self.lengths.iter().rev().filter(|(is_v4, _)| *is_v4 == address.is_ipv4());
        for (_, length) in lengths {
            let Ok(prefix) = IpNet::new(address, *length) else { continue };
            for text in self.of_prefix(prefix.trunc()) {
                if !said.contains(&text) {
                    said.push(text);
                }
            }
        }
        said
    }
}

fn at_key<K: Ord + Copy>(sorted: &[(K, u32)], key: K) -> &[(K, u32)] {
    let from = sorted.partition_point(|(other, _)| *other < key);
    let rest = sorted.get(from..).unwrap_or_default();
    rest.get(..rest.partition_point(|(other, _)| *other == key)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_hears_all_that_is_said_of_it_once() {
        let mut notes = NotesBuilder::default();
        notes.push("192.0.2.0/24".parse().unwrap(), "SBL1");
        notes.push("192.0.2.7/32".parse().unwrap(), "SBL2");
        notes.push("192.0.2.0/28".parse().unwrap(), "SBL1");
        notes.push("2001:db8::/32".parse().unwrap(), "SBL3");
        let notes = notes.done();
        assert_eq!(notes.of(ip("192.0.2.7")), ["SBL2", "SBL1"]);
        assert_eq!(notes.of(ip("192.0.2.99")), ["SBL1"]);
        assert_eq!(notes.of(ip("192.0.3.1")), [""; 0]);
        assert_eq!(notes.of(ip("2001:db8::1")), ["SBL3"]);
        assert_eq!(notes.texts().count(), 3);
    }

    #[test]
    fn the_address_and_the_percent_sign_are_put_in() {
        assert_eq!(rendered("%A is %% sure, %B too%", ip("192.0.2.7")), "192.0.2.7 is % sure, %B too%");
    }

    #[test]
    fn what_strangers_write_does_not_steer_a_terminal_or_a_session() {
        assert_eq!(clean(" a\u{1b}[2J\r\nb\u{e9} "), "a?[2J\nb?");
        assert_eq!(clean(&"x".repeat(10_000)).len(), NOTE_LIMIT);
    }

    #[test]
    fn the_order_in_which_entries_come_makes_no_difference() {
        let entries = [("192.0.2.0/24", "b"), ("192.0.2.1/32", "a"), ("2001:db8::/32", "c")];
        let made = |order: [usize; 3]| {
            let mut notes = NotesBuilder::default();
            order.iter().for_each(|at| notes.push(entries[*at].0.parse().unwrap(), entries[*at].1));
            notes.done()
        };
        assert_eq!(made([0, 1, 2]), made([2, 1, 0]));
    }
}
