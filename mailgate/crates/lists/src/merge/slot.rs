//! Who claims one prefix, and what the edge sees of it.

use ipnet::IpNet;
use mailgate_model::Timestamp;

use super::{Found, Origin};
use crate::prefix::Sense;
use crate::table::Entry;

/// "Does not expire", so that a claim takes sixteen bytes.
const NEVER: i64 = i64::MAX;

/// What one origin says about one prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Milliseconds since 1970, or [`NEVER`].
    expires: i64,
    sense: Sense,
}

impl Claim {
    /// A claim, with the time at which it ends.
    pub(crate) fn new(sense: Sense, expires: Option<Timestamp>) -> Self {
        Self { expires: expires.map_or(NEVER, Timestamp::millis), sense }
    }

    /// As the administrator wrote it.
    pub(crate) fn of(entry: &Entry) -> Self {
        Self::new(if entry.negated { Sense::Hole } else { Sense::Listed }, entry.expires)
    }

    /// When it ends.
    pub(crate) fn expires(self) -> Option<Timestamp> {
        (self.expires != NEVER).then(|| Timestamp::from_millis(self.expires))
    }

    /// As an entry.
    pub(crate) fn entry(self, prefix: IpNet) -> Entry {
        Entry { prefix, negated: self.sense == Sense::Hole, expires: self.expires() }
    }
}

impl From<Sense> for Claim {
    fn from(sense: Sense) -> Self {
        Self { expires: NEVER, sense }
    }
}

/// The claims on one prefix, by rank. Nearly all prefixes have one, which then needs no allocation.
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

    /// Sets or withdraws one claim and returns what was there.
    pub(super) fn set(&mut self, origin: Origin, claim: Option<Claim>) -> Option<Claim> {
        let before = self.claim(origin);
        let mut claims = self.claims();
        claims.retain(|(other, _)| *other != origin);
        claims.extend(claim.map(|claim| (origin, claim)));
        claims.sort_unstable_by_key(|(origin, _)| *origin);
        *self = match claims.as_slice() {
            [(origin, claim)] => Self::One(*origin, *claim),
            _ => Self::Many(claims),
        };
        before
    }

    /// What the edge sees: the sense of the highest rank, for as long as anybody of that sense says so.
    pub(super) fn shown(&self) -> Claim {
        match self {
            Self::One(_, claim) => *claim,
            Self::Many(claims) => {
                let sense = claims.first().map_or(Sense::Hole, |(_, claim)| claim.sense);
                let same = claims.iter().filter(|(_, claim)| claim.sense == sense);
                Claim { expires: same.map(|(_, claim)| claim.expires).max().unwrap_or(NEVER), sense }
            }
        }
    }

    pub(super) fn entry(&self, prefix: IpNet) -> Entry {
        self.shown().entry(prefix)
    }

    pub(super) fn found(&self, prefix: IpNet) -> Found {
        let origins = match self {
            Self::One(origin, _) => vec![*origin],
            Self::Many(claims) => claims.iter().map(|(origin, _)| *origin).collect(),
        };
        Found { entry: self.entry(prefix), origins }
    }

    fn claims(&self) -> Vec<(Origin, Claim)> {
        match self {
            Self::One(origin, claim) => vec![(*origin, *claim)],
            Self::Many(claims) => claims.clone(),
        }
    }
}
