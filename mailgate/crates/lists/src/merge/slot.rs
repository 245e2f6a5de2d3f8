//! What origins claim about one prefix, and what the edge sees of it.

use ipnet::IpNet;
use mailgate_model::Timestamp;

use super::Origin;
use crate::prefix::Sense;
use crate::table::Entry;

/// "Does not expire", so that a claim takes no more memory for it.
const NEVER: i64 = i64::MAX;

/// What one origin says about one prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Milliseconds since 1970, or [`NEVER`].
    expires: i64,
    /// Since when the origin says so; not part of what it says.
    pub(crate) added: Timestamp,
    pub(crate) sense: Sense,
}

impl Claim {
    /// A claim, with the time at which it ends.
    pub(crate) fn new(sense: Sense, added: Timestamp, expires: Option<Timestamp>) -> Self {
        Self { expires: expires.map_or(NEVER, Timestamp::millis), added, sense }
    }

    /// As the administrator wrote it.
    pub(crate) fn of(entry: &Entry, added: Timestamp) -> Self {
        Self::new(if entry.negated { Sense::Hole } else { Sense::Listed }, added, entry.expires)
    }

    /// The same, said since then.
    pub(crate) fn since(self, added: Timestamp) -> Self {
        Self { added, ..self }
    }

    /// When it ends.
    pub(crate) fn expires(self) -> Option<Timestamp> {
        (self.expires != NEVER).then(|| Timestamp::from_millis(self.expires))
    }

    /// Whether both say the same, whenever they said it first.
    pub(crate) fn says_as(self, other: Self) -> bool {
        self.sense == other.sense && self.expires == other.expires
    }
}

/// What the edge sees: the sense of the highest rank, for as long as anybody of that sense says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    expires: i64,
    pub(crate) sense: Sense,
}

impl Shown {
    /// When it ends.
    pub(crate) fn expires(self) -> Option<Timestamp> {
        (self.expires != NEVER).then(|| Timestamp::from_millis(self.expires))
    }

    /// As an entry.
    pub(crate) fn entry(self, prefix: IpNet) -> Entry {
        Entry { prefix, negated: self.sense == Sense::Hole, expires: self.expires() }
    }
}

/// Takes the claims on one prefix, in any order, and comes to what the edge sees.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Fold {
    highest: Option<(Origin, Sense)>,
    /// Latest end of those who say that it is listed, and of those who say that it is a hole.
    ends: [Option<i64>; 2],
}

impl Fold {
    /// Takes one claim.
    pub(crate) fn take(&mut self, origin: Origin, claim: Claim) {
        if self.highest.is_none_or(|(other, _)| origin < other) {
            self.highest = Some((origin, claim.sense));
        }
        let [hole, listed] = &mut self.ends;
        let end = if claim.sense == Sense::Hole { hole } else { listed };
        *end = (*end).max(Some(claim.expires));
    }

    /// `None` when nobody claims the prefix.
    pub(crate) fn shown(self) -> Option<Shown> {
        let (_, sense) = self.highest?;
        let [hole, listed] = self.ends;
        let expires = if sense == Sense::Hole { hole } else { listed };
        Some(Shown { expires: expires.unwrap_or(NEVER), sense })
    }
}

/// The claims of live origins on one prefix, by rank. Nearly all prefixes have one, which then needs no allocation.
#[derive(Debug)]
pub(super) enum Slot {
    One(Origin, Claim),
    Many(Vec<(Origin, Claim)>),
}

impl Slot {
    pub(super) fn new(origin: Origin, claim: Claim) -> Self {
        Self::One(origin, claim)
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Many(claims) if claims.is_empty())
    }

    pub(super) fn claim(&self, origin: Origin) -> Option<Claim> {
        match self {
            Self::One(other, claim) => (*other == origin).then_some(*claim),
            Self::Many(claims) => claims.iter().find(|(other, _)| *other == origin).map(|(_, claim)| *claim),
        }
    }

    /// Sets or withdraws one claim.
    pub(super) fn set(&mut self, origin: Origin, claim: Option<Claim>) {
        let mut claims = Vec::new();
        self.each(&mut |other, claim| claims.push((other, claim)));
        claims.retain(|(other, _)| *other != origin);
        claims.extend(claim.map(|claim| (origin, claim)));
        claims.sort_unstable_by_key(|(origin, _)| *origin);
        *self = match claims.as_slice() {
            [(origin, claim)] => Self::One(*origin, *claim),
            _ => Self::Many(claims),
        };
    }

    pub(super) fn each(&self, told: &mut impl FnMut(Origin, Claim)) {
        match self {
            Self::One(origin, claim) => told(*origin, *claim),
            Self::Many(claims) => claims.iter().for_each(|(origin, claim)| told(*origin, *claim)),
        }
    }
}
