//! The program in the kernel against the same source in user space, over packets that nobody would send.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use mailgate_common::{Act, Action, Kind, NO_RULE, Reason};
use mailgate_packet::PacketFilter as _;
use mailgate_packet::firewall::{Default as Otherwise, Protocol, Rule, RuleSet, TableMatch};
use mailgate_packet::xdp::{Xdp, sys};

use crate::frames::Frame;
use crate::station::{config, missing, name, namespace, open, tables};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
/// Packets over all rulesets.
const PACKETS: usize = 100_000;
/// What it takes at least: an Ethernet header.
const LEAST: usize = 14;

/// The same numbers at every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

#[test]
fn kernel_and_user_space_judge_a_hundred_thousand_mutated_packets_alike() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    namespace("differ")
        .within(|| {
            let filter = open(&config())?;
            filter.apply(vec![tables(
                &["192.0.2.0/28", "2001:db8:1::/48"],
                &["192.0.2.0/24", "!192.0.2.200/32", "2001:db8::/32", "!2001:db8:2::5/128"],
                &["203.0.113.0/25", "2001:db8:5555::/64"],
                &["198.18.0.0/15", "203.0.113.7", "2a00:1::/29"],
            )])?;
            let mut random = Random(0x6d61_696c);
            let mut met = std::collections::BTreeMap::new();
            for round in 0..10 {
                filter.set_rules(rules(round, &mut random), None)?;
                // The last of them come in by loopback, where own addresses are no offence.
                let interface = if round == 9 { 1 } else { nix::net::if_::if_nametoindex("v0")? };
                for _ in 0..PACKETS / 10 {
                    *met.entry(compare(&filter, interface, &mut random)?.name()).or_insert(0_u32) += 1;
                }
            }
            filter.detach()?;
            println!("{met:?}");
            // Live connections, routes and answers aside, every verdict on a packet was met.
            for reason in Reason::ALL {
                let needs_more = matches!(
                    reason,
                    Reason::Established
                        | Reason::NoRules
                        | Reason::Cookie
                        | Reason::Held
                        | Reason::OwnSource
                        | Reason::ReversePath
                );
                let of_packets = matches!(reason.kind(), Kind::Passed | Kind::Dropped);
                assert_eq!(met.contains_key(reason.name()), of_packets && !needs_more, "{}", reason.name());
            }
            Ok(())
        })
        .unwrap();
}

/// One packet through both; the reason they agree on.
fn compare(filter: &Xdp, interface: u32, random: &mut Random) -> Result<Reason> {
    let frame = mutated(random);
    let want = filter.judge(&frame, interface);
    let reason_before = filter.counter(want.reason);
    let rule_before = filter.rule_count(want.rule);
    // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let mut context = [0, frame.len() as u32, 0, interface, 0, 0].map(u32::to_ne_bytes).concat();
    let (verdict, _) = sys::test_run(filter.program("ingress")?.as_fd(), &frame, &mut context, 1)
        .with_context(|| format!("{frame:02x?}"))?;
    let agrees = match want.act {
        Act::Pass => verdict == XDP_PASS,
        // A RST goes back, or not: to a RST, beyond the cap.
        Act::Reject => matches!(verdict, XDP_TX | XDP_DROP),
        Act::Drop | Act::Tarpit | Act::Cookie => verdict == XDP_DROP,
    };
    assert!(agrees, "{verdict}, but user space says {want:?} of {frame:02x?}");
    assert_eq!(filter.counter(want.reason), reason_before + 1, "{want:?} of {frame:02x?}");
    if want.rule != NO_RULE {
        assert_eq!(filter.rule_count(want.rule), rule_before + 1, "{want:?} of {frame:02x?}");
    }
    Ok(want.reason)
}

/// Rules of every kind; the last rounds drop what no rule concerns.
fn rules(round: usize, random: &mut Random) -> RuleSet {
    let mut set = RuleSet { reception_ports: vec![25, 2525], ..RuleSet::default() };
    // Every answer that another program would give is a drop here or is left out.
    set.options.scrub = round % 3 != 2;
    set.options.martians = round % 4 != 3;
    set.default = if round >= 6 { Otherwise::Drop } else { Otherwise::Pass };
    for n in 0..random.below(12) {
        let action = random.of(&[Action::Pass, Action::Drop, Action::Tarpit, Action::Greylist]);
        let mut rule = Rule::new(format!("rule {n}"), action);
        rule.protocol = random.of(&[
            None,
            Some(Protocol::Tcp),
            Some(Protocol::Udp),
            Some(Protocol::Icmp),
            Some(Protocol::Icmp6),
            Some(Protocol::Other(47)),
        ]);
        if matches!(rule.protocol, Some(Protocol::Tcp | Protocol::Udp)) && random.below(4) > 0 {
            let from = random.of(&[25, 53, 80, 443, 587]);
            rule.ports.push(from..=from + random.below(60) as u16);
        }
        if matches!(rule.protocol, Some(Protocol::Icmp | Protocol::Icmp6)) {
            rule.icmp_types = (0..random.below(4)).map(|_| random.of(&[0, 3, 8, 128, 135])).collect();
        }
        for table in ["bypass", "drop", "reject", "tarpit"] {
            if random.below(3) == 0 {
                rule.tables.push(TableMatch { name: name(table), negated: random.below(3) == 0 });
            }
        }
        if random.below(5) == 0 {
            rule.interfaces = vec![random.of(&["lo", "v0"]).to_owned()];
        }
        rule.log = random.below(2) == 0;
        set.rules.push(rule);
    }
    set
}

/// A packet that could be, and then some bytes of it that could not.
fn mutated(random: &mut Random) -> Vec<u8> {
    const SOURCES: [&str; 12] = [
        "8.8.8.8",
        "192.0.2.9",
        "192.0.2.77",
        "192.0.2.200",
        "203.0.113.7",
        "198.19.1.1",
        "127.0.0.1",
        "198.51.100.1",
        "2001:db8:1::3",
        "2001:db8:9::1",
        "2a00:7::1",
        "2620::1",
    ];
    let source = random.of(&SOURCES);
    let port = random.of(&[25, 25, 53, 80, 443, 587, 2525, 40_000, 0]);
    let mut frame = match random.below(5) {
        0 => Frame::udp(port),
        1 => Frame::icmp(random.of(&[0, 3, 8, 11, 128, 135])),
        2 => Frame::protocol(random.of(&[4, 47, 50, 59, 132])),
        _ => Frame::tcp(port).flags(random.of(&[2, 2, 2, 16, 18, 24, 17, 4, 0, 3, 6, 41, 63])),
    };
    if source.contains(':') {
        for _ in 0..random.of(&[0, 0, 0, 1, 2, 6, 7]) {
            let kind = random.of(&[60, 60, 43, 0, 51, 44, 135]);
            frame =
                frame.extension(kind, &[random.of(&[0, 0, 0, 1]), random.of(&[0, 0, 1, 8]), 0, 0, 0, 0, 0]);
        }
        frame = frame.ip(source);
    } else {
        let options: &[u8] = random.of(&[&[][..], &[], &[1; 4], &[1; 40]]);
        frame = frame.ip_with(source, options, random.of(&[0, 0, 0, 0x4000, 0x2000, 1, 185, 0x2001]));
    }
    for _ in 0..random.of(&[0, 0, 0, 1, 2, 3]) {
        frame = frame.tag(random.of(&[0x8100, 0x88a8, 0x9100]));
    }
    let mut bytes = frame.ethernet();
    for _ in 0..random.of(&[0, 0, 1, 2, 4]) {
        let at = 12 + random.below(bytes.len() - 12);
        bytes[at] = random.below(256) as u8;
    }
    if random.below(10) == 0 {
        bytes.truncate(LEAST + random.below(bytes.len() - LEAST + 1));
    }
    bytes
}
