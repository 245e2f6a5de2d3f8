//! The words of the map that tells the answer programs what to do; one value, so that it is read with one lookup.

use super::{Key, Rate};

/// Two words: the secret of the tarpit's sequence numbers.
pub const KEY: u32 = 0;
/// Interval and advance ([`Rate`]) of what the tarpit sends to one source before and with the banner.
pub const SOURCE_RATE: u32 = 2;
/// Of everything the tarpit sends, per processor.
pub const TARPIT_RATE: u32 = 4;
/// Of RSTs, per processor.
pub const RESET_RATE: u32 = 6;
/// Bytes of the banner.
pub const BANNER_BYTES: u32 = 8;
/// Sum of the banner for the checksum: see [`super::Body::sum`].
pub const BANNER_SUM: u32 = 9;
/// One more than net.ipv4.tcp_syncookies was before we set it; 0 when we did not.
pub const SYNCOOKIES_BEFORE: u32 = 10;
/// Not 0 when connections that the tarpit holds are written down.
pub const RECORD: u32 = 11;
/// Where the banner begins; its bytes follow in their order.
pub const BANNER: u32 = 16;
/// Bytes of a banner at most, and all ones in binary: a reply line of SMTP has up to 512 (RFC 5321 §4.5.3.1.5), a name
/// up to 255.
pub const BANNER_LIMIT: u32 = 511;
/// Words of the value.
pub const WORDS: u32 = BANNER + BANNER_LIMIT.div_ceil(8);

/// Buckets for the rate of single sources: 512 KiB. Sources that fall into the same bucket share its rate.
pub const SOURCE_BUCKETS: u32 = 1 << 16;

/// Connections of the tarpit that are written down at most; the longest unheard of makes room.
pub const RECORDS: u32 = 131_072;

/// Local addresses that are known to the programs at most.
pub const LOCAL_ADDRESSES: u32 = 1024;

/// The words as the map has them.
pub type Words = [u64; WORDS as usize];

/// What user space writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting<'a> {
    /// See [`KEY`].
    pub key: Key,
    /// See [`SOURCE_RATE`].
    pub source: Rate,
    /// See [`TARPIT_RATE`].
    pub tarpit: Rate,
    /// See [`RESET_RATE`].
    pub reset: Rate,
    /// See [`RECORD`].
    pub record: bool,
    /// See [`SYNCOOKIES_BEFORE`].
    pub syncookies_before: u64,
    /// The whole first line of the dialogue, at most [`BANNER_LIMIT`] bytes of it are used.
    pub banner: &'a [u8],
}

impl Setting<'_> {
    /// The value for the map.
    #[must_use]
    pub fn words(&self) -> Words {
        let banner = self.banner.get(..BANNER_LIMIT as usize).unwrap_or(self.banner);
        let head = [
            (KEY, self.key.0[0]),
            (KEY + 1, self.key.0[1]),
            (SOURCE_RATE, self.source.interval),
            (SOURCE_RATE + 1, self.source.ahead),
            (TARPIT_RATE, self.tarpit.interval),
            (TARPIT_RATE + 1, self.tarpit.ahead),
            (RESET_RATE, self.reset.interval),
            (RESET_RATE + 1, self.reset.ahead),
            (BANNER_BYTES, banner.len() as u64),
            (BANNER_SUM, sum(banner).into()),
            (SYNCOOKIES_BEFORE, self.syncookies_before),
            (RECORD, self.record.into()),
        ];
        let mut words = [0; WORDS as usize];
        for (at, word) in head {
            if let Some(place) = words.get_mut(at as usize) {
                *place = word;
            }
        }
        for (place, part) in words.iter_mut().skip(BANNER as usize).zip(banner.chunks(8)) {
            let mut bytes = [0; 8];
            bytes.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
            *place = u64::from_ne_bytes(bytes);
        }
        words
    }
}

/// Sum of 16-bit words in network order (RFC 1071); a banner is short enough that it does not overflow.
fn sum(bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| {
        u32::from(pair.first().copied().unwrap_or(0)) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))
    };
    bytes.chunks(2).map(word).sum()
}
