//! One key, its state, and the join of two states.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// Bits of a stamp below the milliseconds: so many changes of one millisecond have stamps of their own.
const COUNTER_BITS: u32 = 16;

/// A time of the hybrid logical clock: milliseconds since 1970 and a counter. Zero is before every change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The first stamp of a millisecond.
    #[must_use]
    pub fn of_millis(millis: i64) -> Self {
        Self(u64::try_from(millis).unwrap_or(0).min(u64::MAX >> COUNTER_BITS) << COUNTER_BITS)
    }

    /// The millisecond.
    #[must_use]
    pub fn millis(self) -> i64 {
        i64::try_from(self.0 >> COUNTER_BITS).unwrap_or(i64::MAX)
    }

    /// A stamp of `now` that is later than this one.
    #[must_use]
    pub fn next(self, now: i64) -> Self {
        Self(self.0.saturating_add(1)).max(Self::of_millis(now))
    }
}

/// What a key names. Kinds of later versions are kept and passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u8);

impl Kind {
    /// A tuple of the greylist: identity of the client, reverse-path, forward-path.
    pub const TUPLE: Self = Self(1);
    /// The standing of a network.
    pub const NETWORK: Self = Self(2);
    /// A recipient that traps.
    pub const TRAP_ADDRESS: Self = Self(3);
    /// What is known of the identity of a sender.
    pub const IDENTITY: Self = Self(4);
    /// Whom a local user wrote to.
    pub const CORRESPONDENT: Self = Self(5);
    /// A Message-ID of a message that a local user sent.
    pub const MESSAGE: Self = Self(6);
}

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What it names.
    pub kind: Kind,
    /// The name, parts divided by NUL; at most [`KEY_LIMIT`](super::KEY_LIMIT) octets.
    pub text: Box<str>,
}

impl Key {
    /// A key of several parts.
    #[must_use]
    pub fn of(kind: Kind, parts: &[&str]) -> Self {
        Self { kind, text: parts.join("\0").into() }
    }

    /// Its parts.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.text.split('\0')
    }

    /// 64 bits of SHA-256, the same on every host; nobody finds a second key for the hash of another one.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hasher = Sha256::new();
        hasher.update([self.kind.0]);
        hasher.update(self.text.as_bytes());
        let digest: [u8; 32] = hasher.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.0, self.text.replace('\0', " "))
    }
}

/// Who said so; later ones beat earlier ones under one stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The behaviour of the client.
    Learned,
    /// A command of the administrator.
    Admin,
}

/// What is so; later ones beat earlier ones under one stamp and origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Waits.
    Grey,
    /// Known as good.
    Passed,
    /// Trapped, or a trap.
    Trapped,
}

/// The state of a key; times are milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Body {
    /// Who said so.
    pub origin: Origin,
    /// What is so.
    pub state: State,
    /// The first contact.
    pub first: i64,
    /// From when on an attempt passes; when a standing began.
    pub pass: i64,
    /// When it ends.
    pub expires: i64,
    /// Attempts deferred, hits of a trap.
    pub blocked: u32,
    /// Messages accepted.
    pub passed: u32,
}

impl Body {
    /// The least state that holds both.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        let rank = |body: &Self| (body.origin, body.state);
        match rank(&self).cmp(&rank(&other)) {
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Equal => Self {
                origin: self.origin,
                state: self.state,
                first: self.first.min(other.first),
                pass: self.pass.min(other.pass),
                expires: self.expires.max(other.expires),
                blocked: self.blocked.max(other.blocked),
                passed: self.passed.max(other.passed),
            },
        }
    }

    /// Whether it is over at `now`.
    #[must_use]
    pub fn is_over(&self, now: i64) -> bool {
        self.expires <= now
    }
}

/// The state of one key as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub key: Key,
    /// When something was last taken back; zero if never.
    pub stamp: Stamp,
    /// Until when the stamp has to be remembered, milliseconds since 1970; 0 with a stamp of zero.
    pub until: i64,
    /// Its state; none when it was deleted.
    pub body: Option<Body>,
}

impl Record {
    /// The least record that holds both; of the same key. What is over at `now` says nothing any more, and what was taken
    /// back or has ended takes nothing along that began after its stamp.
    #[must_use]
    pub fn join(self, other: Self, now: i64) -> Self {
        let live = |body: Option<Body>| body.filter(|body| !body.is_over(now));
        let until = self.until.max(other.until);
        let since = |body: Option<Body>, stamp: Stamp| live(body).filter(|body| body.first > stamp.millis());
        // A stamp that need not be remembered any more, of nothing that lives, is told to nobody.
        let said = |record: &Self| {
            let is_told = record.until > now || live(record.body).is_some();
            if is_told { record.stamp } else { Stamp::default() }
        };
        let (one, two) = (said(&self), said(&other));
        let (stamp, body) = match one.cmp(&two) {
            std::cmp::Ordering::Less => (two, live(other.body).or(since(self.body, two))),
            std::cmp::Ordering::Greater => (one, live(self.body).or(since(other.body, one))),
            std::cmp::Ordering::Equal => (
                one,
                match (live(self.body), live(other.body)) {
                    (Some(one), Some(two)) => Some(one.join(two)),
                    (one, two) => one.or(two),
                },
            ),
        };
        Self { key: self.key, stamp, until, body }
    }
}

/// Mixes one more value into a sum that tells versions apart (the finaliser of SplitMix64).
pub(super) fn mix(sum: u64, value: u64) -> u64 {
    let mut z = (sum ^ value).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number that differs when stamp or state of a key differ.
pub(super) fn version(hash: u64, stamp: Stamp, body: Option<&Body>) -> u64 {
    let sum = mix(hash, stamp.0);
    let Some(body) = body else { return sum };
    let rank = 1 + ((body.origin as u64) << 4) + ((body.state as u64) << 8);
    [
        rank,
        body.first.cast_unsigned(),
        body.pass.cast_unsigned(),
        body.expires.cast_unsigned(),
        u64::from(body.blocked) << 32 | u64::from(body.passed),
    ]
    .into_iter()
    .fold(sum, mix)
}
