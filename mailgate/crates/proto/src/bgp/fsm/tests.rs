use super::super::{AsWidth, Capability, Cease, Notification, Open};
use super::pause::STABLE;
use super::*;

const START: Timestamp = Timestamp::from_secs(1_000_000);

fn parameters() -> Parameters {
    Parameters {
        local_as: 65_500,
        peer_as: 65_066,
        identifier: Ipv4Addr::new(192, 0, 2, 1),
        hold_time: Duration::from_secs(90),
        mode: Mode::Active,
        patience: Patience {
            retry_min: Duration::from_secs(5),
            retry_max: Duration::from_secs(120),
            damping_min: Duration::from_secs(30),
            damping_max: Duration::from_secs(600),
        },
        families: Families::ALL,
        add_path: true,
        announces: false,
        seed: 42,
    }
}

fn peer_open(asn: u32, hold: u16, identifier: [u8; 4]) -> Vec<u8> {
    let capabilities = vec![
        Capability::Multiprotocol(1, 1),
        Capability::Multiprotocol(2, 1),
        Capability::FourOctetAs(asn),
        Capability::Unknown { code: 200, value: vec![1, 2, 3] },
    ];
    Message::Open(Open::new(asn, hold, identifier.into(), capabilities)).encode(&Session::default()).unwrap()
}

fn keepalive() -> Vec<u8> {
    Message::Keepalive.encode(&Session::default()).unwrap()
}

fn sent(commands: &[Command]) -> Vec<Message> {
    let session = Session { families: Families { ipv4: true, ipv6: true }, ..Session::default() };
    let message = |command: &Command| match command {
        Command::Send(_, bytes) => Some(Message::decode(bytes, &session).unwrap()),
        _ => None,
    };
    commands.iter().filter_map(message).collect()
}

/// A session that is up at `START`.
fn established() -> Machine {
    let mut machine = Machine::new(parameters());
    assert_eq!(machine.handle(Event::Start, START), [Command::Connect]);
    machine.handle(Event::Connected, START);
    machine.handle(Event::Received(Way::Out, &peer_open(65_066, 30, [192, 0, 2, 2])), START);
    let commands = machine.handle(Event::Received(Way::Out, &keepalive()), START);
    assert!(matches!(commands.first(), Some(Command::Established(_))), "{commands:?}");
    machine
}

#[test]
fn a_session_comes_up_and_says_that_nothing_is_announced() {
    let mut machine = Machine::new(parameters());
    machine.handle(Event::Start, START);
    let opened = machine.handle(Event::Connected, START);
    let [Message::Open(open)] = &sent(&opened)[..] else { panic!("{opened:?}") };
    assert_eq!((open.asn(), open.hold_time), (65_500, 90));
    let confirmed = machine.handle(Event::Received(Way::Out, &peer_open(65_066, 30, [192, 0, 2, 2])), START);
    assert_eq!(sent(&confirmed), [Message::Keepalive]);
    assert_eq!(machine.hold_time(), Duration::from_secs(30));
    let up = machine.handle(Event::Received(Way::Out, &keepalive()), START);
    let ends: Vec<_> = sent(&up)
        .into_iter()
        .map(|message| match message {
            Message::Update(update) => update.ends_rib(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ends, [Some(Family::Ipv4Unicast), Some(Family::Ipv6Unicast)]);
    assert_eq!(machine.state(), State::Established);
    assert_eq!(machine.messages(), (2, 4));
}

#[test]
fn an_open_that_does_not_suit_is_answered_with_its_reason() {
    struct Case {
        name: &'static str,
        open: Vec<u8>,
        want: (u8, u8),
    }
    let mut bad_version = peer_open(65_066, 90, [1, 1, 1, 1]);
    bad_version[19] = 3;
    let mut odd_parameter = Message::Open(Open::new(65_066, 90, [1, 1, 1, 1].into(), Vec::new()))
        .encode(&Session::default())
        .unwrap();
    odd_parameter.splice(28.., [3, 1, 1, 0]);
    odd_parameter[17] = 32;
    for Case { name, open, want } in [
        Case { name: "another AS", open: peer_open(65_067, 90, [1, 1, 1, 1]), want: (2, 2) },
        Case { name: "identifier zero", open: peer_open(65_066, 90, [0, 0, 0, 0]), want: (2, 3) },
        Case { name: "hold time 2", open: peer_open(65_066, 2, [1, 1, 1, 1]), want: (2, 6) },
        Case { name: "version 3", open: bad_version, want: (2, 1) },
        Case { name: "authentication parameter", open: odd_parameter, want: (2, 4) },
        Case { name: "KEEPALIVE before OPEN", open: keepalive(), want: (5, 1) },
    ] {
        let mut machine = Machine::new(parameters());
        machine.handle(Event::Start, START);
        machine.handle(Event::Connected, START);
        let commands = machine.handle(Event::Received(Way::Out, &open), START);
        let [Message::Notification(notification)] = &sent(&commands)[..] else {
            panic!("{name}: {commands:?}")
        };
        assert_eq!((notification.code, notification.subcode), want, "{name}");
        assert!(matches!(&commands[1..], [Command::Close(Way::Out), Command::Down(_)]), "{name}");
        assert_eq!(machine.state(), State::Idle, "{name}");
    }
}

#[test]
fn an_internal_peer_may_not_have_our_identifier() {
    let mut machine = Machine::new(Parameters { peer_as: 65_500, ..parameters() });
    machine.handle(Event::Start, START);
    machine.handle(Event::Connected, START);
    let commands = machine.handle(Event::Received(Way::Out, &peer_open(65_500, 90, [192, 0, 2, 1])), START);
    let [Message::Notification(notification)] = &sent(&commands)[..] else { panic!("{commands:?}") };
    assert_eq!((notification.code, notification.subcode), (2, 3));
}

#[test]
fn keepalives_go_out_three_times_per_hold_time_and_silence_ends_the_session() {
    let mut machine = established();
    let mut keepalives = 0;
    loop {
        let at = machine.deadline().unwrap();
        let commands = machine.handle(Event::Tick, at);
        if let [Message::Notification(notification)] = &sent(&commands)[..] {
            assert_eq!(at, START.plus(Duration::from_secs(30)));
            assert_eq!((notification.code, notification.subcode), (4, 0));
            break;
        }
        assert_eq!(sent(&commands), [Message::Keepalive]);
        keepalives += 1;
    }
    assert!((2..=4).contains(&keepalives), "{keepalives}");
}

#[test]
fn what_is_heard_keeps_the_session() {
    let mut machine = established();
    let later = START.plus(Duration::from_secs(29));
    machine.handle(Event::Received(Way::Out, &keepalive()), later);
    let commands = machine.handle(Event::Tick, START.plus(Duration::from_secs(31)));
    assert_eq!(machine.state(), State::Established, "{commands:?}");
}

#[test]
fn pauses_double_up_to_the_limit_and_begin_anew_after_a_good_session() {
    let mut machine = Machine::new(parameters());
    let mut now = START;
    let mut pauses = Vec::new();
    machine.handle(Event::Start, now);
    for _ in 0..8 {
        machine.handle(Event::Closed(Way::Out, "refused".into()), now);
        assert_eq!(machine.state(), State::Active);
        let at = machine.deadline().unwrap();
        pauses.push(at.since(now).as_millis());
        now = at;
        assert_eq!(machine.handle(Event::Tick, now), [Command::Connect]);
    }
    for (pause, limit) in pauses.iter().zip([5, 10, 20, 40, 80, 120, 120, 120_u128]) {
        assert!((limit * 750..=limit * 1000).contains(pause), "{pauses:?}");
    }
    machine.handle(Event::Connected, now);
    machine.handle(Event::Received(Way::Out, &peer_open(65_066, 0, [192, 0, 2, 2])), now);
    machine.handle(Event::Received(Way::Out, &keepalive()), now);
    machine.handle(Event::Flushed(Way::Out), now);
    assert_eq!(machine.deadline(), None, "without hold time nothing is due");
    now = now.plus(STABLE);
    machine.handle(Event::Closed(Way::Out, "reset".into()), now);
    assert_eq!(machine.state(), State::Idle);
    assert!(machine.deadline().unwrap().since(now) <= Duration::from_secs(5));
}

#[test]
fn a_peer_that_knows_no_parameters_is_asked_without() {
    let mut machine = Machine::new(parameters());
    machine.handle(Event::Start, START);
    machine.handle(Event::Connected, START);
    let refusal = Notification { code: 2, subcode: 4, data: Vec::new() };
    let refusal = Message::Notification(refusal).encode(&Session::default()).unwrap();
    machine.handle(Event::Received(Way::Out, &refusal), START);
    machine.handle(Event::Start, START);
    let opened = machine.handle(Event::Connected, START);
    let [Message::Open(open)] = &sent(&opened)[..] else { panic!("{opened:?}") };
    assert_eq!(open.capabilities, []);
    let old = Open::new(65_066, 90, [1, 1, 1, 1].into(), Vec::new());
    let old = Message::Open(old).encode(&Session::default()).unwrap();
    machine.handle(Event::Received(Way::Out, &old), START);
    let commands = machine.handle(Event::Received(Way::Out, &keepalive()), START);
    let [Command::Established(session), ..] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(session.as_width, AsWidth::Two);
    assert_eq!(session.families, Families { ipv4: true, ipv6: false });
}

#[test]
fn stopping_tells_the_peer_and_stays_stopped() {
    let mut machine = established();
    let commands = machine.handle(Event::Stop("going home"), START);
    let [Message::Notification(notification)] = &sent(&commands)[..] else { panic!("{commands:?}") };
    assert_eq!(notification.shutdown_text(), Some("going home"));
    assert_eq!(machine.deadline(), None);
    assert_eq!(machine.state(), State::Idle);
}

#[test]
fn tcp_that_never_connects_is_given_up() {
    let mut machine = Machine::new(parameters());
    machine.handle(Event::Start, START);
    let at = machine.deadline().unwrap();
    assert!(matches!(&machine.handle(Event::Tick, at)[..], [Command::Close(Way::Out), Command::Down(_)]));
    assert_eq!(machine.state(), State::Active);
}

proptest::proptest! {
    #[test]
    fn no_bytes_in_any_state_panic(
        frames in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64), 0..20)
    ) {
        let mut machine = established();
        for frame in frames {
            machine.handle(Event::Received(Way::Out, &frame), START);
            if machine.state() == State::Idle {
                machine.handle(Event::Start, START);
                machine.handle(Event::Connected, START);
            }
        }
    }
}

/// A second connection, which the neighbour opens.
fn both() -> Machine {
    let mut machine = Machine::new(Parameters { mode: Mode::Both, ..parameters() });
    assert_eq!(machine.handle(Event::Start, START), [Command::Connect]);
    let opened = machine.handle(Event::Accepted, START);
    assert!(matches!(&opened[..], [Command::Accept, Command::Send(Way::In, _)]), "{opened:?}");
    machine
}

#[test]
fn of_two_connections_that_of_the_higher_identifier_stays() {
    for (identifier, peer_as, local_as, stays) in [
        ([192, 0, 2, 2], 65_066, 65_500, Way::In),
        ([192, 0, 2, 0], 65_066, 65_500, Way::Out),
        // RFC 6286 §2.3: the same identifier in two AS.
        ([192, 0, 2, 1], 65_066, 65_500, Way::Out),
        ([192, 0, 2, 1], 65_500, 65_066, Way::In),
    ] {
        for first in Way::ALL {
            let mut machine =
                Machine::new(Parameters { mode: Mode::Both, peer_as, local_as, ..parameters() });
            machine.handle(Event::Start, START);
            machine.handle(Event::Accepted, START);
            machine.handle(Event::Connected, START);
            let open = peer_open(peer_as, 90, identifier);
            machine.handle(Event::Received(first, &open), START);
            let commands = machine.handle(Event::Received(first.other(), &open), START);
            let [Command::Send(loser, bytes), Command::Close(closed), ..] = &commands[..] else {
                panic!("{commands:?}")
            };
            assert_eq!((*loser, *closed), (stays.other(), stays.other()), "{identifier:?} {first:?}");
            let Ok(Message::Notification(said)) = Message::decode(bytes, &Session::default()) else {
                panic!()
            };
            assert_eq!((said.code, said.subcode), (6, 7));
            let up = machine.handle(Event::Received(stays, &keepalive()), START);
            assert!(up.iter().any(|command| matches!(command, Command::Established(_))), "{up:?}");
            assert_eq!(machine.way(), Some(stays));
        }
    }
}

#[test]
fn a_session_that_the_neighbour_opened_ends_our_own_try() {
    let mut machine = both();
    machine.handle(Event::Received(Way::In, &peer_open(65_066, 90, [192, 0, 2, 2])), START);
    let up = machine.handle(Event::Received(Way::In, &keepalive()), START);
    assert!(matches!(&up[..], [Command::Close(Way::Out), Command::Established(_), ..]), "{up:?}");
    // The connection that was on its way comes too late.
    assert_eq!(machine.handle(Event::Connected, START), [Command::Close(Way::Out)]);
    assert_eq!(machine.state(), State::Established);
}

#[test]
fn a_connection_that_fails_leaves_the_other() {
    let mut machine = both();
    let closed = machine.handle(Event::Closed(Way::Out, "refused".into()), START);
    assert_eq!(closed, [Command::Close(Way::Out)]);
    machine.handle(Event::Received(Way::In, &peer_open(65_066, 90, [192, 0, 2, 2])), START);
    machine.handle(Event::Received(Way::In, &keepalive()), START);
    assert_eq!(machine.state(), State::Established);
}

#[test]
fn a_passive_session_waits_and_takes_who_comes() {
    let mut machine = Machine::new(Parameters { mode: Mode::Passive, ..parameters() });
    assert_eq!(machine.handle(Event::Accepted, START), [], "before it has begun");
    assert_eq!(machine.handle(Event::Start, START), []);
    assert_eq!((machine.state(), machine.deadline()), (State::Active, None));
    assert!(matches!(
        &machine.handle(Event::Accepted, START)[..],
        [Command::Accept, Command::Send(Way::In, _)]
    ));
    assert_eq!(machine.handle(Event::Accepted, START), [], "one at a time");
    machine.handle(Event::Closed(Way::In, "gone".into()), START);
    assert_eq!((machine.state(), machine.deadline()), (State::Active, None));
}

#[test]
fn an_active_session_takes_nobody() {
    let mut machine = established();
    assert_eq!(machine.handle(Event::Accepted, START), []);
}

/// An OPEN of a peer that keeps routes for two minutes.
fn restarting_open(flags: u8) -> Vec<u8> {
    let capabilities = vec![
        Capability::Multiprotocol(1, 1),
        Capability::FourOctetAs(65_066),
        Capability::GracefulRestart { flags, time: 120, families: vec![(1, 1, 0x80)] },
    ];
    Message::Open(Open::new(65_066, 30, [192, 0, 2, 2].into(), capabilities))
        .encode(&Session::default())
        .unwrap()
}

fn established_with(mode: Mode, open: &[u8]) -> Machine {
    let mut machine = Machine::new(Parameters { mode, ..parameters() });
    machine.handle(Event::Start, START);
    machine.handle(Event::Connected, START);
    machine.handle(Event::Received(Way::Out, open), START);
    machine.handle(Event::Received(Way::Out, &keepalive()), START);
    assert_eq!(machine.state(), State::Established);
    machine
}

fn loss(commands: &[Command]) -> Loss {
    let find = |command: &Command| match command {
        Command::Down(loss) => Some(loss.clone()),
        _ => None,
    };
    commands.iter().find_map(find).unwrap()
}

#[test]
fn what_keeps_routes_over_a_restart_is_told() {
    let cease = |subcode| {
        Message::Notification(Notification { code: 6, subcode, data: Vec::new() })
            .encode(&Session::default())
            .unwrap()
    };
    struct Case {
        name: &'static str,
        flags: u8,
        notification: Option<u8>,
        want: bool,
    }
    for Case { name, flags, notification, want } in [
        Case { name: "TCP is lost", flags: 0, notification: None, want: true },
        Case { name: "a NOTIFICATION, RFC 4724 alone", flags: 0, notification: Some(4), want: false },
        Case { name: "a NOTIFICATION, RFC 8538 too", flags: 4, notification: Some(4), want: true },
        Case { name: "a hard reset", flags: 4, notification: Some(9), want: false },
    ] {
        let mut machine = established_with(Mode::Active, &restarting_open(flags));
        let commands = match notification {
            Some(subcode) => machine.handle(Event::Received(Way::Out, &cease(subcode)), START),
            None => machine.handle(Event::Closed(Way::Out, "reset".into()), START),
        };
        let loss = loss(&commands);
        assert_eq!(loss.is_graceful, want, "{name}");
        let restart = loss.session.unwrap().restart.unwrap();
        assert_eq!((restart.time, restart.preserved.ipv4), (Duration::from_secs(120), true), "{name}");
    }
    let plain = loss(&established().handle(Event::Closed(Way::Out, "reset".into()), START));
    assert!(!plain.is_graceful, "a peer that says nothing of restarts");
}

#[test]
fn a_peer_that_restarted_is_let_in_while_the_old_session_still_stands() {
    let mut machine = established_with(Mode::Both, &restarting_open(0));
    let commands = machine.handle(Event::Accepted, START);
    let [Command::Close(Way::Out), Command::Down(loss), Command::Accept, Command::Send(Way::In, _)] =
        &commands[..]
    else {
        panic!("{commands:?}")
    };
    assert!(loss.is_graceful);
    // Without graceful restart the old one stands (RFC 4271 §6.8).
    let mut machine = established_with(Mode::Both, &peer_open(65_066, 30, [192, 0, 2, 2]));
    assert_eq!(machine.handle(Event::Accepted, START), []);
}

#[test]
fn a_session_that_comes_and_goes_is_held_down_and_kept_out() {
    let mut machine = Machine::new(Parameters { mode: Mode::Both, ..parameters() });
    let mut now = START;
    machine.handle(Event::Start, now);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        machine.handle(Event::Connected, now);
        machine.handle(Event::Received(Way::Out, &peer_open(65_066, 90, [192, 0, 2, 2])), now);
        machine.handle(Event::Received(Way::Out, &keepalive()), now);
        assert_eq!(machine.state(), State::Established);
        now = now.plus(Duration::from_secs(10));
        machine.handle(Event::Closed(Way::Out, "reset".into()), now);
        let at = machine.deadline().unwrap();
        pauses.push(at.since(now).as_secs());
        let is_let_in = !machine.handle(Event::Accepted, now).is_empty();
        assert_eq!(is_let_in, pauses.len() == 1, "{pauses:?}");
        machine.handle(Event::Closed(Way::In, "gone".into()), now);
        now = machine.deadline().unwrap().max(at);
        assert_eq!(machine.handle(Event::Tick, now), [Command::Connect]);
    }
    for (pause, limit) in pauses.iter().zip([5, 30, 60, 120, 240, 480, 600, 600]) {
        assert!((limit * 3 / 4..=limit).contains(pause), "{pauses:?}");
    }
}

#[test]
fn a_peer_that_reads_nothing_is_given_up() {
    let mut machine = established_with(Mode::Active, &peer_open(65_066, 0, [192, 0, 2, 2]));
    machine.handle(Event::Flushed(Way::Out), START);
    assert_eq!(machine.deadline(), None);
    let commands = machine.handle(Event::Announce(&Update::default()), START);
    assert!(matches!(&commands[..], [Command::Send(Way::Out, _)]));
    let at = machine.deadline().unwrap();
    assert_eq!(at, START.plus(Duration::from_secs(480)));
    let commands = machine.handle(Event::Tick, at);
    assert!(matches!(&commands[..], [Command::Close(Way::Out), Command::Down(_)]), "{commands:?}");
}

fn refreshing_open(capabilities: &[Capability]) -> Vec<u8> {
    let mut all = vec![Capability::Multiprotocol(1, 1), Capability::FourOctetAs(65_066)];
    all.extend_from_slice(capabilities);
    Message::Open(Open::new(65_066, 30, [192, 0, 2, 2].into(), all)).encode(&Session::default()).unwrap()
}

#[test]
fn all_routes_are_asked_for_anew_where_the_peer_can() {
    for (capabilities, want) in [
        (vec![], 0),
        (vec![Capability::RouteRefresh], 1),
        (vec![Capability::RouteRefresh, Capability::EnhancedRouteRefresh], 1),
    ] {
        let mut machine = established_with(Mode::Active, &refreshing_open(&capabilities));
        let asked = sent(&machine.handle(Event::Refresh, START));
        assert_eq!(asked.len(), want, "{capabilities:?}");
        if want == 1 {
            assert_eq!(asked, [Message::RouteRefresh(RouteRefresh { afi: 1, subtype: 0, safi: 1 })]);
        }
    }
}

#[test]
fn marks_of_a_refresh_count_only_where_agreed() {
    let mark = |subtype| {
        Message::RouteRefresh(RouteRefresh { afi: 1, subtype, safi: 1 }).encode(&Session::default()).unwrap()
    };
    let mut machine = established_with(Mode::Active, &refreshing_open(&[Capability::EnhancedRouteRefresh]));
    for (subtype, want) in [(1, Some(Asked::Begins)), (2, Some(Asked::Ends)), (3, None), (255, None)] {
        let commands = machine.handle(Event::Received(Way::Out, &mark(subtype)), START);
        let want: Vec<_> =
            want.map(|asked| Command::Refresh(Family::Ipv4Unicast, asked)).into_iter().collect();
        assert_eq!(commands, want, "{subtype}");
    }
    // Asked for our routes, we say that there are none.
    let answered = sent(&machine.handle(Event::Received(Way::Out, &mark(0)), START));
    let subtypes: Vec<u8> = answered
        .iter()
        .map(|message| match message {
            Message::RouteRefresh(refresh) => refresh.subtype,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(subtypes, [1, 2]);
    // A body of another length is answered with itself (RFC 7313 §5).
    let mut long = mark(1);
    long.push(0);
    long[17] = 24;
    let said = sent(&machine.handle(Event::Received(Way::Out, &long), START));
    let [Message::Notification(said)] = &said[..] else { panic!("{said:?}") };
    assert_eq!((said.code, said.subcode, &said.data), (7, 1, &long));
}

#[test]
fn who_announces_is_asked_for_its_routes_and_ends_them_itself() {
    let mut machine = Machine::new(Parameters { announces: true, ..parameters() });
    machine.handle(Event::Start, START);
    machine.handle(Event::Connected, START);
    machine.handle(Event::Received(Way::Out, &refreshing_open(&[Capability::EnhancedRouteRefresh])), START);
    let up = machine.handle(Event::Received(Way::Out, &keepalive()), START);
    assert_eq!(sent(&up), [], "the end of routes comes after the routes");
    let wish = Message::RouteRefresh(RouteRefresh { afi: 1, subtype: 0, safi: 1 })
        .encode(&Session::default())
        .unwrap();
    let commands = machine.handle(Event::Received(Way::Out, &wish), START);
    assert_eq!(commands, [Command::Refresh(Family::Ipv4Unicast, Asked::Wanted)]);
    let marked = sent(&machine.mark(Family::Ipv4Unicast, Asked::Begins, START));
    assert_eq!(marked, [Message::RouteRefresh(RouteRefresh { afi: 1, subtype: 1, safi: 1 })]);
}

#[test]
fn what_both_sides_can_is_agreed_on() {
    let open = refreshing_open(&[
        Capability::ExtendedMessage,
        Capability::AddPath(vec![(1, 1, 2), (2, 1, 3)]),
        Capability::GracefulRestart { flags: 12, time: 77, families: vec![(1, 1, 0)] },
    ]);
    let machine = established_with(Mode::Active, &open);
    let session = machine.session().unwrap();
    assert_eq!(session.message_limit(), 65_535);
    assert_eq!(machine.message_limit(Way::Out), 65_535);
    // IPv6 was not agreed on, whatever is said of its paths.
    assert_eq!(session.add_path, Families { ipv4: true, ipv6: false });
    let restart = session.restart.unwrap();
    assert!(restart.is_restarting && restart.over_notification);
    assert_eq!((restart.families.ipv4, restart.preserved.ipv4), (true, false));
    // A peer that only receives several paths sends one.
    let machine = established_with(Mode::Active, &refreshing_open(&[Capability::AddPath(vec![(1, 1, 1)])]));
    assert_eq!(machine.session().unwrap().add_path, Families::default());
}

#[test]
fn a_reset_tells_the_peer_and_begins_anew_soon() {
    let mut machine = established();
    let commands = machine.handle(Event::Reset("new policy"), START);
    let [Message::Notification(said)] = &sent(&commands)[..] else { panic!("{commands:?}") };
    assert_eq!((said.subcode, said.shutdown_text()), (4, Some("new policy")));
    assert!(machine.deadline().unwrap().since(START) <= Duration::from_secs(5));
    assert_eq!(machine.handle(Event::Reset("now"), START), [Command::Connect], "and at once when it waits");
}

#[test]
fn a_session_that_had_too_many_prefixes_stays_down_as_long_as_said() {
    let mut machine = established_with(Mode::Both, &peer_open(65_066, 30, [192, 0, 2, 2]));
    let cease = Notification::cease(Cease::MaximumPrefixes, "");
    machine.handle(Event::End(cease, Some(Duration::from_secs(1800))), START);
    assert_eq!(machine.deadline(), Some(START.plus(Duration::from_secs(1800))));
    assert!(machine.is_damped());
    assert_eq!(machine.handle(Event::Accepted, START), [], "the neighbour cannot come in either");
    assert_eq!(machine.handle(Event::Start, START), [Command::Connect], "the administrator can");
}
