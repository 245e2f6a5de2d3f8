use super::*;

const START: Timestamp = Timestamp::from_secs(1_000_000);

fn parameters() -> Parameters {
    Parameters {
        local_as: 65_500,
        peer_as: 65_066,
        identifier: Ipv4Addr::new(192, 0, 2, 1),
        hold_time: Duration::from_secs(90),
        retry_min: Duration::from_secs(5),
        retry_max: Duration::from_secs(120),
        families: Families { ipv4: true, ipv6: true },
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
        Command::Send(bytes) => Some(Message::decode(bytes, &session).unwrap()),
        _ => None,
    };
    commands.iter().filter_map(message).collect()
}

/// A session that is up at `START`.
fn established() -> Machine {
    let mut machine = Machine::new(parameters());
    assert_eq!(machine.handle(Event::Start, START), [Command::Connect]);
    machine.handle(Event::Connected, START);
    machine.handle(Event::Received(&peer_open(65_066, 30, [192, 0, 2, 2])), START);
    let commands = machine.handle(Event::Received(&keepalive()), START);
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
    let confirmed = machine.handle(Event::Received(&peer_open(65_066, 30, [192, 0, 2, 2])), START);
    assert_eq!(sent(&confirmed), [Message::Keepalive]);
    assert_eq!(machine.hold_time(), Duration::from_secs(30));
    let up = machine.handle(Event::Received(&keepalive()), START);
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
        let commands = machine.handle(Event::Received(&open), START);
        let [Message::Notification(notification)] = &sent(&commands)[..] else {
            panic!("{name}: {commands:?}")
        };
        assert_eq!((notification.code, notification.subcode), want, "{name}");
        assert!(matches!(&commands[1..], [Command::Close, Command::Down(_)]), "{name}");
        assert_eq!(machine.state(), State::Idle, "{name}");
    }
}

#[test]
fn an_internal_peer_may_not_have_our_identifier() {
    let mut machine = Machine::new(Parameters { peer_as: 65_500, ..parameters() });
    machine.handle(Event::Start, START);
    machine.handle(Event::Connected, START);
    let commands = machine.handle(Event::Received(&peer_open(65_500, 90, [192, 0, 2, 1])), START);
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
    machine.handle(Event::Received(&keepalive()), later);
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
        machine.handle(Event::Closed("refused".into()), now);
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
    machine.handle(Event::Received(&peer_open(65_066, 0, [192, 0, 2, 2])), now);
    machine.handle(Event::Received(&keepalive()), now);
    assert_eq!(machine.deadline(), None, "without hold time nothing is due");
    now = now.plus(STABLE);
    machine.handle(Event::Closed("reset".into()), now);
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
    machine.handle(Event::Received(&refusal), START);
    machine.handle(Event::Start, START);
    let opened = machine.handle(Event::Connected, START);
    let [Message::Open(open)] = &sent(&opened)[..] else { panic!("{opened:?}") };
    assert_eq!(open.capabilities, []);
    let old = Open::new(65_066, 90, [1, 1, 1, 1].into(), Vec::new());
    let old = Message::Open(old).encode(&Session::default()).unwrap();
    machine.handle(Event::Received(&old), START);
    let commands = machine.handle(Event::Received(&keepalive()), START);
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
    assert!(matches!(&machine.handle(Event::Tick, at)[..], [Command::Close, Command::Down(_)]));
    assert_eq!(machine.state(), State::Active);
}

proptest::proptest! {
    #[test]
    fn no_bytes_in_any_state_panic(
        frames in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64), 0..20)
    ) {
        let mut machine = established();
        for frame in frames {
            machine.handle(Event::Received(&frame), START);
            if machine.state() == State::Idle {
                machine.handle(Event::Start, START);
                machine.handle(Event::Connected, START);
            }
        }
    }
}
