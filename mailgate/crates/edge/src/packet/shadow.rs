//! All prefixes of one family with the tables that say something about each: what generations are compiled from.

use std::collections::{BTreeMap, HashMap};

/// An address as a number.
pub(super) trait Address: Copy + Ord + std::hash::Hash {
    /// Bits of an address.
    const BITS: u8;
    /// The first `length` bits, zeros behind.
    fn first(self, length: u8) -> Self;
    /// The first `length` bits, ones behind.
    fn last(self, length: u8) -> Self;
}

impl Address for u32 {
    const BITS: u8 = 32;
    fn first(self, length: u8) -> Self {
        self & !u32::MAX.checked_shr(length.into()).unwrap_or(0)
    }
    fn last(self, length: u8) -> Self {
        self | u32::MAX.checked_shr(length.into()).unwrap_or(0)
    }
}

impl Address for u128 {
    const BITS: u8 = 128;
    fn first(self, length: u8) -> Self {
        self & !u128::MAX.checked_shr(length.into()).unwrap_or(0)
    }
    fn last(self, length: u8) -> Self {
        self | u128::MAX.checked_shr(length.into()).unwrap_or(0)
    }
}

/// A prefix: address with host bits zero, and length. Sorted, a prefix stands before everything inside it.
pub(super) type Prefix<A> = (A, u8);

/// What the tables say at exactly one prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Said {
    /// Tables with an entry of this prefix.
    pub(super) present: u64,
    /// Those of them whose entry is a hole.
    pub(super) negated: u64,
}

impl Said {
    /// The tables that hold an address of this prefix, when `outer` hold the prefix around it: the most specific
    /// entry of each table decides.
    pub(super) fn within(self, outer: u64) -> u64 {
        outer & !self.present | self.present & !self.negated
    }
}

/// All prefixes of one family.
#[derive(Debug, Clone)]
pub(super) struct Shadow<A> {
    /// Index into `said`; few different ones exist, so a prefix costs little.
    prefixes: BTreeMap<Prefix<A>, u32>,
    said: Vec<Said>,
    index: HashMap<Said, u32>,
    /// Number of prefixes of each length, to skip lengths that nobody uses.
    lengths: Vec<u32>,
}

impl<A: Address> Shadow<A> {
    /// Nothing.
    pub(super) fn new() -> Self {
        Self {
            prefixes: BTreeMap::new(),
            said: Vec::new(),
            index: HashMap::new(),
            lengths: vec![0; usize::from(A::BITS) + 1],
        }
    }

    /// From entries (prefix, table, hole?) in any order; of two of one table and prefix the later counts.
    pub(super) fn build(mut entries: Vec<(Prefix<A>, u8, bool)>) -> Self {
        let mut new = Self::new();
        // Runs of sorted tables: the stable sort finds them.
        entries.sort_by_key(|(prefix, ..)| *prefix);
        let mut prefixes: Vec<(Prefix<A>, u32)> = Vec::with_capacity(entries.len());
        let mut entries = entries.into_iter().peekable();
        while let Some((prefix, table, hole)) = entries.next() {
            let mut said = Said::default();
            said.say(table, Some(hole));
            while let Some((_, table, hole)) = entries.next_if(|(next, ..)| *next == prefix) {
                said.say(table, Some(hole));
            }
            new.count(prefix.1, 1);
            let said = new.intern(said);
            prefixes.push((prefix, said));
        }
        new.prefixes = prefixes.into_iter().collect();
        new
    }

    /// Number of prefixes.
    pub(super) fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Is there none?
    pub(super) fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// Is this prefix there?
    pub(super) fn contains(&self, prefix: Prefix<A>) -> bool {
        self.prefixes.contains_key(&prefix)
    }

    /// Sets (`Some(hole)`) or removes (`None`) the entry of one table; `false` when nothing changed.
    pub(super) fn set(&mut self, prefix: Prefix<A>, table: u8, entry: Option<bool>) -> bool {
        let before = self.prefixes.get(&prefix).copied();
        let mut said = before.and_then(|at| self.said.get(at as usize).copied()).unwrap_or_default();
        let was = said;
        said.say(table, entry);
        if said == was {
            return false;
        }
        if said.present == 0 {
            self.prefixes.remove(&prefix);
            self.count(prefix.1, -1);
        } else {
            let said = self.intern(said);
            self.prefixes.insert(prefix, said);
            if before.is_none() {
                self.count(prefix.1, 1);
            }
        }
        true
    }

    /// The tables that hold the prefix by what is said strictly around it.
    pub(super) fn around(&self, (address, length): Prefix<A>) -> u64 {
        let (mut set, mut decided) = (0, 0);
        for length in (0..length).rev() {
            if self.lengths.get(usize::from(length)).is_none_or(|n| *n == 0) {
                continue;
            }
            let Some(at) = self.prefixes.get(&(address.first(length), length)) else { continue };
            let said = self.said.get(*at as usize).copied().unwrap_or_default();
            set |= said.present & !said.negated & !decided;
            decided |= said.present;
        }
        set
    }

    /// The longest prefix around this one and shorter than it.
    pub(super) fn parent(&self, (address, length): Prefix<A>) -> Option<Prefix<A>> {
        (0..length)
            .rev()
            .filter(|length| self.lengths.get(usize::from(*length)).is_some_and(|n| *n != 0))
            .map(|length| (address.first(length), length))
            .find(|prefix| self.prefixes.contains_key(prefix))
    }

    /// The prefixes inside `outer` (itself included) in order, each with the tables that hold it.
    pub(super) fn sweep(&self, outer: Prefix<A>) -> Sweep<'_, A> {
        let base = self.around(outer);
        let range = self.prefixes.range(outer..=(outer.0.last(outer.1), A::BITS));
        Sweep { shadow: self, range, around: Vec::new(), base }
    }

    /// All prefixes.
    pub(super) fn sweep_all(&self) -> Sweep<'_, A>
    where
        A: Default,
    {
        self.sweep((A::default(), 0))
    }

    fn intern(&mut self, said: Said) -> u32 {
        let next = self.said.len() as u32;
        *self.index.entry(said).or_insert_with(|| {
            self.said.push(said);
            next
        })
    }

    fn count(&mut self, length: u8, step: i32) {
        if let Some(n) = self.lengths.get_mut(usize::from(length)) {
            *n = n.saturating_add_signed(step);
        }
    }
}

impl Said {
    fn say(&mut self, table: u8, entry: Option<bool>) {
        let bit = 1_u64.checked_shl(table.into()).unwrap_or(0);
        self.present &= !bit;
        self.negated &= !bit;
        if let Some(hole) = entry {
            self.present |= bit;
            if hole {
                self.negated |= bit;
            }
        }
    }
}

/// Prefixes in order, with the tables that hold each.
pub(super) struct Sweep<'a, A> {
    shadow: &'a Shadow<A>,
    range: std::collections::btree_map::Range<'a, Prefix<A>, u32>,
    /// Last address and set of each prefix around the present place, outermost first.
    around: Vec<(A, u64)>,
    /// The set outside all of them.
    base: u64,
}

impl<A: Address> Iterator for Sweep<'_, A> {
    type Item = (A, u8, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let (&(address, length), at) = self.range.next()?;
        while self.around.pop_if(|(last, _)| *last < address).is_some() {}
        let outer = self.around.last().map_or(self.base, |(_, set)| *set);
        let said = self.shadow.said.get(*at as usize).copied().unwrap_or_default();
        let set = said.within(outer);
        self.around.push((address.last(length), set));
        Some((address, length, set))
    }
}
