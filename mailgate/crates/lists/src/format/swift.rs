//! The line that nearly all lines of long lists are: a dotted quad, perhaps with a length, and nothing else.
//!
//! Sixteen bytes are looked at as one number, without a branch for each digit: where an octet ends cannot be foreseen,
//! and each wrong guess would cost as much as the whole line does now. Whatever is written in another way (white space,
//! comments, leading zeros, holes, ranges, IPv6, garbage) is left to the thorough reader, which also finds the words for
//! what is wrong.

use crate::prefix::{Key4, Packed as _, Packed4, Sense};

/// Bytes that are looked at: the longest address with the byte behind it.
const SEEN: usize = 16;
/// A byte of every sixteen.
const EACH: u128 = u128::from_ne_bytes([1; SEEN]);

/// The entry of the line that begins here, and the bytes of the line with its end; `None` leaves it to the thorough
/// reader.
#[inline]
pub(super) fn line(text: &[u8]) -> Option<(Packed4, usize)> {
    let seen = u128::from_le_bytes(*text.first_chunk::<SEEN>()?);
    // Digits become 0 to 9; the top bit of every other byte is set, and no carry leaves a byte.
    let low = seen ^ (EACH * 0x30);
    let others = (((low & (EACH * 0x7f)) + EACH * 0x76) | low) & (EACH * 0x80);
    let rest1 = others & others.wrapping_sub(1);
    let rest2 = rest1 & rest1.wrapping_sub(1);
    let rest3 = rest2 & rest2.wrapping_sub(1);
    if rest3 == 0 {
        return None;
    }
    let ends = [others, rest1, rest2, rest3].map(|rest| rest.trailing_zeros() & !7);
    let [one, two, three, end] = ends;
    let dot = |at: u32| (seen >> at) as u8 == b'.';
    let mut is_plain = dot(one) & dot(two) & dot(three);
    let mut address = 0;
    for (from, to) in [(0, one), (one + 8, two), (two + 8, three), (three + 8, end)] {
        let (octet, is_octet) = octet((low >> from) as u32, to.wrapping_sub(from));
        address = address << 8 | octet;
        is_plain &= is_octet;
    }
    if !is_plain {
        return None;
    }
    let end = (end / 8) as usize;
    let (length, bytes) = match (seen >> (end * 8)) as u8 {
        b'\n' => (32, end + 1),
        _ => behind(text.get(end..)?).map(|(length, bytes)| (length, end + bytes))?,
    };
    Some((Packed4::new(Key4::of_bits(address, length)?, Sense::Listed), bytes))
}

/// An octet of `bits` / 8 digits that stand at the bottom of a word, the first one lowest; and whether it is one, without
/// leading zeros.
#[inline(always)]
fn octet(digits: u32, bits: u32) -> (u32, bool) {
    // The last digit in the top byte, zeros instead of digits that are not there.
    let aligned = digits.wrapping_shl(32_u32.wrapping_sub(bits));
    let (units, tens, hundreds) = (aligned >> 24, aligned >> 16 & 0xff, aligned >> 8 & 0xff);
    let value = hundreds * 100 + tens * 10 + units;
    let is_short = (8..=24).contains(&bits);
    (value, is_short & (value < 256) & ((bits == 8) | (digits & 0xff != 0)))
}

/// What stands behind an address up to the end of the line: the length of a prefix, and the bytes of all that.
fn behind(text: &[u8]) -> Option<(u8, usize)> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| byte - b'0');
    let (length, bytes) = match text {
        [b'/', tens, units, ..] if tens.is_ascii_digit() && units.is_ascii_digit() => {
            (digit(tens)? * 10 + digit(units)?, 3)
        }
        [b'/', units, ..] => (digit(units)?, 2),
        _ => (32, 0),
    };
    match text.get(bytes..)? {
        [b'\n', ..] => Some((length, bytes + 1)),
        [b'\r', b'\n', ..] => Some((length, bytes + 2)),
        _ => None,
    }
}
