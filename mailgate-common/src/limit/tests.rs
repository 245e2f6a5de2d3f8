//! Counting, against PF's arithmetic written down a second time.

extern crate std;

use std::collections::HashMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

fn spec(connections: u32, rate: u32, window_ms: u32) -> LimitSpec {
    LimitSpec {
        connections,
        rate,
        window_ms,
        prefix4: 32,
        prefix6: 64,
        overload: Some(3),
        flush: true,
        id: 7,
    }
}

/// pf_add_threshold and pf_check_threshold as pf.conf(5) describes them, with fractions instead of units.
struct Model {
    connections: u32,
    rate: f64,
    last_ms: u64,
}

impl Model {
    fn opened(&mut self, spec: &LimitSpec, now_ms: u64) -> (bool, f64) {
        let elapsed = (now_ms - self.last_ms) as f64 / f64::from(spec.window_ms);
        self.rate = if elapsed >= 1.0 { 0.0 } else { self.rate * (1.0 - elapsed) } + 1.0;
        self.last_ms = now_ms;
        self.connections += 1;
        (spec.connections != 0 && self.connections > spec.connections, self.rate)
    }
}

#[test]
fn fifty_connections_are_fine_and_the_next_one_is_not() {
    let (state, spec) = (SourceState::default(), spec(50, 0, 0));
    for n in 1..=50 {
        assert!(!state.refuses_new(&spec, 0));
        assert_eq!(state.opened(&spec, 0), Opened { excess: Excess::Fine, connections: n, rate: 0 });
    }
    assert!(!state.refuses_new(&spec, 0), "the one that trips must come to be seen");
    let without_table = LimitSpec { overload: None, ..spec };
    assert!(state.refuses_new(&without_table, 0), "no table: it never gets a handshake");
    assert_eq!(state.opened(&spec, 0).excess, Excess::Connections);
    assert!(state.refuses_new(&spec, 0), "what follows does not");
    state.closed();
    assert!(!state.refuses_new(&spec, 0));
    assert!(state.refuses_new(&without_table, 0));
    for _ in 0..60 {
        state.closed();
    }
    assert_eq!(state.counts().connections, 0, "ends of forgotten connections change nothing");
    assert_eq!(state.counts().total, 51);
}

#[test]
fn fifty_in_five_seconds_trip_at_the_fifty_first_and_decay_with_the_window() {
    let (state, spec) = (SourceState::default(), spec(0, 50, 5_000));
    for _ in 0..50 {
        assert_eq!(state.opened(&spec, 40 * MS).excess, Excess::Fine);
    }
    let tripped = state.opened(&spec, 40 * MS);
    assert_eq!((tripped.excess, tripped.rate), (Excess::Rate, 51_000));
    assert!(state.refuses_new(&spec, 40 * MS));
    assert!(!state.refuses_new(&spec, 140 * MS), "a fiftieth of the window later one has decayed");
    assert_eq!(state.counts().rate(&spec, 2_540 * MS), 25_500, "half of it after half the window");
    assert_eq!(state.counts().rate(&spec, 5_040 * MS), 0);
    assert_eq!(state.opened(&spec, 5_040 * MS).rate, UNIT);
}

#[test]
fn a_steady_stream_below_the_rate_never_trips_and_above_it_soon_does() {
    // In equilibrium a connection adds one and an interval takes its share of the window.
    for (every_ms, trips) in [(101, false), (99, true)] {
        let (state, spec) = (SourceState::default(), spec(0, 50, 5_000));
        let mut over = false;
        for n in 0..10_000_u64 {
            over |= state.opened(&spec, n * every_ms * MS).excess == Excess::Rate;
        }
        assert_eq!(over, trips, "one every {every_ms} ms");
    }
}

#[test]
fn a_clock_of_another_processor_that_is_behind_takes_nothing_away() {
    let (state, spec) = (SourceState::default(), spec(0, 50, 5_000));
    state.opened(&spec, 1_000 * MS);
    assert_eq!(state.opened(&spec, 990 * MS).rate, 2 * UNIT);
}

#[test]
fn milliseconds_wrap_without_a_jump() {
    let (state, spec) = (SourceState::default(), spec(0, 50, 5_000));
    let wrap = (u64::from(u32::MAX) + 1) * MS;
    state.opened(&spec, wrap - 100 * MS);
    assert_eq!(state.opened(&spec, wrap + 2_400 * MS).rate, UNIT + UNIT / 2);
}

#[test]
fn one_report_in_five_seconds() {
    let state = SourceState::default();
    assert!(state.report(10 * MS));
    assert!(!state.report(10 * MS) && !state.report(5_000 * MS));
    assert!(state.report(5_020 * MS));
}

#[test]
fn processors_at_the_same_time_lose_no_connection() {
    let (state, spec) = (SourceState::default(), spec(1_000, 100_000, u32::MAX));
    let over: usize = std::thread::scope(|scope| {
        let each = || (0..500).filter(|_| state.opened(&spec, MS).excess == Excess::Connections).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(each)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((over, state.counts().connections, state.counts().total), (1_000, 2_000, 2_000));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..400).for_each(|_| state.closed()));
        }
    });
    // A step that lost eight times in a row is left to the guard; threads of one test do not get there.
    assert_eq!(state.counts().connections, 400);
}

#[test]
fn what_the_memory_holds_is_read_as_it_was_written() {
    let specs = [
        spec(50, 50, 5_000),
        LimitSpec { overload: None, flush: false, prefix4: 24, prefix6: 0, ..spec(0, 0, 0) },
        LimitSpec { id: u32::MAX, overload: Some(63), ..spec(u32::MAX, LimitSpec::RATE_LIMIT, u32::MAX) },
    ];
    for spec in specs {
        assert_eq!(LimitSpec::decode(spec.encode()), spec);
    }
    assert_ne!(identity("imap"), identity("pop3"));
    assert_eq!(identity("a"), 0xe40c_292c, "FNV-1a of its reference");
}

#[test]
fn an_address_belongs_to_the_network_of_its_family() {
    let spec = LimitSpec { prefix4: 24, prefix6: 56, ..spec(1, 1, 1) };
    let mapped = 0xffff_c000_0281;
    assert_eq!(
        SourceKey::new(0, mapped, 7, spec.bits(0, mapped)),
        SourceKey { high: 0, low: 0xffff_c000_0200, limit: 7, bits: 120 }
    );
    let high = 0x2001_0db8_1234_56ff;
    assert_eq!(SourceKey::new(high, 1, 7, spec.bits(high, 1)).high, 0x2001_0db8_1234_5600);
    for (bits, want) in [(0, (0, 0)), (63, (u64::MAX - 1, 0)), (64, (u64::MAX, 0)), (65, (u64::MAX, 1 << 63))]
    {
        assert_eq!(network(u64::MAX, u64::MAX, bits), want, "{bits} bits");
    }
    assert_eq!(network(u64::MAX, u64::MAX, 128), (u64::MAX, u64::MAX));
    assert_eq!(network(u64::MAX, u64::MAX, 200), (u64::MAX, u64::MAX), "nonsense is no shift");
}

proptest! {
    #[test]
    fn counts_follow_the_model(
        connections in 0_u32..20,
        rate in 1_u32..100,
        window_ms in 1_u32..20_000,
        steps in prop::collection::vec((0_u64..3_000, any::<bool>()), 1..200),
    ) {
        let spec = spec(connections, rate, window_ms);
        let state = SourceState::default();
        let mut model = Model { connections: 0, rate: 0.0, last_ms: 1 };
        let mut now = 1;
        for (pause, open) in steps {
            now += pause;
            if open {
                let (over, want) = model.opened(&spec, now);
                let got = state.opened(&spec, now * MS);
                prop_assert_eq!(got.connections, model.connections);
                // Each step rounds by less than one unit, in favour of the count.
                prop_assert!((f64::from(got.rate) / 1000.0 - want).abs() < 0.2, "{} {want}", got.rate);
                let expected = if over {
                    Some(Excess::Connections)
                } else if (want - f64::from(rate)).abs() < 0.2 {
                    None
                } else if want > f64::from(rate) {
                    Some(Excess::Rate)
                } else {
                    Some(Excess::Fine)
                };
                prop_assert!(expected.is_none_or(|expected| expected == got.excess), "{got:?} {want}");
            } else {
                state.closed();
                model.connections = model.connections.saturating_sub(1);
            }
        }
    }

    #[test]
    fn refusing_says_beforehand_what_opening_would_say(
        connections in 0_u32..5,
        rate in 0_u32..5,
        pauses in prop::collection::vec(0_u64..2_000, 1..60),
    ) {
        let spec = LimitSpec { overload: None, ..spec(connections, rate, 3_000) };
        let state = SourceState::default();
        let mut now = 0;
        for pause in pauses {
            now += pause;
            let refused = state.refuses_new(&spec, now * MS);
            prop_assert_eq!(refused, state.opened(&spec, now * MS).excess != Excess::Fine);
            if refused {
                state.closed();
            }
        }
    }

    #[test]
    fn bytes_of_the_kernel_are_read_back(high: u64, low: u64, limit: u32, bits: u8, words: [u64; 4]) {
        let key = SourceKey::new(high, low, limit, bits);
        prop_assert_eq!(SourceKey::from_bytes(&key.to_bytes()), Some(key));
        let [connections, packed_rate, total, reported] = words;
        let counts = Counts { connections, packed_rate, total, reported };
        prop_assert_eq!(Counts::from_bytes(&counts.to_bytes()), Some(counts));
        prop_assert_eq!(Counts::from_bytes(&counts.to_bytes()[1..]), None);
    }

    #[test]
    fn sources_do_not_touch_each_other(opens in prop::collection::vec((0_u64..4, any::<bool>()), 1..200)) {
        let spec = LimitSpec { prefix6: 128, ..spec(3, 0, 0) };
        let mut states: HashMap<SourceKey, SourceState> = HashMap::new();
        let mut model: HashMap<u64, u32> = HashMap::new();
        for (source, open) in opens {
            let state = states.entry(SourceKey::new(9, source, spec.id, spec.bits(9, source))).or_default();
            let count = model.entry(source).or_default();
            if open {
                *count += 1;
                prop_assert_eq!(state.opened(&spec, 0).excess == Excess::Connections, *count > 3);
            } else {
                state.closed();
                *count = count.saturating_sub(1);
            }
        }
    }
}

#[test]
fn a_connection_remembers_the_sources_it_counts_for() {
    let counted =
        Counted { limits: [7, 0, 9, 0], bits: [128, 0, 120, 0], ..Counted::new(0, 0xffff_c000_0281) };
    let mut bytes = [0_u8; Counted::SIZE];
    bytes[8..16].copy_from_slice(&counted.low.to_ne_bytes());
    bytes[16..20].copy_from_slice(&7_u32.to_ne_bytes());
    bytes[24..28].copy_from_slice(&9_u32.to_ne_bytes());
    bytes[32..36].copy_from_slice(&[128, 0, 120, 0]);
    assert_eq!(Counted::from_bytes(&bytes), Some(counted));
    let keys: Vec<(u64, u32)> = counted.keys().map(|key| (key.low, key.limit)).collect();
    assert_eq!(keys, [(0xffff_c000_0281, 7), (0xffff_c000_0200, 9)]);
}
