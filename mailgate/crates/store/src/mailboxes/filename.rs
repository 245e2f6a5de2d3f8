//! Names of message files: `base[:2,letters]`, base = unique part with `,S=` (octets on disk) and `,W=` (octets with
//! CRLF) as Dovecot and Courier write them.

use std::sync::atomic::{AtomicU64, Ordering};

use mailgate_model::{Domain, QueueId, Timestamp};

use super::flags::Flags;

/// Separates base and flags (maildir(5)).
const INFO: &str = ":2,";

/// Splits a directory entry into base and flags; an unknown info part counts as no flags.
pub(super) fn split(entry: &str) -> (&str, Flags) {
    match entry.split_once(':') {
        Some((base, info)) => (base, info.strip_prefix("2,").map_or(Flags::NONE, Flags::from_letters)),
        None => (entry, Flags::NONE),
    }
}

/// The directory entry in `cur`.
pub(super) fn join(base: &str, flags: Flags) -> String {
    format!("{base}{INFO}{}", flags.letters())
}

/// The number after `,S=` or `,W=` in a base.
pub(super) fn size(base: &str, key: char) -> Option<u64> {
    base.split(',').skip(1).find_map(|field| field.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
}

/// Seconds at the start of a base, for sorting what arrived while nobody looked.
pub(super) fn arrival(base: &str) -> u64 {
    let digits = base.bytes().take_while(u8::is_ascii_digit).count();
    base.get(..digits).and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The unique part of a delivery: the same for every attempt at the same recipient of the same message.
pub(super) fn of_delivery(id: QueueId, index: u32, host: &Domain) -> String {
    format!("{}.Q{id}R{index}.{host}", id.time().secs())
}

/// A unique part never used before (maildir(5): time, process, counter, host).
pub(super) fn fresh(now: Timestamp, host: &Domain) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let micros = now.millis().rem_euclid(1000) * 1000;
    format!("{}.M{micros}P{}Q{count}.{host}", now.secs(), std::process::id())
}

/// A base with sizes.
pub(super) fn with_sizes(unique: &str, stored: u64, wire: u64) -> String {
    format!("{unique},S={stored},W={wire}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_flags_and_sizes_are_read_as_others_write_them() {
        let (base, flags) = split("1276533073.M242911P3632.kurkku,S=1355,W=1394:2,FSa");
        assert_eq!(base, "1276533073.M242911P3632.kurkku,S=1355,W=1394");
        assert_eq!(flags.letters(), "FSa");
        assert_eq!((size(base, 'S'), size(base, 'W')), (Some(1355), Some(1394)));
        assert_eq!(arrival(base), 1_276_533_073);
        assert_eq!(split("12.x:1,odd"), ("12.x", Flags::NONE));
        assert_eq!(size("12.x,S=-5", 'S'), None);
    }
}
