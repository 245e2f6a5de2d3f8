//! Sorting a million packed entries: digit by digit, by two processors.
//!
//! Comparing random addresses means guessing wrongly half of the time. A pass over eleven bits at a time guesses nothing;
//! bits in which no two entries differ take no pass, so that a list of hosts takes three.

use std::thread;

/// Entries below which comparing is as fast.
const FEW: usize = 4096;
/// Entries from which on a second thread pays.
const MANY: usize = 64 * 1024;
/// Bits of a digit: its counts stay in the nearest memory.
const DIGIT: u32 = 11;
const VALUES: usize = 1 << DIGIT;

const MASK: u64 = VALUES as u64 - 1;

/// Sorts what `bits` has the order of.
pub(super) fn sort<T: Copy + Ord + Send + Sync>(values: &mut Vec<T>, bits: impl Fn(&T) -> u64 + Copy + Sync) {
    if values.is_sorted() {
        return;
    }
    if values.len() < FEW {
        values.sort_unstable();
        return;
    }
    let mut space = values.clone();
    if values.len() < MANY || thread::available_parallelism().map_or(1, usize::from) == 1 {
        by_digits(values, &mut space, bits);
        return;
    }
    let half = values.len() / 2;
    let (left, right) = values.split_at_mut(half);
    let (left_space, right_space) = space.split_at_mut(half);
    thread::scope(|scope| {
        scope.spawn(|| by_digits(left, left_space, bits));
        by_digits(right, right_space, bits);
    });
    merge_halves(values.split_at(half), &mut space);
    *values = space;
}

/// Two sorted halves into one run; each processor takes what lies on its side of the middle of the first half.
fn merge_halves<T: Copy + Ord + Send + Sync>((left, right): (&[T], &[T]), to: &mut [T]) {
    let (left, left_behind) = left.split_at(left.len() / 2);
    let (right, right_behind) = match left_behind.first() {
        Some(middle) => right.split_at(right.partition_point(|value| value < middle)),
        None => (right, &[] as &[T]),
    };
    let (front, back) = to.split_at_mut(left.len() + right.len());
    thread::scope(|scope| {
        scope.spawn(|| merge(left, right, front));
        merge(left_behind, right_behind, back);
    });
}

/// Sorts by the lowest digit first; `space` is as long.
fn by_digits<T: Copy>(values: &mut [T], space: &mut [T], bits: impl Fn(&T) -> u64) {
    let (mut any, mut all) = (0, u64::MAX);
    for value in values.iter() {
        any |= bits(value);
        all &= bits(value);
    }
    let differs = |digit: &u32| (any & !all) >> digit & MASK != 0;
    let digits: Vec<u32> = (0..u64::BITS).step_by(DIGIT as usize).filter(differs).collect();
    let mut counts = vec![[0_u32; VALUES]; digits.len()];
    for value in values.iter() {
        for (digit, counts) in digits.iter().zip(&mut counts) {
            if let Some(count) = counts.get_mut((bits(value) >> digit & MASK) as usize) {
                *count += 1;
            }
        }
    }
    let (mut from, mut to) = (&mut *values, &mut *space);
    for (digit, counts) in digits.iter().zip(&mut counts) {
        let mut sum = 0;
        counts.iter_mut().for_each(|count| sum += std::mem::replace(count, sum));
        for value in from.iter() {
            let Some(place) = counts.get_mut((bits(value) >> digit & MASK) as usize) else { continue };
            if let Some(to) = to.get_mut(*place as usize) {
                *to = *value;
            }
            *place += 1;
        }
        std::mem::swap(&mut from, &mut to);
    }
    if digits.len() % 2 == 1 {
        // The last pass ended in `space`.
        to.copy_from_slice(from);
    }
}

/// Two sorted runs into one, as long as both. Which one comes next cannot be foreseen, so nothing branches on it as long
/// as there is something left of both.
fn merge<T: Copy + Ord>(mut left: &[T], mut right: &[T], mut to: &mut [T]) {
    while let (Some(one), Some(other)) = (left.first(), right.first()) {
        let takes_left = one <= other;
        let Some((place, rest)) = to.split_first_mut() else { return };
        *place = if takes_left { *one } else { *other };
        to = rest;
        left = left.get(usize::from(takes_left)..).unwrap_or_default();
        right = right.get(usize::from(!takes_left)..).unwrap_or_default();
    }
    to.iter_mut().zip(left.iter().chain(right)).for_each(|(to, from)| *to = *from);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers of a fixed sequence (splitmix64), of which only the bits of `mask` differ.
    fn numbers(count: usize, mut seed: u64, mask: u64) -> Vec<u64> {
        let next = || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (seed ^ seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (mixed ^ mixed >> 27) & mask
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_number_of_numbers_comes_out_as_comparing_has_it(
            count in prop_oneof![0..9_usize, FEW - 2..FEW + 2, MANY - 2..MANY + 3, MANY..3 * MANY],
            seed: u64,
            mask in prop_oneof![Just(u64::MAX), Just(0xffff_ffff << 32), Just(7), Just(0), any::<u64>()],
        ) {
            let mut values = numbers(count, seed, mask);
            let mut wanted = values.clone();
            wanted.sort_unstable();
            sort(&mut values, |value| *value);
            prop_assert!(values == wanted);
        }

        #[test]
        fn halves_of_any_lengths_merge(mut left: Vec<u8>, mut right: Vec<u8>) {
            left.sort_unstable();
            right.sort_unstable();
            let mut wanted = [left.clone(), right.clone()].concat();
            let mut found = wanted.clone();
            merge_halves((&left, &right), &mut found);
            wanted.sort_unstable();
            prop_assert_eq!(found, wanted);
        }
    }
}
