//! SipHash-2-4 of whole words (Aumasson, Bernstein: "SipHash: a fast short-input PRF"): what only we can compute.

/// The secret, new with every new map of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(pub [u64; 2]);

#[inline(always)]
const fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

#[inline(always)]
const fn word(mut state: [u64; 4], word: u64) -> [u64; 4] {
    state[3] ^= word;
    state = round(round(state));
    state[0] ^= word;
    state
}

/// The hash of `words`, as of their octets in little-endian order.
#[must_use]
#[inline(always)]
pub fn hash<const N: usize>(key: Key, words: [u64; N]) -> u64 {
    let Key([low, high]) = key;
    let mut state = [
        low ^ 0x736f_6d65_7073_6575,
        high ^ 0x646f_7261_6e64_6f6d,
        low ^ 0x6c79_6765_6e65_7261,
        high ^ 0x7465_6462_7974_6573,
    ];
    for each in words {
        state = word(state, each);
    }
    // The last word: no octets are left over, and how many there were.
    state = word(state, (N as u64 * 8) << 56);
    state[2] ^= 0xff;
    state = round(round(round(round(state))));
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

#[cfg(test)]
mod tests {
    #![expect(
        deprecated,
        reason = "the standard library's SipHash-2-4 is the oracle, and is offered no other way"
    )]
    use std::hash::{Hasher as _, SipHasher};

    use proptest::prelude::*;

    use super::*;

    fn oracle(key: [u64; 2], words: &[u64]) -> u64 {
        let mut hasher = SipHasher::new_with_keys(key[0], key[1]);
        for word in words {
            hasher.write(&word.to_le_bytes());
        }
        hasher.finish()
    }

    proptest! {
        #[test]
        fn the_standard_library_computes_the_same(key: [u64; 2], three: [u64; 3], five: [u64; 5]) {
            prop_assert_eq!(hash(Key(key), three), oracle(key, &three));
            prop_assert_eq!(hash(Key(key), five), oracle(key, &five));
            prop_assert_eq!(hash(Key(key), []), oracle(key, &[]));
        }
    }
}
