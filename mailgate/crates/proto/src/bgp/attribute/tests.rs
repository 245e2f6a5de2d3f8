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

/// Every attribute that is known, each with the same five errors.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn every_attribute_is_answered_for_its_length_its_flags_and_its_repetition() {
    use Fate::{Announced, Reset, Withdrawn};
    struct Row {
        name: &'static str,
        flags: u8,
        code: u8,
        good: &'static [u8],
        /// Of a length that it cannot have.
        bad: &'static [u8],
        /// What becomes of the route then, with the flags of another kind, and when it is there twice.
        wants: [Fate; 3],
    }
    let hop: &[u8] = &[0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    let path: &[u8] = &[2, 1, 0, 0, 0xfe, 0x2a];
    let rows = [
        Row {
            name: "ORIGIN",
            flags: 0x40,
            code: 1,
            good: &[0],
            bad: &[],
            wants: [Withdrawn, Withdrawn, Announced],
        },
        Row {
            name: "AS_PATH",
            flags: 0x40,
            code: 2,
            good: path,
            bad: &[2, 1, 0],
            wants: [Withdrawn, Withdrawn, Announced],
        },
        Row {
            name: "NEXT_HOP",
            flags: 0x40,
            code: 3,
            good: &[192, 0, 2, 1],
            bad: &[192, 0, 2],
            wants: [Withdrawn, Withdrawn, Announced],
        },
        Row {
            name: "MED",
            flags: 0x80,
            code: 4,
            good: &[0, 0, 0, 1],
            bad: &[0; 5],
            wants: [Withdrawn, Withdrawn, Announced],
        },
        Row {
            name: "LOCAL_PREF",
            flags: 0x40,
            code: 5,
            good: &[0, 0, 0, 1],
            bad: &[0; 3],
            wants: [Announced, Withdrawn, Announced],
        },
        Row {
            name: "ATOMIC_AGGREGATE",
            flags: 0x40,
            code: 6,
            good: &[],
            bad: &[1],
            wants: [Announced, Withdrawn, Announced],
        },
        Row {
            name: "AGGREGATOR",
            flags: 0xc0,
            code: 7,
            good: &[0, 0, 0xfe, 0x2a, 1, 1, 1, 1],
            bad: &[0; 7],
            wants: [Announced, Withdrawn, Announced],
        },
        Row {
            name: "COMMUNITIES",
            flags: 0xc0,
            code: 8,
            good: &[0xfe, 0x2a, 2, 0x9a],
            bad: &[0; 6],
            wants: [Withdrawn, Withdrawn, Announced],
        },
        Row {
            name: "ORIGINATOR_ID",
            flags: 0x80,
            code: 9,
            good: &[1, 1, 1, 1],
            bad: &[1],
            wants: [Announced, Withdrawn, Announced],
        },
        Row {
            name: "CLUSTER_LIST",
            flags: 0x80,
            code: 10,
            good: &[1, 1, 1, 1],
            bad: &[1],
            wants: [Announced, Withdrawn, Announced],
        },
        Row {
            name: "MP_REACH_NLRI",
            flags: 0x80,
            code: 14,
            good: hop,
            bad: &[0, 2, 1, 16, 0],
            wants: [Reset(3, 9), Withdrawn, Reset(3, 1)],
        },
        Row {
            name: "MP_UNREACH_NLRI",
            flags: 0x80,
            code: 15,
            good: &[0, 2, 1],
            bad: &[0, 2],
            wants: [Reset(3, 9), Withdrawn, Reset(3, 1)],
        },
        Row {
            name: "EXTENDED_COMMUNITIES",
            flags: 0xc0,
            code: 16,
            good: &[0, 2, 0xfe, 0x2a, 0, 0, 2, 0x9a],
            bad: &[0; 9],
            wants: [Withdrawn, Withdrawn, Announced],
        },
        Row {
            name: "AS4_PATH",
            flags: 0xc0,
            code: 17,
            good: path,
            bad: &[2, 1, 0],
            wants: [Announced, Withdrawn, Announced],
        },
        Row {
            name: "AS4_AGGREGATOR",
            flags: 0xc0,
            code: 18,
            good: &[0, 0, 0xfe, 0x2a, 1, 1, 1, 1],
            bad: &[0; 7],
            wants: [Announced, Withdrawn, Announced],
        },
        Row {
            name: "LARGE_COMMUNITIES",
            flags: 0xc0,
            code: 32,
            good: &[0, 0, 0xfe, 0x2a, 0, 0, 0, 1, 0, 0, 2, 0x9a],
            bad: &[0; 13],
            wants: [Withdrawn, Withdrawn, Announced],
        },
    ];
    let known: Vec<u8> = (0..=u8::MAX).filter(|code| expected_flags(*code).is_some()).collect();
    assert_eq!(rows.iter().map(|row| row.code).collect::<Vec<_>>(), known, "one row for each");
    let raw = |flags: u8, code: u8, value: &[u8]| {
        [&[flags, code, u8::try_from(value.len()).unwrap()], value].concat()
    };
    for Row { name, flags, code, good, bad, wants: [length, kind, twice] } in rows {
        let mut others = vec![GOOD_ORIGIN.to_vec(), GOOD_PATH.to_vec(), GOOD_HOP.to_vec()];
        others.retain(|other| other[1] != code);
        let with = |more: &[Vec<u8>]| fate(update_with(&[&others.concat(), &more.concat()]));
        let fine = raw(flags, code, good);
        assert_eq!(with(std::slice::from_ref(&fine)), Announced, "{name}");
        assert_eq!(with(&[raw(flags, code, bad)]), length, "{name} of a wrong length");
        assert_eq!(with(&[raw(flags ^ 0xc0, code, good)]), kind, "{name} with wrong flags");
        assert_eq!(with(&[fine.clone(), fine]), twice, "{name} twice");
        // RFC 7606 section 4: whatever it is, the prefixes are still found.
        let overrun = vec![flags, code, 200, 0];
        assert_eq!(with(&[overrun]), Withdrawn, "{name} longer than all attributes");
    }
}
