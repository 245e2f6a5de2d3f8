//! The UPDATE message.

use super::cursor::Cursor;
use super::{Attributes, Fault, Misbehaved, MpUnreach, Nlri, Session, TooLong, Treatment};
use super::{Family, attribute, nlri};

/// Where a route comes from, as its first speaker saw it (RFC 4271 §5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From EGP.
    Egp,
    /// From inside its AS.
    Igp,
    /// In another way.
    Incomplete,
}

/// An UPDATE (RFC 4271 §4.3): prefixes withdrawn, and prefixes announced with their attributes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Update {
    /// IPv4 prefixes withdrawn.
    pub withdrawn: Vec<Nlri>,
    /// Attributes, among them the prefixes of other families.
    pub attributes: Attributes,
    /// IPv4 prefixes announced.
    pub announced: Vec<Nlri>,
    /// What was wrong with the attributes, when it was received (RFC 7606).
    pub faults: Vec<Fault>,
}

impl Update {
    /// Says that all routes of a family have been sent (RFC 4724 §2).
    #[must_use]
    pub fn end_of_rib(family: Family) -> Self {
        let mut update = Self::default();
        if family != Family::Ipv4Unicast {
            update.attributes.mp_unreach = Some(MpUnreach { family, prefixes: Vec::new() });
        }
        update
    }

    /// The family of which this says that all routes have been sent.
    #[must_use]
    pub fn ends_rib(&self) -> Option<Family> {
        if !self.withdrawn.is_empty() || !self.announced.is_empty() || !self.faults.is_empty() {
            return None;
        }
        if self.attributes == Attributes::default() {
            return Some(Family::Ipv4Unicast);
        }
        let family = self.attributes.mp_unreach.as_ref().filter(|mp| mp.prefixes.is_empty())?.family;
        (*self == Self::end_of_rib(family)).then_some(family)
    }

    /// Whether everything announced counts as withdrawn because of malformed attributes (RFC 7606 §2).
    #[must_use]
    pub fn is_treated_as_withdraw(&self) -> bool {
        self.faults.iter().any(|fault| fault.treatment == Treatment::Withdraw)
    }

    /// Prefixes withdrawn, of all families, those with malformed attributes included.
    pub fn all_withdrawn(&self) -> impl Iterator<Item = Nlri> {
        let other = self.attributes.mp_unreach.iter().flat_map(|mp| mp.prefixes.iter().copied());
        let malformed = self.is_treated_as_withdraw().then(|| self.reached()).into_iter().flatten();
        self.withdrawn.iter().copied().chain(other).chain(malformed)
    }

    /// Prefixes announced, of all families, with attributes that can be believed.
    pub fn all_announced(&self) -> impl Iterator<Item = Nlri> {
        (!self.is_treated_as_withdraw()).then(|| self.reached()).into_iter().flatten()
    }

    fn reached(&self) -> impl Iterator<Item = Nlri> {
        let other = self.attributes.mp_reach.iter().flat_map(|mp| mp.prefixes.iter().copied());
        self.announced.iter().copied().chain(other)
    }

    pub(super) fn read(body: &[u8], session: &Session) -> Result<Self, Misbehaved> {
        let mut cursor = Cursor::new(body);
        // RFC 7606 §3 a and §4: when these lengths do not fit, the prefixes cannot be found.
        let mut field = || {
            let length = cursor.u16().ok_or(Misbehaved::MalformedAttributes)?;
            cursor.take(usize::from(length)).ok_or(Misbehaved::MalformedAttributes)
        };
        let withdrawn = field()?;
        let attributes = field()?;
        let v4 = Family::Ipv4Unicast;
        let with_path = session.add_path.contains(v4);
        let read = |bytes| nlri::read(v4, bytes, with_path).ok_or(Misbehaved::BadPrefixes);
        let (withdrawn, announced) = (read(withdrawn)?, read(cursor.rest())?);
        let (attributes, mut faults) = attribute::read(attributes, session)?;
        attributes.check_mandatory(!announced.is_empty(), &mut faults);
        // RFC 7606 §5.2: attributes so malformed that the route counts as withdrawn, and no prefix to withdraw. Whatever
        // hid the error hid the prefixes too.
        let names_none = announced.is_empty() && attributes.mp_reach.is_none();
        if names_none && faults.iter().any(|fault| fault.treatment == Treatment::Withdraw) {
            return Err(Misbehaved::MalformedAttributes);
        }
        Ok(Self { withdrawn, attributes, announced, faults })
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>, session: &Session) -> Result<(), TooLong> {
        let mut field = Vec::new();
        let with_path = session.add_path.contains(Family::Ipv4Unicast);
        self.withdrawn.iter().for_each(|nlri| nlri::write(&mut field, *nlri, with_path));
        bytes.extend(u16::try_from(field.len()).map_err(|_| TooLong)?.to_be_bytes());
        bytes.append(&mut field);
        self.attributes.write(&mut field, session)?;
        bytes.extend(u16::try_from(field.len()).map_err(|_| TooLong)?.to_be_bytes());
        bytes.append(&mut field);
        self.announced.iter().for_each(|nlri| nlri::write(bytes, *nlri, with_path));
        Ok(())
    }
}
