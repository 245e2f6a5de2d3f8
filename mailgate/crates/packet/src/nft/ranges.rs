//! One table of one family as disjoint ranges, as sets of nftables want them: the most specific entry has decided.

use std::collections::BTreeMap;

/// First and last address.
pub(super) type Range = (u128, u128);

/// Entries, and the ranges that the kernel has of them.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    /// 32 or 128.
    bits: u8,
    /// By first address and length; whether it is a hole.
    entries: BTreeMap<(u128, u8), bool>,
    /// By first address; the last one.
    kernel: BTreeMap<u128, u128>,
    /// Prefixes that changed since the kernel was told.
    touched: Vec<Range>,
}

/// What the kernel has to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Ranges that go; before the others come.
    pub(super) gone: Vec<Range>,
    /// Ranges that come.
    pub(super) new: Vec<Range>,
}

impl Ranges {
    /// No entries of addresses of 32 or 128 bits.
    pub(super) fn new(bits: u8) -> Self {
        Self { bits, ..Self::default() }
    }

    /// Last address of a prefix.
    fn last(&self, first: u128, length: u8) -> u128 {
        let host = self.bits.saturating_sub(length);
        first | 1_u128.checked_shl(host.into()).map_or(u128::MAX, |size| size - 1)
    }

    /// Sets, replaces or (`None`) deletes an entry; whether it changes anything.
    pub(super) fn set(&mut self, first: u128, length: u8, hole: Option<bool>) -> bool {
        let before = match hole {
            Some(hole) => self.entries.insert((first, length), hole),
            None => self.entries.remove(&(first, length)),
        };
        let is_new = before != hole;
        let all = (0, self.last(0, 0));
        if is_new && self.touched.first() != Some(&all) {
            self.touched.push((first, self.last(first, length)));
        }
        is_new
    }

    /// Deletes all entries; those that come again at once are no difference.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.touched = vec![(0, self.last(0, 0))];
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All ranges, for a set that is filled anew.
    pub(super) fn all(&self) -> Vec<Range> {
        self.wanted(0, self.last(0, 0))
    }

    /// The kernel has this now.
    pub(super) fn is_in_force(&mut self, ranges: Vec<Range>) {
        self.kernel = ranges.into_iter().collect();
        self.touched.clear();
    }

    /// What changed since the kernel was told; the kernel has it after [`Ranges::done`].
    pub(super) fn difference(&self) -> Difference {
        let mut windows: Vec<Range> = self.touched.iter().map(|touched| self.whole(*touched)).collect();
        windows.sort_unstable();
        let mut difference = Difference::default();
        let mut reached = None;
        for (mut first, last) in windows {
            // Windows that meet are looked at once.
            if let Some(reached) = reached {
                if last <= reached {
                    continue;
                }
                first = first.max(reached + 1);
            }
            reached = Some(last);
            let had: Vec<Range> =
                self.kernel.range(first..=last).map(|(first, last)| (*first, *last)).collect();
            let wants = self.wanted(first, last);
            difference.gone.extend(had.iter().filter(|range| wants.binary_search(range).is_err()));
            difference.new.extend(wants.into_iter().filter(|range| had.binary_search(range).is_err()));
        }
        difference
    }

    /// The kernel has taken the difference.
    pub(super) fn done(&mut self, difference: &Difference) {
        for (first, _) in &difference.gone {
            self.kernel.remove(first);
        }
        self.kernel.extend(difference.new.iter().copied());
        self.touched.clear();
    }

    /// The window, and all of the ranges that the kernel has at its ends.
    fn whole(&self, (first, last): Range) -> Range {
        let before = self.kernel.range(..=first).next_back().filter(|(_, end)| **end >= first);
        let after = self.kernel.range(..=last).next_back().map_or(last, |(_, end)| *end);
        (before.map_or(first, |(start, _)| *start), last.max(after))
    }

    /// What is in the table between two addresses, as few ranges as there can be.
    fn wanted(&self, first: u128, last: u128) -> Vec<Range> {
        let mut sweep = Sweep { at: Some(first), open: Vec::new(), found: Vec::new() };
        for length in 0..=self.bits {
            let start = first & !(self.last(0, length));
            if start < first
                && let Some(hole) = self.entries.get(&(start, length))
            {
                sweep.open.push((self.last(start, length), !hole));
            }
        }
        for ((start, length), hole) in self.entries.range((first, 0)..=(last, u8::MAX)) {
            sweep.to(*start);
            sweep.open.push((self.last(*start, *length), !hole));
        }
        match last.checked_add(1) {
            Some(end) => sweep.to(end),
            None => sweep.finish(),
        }
        sweep.found
    }
}

/// Goes through addresses with the entries around it, the innermost last.
struct Sweep {
    /// Everything before is done; `None`: everything is.
    at: Option<u128>,
    open: Vec<(u128, bool)>,
    found: Vec<Range>,
}

impl Sweep {
    /// Goes on to before `end`.
    fn to(&mut self, end: u128) {
        while let (Some(at), Some((last, inside))) = (self.at, self.open.last().copied()) {
            if at >= end {
                return;
            }
            if last >= end {
                // It reaches further: it stays open.
                self.emit(at, end - 1, inside);
                self.at = Some(end);
                return;
            }
            if last >= at {
                self.emit(at, last, inside);
                self.at = last.checked_add(1);
            }
            self.open.pop();
        }
        self.at = self.at.map(|at| at.max(end));
    }

    /// Goes on to the very last address.
    fn finish(&mut self) {
        while let Some((last, inside)) = self.open.pop() {
            if let Some(at) = self.at.filter(|at| *at <= last) {
                self.emit(at, last, inside);
                self.at = last.checked_add(1);
            }
        }
    }

    fn emit(&mut self, first: u128, last: u128, inside: bool) {
        if !inside {
            return;
        }
        match self.found.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
            _ => self.found.push((first, last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn v4(text: &str) -> (u128, u8) {
        let net: ipnet::Ipv4Net = text.parse().unwrap();
        (u32::from(net.network()).into(), net.prefix_len())
    }

    #[test]
    fn holes_split_and_what_touches_is_joined() {
        let mut ranges = Ranges::new(32);
        for (text, hole) in
            [("10.0.0.0/8", false), ("10.1.0.0/16", true), ("10.1.2.3/32", false), ("11.0.0.0/8", false)]
        {
            let (first, length) = v4(text);
            assert!(ranges.set(first, length, Some(hole)));
        }
        let hex = |a: u128, b: u128| (a, b);
        assert_eq!(
            ranges.all(),
            [hex(0x0a00_0000, 0x0a00_ffff), hex(0x0a01_0203, 0x0a01_0203), hex(0x0a02_0000, 0x0bff_ffff)]
        );
    }

    #[test]
    fn the_whole_of_a_family_is_one_range() {
        let mut ranges = Ranges::new(128);
        ranges.set(0, 0, Some(false));
        assert_eq!(ranges.all(), [(0, u128::MAX)]);
        ranges.set(u128::MAX, 128, Some(true));
        assert_eq!(ranges.all(), [(0, u128::MAX - 1)]);
    }

    proptest! {
        #[test]
        fn differences_lead_to_the_same_as_everything_anew(
            steps in prop::collection::vec(
                prop::collection::vec((0_u128..64, 0_u8..7, prop::option::of(any::<bool>())), 1..8), 1..12),
        ) {
            // Addresses of six bits at the end of a family: every collision happens.
            let mut ranges = Ranges::new(32);
            let mut model: BTreeMap<(u128, u8), bool> = BTreeMap::new();
            let mut kernel: BTreeMap<u128, u128> = BTreeMap::new();
            for step in steps {
                for (address, short, hole) in step {
                    let length = 26 + short;
                    let first = (0xffff_ffc0 | address) & !ranges.last(0, length) & 0xffff_ffff;
                    ranges.set(first, length, hole);
                    match hole {
                        Some(hole) => { model.insert((first, length), hole); }
                        None => { model.remove(&(first, length)); }
                    }
                }
                let difference = ranges.difference();
                for (first, last) in &difference.gone {
                    prop_assert_eq!(kernel.remove(first), Some(*last), "only what is there goes");
                }
                for (first, last) in &difference.new {
                    let clash = kernel.range(..=*last).next_back().is_some_and(|(_, end)| end >= first);
                    prop_assert!(!clash, "no two ranges overlap");
                    kernel.insert(*first, *last);
                }
                ranges.done(&difference);
                for address in 0xffff_ffc0_u128..=0xffff_ffff {
                    let innermost = (0..=32_u8).rev().find_map(|length| {
                        model.get(&(address & !ranges.last(0, length) & 0xffff_ffff, length))
                    });
                    let inside = kernel.range(..=address).next_back().is_some_and(|(_, end)| *end >= address);
                    prop_assert_eq!(inside, innermost == Some(&false), "{:x}", address);
                }
            }
        }
    }
}
