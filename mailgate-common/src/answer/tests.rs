//! Replies as pure functions: fields, headers, checksums, and a whole conversation with a peer that probes.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::packet::{self, Fragment, TCP};

const KEY: Key = Key([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]);
const BANNER: &[u8] = b"220 mx.example.org ESMTP\r\n";
const HOUR: u64 = 3_600_000_000_000;

fn v4(source: u32, destination: u32, source_port: u16) -> Packet {
    Packet {
        family: Family::V4,
        source: Address::from_v4(source),
        destination: Address::from_v4(destination),
        protocol: TCP,
        source_port,
        destination_port: 25,
        flags: flags::SYN,
        transport_read: true,
        fragment: Fragment::Whole,
        network: 14,
        transport: 34,
        header: 20,
        length: 40,
        ..Packet::EMPTY
    }
}

fn v6(source: [u64; 2], destination: [u64; 2], source_port: u16) -> Packet {
    let address = |[high, low]: [u64; 2]| Address { high, low };
    Packet {
        family: Family::V6,
        source: address(source),
        destination: address(destination),
        ..v4(0, 0, source_port)
    }
}

fn greeting() -> Greeting {
    let sum = BANNER.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    Greeting { bytes: BANNER.len() as u32, sum }
}

fn segment(sequence: u32, acknowledgment: u32, flags: u8, payload: u32) -> Segment {
    Segment { sequence, acknowledgment, flags, payload }
}

/// RFC 1071, the slow and plain way.
fn complement(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// The whole reply as bytes, and its TCP checksum verified as a receiver does.
fn verified(packet: &Packet, reply: &Reply, body: &Body, data: &[u8]) -> Vec<u8> {
    let mut segment = bytes(&tcp(packet, reply, body));
    segment.extend(
        body.option.map(u32::to_be_bytes).unwrap_or_default().iter().take(if body.option.is_some() {
            4
        } else {
            0
        }),
    );
    segment.extend(data);
    let length = segment.len() as u32;
    assert_eq!(length, body.segment_bytes());
    let mut pseudo = Vec::new();
    let header = match packet.family {
        Family::V4 => {
            pseudo.extend(packet.destination.v4().to_be_bytes());
            pseudo.extend(packet.source.v4().to_be_bytes());
            let header = bytes(&ipv4(packet, length));
            assert_eq!(complement(&header), 0, "the IPv4 header verifies");
            header
        }
        Family::V6 => {
            for half in
                [packet.destination.high, packet.destination.low, packet.source.high, packet.source.low]
            {
                pseudo.extend(half.to_be_bytes());
            }
            bytes(&ipv6(packet, length))
        }
    };
    pseudo.extend(length.to_be_bytes());
    pseudo.extend([0, 0, 0, TCP]);
    pseudo.extend(&segment);
    assert_eq!(complement(&pseudo), 0, "the TCP checksum verifies");
    [header, segment].concat()
}

proptest! {
    #[test]
    fn headers_of_any_reply_verify_and_read_back(
        source: [u64; 2], destination: [u64; 2], port: u16, sequence: u32, acknowledgment: u32,
        flags in 0_u8..0x40, window: u16, option: Option<u32>, data in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let reply = Reply { sequence, acknowledgment, flags, window };
        let sum = data.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))).sum();
        let body = Body { option, bytes: data.len() as u32, sum };
        for asked in [v4(source[0] as u32, destination[0] as u32, port), v6(source, destination, port)] {
            let kind: u16 = if asked.family == Family::V4 { 0x0800 } else { 0x86dd };
            let mut frame = std::vec![0; 12];
            frame.extend(kind.to_be_bytes());
            frame.extend(verified(&asked, &reply, &body, &data));
            let back = packet::parse(&frame.as_slice()).expect("a packet");
            prop_assert_eq!(back.source, asked.destination);
            prop_assert_eq!(back.destination, asked.source);
            prop_assert_eq!((back.source_port, back.destination_port), (25, port));
            let read = Segment::of(&frame.as_slice(), &back).expect("a segment");
            prop_assert_eq!(read, Segment { sequence, acknowledgment, flags, payload: data.len() as u32 });
        }
    }

    #[test]
    fn a_forged_acknowledgment_is_not_taken(sequence: u32, acknowledgment: u32, port: u16, now in 0..HOUR) {
        // One in 2^22 passes by chance: far less than the number of cases.
        let packet = v4(0x0a00_0001, 0xc633_6401, port);
        let forged = segment(sequence, acknowledgment, flags::ACK, 0);
        prop_assert_eq!(hold(KEY, greeting(), &packet, &forged, now), Move::Forged);
    }

    #[test]
    fn a_peer_is_held_whatever_its_numbers(source: [u64; 2], port: u16, peer: u32, now in 0..HOUR, later in 0..(2 * HOUR)) {
        for packet in [v4(source[0] as u32, 0xc633_6401, port), v6(source, [1, 2], port)] {
            let Move::Offer(offer) = hold(KEY, greeting(), &packet, &segment(peer, 0, flags::SYN, 0), now) else {
                panic!("no offer");
            };
            prop_assert_eq!((offer.acknowledgment, offer.window, offer.flags), (peer.wrapping_add(1), 0, flags::SYN | flags::ACK));
            let (edge, first) = (peer.wrapping_add(1), offer.sequence.wrapping_add(1));
            let Move::Greet(greet) = hold(KEY, greeting(), &packet, &segment(edge, first, flags::ACK, 0), now + 1000) else {
                panic!("no banner");
            };
            prop_assert_eq!((greet.sequence, greet.acknowledgment, greet.window), (first, edge, 0));
            let after = first.wrapping_add(BANNER.len() as u32);
            let say = |sequence, set, payload| hold(KEY, greeting(), &packet, &segment(sequence, after, set, payload), now + later);
            prop_assert_eq!(say(edge, flags::ACK, 0), Move::Quiet, "it acknowledges the banner");
            let closed = Move::Hold(Reply { sequence: after, acknowledgment: edge, flags: flags::ACK, window: 0 });
            prop_assert_eq!(say(peer, flags::ACK, 0), closed, "a probe as Linux sends it");
            prop_assert_eq!(say(peer, flags::ACK, 1), closed, "a keep-alive with an octet");
            prop_assert_eq!(say(edge, flags::ACK | flags::PSH, 6), closed, "EHLO");
            prop_assert_eq!(say(edge, flags::ACK, 1), closed, "a probe of one octet");
            prop_assert_eq!(say(edge.wrapping_add(1), flags::ACK, 0), closed, "behind that octet");
            prop_assert_eq!(say(edge, flags::ACK | flags::FIN, 0), closed, "its end is not acknowledged");
            prop_assert_eq!(say(edge, flags::RST, 0), Move::GaveUp);
            prop_assert_eq!(say(edge, flags::RST | flags::ACK, 0), Move::GaveUp);
        }
    }
}

#[test]
fn a_reset_follows_the_standard_and_never_answers_a_reset() {
    use flags::{ACK, FIN, RST, SYN};
    let cases = [
        ("SYN", segment(7, 0, SYN, 0), Some((0, 8, RST | ACK))),
        ("SYN with data", segment(u32::MAX, 0, SYN, 10), Some((0, 10, RST | ACK))),
        ("FIN without ACK", segment(5, 0, FIN, 3), Some((0, 9, RST | ACK))),
        ("ACK", segment(9, 1000, ACK, 0), Some((1000, 0, RST))),
        ("data", segment(9, 1000, ACK, 100), Some((1000, 0, RST))),
        ("SYN-ACK", segment(9, 1000, SYN | ACK, 0), Some((1000, 0, RST))),
        ("RST", segment(9, 0, RST, 0), None),
        ("RST-ACK", segment(9, 1, RST | ACK, 0), None),
    ];
    for (what, asked, want) in cases {
        let got = reset(&asked).map(|reply| (reply.sequence, reply.acknowledgment, reply.flags));
        assert_eq!(got, want, "{what}");
        assert!(reset(&asked).is_none_or(|reply| reply.window == 0));
    }
}

#[test]
fn the_proof_belongs_to_one_peer_one_port_and_one_key() {
    let packet = v4(0x0a00_0001, 0xc633_6401, 4000);
    let Move::Offer(offer) = hold(KEY, greeting(), &packet, &segment(99, 0, flags::SYN, 0), HOUR) else {
        panic!("no offer");
    };
    let answer = segment(100, offer.sequence.wrapping_add(1), flags::ACK, 0);
    assert!(matches!(hold(KEY, greeting(), &packet, &answer, HOUR), Move::Greet(_)));
    for (what, key, other) in [
        ("another port", KEY, v4(0x0a00_0001, 0xc633_6401, 4001)),
        ("another source", KEY, v4(0x0a00_0002, 0xc633_6401, 4000)),
        ("another destination", KEY, v4(0x0a00_0001, 0xc633_6402, 4000)),
        ("another key", Key([1, 2]), packet),
    ] {
        assert_eq!(hold(key, greeting(), &other, &answer, HOUR), Move::Forged, "{what}");
    }
    let answer = |sequence, set| segment(sequence, offer.sequence.wrapping_add(1), set, 0);
    assert_eq!(hold(KEY, greeting(), &packet, &answer(100, flags::SYN | flags::ACK), HOUR), Move::Forged);
    assert_eq!(hold(KEY, greeting(), &packet, &answer(100, 0), HOUR), Move::Forged);
}

#[test]
fn an_old_handshake_gets_no_banner_but_stays_held() {
    let packet = v6([1, 2], [3, 4], 4000);
    let offer = isn(KEY, &packet, 99, epoch(0));
    let answer = segment(100, offer.wrapping_add(1), flags::ACK, 0);
    let at = |epochs: u64| hold(KEY, greeting(), &packet, &answer, epochs << 36);
    assert!(matches!(at(0), Move::Greet(_)) && matches!(at(1), Move::Greet(_)));
    assert_eq!(at(2), Move::Quiet, "a recorded acknowledgment earns no banner later");
    let probe = Segment { sequence: 99, ..answer };
    let late = hold(KEY, greeting(), &packet, &probe, 100 << 36);
    assert!(matches!(late, Move::Hold(Reply { acknowledgment: 100, window: 0, .. })), "{late:?}");
    let without = Greeting { bytes: 0, sum: 0 };
    assert_eq!(hold(KEY, without, &packet, &answer, 0), Move::Quiet, "no banner is configured");
}

#[test]
fn two_tarpits_do_not_talk_to_each_other() {
    let there = v4(0x0a00_0001, 0x0a00_0002, 25);
    let back = v4(0x0a00_0002, 0x0a00_0001, 25);
    let Move::Offer(offer) = hold(KEY, greeting(), &there, &segment(1, 0, flags::SYN, 0), 0) else {
        panic!("no offer");
    };
    let said = |reply: Reply, payload| segment(reply.sequence, reply.acknowledgment, reply.flags, payload);
    assert_eq!(hold(Key([5, 6]), greeting(), &back, &said(offer, 0), 0), Move::Forged);
    assert_eq!(hold(KEY, greeting(), &back, &said(offer, 0), 0), Move::Forged, "not even with itself");
    let reset = reset(&said(offer, 0)).expect("a reset");
    assert_eq!(hold(KEY, greeting(), &there, &said(reset, 0), 0), Move::GaveUp);
}

#[test]
fn groups_loopback_and_nobody_are_not_answered() {
    let (peer, ours) = (0x0a00_0001, 0xc633_6401);
    assert!(may_answer(&v4(peer, ours, 1)));
    assert!(may_answer(&v6([0x2001_0db8 << 32, 1], [0x2001_0db8 << 32, 2], 1)));
    for (what, packet) in [
        ("to 224.0.0.1", v4(peer, 0xe000_0001, 1)),
        ("to the broadcast address", v4(peer, u32::MAX, 1)),
        ("from 0.0.0.0", v4(0, ours, 1)),
        ("from 127.0.0.1", v4(0x7f00_0001, ours, 1)),
        ("from 239.1.1.1", v4(0xef01_0101, ours, 1)),
        ("to itself", v4(ours, ours, 1)),
        ("a first fragment", Packet { fragment: Fragment::First, ..v4(peer, ours, 1) }),
        ("to ff02::1", v6([0x2001_0db8 << 32, 1], [0xff02 << 48, 1], 1)),
        ("from ::", v6([0, 0], [0x2001_0db8 << 32, 2], 1)),
        ("from ::1", v6([0, 1], [0x2001_0db8 << 32, 2], 1)),
        ("from ff02::1", v6([0xff02 << 48, 1], [0x2001_0db8 << 32, 2], 1)),
    ] {
        assert!(!may_answer(&packet), "{what}");
    }
}

#[test]
fn settings_lie_where_the_programs_look() {
    let rate = Rate::per_second(10, 5);
    let setting = setting::Setting {
        key: KEY,
        source: rate,
        tarpit: Rate { interval: 3, ahead: 4 },
        reset: Rate { interval: 5, ahead: 6 },
        record: true,
        syncookies_before: 2,
        banner: BANNER,
    };
    let words = setting.words();
    assert_eq!(
        words[..12],
        [KEY.0[0], KEY.0[1], rate.interval, rate.ahead, 3, 4, 5, 6, 26, greeting().sum.into(), 2, 1]
    );
    let text: Vec<u8> = words[16..].iter().flat_map(|word| word.to_ne_bytes()).take(BANNER.len()).collect();
    assert_eq!(text, BANNER);
    let long = setting::Setting { banner: &[b'x'; 600], ..setting }.words();
    assert_eq!(long[setting::BANNER_BYTES as usize], 511);
}
