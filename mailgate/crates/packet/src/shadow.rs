//! All prefixes of one family with the tables that say something about each: what generations are compiled from.
//!
//! Nearly all of them stand sorted in three plain vectors (nine bytes for each prefix in IPv4); the changes since
//! these were made stand in a small tree beside them, which is merged into new vectors when it has grown.

use std::collections::{BTreeMap, HashMap, btree_map};
use std::iter::Peekable;
use std::ops::Range;

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

/// One entry: prefix, table, hole?
pub(super) type Marked<A> = (Prefix<A>, u8, bool);

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

/// Mark in `changes`: no longer there.
const GONE: u32 = u32::MAX;
/// Changes that are kept beside the vectors, whatever their size.
const CHANGES_MIN: usize = 4096;
/// The same as a share of the prefixes: one in this many.
const CHANGES_SHARE: usize = 16;

/// All prefixes of one family.
#[derive(Debug, Clone)]
pub(super) struct Shadow<A> {
    base: Base<A>,
    /// What differs from `base`: index into `said`, or [`GONE`].
    changes: BTreeMap<Prefix<A>, u32>,
    /// Few different ones exist, so a prefix costs little.
    said: Vec<Said>,
    index: HashMap<Said, u32>,
    /// Number of prefixes of each length, to skip lengths that nobody uses.
    lengths: Vec<u32>,
    len: usize,
}

/// Sorted prefixes, each with its index into `said`.
#[derive(Debug, Clone)]
struct Base<A> {
    addresses: Vec<A>,
    lengths: Vec<u8>,
    said: Vec<u32>,
}

impl<A: Address> Base<A> {
    fn with_capacity(size: usize) -> Self {
        Self {
            addresses: Vec::with_capacity(size),
            lengths: Vec::with_capacity(size),
            said: Vec::with_capacity(size),
        }
    }

    fn push(&mut self, (address, length): Prefix<A>, said: u32) {
        self.addresses.push(address);
        self.lengths.push(length);
        self.said.push(said);
    }

    fn at(&self, n: usize) -> Option<(Prefix<A>, u32)> {
        Some(((*self.addresses.get(n)?, *self.lengths.get(n)?), *self.said.get(n)?))
    }

    /// Number of prefixes before this one.
    fn before(&self, prefix: Prefix<A>) -> usize {
        let mut n = self.addresses.partition_point(|address| *address < prefix.0);
        while self.at(n).is_some_and(|(other, _)| other < prefix) {
            n += 1;
        }
        n
    }

    fn get(&self, prefix: Prefix<A>) -> Option<u32> {
        self.at(self.before(prefix)).filter(|(found, _)| *found == prefix).map(|(_, said)| said)
    }
}

impl<A: Address> Shadow<A> {
    /// Nothing.
    pub(super) fn new() -> Self {
        Self {
            base: Base::with_capacity(0),
            changes: BTreeMap::new(),
            said: Vec::new(),
            index: HashMap::new(),
            lengths: vec![0; usize::from(A::BITS) + 1],
            len: 0,
        }
    }

    /// From about `count` sorted entries of one table, and others in any order; of two of one table and prefix the later
    /// counts.
    pub(super) fn of(
        sorted: impl Iterator<Item = Marked<A>>,
        count: usize,
        mut others: Vec<Marked<A>>,
    ) -> Self {
        let mut new = Self::new();
        // Runs of sorted tables: the stable sort finds them.
        others.sort_by_key(|(prefix, ..)| *prefix);
        new.base = Base::with_capacity(count + others.len());
        let mut others = others.into_iter().peekable();
        let mut last = (Said::default(), GONE);
        sorted.for_each(|(prefix, table, hole)| {
            while let Some(other) = others.next_if(|(other, ..)| *other < prefix) {
                let said = said_at(other.0, Said::default().and(other.1, other.2), &mut others);
                new.append(other.0, said, &mut last);
            }
            let said = said_at(prefix, Said::default().and(table, hole), &mut others);
            new.append(prefix, said, &mut last);
        });
        while let Some((prefix, table, hole)) = others.next() {
            let said = said_at(prefix, Said::default().and(table, hole), &mut others);
            new.append(prefix, said, &mut last);
        }
        new
    }

    /// Puts a prefix behind all others; `last` is what was said of the one before, which is the same for nearly all.
    fn append(&mut self, prefix: Prefix<A>, said: Said, last: &mut (Said, u32)) {
        self.count(prefix.1, 1);
        if last.1 == GONE || last.0 != said {
            *last = (said, self.intern(said));
        }
        self.base.push(prefix, last.1);
    }

    /// Number of prefixes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Is there none?
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of `count` prefixes, about; changes since the last merge come besides.
    pub(super) fn bytes_of(count: usize) -> u64 {
        (count * (size_of::<A>() + size_of::<u8>() + size_of::<u32>())) as u64
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> u64 {
        let change = 2 * (size_of::<Prefix<A>>() + size_of::<u32>());
        let said = 2 * size_of::<Said>() + size_of::<u32>();
        let more = self.changes.len() * change + self.said.len() * said;
        Self::bytes_of(self.base.addresses.capacity()) + more as u64
    }

    /// Is this prefix there?
    pub(super) fn contains(&self, prefix: Prefix<A>) -> bool {
        self.get(prefix).is_some()
    }

    fn get(&self, prefix: Prefix<A>) -> Option<u32> {
        match self.changes.get(&prefix) {
            Some(&GONE) => None,
            Some(said) => Some(*said),
            None => self.base.get(prefix),
        }
    }

    /// Sets (`Some(hole)`) or removes (`None`) the entry of one table; `false` when nothing changed.
    pub(super) fn set(&mut self, prefix: Prefix<A>, table: u8, entry: Option<bool>) -> bool {
        let before = self.get(prefix);
        let mut said = before.and_then(|at| self.said.get(at as usize).copied()).unwrap_or_default();
        let was = said;
        said.say(table, entry);
        if said == was {
            return false;
        }
        if said.present == 0 {
            self.changes.insert(prefix, GONE);
            self.count(prefix.1, -1);
        } else {
            let said = self.intern(said);
            self.changes.insert(prefix, said);
            if before.is_none() {
                self.count(prefix.1, 1);
            }
        }
        if self.changes.len() > CHANGES_MIN.max(self.base.addresses.len() / CHANGES_SHARE) {
            self.merge();
        }
        true
    }

    /// New vectors that hold the changes.
    fn merge(&mut self) {
        let mut base = Base::with_capacity(self.len);
        for (prefix, said) in self.merged(0..self.base.addresses.len(), self.changes.range(..)) {
            base.push(prefix, said);
        }
        self.base = base;
        self.changes.clear();
    }

    fn merged<'a>(
        &'a self,
        range: Range<usize>,
        changes: btree_map::Range<'a, Prefix<A>, u32>,
    ) -> MergedPrefixes<'a, A> {
        MergedPrefixes { base: &self.base, range, changes: changes.peekable() }
    }

    /// The entries of the tables of `mask`.
    pub(super) fn entries_of(&self, mask: u64) -> Vec<Marked<A>> {
        let mut entries = Vec::new();
        if self.said.iter().all(|said| said.present & mask == 0) {
            return entries;
        }
        for (prefix, at) in self.merged(0..self.base.addresses.len(), self.changes.range(..)) {
            let said = self.said.get(at as usize).copied().unwrap_or_default();
            let mut rest = said.present & mask;
            while rest != 0 {
                let table = rest.trailing_zeros() as u8;
                entries.push((prefix, table, said.negated >> table & 1 == 1));
                rest &= rest - 1;
            }
        }
        entries
    }

    /// The tables that hold the prefix by what is said strictly around it.
    pub(super) fn around(&self, (address, length): Prefix<A>) -> u64 {
        let (mut set, mut decided) = (0, 0);
        for length in (0..length).rev() {
            if self.lengths.get(usize::from(length)).is_none_or(|n| *n == 0) {
                continue;
            }
            let Some(at) = self.get((address.first(length), length)) else { continue };
            let said = self.said.get(at as usize).copied().unwrap_or_default();
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
            .find(|prefix| self.contains(*prefix))
    }

    /// The prefixes inside `outer` (itself included) in order, each with the tables that hold it.
    pub(super) fn sweep(&self, outer: Prefix<A>) -> Sweep<'_, A> {
        let last = (outer.0.last(outer.1), A::BITS);
        let end = self.base.before(last);
        // The last of all is inside too.
        let end = end + usize::from(self.base.at(end).is_some_and(|(prefix, _)| prefix == last));
        let prefixes = self.merged(self.base.before(outer)..end, self.changes.range(outer..=last));
        Sweep { said: &self.said, prefixes, around: Vec::new(), base: self.around(outer) }
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

    fn count(&mut self, length: u8, step: i8) {
        self.len = self.len.saturating_add_signed(step.into());
        if let Some(n) = self.lengths.get_mut(usize::from(length)) {
            *n = n.saturating_add_signed(step.into());
        }
    }
}

/// What `said` becomes with all that the next ones say of the same prefix.
fn said_at<A: Address>(
    prefix: Prefix<A>,
    mut said: Said,
    others: &mut Peekable<impl Iterator<Item = Marked<A>>>,
) -> Said {
    while let Some((_, table, hole)) = others.next_if(|(other, ..)| *other == prefix) {
        said.say(table, Some(hole));
    }
    said
}

impl Said {
    /// This, and an entry of one table.
    fn and(mut self, table: u8, hole: bool) -> Self {
        self.say(table, Some(hole));
        self
    }

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

/// Prefixes in order with what is said of them: those of the vectors, as changed since.
struct MergedPrefixes<'a, A> {
    base: &'a Base<A>,
    range: Range<usize>,
    changes: Peekable<btree_map::Range<'a, Prefix<A>, u32>>,
}

impl<A: Address> Iterator for MergedPrefixes<'_, A> {
    type Item = (Prefix<A>, u32);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let old = if self.range.is_empty() { None } else { self.base.at(self.range.start) };
            if self.changes.peek().is_none() {
                self.range.start += usize::from(old.is_some());
                return old;
            }
            let new = self.changes.peek().map(|(prefix, said)| (**prefix, **said));
            match (old, new) {
                (Some(old), new) if new.is_none_or(|new| old.0 < new.0) => {
                    self.range.start += 1;
                    return Some(old);
                }
                (old, Some(new)) => {
                    self.changes.next();
                    self.range.start += usize::from(old.is_some_and(|old| old.0 == new.0));
                    if new.1 != GONE {
                        return Some(new);
                    }
                }
                (_, None) => return None,
            }
        }
    }
}

/// Prefixes in order, with the tables that hold each.
pub(super) struct Sweep<'a, A> {
    said: &'a [Said],
    prefixes: MergedPrefixes<'a, A>,
    /// Last address and set of each prefix around the present place, outermost first.
    around: Vec<(A, u64)>,
    /// The set outside all of them.
    base: u64,
}

impl<A: Address> Iterator for Sweep<'_, A> {
    type Item = (A, u8, u64);

    fn next(&mut self) -> Option<Self::Item> {
        let ((address, length), at) = self.prefixes.next()?;
        while self.around.pop_if(|(last, _)| *last < address).is_some() {}
        let outer = self.around.last().map_or(self.base, |(_, set)| *set);
        let said = self.said.get(at as usize).copied().unwrap_or_default();
        let set = said.within(outer);
        // Nothing is inside a single address.
        if length < A::BITS {
            self.around.push((address.last(length), set));
        }
        Some((address, length, set))
    }
}
