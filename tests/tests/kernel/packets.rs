//! Packets in, verdicts and counters out, through `BPF_PROG_TEST_RUN`.

use std::os::fd::AsFd as _;

use anyhow::Result;
use mailgate_common::{Kind, Reason};
use mailgate_lists::{Action, Change};
use mailgate_packet::PacketFilter as _;
use mailgate_packet::xdp::{Xdp, sys};

use crate::frames::Frame;
use crate::station::{config, entry, missing, name, namespace, open, tables};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
/// A RST goes back.
const XDP_TX: u32 = 3;

fn counts(filter: &Xdp) -> Vec<u64> {
    Reason::ALL.iter().map(|reason| filter.counter(*reason)).collect()
}

/// Runs a frame through the program; asserts verdict, its reason, and that no other reason was counted.
fn meets(filter: &Xdp, what: &str, frame: &[u8], want: Reason) -> Result<()> {
    let before = counts(filter);
    let (verdict, _) = sys::test_run(filter.program("ingress")?.as_fd(), frame, &mut [], 1)?;
    for (reason, (before, after)) in Reason::ALL.iter().zip(before.into_iter().zip(counts(filter))) {
        assert_eq!(after - before, u64::from(*reason == want), "reason {} on {what}", reason.name());
    }
    let expected = match want {
        Reason::Rejected => XDP_TX,
        _ if want.kind() == Kind::Dropped => XDP_DROP,
        _ => XDP_PASS,
    };
    assert_eq!(verdict, expected, "verdict on {what}");
    Ok(())
}

fn with_filter(label: &str, job: impl FnOnce(&Xdp) -> Result<()> + Send + 'static) {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    namespace(label)
        .within(move || {
            let filter = open(&config())?;
            filter.apply(vec![tables(
                &["192.0.2.0/28", "2001:db8:1::/48"],
                &["192.0.2.0/24", "!192.0.2.200/32", "2001:db8::/32", "!2001:db8:2::5/128"],
                &["203.0.113.0/25", "2001:db8:5555::/64"],
                &["198.18.0.0/15", "203.0.113.7", "2a00:1::/29"],
            )])?;
            job(&filter)?;
            filter.detach()?;
            Ok(())
        })
        .unwrap();
}

#[test]
fn plain_packets_of_both_families_meet_what_their_tables_say() {
    with_filter("plain", |filter| {
        let cases: &[(&str, Vec<u8>, Reason)] = &[
            ("a stranger", Frame::tcp(25).ip("8.8.8.8").ethernet(), Reason::Greylisted),
            ("a dropped host to port 25", Frame::tcp(25).ip("192.0.2.77").ethernet(), Reason::Dropped),
            ("a dropped host to port 443", Frame::tcp(443).ip("192.0.2.77").ethernet(), Reason::Dropped),
            ("a dropped host by UDP", Frame::udp(53).ip("192.0.2.77").ethernet(), Reason::Dropped),
            ("a hole in the drop table", Frame::tcp(25).ip("192.0.2.200").ethernet(), Reason::Greylisted),
            ("a bypassed host in the drop table", Frame::tcp(25).ip("192.0.2.9").ethernet(), Reason::Passed),
            ("a refused host to port 25", Frame::tcp(25).ip("203.0.113.7").ethernet(), Reason::Rejected),
            ("a refused host to port 80", Frame::tcp(80).ip("203.0.113.7").ethernet(), Reason::Unruled),
            ("a held host to port 25", Frame::tcp(25).ip("198.19.255.255").ethernet(), Reason::Tarpitted),
            ("a held host to port 2525", Frame::tcp(2525).ip("198.18.0.0").ethernet(), Reason::Tarpitted),
            ("a held host to port 587", Frame::tcp(587).ip("198.18.0.0").ethernet(), Reason::Unruled),
            ("a held host by UDP to port 25", Frame::udp(25).ip("198.18.0.0").ethernet(), Reason::Unruled),
            ("the neighbour above", Frame::tcp(25).ip("198.20.0.0").ethernet(), Reason::Greylisted),
            ("the neighbour below", Frame::tcp(25).ip("198.17.255.255").ethernet(), Reason::Greylisted),
            ("an IPv6 stranger", Frame::tcp(25).ip("2620::1").ethernet(), Reason::Greylisted),
            ("a dropped IPv6 host", Frame::tcp(993).ip("2001:db8:9::1").ethernet(), Reason::Dropped),
            ("an IPv6 hole", Frame::tcp(25).ip("2001:db8:2::5").ethernet(), Reason::Greylisted),
            ("beside the IPv6 hole", Frame::tcp(25).ip("2001:db8:2::6").ethernet(), Reason::Dropped),
            ("a bypassed IPv6 host", Frame::tcp(25).ip("2001:db8:1:2::3").ethernet(), Reason::Passed),
            (
                "an IPv6 host held by an odd length",
                Frame::tcp(25).ip("2a00:7:ffff::1").ethernet(),
                Reason::Tarpitted,
            ),
            ("beyond the odd length", Frame::tcp(25).ip("2a00:8::1").ethernet(), Reason::Greylisted),
        ];
        for (what, frame, want) in cases {
            meets(filter, what, frame, *want)?;
        }
        Ok(())
    });
}

#[test]
fn tags_options_and_extension_headers_are_walked() {
    with_filter("tags", |filter| {
        let dropped = || Frame::tcp(25).ip("192.0.2.77");
        let held6 = |frame: Frame| frame.ip("2a00:1::1");
        let eight = |kind: u8| Frame::tcp(25).extension(kind, &[0; 7]);
        let fragment = |offset: u16| {
            let [high, low] = (offset << 3).to_be_bytes();
            Frame::tcp(25).extension(44, &[0, high, low, 0, 0, 0, 1])
        };
        let seven = (0..7).fold(Frame::tcp(25), |frame, _| frame.extension(60, &[0; 7]));
        let six = (0..6).fold(Frame::tcp(25), |frame, _| frame.extension(60, &[0; 7]));
        let long = Frame::tcp(25).extension(0, &[&[2][..], &[0; 22]].concat());
        let authentic = Frame::tcp(25).extension(51, &[&[4][..], &[0; 22]].concat());
        let cases: &[(&str, Vec<u8>, Reason)] = &[
            ("802.1Q", dropped().tag(0x8100).ethernet(), Reason::Dropped),
            ("802.1ad alone", dropped().tag(0x88a8).ethernet(), Reason::Dropped),
            ("QinQ", dropped().tag(0x8100).tag(0x88a8).ethernet(), Reason::Dropped),
            ("old QinQ", dropped().tag(0x8100).tag(0x9100).ethernet(), Reason::Dropped),
            ("three tags", dropped().tag(0x8100).tag(0x8100).tag(0x88a8).ethernet(), Reason::NotIp),
            ("QinQ with IPv6", held6(Frame::tcp(25)).tag(0x8100).tag(0x88a8).ethernet(), Reason::Tarpitted),
            ("IPv4 options", Frame::tcp(25).ip_with("198.18.0.1", &[1; 40], 0).ethernet(), Reason::Tarpitted),
            (
                "a first IPv4 fragment",
                Frame::tcp(25).ip_with("198.18.0.1", &[], 0x2000).ethernet(),
                Reason::Fragment,
            ),
            (
                "a later IPv4 fragment",
                Frame::tcp(25).ip_with("198.18.0.1", &[], 0x2001).ethernet(),
                Reason::TinyFragment,
            ),
            (
                "a later fragment of a dropped host",
                Frame::udp(25).ip_with("192.0.2.77", &[], 100).ethernet(),
                Reason::Dropped,
            ),
            ("hop-by-hop", held6(eight(0)).ethernet(), Reason::Tarpitted),
            ("a long hop-by-hop", held6(long).ethernet(), Reason::Tarpitted),
            ("routing", held6(eight(43)).ethernet(), Reason::Tarpitted),
            ("authentication", held6(authentic).ethernet(), Reason::Tarpitted),
            ("a first IPv6 fragment", held6(fragment(0)).ethernet(), Reason::Tarpitted),
            ("a later IPv6 fragment", held6(fragment(3)).ethernet(), Reason::Fragment),
            ("six extension headers", held6(six).ethernet(), Reason::Tarpitted),
            ("seven extension headers", held6(seven.clone()).ethernet(), Reason::Extensions),
            ("a dropped host behind seven", seven.ip("2001:db8::1").ethernet(), Reason::Extensions),
            ("no next header", held6(eight(59)).ethernet(), Reason::Unruled),
        ];
        for (what, frame, want) in cases {
            meets(filter, what, frame, *want)?;
        }
        let mut arp = Frame::tcp(25).ip("192.0.2.77").ethernet();
        arp[12..14].copy_from_slice(&0x0806_u16.to_be_bytes());
        meets(filter, "ARP", &arp, Reason::NotIp)
    });
}

#[test]
fn a_frame_cut_before_its_ports_is_dropped_as_short() {
    with_filter("cut", |filter| {
        let v4 = Frame::tcp(25).ip("198.18.0.1").tag(0x8100).ethernet();
        for length in 14..=v4.len() {
            // Fourteen bytes of Ethernet, four of the tag, twenty of IPv4, then fourteen up to the flags.
            let want = if length < 52 { Reason::Short } else { Reason::Tarpitted };
            meets(filter, &format!("{length} bytes of IPv4"), &v4[..length], want)?;
        }
        let v6 = Frame::tcp(25).extension(60, &[0; 7]).ip("2001:db8::1").ethernet();
        for length in 14..=v6.len() {
            let want = if length < 76 { Reason::Short } else { Reason::Dropped };
            meets(filter, &format!("{length} bytes of IPv6"), &v6[..length], want)?;
        }
        Ok(())
    });
}

#[test]
fn changes_reach_the_next_packet_and_an_empty_family_costs_no_memory() {
    with_filter("changes", |filter| {
        let v4 = Frame::tcp(25).ip("100.64.3.4").ethernet();
        let v6 = Frame::tcp(25).ip("2620:0:1::9").ethernet();
        meets(filter, "before", &v4, Reason::Greylisted)?;
        meets(filter, "before", &v6, Reason::Greylisted)?;
        let add = |table, prefix| Change::Add(name(table), entry(prefix));
        let done = filter.apply(vec![add("drop", "100.64.3.4"), add("tarpit", "2620:0:1::/61")])?;
        assert_eq!((done.added, done.rebuilt), (2, 0), "in place");
        meets(filter, "after", &v4, Reason::Dropped)?;
        meets(filter, "after", &v6, Reason::Tarpitted)?;
        let verdict = filter.verdict("100.64.3.4".parse()?);
        assert_eq!(
            (verdict.action, verdict.tables),
            (Some(Action::Drop), vec![name("drop")]),
            "in user space"
        );
        assert_eq!(verdict.rule.as_deref(), Some("table drop"));
        let delete = |table, prefix| Change::Delete(name(table), entry(prefix).prefix);
        filter.apply(vec![delete("drop", "100.64.3.4"), delete("tarpit", "2620:0:1::/61")])?;
        meets(filter, "deleted", &v4, Reason::Greylisted)?;
        meets(filter, "deleted", &v6, Reason::Greylisted)?;

        filter.apply(vec![tables(&[], &["100.64.3.4"], &[], &[])])?;
        meets(filter, "reloaded", &v4, Reason::Dropped)?;
        meets(filter, "without IPv6", &Frame::tcp(25).ip("2001:db8::1").ethernet(), Reason::Greylisted)?;
        let small = filter.status().bytes;
        filter.apply(vec![tables(&[], &[], &[], &[])])?;
        assert_eq!(filter.status().bytes, 0);
        assert!(small < 16 << 20, "{small} bytes for one IPv4 entry and no IPv6 ones");
        meets(filter, "emptied", &v4, Reason::Greylisted)
    });
}

#[test]
fn the_kernel_answers_as_user_space_does_over_crowded_random_tables() {
    with_filter("random", |filter| {
        let mut state = 1_u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32
        };
        let mut texts: [Vec<String>; 4] = Default::default();
        for n in 0..4000 {
            let hole = if random() % 4 == 0 { "!" } else { "" };
            let text = if n % 2 == 0 {
                let length = 16 + random() % 17;
                let ip = (0x0a00_0000 | random() & 0xf_ffff) & !u32::MAX.checked_shr(length).unwrap_or(0);
                format!("{hole}{}/{length}", std::net::Ipv4Addr::from(ip))
            } else {
                let length = 30 + random() % 99;
                let ip = (0x2001_0db8_u128 << 96
                    | u128::from(random() & 0xff) << 80
                    | u128::from(random() & 7) << 60
                    | u128::from(random() & 3))
                    & !u128::MAX.checked_shr(length).unwrap_or(0);
                format!("{hole}{}/{length}", std::net::Ipv6Addr::from(ip))
            };
            texts[random() as usize % 4].push(text);
        }
        let [bypass, drop, reject, tarpit] = texts.each_ref().map(|texts| {
            let mut seen = std::collections::HashSet::new();
            let fresh = |text: &&String| seen.insert(text.trim_start_matches('!').to_owned());
            texts.iter().filter(fresh).map(String::as_str).collect::<Vec<_>>()
        });
        filter.apply(vec![tables(&bypass, &drop, &reject, &tarpit)])?;
        let mut met = std::collections::HashMap::new();
        for n in 0..4000 {
            let ip = if n % 2 == 0 {
                std::net::IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 | random() & 0xf_ffff))
            } else {
                let ip = 0x2001_0db8_u128 << 96
                    | u128::from(random() & 0xff) << 80
                    | u128::from(random() & 7) << 60
                    | u128::from(random() & 3);
                std::net::IpAddr::from(std::net::Ipv6Addr::from(ip))
            };
            let verdict = filter.verdict(ip);
            let want = match verdict.action {
                Some(Action::Bypass | Action::FeedBypass) => Reason::Passed,
                Some(Action::Drop) => Reason::Dropped,
                Some(Action::Reject) => Reason::Rejected,
                Some(Action::Tarpit) => Reason::Tarpitted,
                // Tables of these meanings are the edge's to weigh.
                Some(Action::Grey | Action::Score) | None => Reason::Greylisted,
            };
            meets(filter, &ip.to_string(), &Frame::tcp(25).ip(&ip.to_string()).ethernet(), want)?;
            *met.entry(format!("{want:?}")).or_insert(0) += 1;
        }
        assert_eq!(met.len(), 5, "every verdict was met: {met:?}");
        Ok(())
    });
}
