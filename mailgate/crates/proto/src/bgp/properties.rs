//! What must hold for all messages and all bytes.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn v4() -> impl Strategy<Value = Nlri> {
    (any::<u32>(), 0_u8..=32, any::<u32>()).prop_map(|(bits, length, path)| Nlri {
        prefix: IpNet::V4(Ipv4Net::new(bits.into(), length).unwrap().trunc()),
        path,
    })
}

fn v6() -> impl Strategy<Value = Nlri> {
    (any::<u128>(), 0_u8..=128)
        .prop_map(|(bits, length)| IpNet::V6(Ipv6Net::new(bits.into(), length).unwrap().trunc()).into())
}

fn segment(numbers: std::ops::RangeInclusive<u32>) -> impl Strategy<Value = Segment> {
    (any::<bool>(), vec(numbers, 1..6)).prop_map(|(ordered, numbers)| {
        if ordered { Segment::Sequence(numbers) } else { Segment::Set(numbers) }
    })
}

fn path(most: u32) -> impl Strategy<Value = AsPath> {
    vec(segment(1..=most), 0..4).prop_map(AsPath)
}

fn next_hop() -> impl Strategy<Value = NextHop> {
    (any::<u128>(), any::<Option<u128>>())
        .prop_map(|(global, local)| NextHop::V6(global.into(), local.map(Into::into)))
}

fn aggregator(most: u32) -> impl Strategy<Value = Aggregator> {
    (1..=most, any::<u32>()).prop_map(|(asn, id)| Aggregator { asn, identifier: id.into() })
}

fn large() -> impl Strategy<Value = LargeCommunity> {
    any::<(u32, u32, u32)>().prop_map(|(global, local_1, local_2)| LargeCommunity {
        global,
        local_1,
        local_2,
    })
}

fn unknown() -> impl Strategy<Value = RawAttribute> {
    (prop_oneof![Just(0x80_u8), Just(0xc0), Just(0xe0)], 40_u8..=255, vec(any::<u8>(), 0..300))
        .prop_map(|(flags, code, value)| RawAttribute { flags, code, value })
}

/// Attributes as an external session of that width may carry them without any fault.
fn attributes(width: AsWidth) -> impl Strategy<Value = Attributes> {
    let most = if width == AsWidth::Four { u32::MAX } else { 65_535 };
    let as4 =
        if width == AsWidth::Four { Just(None).boxed() } else { prop::option::of(path(u32::MAX)).boxed() };
    let origin = prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)];
    let first = (origin, path(most), any::<u32>(), any::<Option<u32>>(), any::<bool>());
    let second = (
        prop::option::of(aggregator(most)),
        vec(any::<u32>().prop_map(Community), 0..8),
        vec(any::<[u8; 8]>().prop_map(ExtendedCommunity), 0..4),
        vec(large(), 0..4),
    );
    let third = (
        prop::option::of((next_hop(), vec(v6(), 0..10))),
        prop::option::of(vec(v6(), 0..10)),
        as4,
        prop::option::of(unknown()),
    );
    (first, second, third).prop_map(|(first, second, third)| Attributes {
        origin: Some(first.0),
        as_path: Some(first.1),
        next_hop: Some(first.2.into()),
        med: first.3,
        local_pref: None,
        atomic_aggregate: first.4,
        aggregator: second.0,
        communities: second.1,
        extended_communities: second.2,
        large_communities: second.3,
        mp_reach: third.0.map(|(next_hop, prefixes)| MpReach {
            family: Family::Ipv6Unicast,
            next_hop,
            prefixes,
        }),
        mp_unreach: third.1.map(|prefixes| MpUnreach { family: Family::Ipv6Unicast, prefixes }),
        as4_path: third.2,
        as4_aggregator: None,
        unknown: third.3.into_iter().collect(),
    })
}

fn session(as_width: AsWidth) -> Session {
    // Several paths in one family only, so that both forms are read.
    let add_path = Families { ipv4: true, ipv6: false };
    Session { as_width, families: Families::ALL, add_path, ..Session::default() }
}

fn update(width: AsWidth) -> impl Strategy<Value = Message> {
    (vec(v4(), 0..20), attributes(width), vec(v4(), 0..20)).prop_map(|(withdrawn, attributes, announced)| {
        Message::Update(Box::new(Update { withdrawn, attributes, announced, faults: Vec::new() }))
    })
}

fn capability() -> impl Strategy<Value = Capability> {
    prop_oneof![
        any::<(u16, u8)>().prop_map(|(afi, safi)| Capability::Multiprotocol(afi, safi)),
        Just(Capability::RouteRefresh),
        Just(Capability::EnhancedRouteRefresh),
        Just(Capability::ExtendedMessage),
        vec(any::<(u16, u8, u8)>(), 0..4).prop_map(Capability::AddPath),
        any::<u32>().prop_map(Capability::FourOctetAs),
        (0_u8..16, 0_u16..4096, vec(any::<(u16, u8, u8)>(), 0..4))
            .prop_map(|(flags, time, families)| Capability::GracefulRestart { flags, time, families }),
        (71_u8..=255, vec(any::<u8>(), 0..=255))
            .prop_map(|(code, value)| Capability::Unknown { code, value }),
    ]
}

fn other() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<u16>(), any::<u16>(), any::<u32>(), vec(capability(), 0..10)).prop_map(
            |(my_as, hold_time, id, capabilities)| Message::Open(Open {
                my_as,
                hold_time,
                identifier: id.into(),
                capabilities
            })
        ),
        any::<(u16, u8, u8)>().prop_map(|(afi, subtype, safi)| Message::RouteRefresh(RouteRefresh {
            afi,
            subtype,
            safi
        })),
        (any::<(u8, u8)>(), vec(any::<u8>(), 0..300))
            .prop_map(|((code, subcode), data)| Message::Notification(Notification { code, subcode, data })),
        Just(Message::Keepalive),
    ]
}

/// Cuts a stream at the given places and takes all messages.
fn frames(stream: &[u8], cuts: &[usize]) -> Result<Vec<Vec<u8>>, Misbehaved> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    let mut framer = Framer::default();
    let mut taken = Vec::new();
    for piece in cuts.windows(2) {
        framer.push(&stream[piece[0]..piece[1]]);
        while let Some(frame) = framer.take()? {
            taken.push(frame.to_vec());
        }
    }
    Ok(taken)
}

proptest! {
    #[test]
    fn updates_read_back_in_four_bytes(message in update(AsWidth::Four)) {
        let session = session(AsWidth::Four);
        let bytes = message.encode(&session).unwrap();
        prop_assert_eq!(Message::decode(&bytes, &session), Ok(message));
    }

    #[test]
    fn updates_read_back_in_two_bytes(message in update(AsWidth::Two)) {
        let session = session(AsWidth::Two);
        let bytes = message.encode(&session).unwrap();
        prop_assert_eq!(Message::decode(&bytes, &session), Ok(message));
    }

    #[test]
    fn other_messages_read_back(message in other()) {
        let session = Session::default();
        let bytes = message.encode(&session).unwrap();
        prop_assert_eq!(Message::decode(&bytes, &session), Ok(message));
    }

    #[test]
    fn any_split_of_input_gives_the_same_messages(
        messages in vec(prop_oneof![update(AsWidth::Four), other()], 1..6),
        cuts in vec(any::<usize>(), 0..12),
    ) {
        let session = session(AsWidth::Four);
        let encoded: Vec<Vec<u8>> = messages.iter().map(|message| message.encode(&session).unwrap()).collect();
        prop_assert_eq!(frames(&encoded.concat(), &cuts), Ok(encoded));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..200), kind in 0_u8..7) {
        let mut frame = vec![0xff; 16];
        frame.extend(u16::try_from(bytes.len() + 19).unwrap().to_be_bytes());
        frame.push(kind);
        frame.extend(&bytes);
        for width in [AsWidth::Two, AsWidth::Four] {
            let _ = Message::decode(&frame, &session(width));
            let _ = Message::decode(&bytes, &session(width));
        }
        let _ = frames(&bytes, &[]);
    }

    #[test]
    fn mutated_updates_are_read_without_panic_and_lose_no_prefix(
        message in update(AsWidth::Four),
        changes in vec((any::<usize>(), any::<u8>()), 1..8),
    ) {
        let session = session(AsWidth::Four);
        let mut bytes = message.encode(&session).unwrap();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if let Ok(Message::Update(read)) = Message::decode(&bytes, &session) {
            // Malformed attributes move prefixes from announced to withdrawn; they never vanish.
            let whole = read.withdrawn.len()
                + read.announced.len()
                + read.attributes.mp_reach.as_ref().map_or(0, |mp| mp.prefixes.len())
                + read.attributes.mp_unreach.as_ref().map_or(0, |mp| mp.prefixes.len());
            prop_assert_eq!(read.all_withdrawn().count() + read.all_announced().count(), whole);
        }
    }
}

#[test]
fn an_open_with_more_than_255_bytes_of_capabilities_reads_back() {
    // RFC 9072 §2.
    let capability = Capability::Unknown { code: 200, value: vec![7; 200] };
    let open = Open::new(100_000, 90, [192, 0, 2, 1].into(), vec![capability; 3]);
    let bytes = Message::Open(open.clone()).encode(&Session::default()).unwrap();
    assert_eq!(&bytes[28..30], [255, 255]);
    assert_eq!(Message::decode(&bytes, &Session::default()), Ok(Message::Open(open)));
}

#[test]
fn what_would_be_longer_than_a_message_is_not_written() {
    let prefixes = vec![Ipv4Net::new([192, 0, 2, 1].into(), 32).unwrap().into(); 1000];
    let update = Update { withdrawn: prefixes, ..Update::default() };
    assert_eq!(Message::Update(Box::new(update)).encode(&Session::default()), Err(TooLong));
}

#[test]
fn headers_that_no_message_has_are_refused() {
    struct Case {
        name: &'static str,
        given: Vec<u8>,
        want: (u8, u8),
    }
    let header = |length: u16| [&[0xff; 16][..], &length.to_be_bytes(), &[4]].concat();
    for Case { name, given, want } in [
        Case { name: "an HTTP answer", given: b"HTTP/1.0 400 Bad".to_vec(), want: (1, 1) },
        Case { name: "its first byte", given: b"H".to_vec(), want: (1, 1) },
        Case { name: "length 18", given: header(18), want: (1, 2) },
        Case { name: "length 4097", given: header(4097), want: (1, 2) },
    ] {
        let said = frames(&given, &[]).unwrap_err().notification();
        assert_eq!((said.code, said.subcode), want, "{name}");
    }
    let long_keepalive = [&header(20)[..], &[0]].concat();
    let said = Message::decode(&long_keepalive, &Session::default()).unwrap_err().notification();
    assert_eq!((said.code, said.subcode, &said.data[..]), (1, 2, &[0, 20][..]));
}

#[test]
fn the_end_of_routes_is_known_for_each_family() {
    for family in Family::ALL {
        let update = Update::end_of_rib(family);
        assert_eq!(update.ends_rib(), Some(family));
        let session = session(AsWidth::Four);
        let bytes = Message::Update(Box::new(update.clone())).encode(&session).unwrap();
        assert_eq!(Message::decode(&bytes, &session), Ok(Message::Update(Box::new(update))));
    }
    let withdrawal = Update { withdrawn: vec![Ipv4Net::default().into()], ..Update::default() };
    assert_eq!(withdrawal.ends_rib(), None);
}
