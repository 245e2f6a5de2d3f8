//! Path attributes, and what becomes of a route when one is malformed (RFC 7606).

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, Ipv6Addr};

use super::cursor::Cursor;
use super::path::write_as;
use super::{
    AsPath, AsWidth, Community, ExtendedCommunity, Family, LargeCommunity, Misbehaved, Nlri, Origin,
    Relation, Session, TooLong, nlri,
};

const ORIGIN: u8 = 1;
const AS_PATH: u8 = 2;
const NEXT_HOP: u8 = 3;
const MED: u8 = 4;
const LOCAL_PREF: u8 = 5;
const ATOMIC_AGGREGATE: u8 = 6;
const AGGREGATOR: u8 = 7;
const COMMUNITIES: u8 = 8;
const ORIGINATOR_ID: u8 = 9;
const CLUSTER_LIST: u8 = 10;
const MP_REACH: u8 = 14;
const MP_UNREACH: u8 = 15;
const EXTENDED_COMMUNITIES: u8 = 16;
const AS4_PATH: u8 = 17;
const AS4_AGGREGATOR: u8 = 18;
const LARGE_COMMUNITIES: u8 = 32;

const OPTIONAL: u8 = 0x80;
const TRANSITIVE: u8 = 0x40;
const EXTENDED_LENGTH: u8 = 0x10;

/// The attributes of a route.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// RFC 4271 §5.1.1.
    pub origin: Option<Origin>,
    /// RFC 4271 §5.1.2.
    pub as_path: Option<AsPath>,
    /// RFC 4271 §5.1.3; of the IPv4 prefixes of the UPDATE itself.
    pub next_hop: Option<Ipv4Addr>,
    /// RFC 4271 §5.1.4.
    pub med: Option<u32>,
    /// RFC 4271 §5.1.5; only in internal sessions.
    pub local_pref: Option<u32>,
    /// RFC 4271 §5.1.6.
    pub atomic_aggregate: bool,
    /// RFC 4271 §5.1.7.
    pub aggregator: Option<Aggregator>,
    /// RFC 1997.
    pub communities: Vec<Community>,
    /// RFC 4360.
    pub extended_communities: Vec<ExtendedCommunity>,
    /// RFC 8092.
    pub large_communities: Vec<LargeCommunity>,
    /// RFC 4760 §3.
    pub mp_reach: Option<MpReach>,
    /// RFC 4760 §4.
    pub mp_unreach: Option<MpUnreach>,
    /// RFC 6793 §3.
    pub as4_path: Option<AsPath>,
    /// RFC 6793 §3.
    pub as4_aggregator: Option<Aggregator>,
    /// Optional attributes that are not known.
    pub unknown: Vec<RawAttribute>,
}

/// Who put a route together from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aggregator {
    /// Its AS.
    pub asn: u32,
    /// Its BGP identifier.
    pub identifier: Ipv4Addr,
}

/// Where packets for a prefix would go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHop {
    /// Four bytes.
    V4(Ipv4Addr),
    /// Sixteen bytes, or thirty-two with a link-local address (RFC 2545 §3).
    V6(Ipv6Addr, Option<Ipv6Addr>),
}

/// Prefixes announced in any family (RFC 4760 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MpReach {
    /// Their family.
    pub family: Family,
    /// Their next hop.
    pub next_hop: NextHop,
    /// The prefixes.
    pub prefixes: Vec<Nlri>,
}

/// Prefixes withdrawn in any family (RFC 4760 §4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MpUnreach {
    /// Their family.
    pub family: Family,
    /// The prefixes.
    pub prefixes: Vec<Nlri>,
}

/// An attribute that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawAttribute {
    /// The four upper bits, without that for the length.
    pub flags: u8,
    /// The code.
    pub code: u8,
    /// The value.
    pub value: Vec<u8>,
}

/// Something wrong with an attribute, for which the session does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The code of the attribute.
    pub code: u8,
    /// What is wrong, for the log.
    pub problem: &'static str,
    /// What becomes of the route.
    pub treatment: Treatment,
}

/// What becomes of a route with a malformed attribute (RFC 7606 §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Treatment {
    /// The attribute is left out.
    Discard,
    /// Its prefixes count as withdrawn.
    Withdraw,
}

/// One attribute with its value, before its value is understood.
struct Raw<'a> {
    flags: u8,
    code: u8,
    value: &'a [u8],
}

impl<'a> Raw<'a> {
    /// `None` when lengths do not fit what is left.
    fn read(cursor: &mut Cursor<'a>) -> Option<Self> {
        let [flags, code] = cursor.array()?;
        let length =
            if flags & EXTENDED_LENGTH == 0 { usize::from(cursor.u8()?) } else { usize::from(cursor.u16()?) };
        Some(Self { flags, code, value: cursor.take(length)? })
    }
}

/// Reads all attributes of an UPDATE.
pub(super) fn read(bytes: &[u8], session: &Session) -> Result<(Attributes, Vec<Fault>), Misbehaved> {
    let mut cursor = Cursor::new(bytes);
    let mut attributes = Attributes::default();
    let mut faults = Vec::new();
    let mut seen = [false; 256];
    while !cursor.is_empty() {
        let code = cursor.rest().get(1).copied().unwrap_or_default();
        let Some(raw) = Raw::read(&mut cursor) else {
            // RFC 7606 §4: the prefixes are found by the total length, so the session can stay.
            let problem = "its length does not fit the attributes";
            faults.push(Fault { code, problem, treatment: Treatment::Withdraw });
            break;
        };
        let again = seen.get_mut(usize::from(raw.code)).is_some_and(|seen| std::mem::replace(seen, true));
        if again {
            // RFC 7606 §3 g.
            if matches!(raw.code, MP_REACH | MP_UNREACH) {
                return Err(Misbehaved::MalformedAttributes);
            }
            faults.push(Fault { code, problem: "it is there twice", treatment: Treatment::Discard });
            continue;
        }
        if let Some(known) = expected_flags(raw.code)
            && raw.flags & (OPTIONAL | TRANSITIVE) != known
        {
            // RFC 7606 §3 c.
            faults.push(Fault { code, problem: "its flags are wrong", treatment: Treatment::Withdraw });
        }
        if let Err(fault) = attributes.take(&raw, session)? {
            faults.push(fault);
        }
    }
    Ok((attributes, faults))
}

/// The Optional and Transitive bits of each known attribute.
fn expected_flags(code: u8) -> Option<u8> {
    Some(match code {
        ORIGIN | AS_PATH | NEXT_HOP | LOCAL_PREF | ATOMIC_AGGREGATE => TRANSITIVE,
        MED | ORIGINATOR_ID | CLUSTER_LIST | MP_REACH | MP_UNREACH => OPTIONAL,
        AGGREGATOR | COMMUNITIES | EXTENDED_COMMUNITIES | AS4_PATH | AS4_AGGREGATOR | LARGE_COMMUNITIES => {
            OPTIONAL | TRANSITIVE
        }
        _ => return None,
    })
}

impl Attributes {
    /// Understands one attribute. The outer error ends the session, the inner one does not.
    fn take(&mut self, raw: &Raw<'_>, session: &Session) -> Result<Result<(), Fault>, Misbehaved> {
        let Raw { flags, code, value } = *raw;
        let withdraw = |problem| Fault { code, problem, treatment: Treatment::Withdraw };
        let discard = |problem| Fault { code, problem, treatment: Treatment::Discard };
        let wide = session.as_width == AsWidth::Four;
        let kept = match code {
            // RFC 7606 §7.1.
            ORIGIN => keep(&mut self.origin, read_origin(value), withdraw("it is none of 0, 1, 2")),
            // RFC 7606 §7.2.
            AS_PATH => {
                keep(&mut self.as_path, AsPath::read(value, session.as_width), withdraw("it is malformed"))
            }
            // RFC 7606 §7.3.
            NEXT_HOP => {
                let next_hop = read_u32(value).map(Ipv4Addr::from);
                keep(&mut self.next_hop, next_hop, withdraw("its length is not 4"))
            }
            // RFC 7606 §7.4.
            MED => keep(&mut self.med, read_u32(value), withdraw("its length is not 4")),
            // RFC 7606 §7.5.
            LOCAL_PREF if session.relation == Relation::External => {
                Err(discard("it has no place in an external session"))
            }
            LOCAL_PREF => keep(&mut self.local_pref, read_u32(value), withdraw("its length is not 4")),
            // RFC 7606 §7.6.
            ATOMIC_AGGREGATE if value.is_empty() => {
                self.atomic_aggregate = true;
                Ok(())
            }
            ATOMIC_AGGREGATE => Err(discard("its length is not 0")),
            // RFC 7606 §7.7.
            AGGREGATOR => {
                let read = read_aggregator(value, session.as_width);
                keep(&mut self.aggregator, read, discard("its length is wrong"))
            }
            // RFC 7606 §7.8.
            COMMUNITIES => read_many(value, |part| Community(u32::from_be_bytes(*part)))
                .map(|read| self.communities = read)
                .ok_or(withdraw("its length is not a multiple of 4")),
            // RFC 7606 §7.9 and §7.10; of no use to a leaf.
            ORIGINATOR_ID | CLUSTER_LIST if session.relation == Relation::External => {
                Err(discard("it has no place in an external session"))
            }
            ORIGINATOR_ID if value.len() != 4 => Err(withdraw("its length is not 4")),
            CLUSTER_LIST if value.is_empty() || !value.len().is_multiple_of(4) => {
                Err(withdraw("its length is not a multiple of 4"))
            }
            // RFC 7606 §7.14.
            EXTENDED_COMMUNITIES => read_many(value, |part| ExtendedCommunity(*part))
                .map(|read| self.extended_communities = read)
                .ok_or(withdraw("its length is not a multiple of 8")),
            // RFC 8092 §6.
            LARGE_COMMUNITIES => read_many(value, read_large)
                .map(|read| self.large_communities = read)
                .ok_or(withdraw("its length is not a multiple of 12")),
            // RFC 6793 §4.1 and §6: without meaning from a speaker of four bytes, never a reason to lose a route.
            AS4_PATH | AS4_AGGREGATOR if wide => Err(discard("AS numbers have four bytes anyway")),
            AS4_PATH => {
                keep(&mut self.as4_path, AsPath::read(value, AsWidth::Four), discard("it is malformed"))
            }
            AS4_AGGREGATOR => {
                let read = read_aggregator(value, AsWidth::Four);
                keep(&mut self.as4_aggregator, read, discard("its length is wrong"))
            }
            MP_REACH => return self.take_reach(value, session),
            MP_UNREACH => return self.take_unreach(value, session),
            // RFC 4271 §6.3, which RFC 7606 leaves as it is.
            _ if flags & OPTIONAL == 0 => {
                let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
                let mut attribute = vec![flags & !EXTENDED_LENGTH, code, length];
                attribute.extend(value.iter().take(usize::from(length)));
                return Err(Misbehaved::UnknownWellKnown { code, attribute });
            }
            _ => {
                self.unknown.push(RawAttribute {
                    flags: flags & 0xf0 & !EXTENDED_LENGTH,
                    code,
                    value: value.to_vec(),
                });
                Ok(())
            }
        };
        Ok(kept)
    }

    /// RFC 7606 §7.11: what cannot be read here hides prefixes, so the session ends.
    fn take_reach(&mut self, value: &[u8], session: &Session) -> Result<Result<(), Fault>, Misbehaved> {
        let malformed = || Misbehaved::BadMultiprotocol { code: MP_REACH };
        let mut cursor = Cursor::new(value);
        let afi = cursor.u16().ok_or_else(malformed)?;
        let [safi, length] = cursor.array().ok_or_else(malformed)?;
        let next_hop = cursor.take(usize::from(length)).ok_or_else(malformed)?;
        // Once "number of SNPAs", now reserved and ignored.
        cursor.u8().ok_or_else(malformed)?;
        let Some(family) = agreed(afi, safi, session) else { return Ok(Err(foreign(MP_REACH))) };
        let next_hop = read_next_hop(next_hop).filter(|hop| match (family, hop) {
            (Family::Ipv4Unicast, _) | (Family::Ipv6Unicast, NextHop::V6(..)) => true,
            (Family::Ipv6Unicast, NextHop::V4(_)) => false,
        });
        let next_hop = next_hop.ok_or_else(malformed)?;
        let prefixes =
            nlri::read(family, cursor.rest(), session.add_path.contains(family)).ok_or_else(malformed)?;
        self.mp_reach = Some(MpReach { family, next_hop, prefixes });
        Ok(Ok(()))
    }

    /// RFC 7606 §7.12.
    fn take_unreach(&mut self, value: &[u8], session: &Session) -> Result<Result<(), Fault>, Misbehaved> {
        let malformed = || Misbehaved::BadMultiprotocol { code: MP_UNREACH };
        let mut cursor = Cursor::new(value);
        let afi = cursor.u16().ok_or_else(malformed)?;
        let safi = cursor.u8().ok_or_else(malformed)?;
        let Some(family) = agreed(afi, safi, session) else { return Ok(Err(foreign(MP_UNREACH))) };
        let prefixes =
            nlri::read(family, cursor.rest(), session.add_path.contains(family)).ok_or_else(malformed)?;
        self.mp_unreach = Some(MpUnreach { family, prefixes });
        Ok(Ok(()))
    }

    /// A route without a mandatory attribute counts as withdrawn (RFC 7606 §3 d).
    pub(super) fn check_mandatory(&self, has_ipv4: bool, faults: &mut Vec<Fault>) {
        let has_other = self.mp_reach.as_ref().is_some_and(|mp| !mp.prefixes.is_empty());
        let mut missing = |code, is_missing| {
            if is_missing {
                let problem = "it is mandatory and not there";
                faults.push(Fault { code, problem, treatment: Treatment::Withdraw });
            }
        };
        missing(ORIGIN, (has_ipv4 || has_other) && self.origin.is_none());
        missing(AS_PATH, (has_ipv4 || has_other) && self.as_path.is_none());
        missing(NEXT_HOP, has_ipv4 && self.next_hop.is_none());
    }

    /// The true path (RFC 6793 §4.2.3).
    #[must_use]
    pub fn path(&self) -> AsPath {
        let path = self.as_path.clone().unwrap_or_default();
        let aggregated_by_new = self.aggregator.is_none_or(|by| by.asn == u32::from(super::AS_TRANS));
        match &self.as4_path {
            Some(as4) if aggregated_by_new => path.with_as4(as4),
            _ => path,
        }
    }

    /// Writes all attributes, those of other families first (RFC 7606 §5.1), then by code.
    pub(super) fn write(&self, bytes: &mut Vec<u8>, session: &Session) -> Result<(), TooLong> {
        let mut out = Writer { bytes };
        if let Some(mp) = &self.mp_unreach {
            out.put(OPTIONAL, MP_UNREACH, write_unreach(mp, session))?;
        }
        if let Some(mp) = &self.mp_reach {
            out.put(OPTIONAL, MP_REACH, write_reach(mp, session))?;
        }
        if let Some(origin) = self.origin {
            let code = match origin {
                Origin::Igp => 0,
                Origin::Egp => 1,
                Origin::Incomplete => 2,
            };
            out.put(TRANSITIVE, ORIGIN, vec![code])?;
        }
        if let Some(path) = &self.as_path {
            out.put(TRANSITIVE, AS_PATH, path_bytes(path, session.as_width))?;
        }
        if let Some(next_hop) = self.next_hop {
            out.put(TRANSITIVE, NEXT_HOP, next_hop.octets().to_vec())?;
        }
        if let Some(med) = self.med {
            out.put(OPTIONAL, MED, med.to_be_bytes().to_vec())?;
        }
        if let Some(local_pref) = self.local_pref {
            out.put(TRANSITIVE, LOCAL_PREF, local_pref.to_be_bytes().to_vec())?;
        }
        if self.atomic_aggregate {
            out.put(TRANSITIVE, ATOMIC_AGGREGATE, Vec::new())?;
        }
        if let Some(aggregator) = self.aggregator {
            out.put(OPTIONAL | TRANSITIVE, AGGREGATOR, aggregator_bytes(aggregator, session.as_width))?;
        }
        self.write_communities(&mut out)?;
        if let Some(path) = &self.as4_path {
            out.put(OPTIONAL | TRANSITIVE, AS4_PATH, path_bytes(path, AsWidth::Four))?;
        }
        if let Some(aggregator) = self.as4_aggregator {
            out.put(OPTIONAL | TRANSITIVE, AS4_AGGREGATOR, aggregator_bytes(aggregator, AsWidth::Four))?;
        }
        for raw in &self.unknown {
            out.put(raw.flags, raw.code, raw.value.clone())?;
        }
        Ok(())
    }

    fn write_communities(&self, out: &mut Writer<'_>) -> Result<(), TooLong> {
        let plain: Vec<u8> =
            self.communities.iter().flat_map(|community| community.0.to_be_bytes()).collect();
        let large = self.large_communities.iter().flat_map(|c| [c.global, c.local_1, c.local_2]);
        let large: Vec<u8> = large.flat_map(u32::to_be_bytes).collect();
        for (code, value) in [
            (COMMUNITIES, plain),
            (
                EXTENDED_COMMUNITIES,
                self.extended_communities.iter().flat_map(|community| community.0).collect(),
            ),
            (LARGE_COMMUNITIES, large),
        ] {
            // Empty ones would be malformed.
            if !value.is_empty() {
                out.put(OPTIONAL | TRANSITIVE, code, value)?;
            }
        }
        Ok(())
    }
}

/// A family that both sides take part in.
fn agreed(afi: u16, safi: u8, session: &Session) -> Option<Family> {
    Family::of(afi, safi).filter(|family| session.families.contains(*family))
}

fn foreign(code: u8) -> Fault {
    Fault { code, problem: "it is of a family that was not agreed on", treatment: Treatment::Discard }
}

/// Keeps what could be read, or says what is wrong.
fn keep<T>(place: &mut Option<T>, read: Option<T>, fault: Fault) -> Result<(), Fault> {
    *place = read;
    if place.is_some() { Ok(()) } else { Err(fault) }
}

fn read_origin(value: &[u8]) -> Option<Origin> {
    match value {
        [0] => Some(Origin::Igp),
        [1] => Some(Origin::Egp),
        [2] => Some(Origin::Incomplete),
        _ => None,
    }
}

fn read_u32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

fn read_aggregator(value: &[u8], width: AsWidth) -> Option<Aggregator> {
    let mut cursor = Cursor::new(value);
    let asn = match width {
        AsWidth::Four => cursor.u32()?,
        AsWidth::Two => u32::from(cursor.u16()?),
    };
    let identifier = Ipv4Addr::from(cursor.u32()?);
    cursor.is_empty().then_some(Aggregator { asn, identifier })
}

/// Parts of equal size, at least one and nothing left over.
fn read_many<const N: usize, T>(value: &[u8], read: impl Fn(&[u8; N]) -> T) -> Option<Vec<T>> {
    let (parts, rest) = value.as_chunks::<N>();
    (!parts.is_empty() && rest.is_empty()).then(|| parts.iter().map(read).collect())
}

fn read_large(part: &[u8; 12]) -> LargeCommunity {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *part;
    LargeCommunity {
        global: u32::from_be_bytes([a, b, c, d]),
        local_1: u32::from_be_bytes([e, f, g, h]),
        local_2: u32::from_be_bytes([i, j, k, l]),
    }
}

fn read_next_hop(value: &[u8]) -> Option<NextHop> {
    let mut cursor = Cursor::new(value);
    let v6 = |octets: [u8; 16]| Ipv6Addr::from(octets);
    match value.len() {
        4 => Some(NextHop::V4(Ipv4Addr::from(cursor.u32()?))),
        16 => Some(NextHop::V6(v6(cursor.array()?), None)),
        32 => Some(NextHop::V6(v6(cursor.array()?), Some(v6(cursor.array()?)))),
        _ => None,
    }
}

fn write_reach(mp: &MpReach, session: &Session) -> Vec<u8> {
    let with_path = session.add_path.contains(mp.family);
    let (afi, safi) = mp.family.codes();
    let mut value = afi.to_be_bytes().to_vec();
    value.push(safi);
    match mp.next_hop {
        NextHop::V4(address) => {
            value.push(4);
            value.extend(address.octets());
        }
        NextHop::V6(global, None) => {
            value.push(16);
            value.extend(global.octets());
        }
        NextHop::V6(global, Some(local)) => {
            value.push(32);
            value.extend(global.octets());
            value.extend(local.octets());
        }
    }
    value.push(0);
    mp.prefixes.iter().for_each(|nlri| nlri::write(&mut value, *nlri, with_path));
    value
}

fn write_unreach(mp: &MpUnreach, session: &Session) -> Vec<u8> {
    let with_path = session.add_path.contains(mp.family);
    let (afi, safi) = mp.family.codes();
    let mut value = afi.to_be_bytes().to_vec();
    value.push(safi);
    mp.prefixes.iter().for_each(|nlri| nlri::write(&mut value, *nlri, with_path));
    value
}

fn path_bytes(path: &AsPath, width: AsWidth) -> Vec<u8> {
    let mut value = Vec::new();
    path.write(&mut value, width);
    value
}

fn aggregator_bytes(aggregator: Aggregator, width: AsWidth) -> Vec<u8> {
    let mut value = Vec::new();
    write_as(&mut value, aggregator.asn, width);
    value.extend(aggregator.identifier.octets());
    value
}

/// Writes attributes with their heads.
struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn put(&mut self, flags: u8, code: u8, value: Vec<u8>) -> Result<(), TooLong> {
        match u8::try_from(value.len()) {
            Ok(length) => self.bytes.extend([flags, code, length]),
            Err(_) => {
                self.bytes.extend([flags | EXTENDED_LENGTH, code]);
                self.bytes.extend(u16::try_from(value.len()).map_err(|_| TooLong)?.to_be_bytes());
            }
        }
        self.bytes.extend(value);
        Ok(())
    }
}
