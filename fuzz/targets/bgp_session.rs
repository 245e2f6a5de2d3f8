//! A neighbour that says anything, at any time, in any state: no panic, bounded answers, and a machine that still knows its
//! state.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mailgate_model::Timestamp;
use mailgate_proto::bgp::{
    Command, Event, Families, Machine, Message, Mode, Open, Parameters, Patience, Session, State, Update, Way,
};

fn machine(first: u8) -> Machine {
    Machine::new(Parameters {
        local_as: 65_500,
        peer_as: if first & 1 == 0 { 65_066 } else { 65_500 },
        identifier: [192, 0, 2, 1].into(),
        hold_time: Duration::from_secs(90),
        mode: [Mode::Active, Mode::Both, Mode::Passive][usize::from(first >> 1) % 3],
        patience: Patience {
            retry_min: Duration::from_secs(5),
            retry_max: Duration::from_secs(120),
            damping_min: Duration::from_secs(30),
            damping_max: Duration::from_secs(600),
        },
        families: Families::ALL,
        add_path: first & 0x80 != 0,
        announces: first & 0x40 != 0,
        seed: u64::from(first),
    })
}

/// The bytes with a header that fits, so that not all of them die there.
fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    bytes.extend(u16::try_from(body.len() + 19).unwrap_or(u16::MAX).to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

fuzz_target!(|data: &[u8]| {
    let Some((first, mut rest)) = data.split_first() else { return };
    let mut machine = machine(*first);
    let mut now = Timestamp::from_secs(1_000_000);
    machine.handle(Event::Start, now);
    let open = |asn| Message::Open(Open::new(asn, 30, [192, 0, 2, 2].into(), Vec::new())).encode(&Session::default());
    while let [deed, length, more @ ..] = rest {
        let (body, tail) = more.split_at(usize::from(*length).min(more.len()));
        rest = tail;
        let way = if deed & 0x80 == 0 { Way::Out } else { Way::In };
        let commands = match deed % 14 {
            0 => machine.handle(Event::Connected, now),
            1 => machine.handle(Event::Accepted, now),
            2 => machine.handle(Event::Closed(way, String::new()), now),
            3 => machine.handle(Event::Flushed(way), now),
            4 => machine.handle(Event::Refresh, now),
            5 => machine.handle(Event::Reset("x"), now),
            6 => machine.handle(Event::Announce(&Update::default()), now),
            7 => {
                now = now.plus(Duration::from_secs(u64::from(*length)));
                machine.handle(Event::Tick, now)
            }
            8 => match open(if first & 1 == 0 { 65_066 } else { 65_500 }) {
                Ok(bytes) => machine.handle(Event::Received(way, &bytes), now),
                Err(_) => Vec::new(),
            },
            9 => machine.handle(Event::Received(way, &frame(4, &[])), now),
            10 => machine.handle(Event::Received(way, body), now),
            kind => machine.handle(Event::Received(way, &frame(kind - 10, body)), now),
        };
        assert!(commands.len() <= 16, "{commands:?}");
        let is_up = commands.iter().any(|command| matches!(command, Command::Established(_)));
        assert!(!is_up || machine.state() == State::Established);
        assert_eq!(machine.session().is_some(), machine.state() == State::Established);
    }
});
