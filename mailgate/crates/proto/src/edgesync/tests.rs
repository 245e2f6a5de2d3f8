//! Single rules of merging and of the protocol.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_700_000_000_000;
const DAY: i64 = 86_400_000;
const SKEW: i64 = 300_000;

fn network(text: &str) -> Key {
    Key::of(Kind::NETWORK, &[text])
}

fn body(origin: Origin, state: State, lasts: i64) -> Body {
    Body { origin, state, first: NOW, pass: NOW, expires: NOW + lasts, blocked: 1, passed: 0 }
}

fn settings(takes: Scope, gives: Scope) -> Settings {
    Settings { name: "mx".to_owned(), takes, gives, skew: SKEW, compares: true, knows: (0, 0) }
}

/// Lets two replicas talk until both have nothing to say.
fn talk(
    one: &mut Replica,
    two: &mut Replica,
    scopes: [(Scope, Scope); 2],
    now: [i64; 2],
) -> Result<[Progress; 2], Misbehaved> {
    let [a, b] = scopes;
    let mut sessions = [a, b].map(|(takes, gives)| settings(takes, gives));
    sessions[1].compares = false;
    let mut sessions = sessions.map(Session::new);
    loop {
        let mut any = false;
        while let Some(frame) = sessions[0].output(one, now[0]) {
            any = true;
            sessions[1].input(frame, two, now[1])?;
        }
        while let Some(frame) = sessions[1].output(two, now[1]) {
            any = true;
            sessions[0].input(frame, one, now[0])?;
        }
        if !any {
            assert!(sessions[0].is_idle(one) && sessions[1].is_idle(two));
            return Ok(sessions.map(|session| session.progress().clone()));
        }
    }
}

const FULL: [(Scope, Scope); 2] = [(Scope::All, Scope::All); 2];

#[test]
fn defect_05_a_host_that_only_the_primary_sees_stays_passed_on_the_backup() {
    let (mut primary, mut backup) = (Replica::new(1), Replica::new(2));
    let key = network("192.0.2.25/32");
    let passed = body(Origin::Learned, State::Passed, 36 * DAY);
    primary.local(key.clone(), Some(passed), NOW);
    talk(&mut primary, &mut backup, FULL, [NOW; 2]).unwrap();
    // 30 days of mail at the primary, none at the backup.
    let later = NOW + 30 * DAY;
    let refreshed = Body { expires: later + 36 * DAY, passed: 30, ..passed };
    primary.local(key.clone(), Some(refreshed), later);
    talk(&mut primary, &mut backup, FULL, [later; 2]).unwrap();
    assert_eq!(backup.state(&key), Some(refreshed));
    // And an older statement does not shorten it.
    let mut third = Replica::new(3);
    third.local(key.clone(), Some(passed), NOW);
    talk(&mut third, &mut backup, FULL, [later; 2]).unwrap();
    assert_eq!((backup.state(&key), third.state(&key)), (Some(refreshed), Some(refreshed)));
}

#[test]
fn defect_04_a_refresh_from_elsewhere_frees_nobody_from_a_trap() {
    let (mut one, mut two) = (Replica::new(1), Replica::new(2));
    let key = network("192.0.2.25/32");
    let trapped = body(Origin::Learned, State::Trapped, DAY);
    one.local(key.clone(), Some(trapped), NOW);
    two.local(key.clone(), Some(Body { passed: 9, ..body(Origin::Learned, State::Passed, 36 * DAY) }), NOW);
    talk(&mut one, &mut two, FULL, [NOW; 2]).unwrap();
    assert_eq!((one.state(&key), two.state(&key)), (Some(trapped), Some(trapped)));
    // The administrator says otherwise, at either host.
    let admitted = body(Origin::Admin, State::Passed, DAY);
    two.local(key.clone(), Some(admitted), NOW + 1);
    talk(&mut one, &mut two, FULL, [NOW + 1; 2]).unwrap();
    assert_eq!(one.state(&key), Some(admitted));
}

#[test]
fn a_tuple_seen_by_two_hosts_counts_from_the_first_attempt() {
    let (mut one, mut two) = (Replica::new(1), Replica::new(2));
    let key = Key::of(Kind::TUPLE, &["192.0.2.1/32", "a@example.org", "b@example.net"]);
    let grey = |first: i64, blocked| Body {
        first,
        pass: first + 100,
        expires: first + DAY,
        blocked,
        ..body(Origin::Learned, State::Grey, 0)
    };
    one.local(key.clone(), Some(grey(NOW - 1000, 1)), NOW);
    two.local(key.clone(), Some(grey(NOW, 3)), NOW);
    talk(&mut one, &mut two, FULL, [NOW; 2]).unwrap();
    let both = Body { expires: NOW + DAY, ..grey(NOW - 1000, 3) };
    assert_eq!((one.state(&key), two.state(&key)), (Some(both), Some(both)));
    // The pass consumes it everywhere, and an attempt after that begins anew.
    two.local(key.clone(), None, NOW + 5);
    talk(&mut one, &mut two, FULL, [NOW + 5; 2]).unwrap();
    assert_eq!((one.state(&key), two.state(&key)), (None, None));
    one.local(key.clone(), Some(grey(NOW + 9, 1)), NOW + 9);
    talk(&mut one, &mut two, FULL, [NOW + 9; 2]).unwrap();
    assert_eq!(two.state(&key), Some(grey(NOW + 9, 1)));
}

#[test]
fn parity_sync_a_clock_far_ahead_is_refused_and_a_little_skew_is_not() {
    let (mut one, mut two) = (Replica::new(1), Replica::new(2));
    let refused = talk(&mut one, &mut two, FULL, [NOW, NOW + SKEW + 1]);
    assert_eq!(refused, Err(Misbehaved::Clock(-SKEW - 1)));
    assert!(talk(&mut one, &mut two, FULL, [NOW, NOW + SKEW]).is_ok());
    // What is from the future is not taken, also from a clock that is right now and was not before.
    two.local(network("192.0.2.1/32"), Some(body(Origin::Admin, State::Passed, DAY)), NOW + SKEW * 3);
    let progress = talk(&mut one, &mut two, FULL, [NOW; 2]).unwrap();
    assert_eq!((progress[0].early > 0, one.state(&network("192.0.2.1/32"))), (true, None));
}

#[test]
fn friends_tell_traps_and_nothing_else() {
    let (mut one, mut two) = (Replica::new(1), Replica::new(2));
    let trap = body(Origin::Learned, State::Trapped, 30 * DAY);
    for (text, said) in [
        ("192.0.2.1/32", trap),
        ("192.0.2.2/32", trap),
        ("192.0.2.3/32", body(Origin::Learned, State::Passed, DAY)),
        ("192.0.2.4/32", body(Origin::Admin, State::Trapped, DAY)),
        ("192.0.0.0/16", trap),
        ("0.0.0.0/0", trap),
    ] {
        two.local(network(text), Some(said), NOW);
    }
    two.local(Key::of(Kind::TRAP_ADDRESS, &["us@example.org"]), Some(trap), NOW);
    let admitted = body(Origin::Admin, State::Passed, DAY);
    one.local(network("192.0.2.2/32"), Some(admitted), NOW);
    one.local(network("192.0.2.9/32"), Some(body(Origin::Learned, State::Passed, DAY)), NOW);
    // The friend would give everything; we take traps.
    let scopes = [(Scope::Traps, Scope::Traps), (Scope::All, Scope::All)];
    let progress = talk(&mut one, &mut two, scopes, [NOW; 2]).unwrap();
    let heard = one.state(&network("192.0.2.1/32")).unwrap();
    assert_eq!((heard.state, heard.blocked, heard.expires), (State::Trapped, 0, NOW + 7 * DAY));
    assert_eq!(one.state(&network("192.0.2.2/32")), Some(admitted));
    assert_eq!((one.counts().keys, progress[0].untrusted), (3, 2));
    assert_eq!(two.state(&network("192.0.2.9/32")), None, "what is passed here is nobody's business");
    // What friends told is not told on to friends.
    let mut three = Replica::new(3);
    talk(&mut one, &mut three, [(Scope::Traps, Scope::Traps); 2], [NOW; 2]).unwrap();
    assert_eq!(three.counts().keys, 0);
    // Who asks a friend for a comparison is told off.
    let mut session = Session::new(settings(Scope::Traps, Scope::Traps));
    let hello = Session::new(settings(Scope::All, Scope::All)).output(&mut three, NOW).unwrap();
    session.input(hello, &mut one, NOW).unwrap();
    assert_eq!(session.input(Frame::Groups(vec![0; 256]), &mut one, NOW), Err(Misbehaved::Unexpected));
}

#[test]
fn who_comes_back_soon_is_told_from_the_log_and_who_fell_behind_by_comparison() {
    let (mut one, mut two) = (Replica::new(1), Replica::new(2));
    let grey =
        |number: u32| Key::of(Kind::TUPLE, &[&format!("{}/32", std::net::Ipv4Addr::from(number)), "a", "b"]);
    let fresh = body(Origin::Learned, State::Grey, DAY);
    for number in 0..100 {
        one.local(grey(number), Some(fresh), NOW);
    }
    let progress = talk(&mut one, &mut two, FULL, [NOW; 2]).unwrap();
    assert_eq!(progress[0].sent, 100);
    let mut settings = settings(Scope::All, Scope::All);
    settings.compares = false;
    for number in 100..150 {
        one.local(grey(number), Some(fresh), NOW);
    }
    let mut back =
        [Session::new(settings.clone()), Session::new(Settings { knows: progress[1].knows, ..settings })];
    let hello = back[1].output(&mut two, NOW).unwrap();
    back[0].output(&mut one, NOW).unwrap();
    back[0].input(hello, &mut one, NOW).unwrap();
    let mut told = 0;
    while let Some(frame) = back[0].output(&mut one, NOW) {
        if let Frame::Records { log, records } = frame {
            assert_ne!(log, 0);
            told += records.len();
        }
    }
    assert_eq!(told, 50);
}

#[test]
fn a_host_that_begins_empty_is_filled_and_only_differences_travel_after() {
    let (mut one, mut two) = (Replica::new(1), Replica::new(2));
    let grey =
        |number: u32| Key::of(Kind::TUPLE, &[&format!("{}/32", std::net::Ipv4Addr::from(number)), "a", "b"]);
    let fresh = body(Origin::Learned, State::Grey, DAY);
    for number in 0..20_000 {
        one.load(grey(number), Some(fresh), Stamp::default(), 0);
    }
    let progress = talk(&mut one, &mut two, FULL, [NOW; 2]).unwrap();
    assert_eq!((progress[1].taken, two.counts().keys), (20_000, 20_000));
    for number in 0..20 {
        two.load(grey(number), Some(Body { blocked: 2, ..fresh }), Stamp::default(), 0);
    }
    let progress = talk(&mut one, &mut two, FULL, [NOW; 2]).unwrap();
    // Both send what differs.
    assert_eq!((progress[0].taken, progress[0].sent, progress[1].sent), (20, 20, 20));
}

#[test]
fn what_is_too_long_or_out_of_turn_ends_the_session() {
    let take = |bytes: &[u8]| Frame::take(&mut BytesMut::from(bytes));
    assert_eq!(take(&[0, 0, 0]), Ok(None));
    assert_eq!(take(&[0, 0, 0, 0]), Err(Misbehaved::Length(0)));
    assert_eq!(take(&[0, 1, 0, 1]), Err(Misbehaved::Length(65_537)));
    assert_eq!(take(&[0, 0, 0, 1, 99]), Err(Misbehaved::Malformed));
    assert_eq!(take(b"\0\0\0\x05\x01HTTP"), Err(Misbehaved::Version));
    let (mut replica, mut session) = (Replica::new(1), Session::new(settings(Scope::All, Scope::All)));
    let early = Frame::Records { log: 0, records: Vec::new() };
    assert_eq!(session.input(early, &mut replica, NOW), Err(Misbehaved::Unexpected));
    let hello = Session::new(settings(Scope::All, Scope::All)).output(&mut Replica::new(2), NOW).unwrap();
    session.input(hello.clone(), &mut replica, NOW).unwrap();
    for frame in [hello, Frame::Want(Vec::new()), Frame::LeavesEnd, Frame::Leaves(0, vec![0; 256])] {
        assert_eq!(session.input(frame, &mut replica, NOW), Err(Misbehaved::Unexpected));
    }
    let part = || Frame::Part { from: 0, upto: u64::MAX, has: Vec::new() };
    for _ in 0..8 {
        session.input(part(), &mut replica, NOW).unwrap();
    }
    assert_eq!(session.input(part(), &mut replica, NOW), Err(Misbehaved::Unexpected));
}

proptest! {
    #[test]
    fn no_octets_panic_and_what_is_read_is_written_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 1..10_u8) {
        let mut whole = BytesMut::new();
        whole.extend_from_slice(&u32::try_from(bytes.len() + 1).unwrap().to_be_bytes());
        whole.extend_from_slice(&[kind]);
        whole.extend_from_slice(&bytes);
        if let Ok(Some(frame)) = Frame::take(&mut whole) {
            let mut wire = Vec::new();
            frame.put(&mut wire);
            prop_assert_eq!(Frame::take(&mut BytesMut::from(&wire[..])), Ok(Some(frame)));
        }
    }
}
