//! Our own identifiers: sortable by time, short enough to read aloud.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Crockford's base 32 without I, L, O, U: nothing to misread.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// 13 characters of 5 bits hold 64 bits.
const LENGTH: usize = 13;

fn encode(mut bits: u64) -> String {
    let mut text = [b'0'; LENGTH];
    for slot in text.iter_mut().rev() {
        *slot = ALPHABET.get((bits & 31) as usize).copied().unwrap_or(b'0');
        bits >>= 5;
    }
    text.iter().map(|b| char::from(*b)).collect()
}

fn decode(text: &str) -> Option<u64> {
    if text.len() != LENGTH {
        return None;
    }
    text.bytes().try_fold(0_u64, |bits, byte| {
        let digit = ALPHABET.iter().position(|c| *c == byte.to_ascii_uppercase())?;
        bits.checked_mul(32)?.checked_add(digit as u64)
    })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(u64);

        impl $name {
            /// From the 64 bits that a database keeps.
            #[must_use]
            pub const fn from_bits(bits: u64) -> Self {
                Self(bits)
            }

            /// The 64 bits; the upper 42 are milliseconds since the epoch.
            #[must_use]
            pub const fn bits(self) -> u64 {
                self.0
            }

            /// When it was made.
            #[must_use]
            pub fn time(self) -> Timestamp {
                Timestamp::from_millis(i64::try_from(self.0 >> 22).unwrap_or(0))
            }

            /// Reads the 13 characters that `Display` writes, in any case.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                decode(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&encode(self.0))
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                Self::parse(&text).ok_or_else(|| format!("found {text:?}, expected an id of 13 letters and digits"))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

id! {
    /// One accepted message, from 250 to its end; also its name in the queue and in `Received`.
    QueueId
}
id! {
    /// One connection.
    SessionId
}

/// Makes ids: 42 bits of milliseconds, 22 bits of a counter that starts at a random place.
#[derive(Debug)]
pub struct IdGenerator(AtomicU32);

impl IdGenerator {
    /// `seed` should differ between two runs within one millisecond; randomness of the process will do.
    #[must_use]
    pub const fn new(seed: u32) -> Self {
        Self(AtomicU32::new(seed))
    }

    fn bits(&self, now: Timestamp) -> u64 {
        let count = u64::from(self.0.fetch_add(1, Ordering::Relaxed)) & 0x3f_ffff;
        (u64::try_from(now.millis()).unwrap_or(0) << 22) | count
    }

    /// A fresh queue id.
    #[must_use]
    pub fn queue_id(&self, now: Timestamp) -> QueueId {
        QueueId(self.bits(now))
    }

    /// A fresh session id.
    #[must_use]
    pub fn session_id(&self, now: Timestamp) -> SessionId {
        SessionId(self.bits(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_round_trip() {
        let ids = IdGenerator::new(7);
        let first = ids.queue_id(Timestamp::from_secs(1_700_000_000));
        let second = ids.queue_id(Timestamp::from_secs(1_700_000_001));
        assert!(first < second && first.to_string() < second.to_string());
        assert_eq!(QueueId::parse(&first.to_string().to_lowercase()), Some(first));
        assert_eq!(first.time(), Timestamp::from_secs(1_700_000_000));
    }

    #[test]
    fn texts_that_are_no_id_are_refused() {
        for text in ["", "0", "../../../../etc", "ZZZZZZZZZZZZZ", "ÄÄÄÄÄÄ0"] {
            assert_eq!(QueueId::parse(text), None, "{text}");
        }
    }
}
