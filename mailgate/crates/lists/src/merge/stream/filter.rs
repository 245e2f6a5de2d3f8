//! A Bloom filter of one word for each key (Putze, Sanders and Singler, *Cache-, Hash- and Space-Efficient Bloom Filters*,
//! 2007): one look at memory says of nearly all keys that were never added that they are not there.

use std::hash::{BuildHasher as _, Hash};

use foldhash::fast::RandomState;

/// Keys for each word of 64 bits, at most: of keys that were not added, one in forty may then seem to be there.
const KEYS: usize = 8;

/// Words at least: as many as a first run needs.
const LEAST: usize = 2048;

/// Which keys may have been added.
#[derive(Default)]
pub(super) struct Filter {
    /// A power of two of them, or none.
    words: Vec<u64>,
    hasher: RandomState,
}

impl Filter {
    /// An empty one for so many keys.
    pub(super) fn with_room(keys: usize) -> Self {
        Self { words: vec![0; keys.div_ceil(KEYS).max(LEAST).next_power_of_two()], ..Self::default() }
    }

    /// Whether it is large enough for so many.
    pub(super) fn has_room(&self, keys: usize) -> bool {
        keys <= self.words.len() * KEYS
    }

    pub(super) fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u64>()
    }

    /// The word of a key, and four of its bits.
    fn place(&self, key: &impl Hash) -> (usize, u64) {
        let hash = self.hasher.hash_one(key);
        let bits = [0, 6, 12, 18].into_iter().fold(0, |bits, shift| bits | 1 << (hash >> shift & 63));
        ((hash >> 32) as usize & self.words.len().wrapping_sub(1), bits)
    }

    pub(super) fn add(&mut self, key: &impl Hash) {
        let (at, bits) = self.place(key);
        self.words.get_mut(at).into_iter().for_each(|word| *word |= bits);
    }

    /// Whether a key was added; "yes" may be wrong.
    pub(super) fn may_have(&self, key: &impl Hash) -> bool {
        let (at, bits) = self.place(key);
        self.words.get(at).is_some_and(|word| word & bits == bits)
    }
}

#[cfg(test)]
#[test]
fn what_was_added_is_found_and_little_else() {
    let keys = 100_000_u64;
    let mut filter = Filter::with_room(100_000);
    assert!(filter.has_room(100_000) && !filter.may_have(&1_u64) && !Filter::default().may_have(&1_u64));
    (0..keys).for_each(|key| filter.add(&key));
    assert!((0..keys).all(|key| filter.may_have(&key)));
    let wrong = (keys..keys * 2).filter(|key| filter.may_have(key)).count();
    assert!(wrong < 5000, "{wrong} of a hundred thousand");
}
