//! The table of RFC 7606: what is malformed, and what becomes of the route.

use super::super::{Families, Message, Update};
use super::*;

fn session() -> Session {
    Session { as_width: AsWidth::Four, families: Families::ALL, ..Session::default() }
}

const GOOD_ORIGIN: &[u8] = &[0x40, ORIGIN, 1, 0];
const GOOD_PATH: &[u8] = &[0x40, AS_PATH, 6, 2, 1, 0, 0, 0xfe, 0x2a];
const GOOD_HOP: &[u8] = &[0x40, NEXT_HOP, 4, 192, 0, 2, 1];
/// 203.0.113.0/24.
const PREFIX: &[u8] = &[24, 203, 0, 113];

fn update_with(attributes: &[&[u8]]) -> Result<Update, Misbehaved> {
    update_in(attributes, &session())
}

fn update_in(attributes: &[&[u8]], session: &Session) -> Result<Update, Misbehaved> {
    update_of(attributes, PREFIX, session)
}

fn update_of(attributes: &[&[u8]], prefixes: &[u8], session: &Session) -> Result<Update, Misbehaved> {
    let attributes = attributes.concat();
    let mut frame = vec![0xff; 16];
    let length = 19 + 4 + attributes.len() + prefixes.len();
    frame.extend(u16::try_from(length).unwrap().to_be_bytes());
    frame.extend([2, 0, 0]);
    frame.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    frame.extend(attributes);
    frame.extend(prefixes);
    Message::decode(&frame, session).map(|message| match message {
        Message::Update(update) => *update,
        other => panic!("expected an update, got {other:?}"),
    })
}

/// What becomes of the prefix.
#[derive(Debug, PartialEq)]
enum Fate {
    Announced,
    Withdrawn,
    Reset(u8, u8),
}

fn fate(given: Result<Update, Misbehaved>) -> Fate {
    match given {
        Ok(update) if update.all_announced().next().is_some() => Fate::Announced,
        Ok(update) => {
            assert_eq!(update.all_withdrawn().count(), 1);
            Fate::Withdrawn
        }
        Err(misbehaved) => {
            let notification = misbehaved.notification();
            Fate::Reset(notification.code, notification.subcode)
        }
    }
}

#[test]
fn malformed_attributes_are_treated_as_rfc_7606_says() {
    struct Case {
        name: &'static str,
        extra: &'static [u8],
        want: Fate,
    }
    use Fate::{Announced, Reset, Withdrawn};
    for Case { name, extra, want } in [
        Case { name: "nothing more", extra: &[], want: Announced },
        Case { name: "MED", extra: &[0x80, 4, 4, 0, 0, 0, 1], want: Announced },
        Case { name: "MED of 3 bytes", extra: &[0x80, 4, 3, 0, 0, 1], want: Withdrawn },
        Case { name: "MED with flags of a well-known", extra: &[0x40, 4, 4, 0, 0, 0, 1], want: Withdrawn },
        Case { name: "LOCAL_PREF from outside", extra: &[0x40, 5, 4, 0, 0, 0, 1], want: Announced },
        Case { name: "ATOMIC_AGGREGATE with a byte", extra: &[0x40, 6, 1, 0], want: Announced },
        Case { name: "AGGREGATOR of 6 bytes", extra: &[0xc0, 7, 6, 0, 1, 1, 1, 1, 1], want: Announced },
        Case { name: "communities", extra: &[0xc0, 8, 4, 0xfe, 0x2a, 2, 0x9a], want: Announced },
        Case {
            name: "communities with the partial bit",
            extra: &[0xe0, 8, 4, 0xfe, 0x2a, 2, 0x9a],
            want: Announced,
        },
        Case { name: "communities of 3 bytes", extra: &[0xc0, 8, 3, 0, 0, 1], want: Withdrawn },
        Case { name: "no community", extra: &[0xc0, 8, 0], want: Withdrawn },
        Case {
            name: "extended community of 7 bytes",
            extra: &[0xc0, 16, 7, 0, 0, 0, 0, 0, 0, 0],
            want: Withdrawn,
        },
        Case { name: "large community of 4 bytes", extra: &[0xc0, 32, 4, 0, 0, 0, 0], want: Withdrawn },
        Case { name: "AS4_PATH from a speaker of four bytes", extra: &[0xc0, 17, 1, 9], want: Announced },
        Case { name: "second ORIGIN", extra: &[0x40, 1, 1, 9], want: Announced },
        Case { name: "unknown optional", extra: &[0xc0, 99, 2, 1, 2], want: Announced },
        Case { name: "unknown well-known", extra: &[0x40, 99, 2, 1, 2], want: Reset(3, 2) },
        Case { name: "longer than all attributes", extra: &[0xc0, 8, 200, 0, 0, 0, 1], want: Withdrawn },
        Case { name: "cut inside its head", extra: &[0xd0, 8, 0], want: Withdrawn },
        Case { name: "a single byte", extra: &[0xc0], want: Withdrawn },
        Case { name: "MP_REACH of another family", extra: &[0x80, 14, 5, 0, 25, 65, 0, 0], want: Announced },
        Case {
            name: "MP_REACH with a next hop of 5 bytes",
            extra: &[0x80, 14, 10, 0, 2, 1, 5, 0, 0, 0, 0, 0, 0],
            want: Reset(3, 9),
        },
        Case { name: "MP_REACH cut", extra: &[0x80, 14, 3, 0, 2, 1], want: Reset(3, 9) },
        Case { name: "MP_UNREACH of /129", extra: &[0x80, 15, 4, 0, 2, 1, 129], want: Reset(3, 9) },
        Case {
            name: "two MP_UNREACH",
            extra: &[0x80, 15, 3, 0, 2, 1, 0x80, 15, 3, 0, 2, 1],
            want: Reset(3, 1),
        },
    ] {
        assert_eq!(fate(update_with(&[GOOD_ORIGIN, GOOD_PATH, GOOD_HOP, extra])), want, "{name}");
    }
}

#[test]
fn a_route_without_a_mandatory_attribute_is_withdrawn() {
    for (name, given) in [
        ("no ORIGIN", [GOOD_PATH, GOOD_HOP]),
        ("no AS_PATH", [GOOD_ORIGIN, GOOD_HOP]),
        ("no NEXT_HOP", [GOOD_ORIGIN, GOOD_PATH]),
    ] {
        assert_eq!(fate(update_with(&given)), Fate::Withdrawn, "{name}");
    }
    for (name, bad) in [
        ("ORIGIN 3", [&[0x40, 1, 1, 3][..], GOOD_PATH, GOOD_HOP]),
        ("ORIGIN of 2 bytes", [&[0x40, 1, 2, 0, 0], GOOD_PATH, GOOD_HOP]),
        ("AS_PATH that runs over", [GOOD_ORIGIN, &[0x40, 2, 6, 2, 9, 0, 0, 0, 1], GOOD_HOP]),
        ("NEXT_HOP of 5 bytes", [GOOD_ORIGIN, GOOD_PATH, &[0x40, 3, 5, 1, 2, 3, 4, 5]]),
    ] {
        assert_eq!(fate(update_with(&bad)), Fate::Withdrawn, "{name}");
    }
}

#[test]
fn local_pref_of_an_internal_session_must_have_four_bytes() {
    let session = Session { relation: Relation::Internal, ..session() };
    let with = |extra: &[u8]| fate(update_in(&[GOOD_ORIGIN, GOOD_PATH, GOOD_HOP, extra], &session));
    assert_eq!(with(&[0x40, 5, 4, 0, 0, 0, 1]), Fate::Announced);
    assert_eq!(with(&[0x40, 5, 3, 0, 0, 1]), Fate::Withdrawn);
}

#[test]
fn a_true_path_is_found_for_speakers_of_two_bytes() {
    let session = Session { as_width: AsWidth::Two, ..session() };
    let short = [0x40, AS_PATH, 6, 2, 2, 0xfe, 0x2a, 0x5b, 0xa0];
    let as4 = [0xc0, AS4_PATH, 6, 2, 1, 0, 1, 0x86, 0xa0];
    let update = update_in(&[GOOD_ORIGIN, &short, GOOD_HOP, &as4], &session).unwrap();
    assert!(update.attributes.path().contains(100_000));
    assert_eq!(update.attributes.path().first(), Some(65_066));
}

#[test]
fn attributes_of_reflectors_have_no_place_outside_and_a_length_inside() {
    let inside = Session { relation: Relation::Internal, ..session() };
    for (name, extra, outside, within) in [
        ("ORIGINATOR_ID", &[0x80, 9, 4, 1, 1, 1, 1][..], Fate::Announced, Fate::Announced),
        ("ORIGINATOR_ID of 3 bytes", &[0x80, 9, 3, 1, 1, 1], Fate::Announced, Fate::Withdrawn),
        ("CLUSTER_LIST of 5 bytes", &[0x80, 10, 5, 1, 1, 1, 1, 1], Fate::Announced, Fate::Withdrawn),
        ("empty CLUSTER_LIST", &[0x80, 10, 0], Fate::Announced, Fate::Withdrawn),
    ] {
        let given = [GOOD_ORIGIN, GOOD_PATH, GOOD_HOP, extra];
        assert_eq!(fate(update_with(&given)), outside, "{name}, outside");
        assert_eq!(fate(update_in(&given, &inside)), within, "{name}, inside");
    }
}

#[test]
fn an_error_that_would_withdraw_where_no_prefix_is_named_ends_the_session() {
    // RFC 7606 section 5.2.
    let bad = [GOOD_ORIGIN, GOOD_PATH, &[0xc0, 8, 3, 0, 0, 1][..]];
    assert_eq!(fate(update_of(&bad, &[], &session())), Fate::Reset(3, 1));
    // What is only left out is no such error.
    let mild = [GOOD_ORIGIN, GOOD_PATH, &[0xc0, 7, 1, 0][..]];
    assert!(update_of(&mild, &[], &session()).is_ok());
}

#[test]
fn prefixes_that_cannot_be_read_end_the_session() {
    let good = [GOOD_ORIGIN, GOOD_PATH, GOOD_HOP];
    for (name, prefixes) in [("/33", &[33, 1, 2, 3, 4, 5][..]), ("cut", &[24, 1, 2]), ("/255", &[255])] {
        assert_eq!(fate(update_of(&good, prefixes, &session())), Fate::Reset(3, 10), "{name}");
    }
    // With several paths each prefix has a number before it (RFC 7911 section 3).
    let paths = Session { add_path: Families::ALL, ..session() };
    let numbered = update_of(&good, &[0, 0, 0, 7, 24, 203, 0, 113], &paths).unwrap();
    assert_eq!(numbered.announced[0].path, 7);
    assert_eq!(fate(update_of(&good, &[0, 0, 7], &paths)), Fate::Reset(3, 10));
}
