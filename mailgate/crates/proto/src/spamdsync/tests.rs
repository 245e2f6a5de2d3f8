//! The vectors of the format, and what a stranger may send instead.

use std::time::Duration;

use aws_lc_rs::hmac;
use mailgate_model::Timestamp;
use proptest::prelude::*;

use super::*;

/// HMAC-SHA1 of a crate that is not ours.
struct Key(hmac::Key);

impl Key {
    fn new(secret: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes()))
    }
}

impl Authenticator for Key {
    fn tag(&self, datagram: &[u8]) -> [u8; TAG_LENGTH] {
        hmac::sign(&self.0, datagram).as_ref().try_into().unwrap()
    }
    fn is_genuine(&self, datagram: &[u8], tag: &[u8; TAG_LENGTH]) -> bool {
        hmac::verify(&self.0, datagram, tag).is_ok()
    }
}

/// SHA1 of the key file `mailgate test key\n` in hex.
const SECRET: &str = "2defa308ebc132779a06ad27f73dc88755ede81d";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap()).collect()
}

fn vectors() -> [(&'static str, &'static str, u32, Event, &'static str); 3] {
    [
        (
            "white",
            SECRET,
            0,
            Event::White { at: 1_700_000_000, expires: 1_703_110_400, ip: Ipv4Addr::new(192, 0, 2, 25) },
            "010200000000003240ee563ea4ffa7e5a6c744a7b4b4ed5c209fffc70000000200106553f10065836700c000021900000004",
        ),
        (
            "trapped, empty key",
            "",
            7,
            Event::Trapped { at: 1_700_000_000, expires: 1_700_086_400, ip: Ipv4Addr::new(198, 51, 100, 9) },
            "010200000007003271d60128402e09c04f81047d1c28f9fe72e09bc00000000300106553f10065554280c633640900000004",
        ),
        (
            "grey",
            SECRET,
            1,
            Event::Grey {
                at: 1_700_000_000,
                ip: Ipv4Addr::new(203, 0, 113, 5),
                from: "<a@example.org>".to_owned(),
                to: "<b@example.net>".to_owned(),
                helo: "mx.example.org".to_owned(),
            },
            "0102000000010072d99b71e2a0e8402a90986d51402ae37e1e22005a0000000100506553f100cb00710500100010000f3c61406578616d706c652e6f72673e003c62406578616d706c652e6e65743e006d782e6578616d706c652e6f72670000000000000000000000000000000000000004",
        ),
    ]
}

#[test]
fn parity_sync_vectors_are_written_and_read_octet_by_octet() {
    for (name, secret, counter, event, wire) in vectors() {
        let (key, wire) = (Key::new(secret), hex(wire));
        assert_eq!(encode(&event, counter, &key).unwrap(), wire, "{name}");
        let read = Datagram::decode(&wire, &key).unwrap();
        assert_eq!((read.counter, read.events), (counter, vec![event]), "{name}");
    }
}

#[test]
fn another_key_and_every_changed_octet_are_refused() {
    let (_, secret, _, _, wire) = vectors()[2].clone();
    let (key, wire) = (Key::new(secret), hex(wire));
    assert_eq!(Datagram::decode(&wire, &Key::new("")), Err(Misbehaved::Forged));
    for at in 0..wire.len() {
        let mut changed = wire.clone();
        changed[at] ^= 1;
        assert!(Datagram::decode(&changed, &key).is_err(), "octet {at}");
    }
    for length in 0..wire.len() {
        assert!(Datagram::decode(&wire[..length], &key).is_err(), "{length} octets");
    }
}

/// A datagram with these octets behind its header, genuine.
fn genuine(behind: &[u8], key: &Key) -> Vec<u8> {
    let mut wire = vec![VERSION, FAMILY, 0, 0, 0, 0];
    wire.extend(u16::try_from(HEADER_LENGTH + behind.len()).unwrap().to_be_bytes());
    wire.resize(HEADER_LENGTH, 0);
    wire.extend(behind);
    let tag = key.tag(&wire);
    wire[TAG_AT..TAG_AT + TAG_LENGTH].copy_from_slice(&tag);
    wire
}

#[test]
fn events_whose_lengths_lie_are_refused_though_the_key_is_right() {
    let key = Key::new(SECRET);
    for (name, behind) in [
        ("no end", hex("")),
        ("length shorter than itself", hex("00020003")),
        ("length zero would never end", hex("00070000")),
        (
            "white of the wrong length",
            hex("0002001100000000000000000000000000").into_iter().chain(hex("00000004")).collect(),
        ),
        (
            "text without NUL",
            hex("0001002000000000c0000201000200020002414142420000000000000000000000000000")
                .into_iter()
                .chain(hex("00000004"))
                .collect(),
        ),
        (
            "text longer than its event",
            hex("0001002000000000c000020100ff000200020000000000000000000000000000000000")
                .into_iter()
                .chain(hex("00000004"))
                .collect(),
        ),
    ] {
        assert_eq!(Datagram::decode(&genuine(&behind, &key), &key), Err(Misbehaved::Event), "{name}");
    }
    let unknown = genuine(&hex("000900080102030400000004"), &key);
    assert_eq!(Datagram::decode(&unknown, &key).unwrap().events, [], "kinds of later versions are skipped");
}

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn white(at: i64, last: u8) -> Datagram {
    let event =
        Event::White { at: u32::try_from(at).unwrap(), expires: 0, ip: Ipv4Addr::new(192, 0, 2, last) };
    let key = Key::new(SECRET);
    Datagram::decode(&encode(&event, 0, &key).unwrap(), &key).unwrap()
}

#[test]
fn parity_sync_replay_reorder_and_skew_of_datagrams() {
    let mut guard = Guard::new(Duration::from_secs(300));
    let later = |secs| Timestamp::from_secs(NOW.secs() + secs);
    assert_eq!(guard.admit(&white(NOW.secs(), 1), NOW), Ok(()));
    assert_eq!(guard.admit(&white(NOW.secs(), 1), NOW), Err(Stale::Replayed));
    // Reordered on the way: an older one after a newer one counts.
    assert_eq!(guard.admit(&white(NOW.secs() - 10, 2), NOW), Ok(()));
    assert_eq!(guard.admit(&white(NOW.secs() - 10, 2), later(200)), Err(Stale::Replayed));
    // A clock that differs.
    assert_eq!(guard.admit(&white(NOW.secs() + 300, 3), NOW), Ok(()));
    assert_eq!(guard.admit(&white(NOW.secs() + 301, 4), NOW), Err(Stale::Early));
    assert_eq!(guard.admit(&white(NOW.secs() - 301, 5), NOW), Err(Stale::Old));
    // Forgotten ones are too old to come again.
    assert_eq!(guard.admit(&white(NOW.secs(), 1), later(301)), Err(Stale::Old));
}

#[test]
fn a_flood_of_genuine_datagrams_lets_no_replay_through() {
    let mut guard = Guard::new(Duration::from_secs(300));
    let first = white(NOW.secs(), 1);
    guard.admit(&first, NOW).unwrap();
    for number in 0..SEEN {
        let mut flood = white(NOW.secs() + 1, 2);
        flood.tag[..4].copy_from_slice(&u32::try_from(number).unwrap().to_be_bytes());
        guard.admit(&flood, NOW).unwrap();
    }
    assert_eq!(guard.admit(&first, NOW), Err(Stale::Old));
}

/// One more than the guard remembers.
const SEEN: usize = 65_537;

proptest! {
    #[test]
    fn what_is_written_is_read_the_same(at: u32, ip: u32, from in "[^\0]{0,40}", to in "[^\0]{0,40}", helo in "[^\0]{0,40}", counter: u32) {
        let key = Key::new(SECRET);
        let event = Event::Grey { at, ip: Ipv4Addr::from(ip), from, to, helo };
        let wire = encode(&event, counter, &key).unwrap();
        prop_assert_eq!(Datagram::decode(&wire, &key).unwrap().events, vec![event]);
    }

    #[test]
    fn no_octets_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let key = Key::new("");
        let _ = Datagram::decode(&bytes, &key);
        let _ = Datagram::decode(&genuine(&bytes, &key), &key);
    }
}
