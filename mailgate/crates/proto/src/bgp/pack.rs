//! What we announce: hosts with communities, as few messages as they fit into.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{
    AsPath, Attributes, Community, ExtendedCommunity, Family, LargeCommunity, MpReach, MpUnreach, NextHop,
    Nlri, Origin, Relation, Segment, Session, Update,
};

/// Bytes of a message that are not prefixes, at most: header, lengths, and attributes with [`MARKS_LIMIT`] communities.
const OVERHEAD: usize = 1024;

/// Communities of each kind that one advert may have; more are left out. 16 large ones take 192 bytes.
const MARKS_LIMIT: usize = 16;

/// What goes with the prefixes of one advert.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Advert {
    /// RFC 1997; the first 16 are sent.
    pub communities: Vec<Community>,
    /// RFC 4360; the first 16 are sent.
    pub extended: Vec<ExtendedCommunity>,
    /// RFC 8092; the first 16 are sent.
    pub large: Vec<LargeCommunity>,
}

/// Where packets for what we announce would go: ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHops {
    /// Of IPv4 prefixes.
    pub v4: Ipv4Addr,
    /// Of IPv6 prefixes.
    pub v6: Ipv6Addr,
}

/// The messages that announce `prefixes`, all with the same communities. Prefixes of families that the session does not
/// carry are left out.
#[must_use]
pub fn announce(
    prefixes: &[IpNet],
    advert: &Advert,
    local_as: u32,
    hops: NextHops,
    session: &Session,
) -> Vec<Update> {
    let mut updates = Vec::new();
    for (family, part) in parts(prefixes, session) {
        let mut attributes = attributes(advert, local_as, session.relation);
        let mut update = Update::default();
        if family == Family::Ipv4Unicast {
            attributes.next_hop = Some(hops.v4);
            update.announced = part;
        } else {
            attributes.mp_reach =
                Some(MpReach { family, next_hop: NextHop::V6(hops.v6, None), prefixes: part });
        }
        update.attributes = attributes;
        updates.push(update);
    }
    updates
}

/// The messages that withdraw `prefixes`.
#[must_use]
pub fn withdraw(prefixes: &[IpNet], session: &Session) -> Vec<Update> {
    let update = |(family, part): (Family, Vec<Nlri>)| {
        let mut update = Update::default();
        if family == Family::Ipv4Unicast {
            update.withdrawn = part;
        } else {
            update.attributes.mp_unreach = Some(MpUnreach { family, prefixes: part });
        }
        update
    };
    parts(prefixes, session).into_iter().map(update).collect()
}

/// Prefixes by family, as many at a time as fit into a message.
fn parts(prefixes: &[IpNet], session: &Session) -> Vec<(Family, Vec<Nlri>)> {
    let mut parts = Vec::new();
    for family in session.families.iter() {
        let longest = if family == Family::Ipv4Unicast { 5 } else { 17 };
        let most = (session.message_limit() - OVERHEAD) / longest;
        let of_family: Vec<Nlri> = prefixes
            .iter()
            .filter(|prefix| Family::of_prefix(**prefix) == family)
            .map(|prefix| Nlri::from(prefix.trunc()))
            .collect();
        parts.extend(of_family.chunks(most.max(1)).map(|part| (family, part.to_vec())));
    }
    parts
}

fn attributes(advert: &Advert, local_as: u32, relation: Relation) -> Attributes {
    // RFC 4271 §5.1.2: nothing is added to the path inside an AS; LOCAL_PREF is for inside only (§5.1.5).
    let (path, local_pref) = match relation {
        Relation::External => (AsPath(vec![Segment::Sequence(vec![local_as])]), None),
        Relation::Internal => (AsPath::default(), Some(100)),
    };
    Attributes {
        origin: Some(Origin::Incomplete),
        as_path: Some(path),
        local_pref,
        communities: advert.communities.iter().take(MARKS_LIMIT).copied().collect(),
        extended_communities: advert.extended.iter().take(MARKS_LIMIT).copied().collect(),
        large_communities: advert.large.iter().take(MARKS_LIMIT).copied().collect(),
        ..Attributes::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AsWidth, Families, Message};
    use super::*;

    fn session(extended: bool) -> Session {
        Session { as_width: AsWidth::Four, families: Families::ALL, extended, ..Session::default() }
    }

    #[test]
    fn what_is_announced_fits_into_messages_and_is_read_back() {
        let v4 = (0..5000_u32).map(|n| IpNet::from(std::net::IpAddr::from(Ipv4Addr::from(0xc612_0000 + n))));
        let v6 = (0..900_u128)
            .map(|n| IpNet::from(std::net::IpAddr::from(Ipv6Addr::from((0x2001_0db8 << 96) + n))));
        let prefixes: Vec<IpNet> = v4.chain(v6).collect();
        let marks = 0..40;
        let advert = Advert {
            communities: marks.clone().map(|n| Community::new(65_500, n)).collect(),
            large: marks
                .clone()
                .map(|n| LargeCommunity { global: 1, local_1: 2, local_2: n.into() })
                .collect(),
            extended: vec![],
        };
        let hops = NextHops { v4: Ipv4Addr::new(192, 0, 2, 1), v6: "2001:db8::1".parse().unwrap() };
        for (extended, messages) in [(false, 14), (true, 2)] {
            let session = session(extended);
            let updates = announce(&prefixes, &advert, 65_500, hops, &session);
            assert_eq!(updates.len(), messages);
            let mut found = Vec::new();
            for update in updates {
                let bytes = Message::Update(Box::new(update)).encode(&session).unwrap();
                let Message::Update(read) = Message::decode(&bytes, &session).unwrap() else { panic!() };
                assert_eq!(read.faults, []);
                assert_eq!(read.attributes.communities.len(), MARKS_LIMIT);
                found.extend(read.all_announced().map(|nlri| nlri.prefix));
            }
            assert_eq!(found, prefixes);
            let gone: Vec<IpNet> = withdraw(&prefixes, &session)
                .iter()
                .flat_map(|update| update.all_withdrawn().map(|nlri| nlri.prefix).collect::<Vec<_>>())
                .collect();
            assert_eq!(gone, prefixes);
        }
    }
}
