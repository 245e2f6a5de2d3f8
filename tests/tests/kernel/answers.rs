//! The programs that answer, one packet at a time: what comes back, byte for byte.

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd as _;

use anyhow::Result;
use mailgate_common::answer::Answered;
use mailgate_packet::xdp::{Xdp, sys};
use mailgate_packet::{Answers, Config, PacketFilter as _, State};

use crate::segments::{ACK, FIN, OURS4, OURS6, PSH, RST, SYN, Segment, read};
use crate::station::{config, missing, namespace, open};

const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;
const BANNER: &[u8] = b"220 mx.example.org ESMTP\r\n";

/// Everything that can answer is on, without caps that a test meets by accident.
pub(crate) fn answering() -> Config {
    Config {
        answers: Answers {
            replies_per_source: 100_000,
            banner: String::from_utf8_lossy(BANNER).into_owned(),
            ..Answers::default()
        },
        ..config()
    }
}

/// Runs `job` with the filter in a namespace whose `v0` has the addresses of [`crate::segments`].
fn with_answers(label: &str, config: Config, job: impl FnOnce(&Xdp) -> Result<()> + Send + 'static) {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let namespace = namespace(label);
    namespace.ip(&format!("address add {OURS4}/24 dev v0")).unwrap();
    namespace.ip(&format!("address add {OURS6}/64 dev v0 nodad")).unwrap();
    namespace
        .within(move || {
            let filter = open(&config)?;
            for each in filter.status().answers {
                assert_eq!(each.state, State::Ready, "{each:?}");
            }
            job(&filter)?;
            filter.detach()?;
            Ok(())
        })
        .unwrap();
}

/// What a program makes of a segment.
fn meets(filter: &Xdp, name: &str, segment: &Segment) -> Result<(u32, Vec<u8>)> {
    Ok(sys::reply_to(filter.program(name)?.as_fd(), &segment.frame())?)
}

/// The reply to a segment: verified, and what it says.
fn reply(filter: &Xdp, name: &str, segment: &Segment) -> Result<Segment> {
    let (verdict, frame) = meets(filter, name, segment)?;
    assert_eq!(verdict, TX, "{name} answers {segment:?}");
    Ok(read(&frame))
}

const SOURCES: [&str; 2] = ["192.0.2.7", "2001:db8:bad::7"];

#[test]
fn reject_answers_with_a_reset_of_the_right_numbers_in_both_families_and_under_tags() {
    with_answers("reject", answering(), |filter| {
        for source in SOURCES {
            for tags in [&[][..], &[0x8100][..], &[0x88a8, 0x8100][..]] {
                let asked = Segment { sequence: 1000, tags: tags.to_vec(), ..Segment::from(source) };
                let to_syn = Segment { options: vec![2, 4, 5, 180], ..asked.clone() };
                let want = Segment { acknowledgment: 1001, flags: RST | ACK, ..asked.answered() };
                assert_eq!(reply(filter, "reject", &to_syn)?, want, "SYN");
                let to_data = Segment {
                    acknowledgment: 77,
                    flags: ACK | PSH,
                    data: b"EHLO x\r\n".to_vec(),
                    ..asked.clone()
                };
                let want = Segment { sequence: 77, flags: RST, ..asked.answered() };
                assert_eq!(reply(filter, "reject", &to_data)?, want, "data");
                let reset = Segment { flags: RST, ..asked };
                assert_eq!(meets(filter, "reject", &reset)?.0, DROP, "a RST");
            }
        }
        assert_eq!(filter.answered(Answered::Reset), 12);
        let udp = crate::frames::Frame::udp(25).ip(SOURCES[0]).ethernet();
        assert_eq!(sys::reply_to(filter.program("reject")?.as_fd(), &udp)?.0, DROP, "UDP");
        Ok(())
    });
}

/// The handshake and the banner; what the peer may go on with.
fn greeted(filter: &Xdp, source: &str, tags: &[u16]) -> Result<Segment> {
    let syn = Segment {
        sequence: u32::MAX,
        tags: tags.to_vec(),
        options: vec![2, 4, 5, 180],
        ..Segment::from(source)
    };
    let offer = reply(filter, "tarpit", &syn)?;
    let want = Segment { sequence: offer.sequence, acknowledgment: 0, flags: SYN | ACK, ..syn.answered() };
    assert_eq!(offer, want, "no options, window 0");
    let first = offer.sequence.wrapping_add(1);
    let handshake =
        Segment { sequence: 0, acknowledgment: first, flags: ACK, window: 500, ..Segment::from(source) };
    let handshake = Segment { tags: tags.to_vec(), ..handshake };
    let banner = reply(filter, "tarpit", &handshake)?;
    let want = Segment {
        sequence: first,
        acknowledgment: 0,
        flags: ACK | PSH,
        data: BANNER.to_vec(),
        ..syn.answered()
    };
    assert_eq!(banner, want);
    Ok(Segment { acknowledgment: first.wrapping_add(BANNER.len() as u32), ..handshake })
}

#[test]
fn tarpit_greets_who_completes_the_handshake_and_never_opens_the_window() {
    with_answers("tarpit", answering(), |filter| {
        for source in SOURCES {
            for tags in [&[][..], &[0x8100][..], &[0x88a8, 0x8100][..]] {
                let peer = greeted(filter, source, tags)?;
                assert_eq!(meets(filter, "tarpit", &peer)?.0, DROP, "it acknowledges the banner: silence");
                let closed = Segment {
                    sequence: peer.acknowledgment,
                    acknowledgment: 0,
                    flags: ACK,
                    ..peer.answered()
                };
                for (what, segment) in [
                    ("EHLO", Segment { flags: ACK | PSH, data: b"EHLO x\r\n".to_vec(), ..peer.clone() }),
                    ("a probe of Linux", Segment { sequence: u32::MAX, ..peer.clone() }),
                    ("a probe of one octet", Segment { data: vec![b'E'], ..peer.clone() }),
                    ("a FIN", Segment { flags: ACK | FIN, ..peer.clone() }),
                ] {
                    assert_eq!(reply(filter, "tarpit", &segment)?, closed, "{what}");
                }
                assert_eq!(meets(filter, "tarpit", &Segment { flags: RST, ..peer })?.0, DROP, "a RST");
            }
        }
        let count = |what| filter.answered(what);
        assert_eq!([count(Answered::Offered), count(Answered::Greeted)], [6, 6]);
        assert_eq!([count(Answered::Held), count(Answered::Quiet), count(Answered::GaveUp)], [24, 6, 6]);
        Ok(())
    });
}

#[test]
fn tarpit_drops_acknowledgments_that_it_did_not_ask_for() {
    with_answers("forged", answering(), |filter| {
        for source in SOURCES {
            let peer = greeted(filter, source, &[])?;
            let other = if source == SOURCES[0] { "192.0.2.8" } else { "2001:db8:bad::8" };
            for (what, segment) in [
                ("an invented number", Segment { acknowledgment: 4711, ..peer.clone() }),
                ("one off", Segment { acknowledgment: peer.acknowledgment + 1, ..peer.clone() }),
                ("another port", Segment { ports: (4001, 25), ..peer.clone() }),
                ("another source", Segment { source: other.parse()?, ..peer.clone() }),
                ("data with it", Segment { acknowledgment: 4711, data: b"x".to_vec(), ..peer.clone() }),
                ("a SYN-ACK", Segment { flags: SYN | ACK, ..peer.clone() }),
            ] {
                assert_eq!(meets(filter, "tarpit", &segment)?.0, DROP, "{what}");
            }
        }
        assert_eq!(filter.answered(Answered::Forged), 12);
        Ok(())
    });
}

#[test]
fn no_answer_goes_to_groups_or_for_addresses_of_others() {
    with_answers("others", answering(), |filter| {
        let cases: [(&str, Segment); 6] = [
            (
                "another address of the net",
                Segment { destination: "198.51.100.9".parse()?, ..Segment::from(SOURCES[0]) },
            ),
            (
                "another IPv6 address",
                Segment { destination: "2001:db8:ff::9".parse()?, ..Segment::from(SOURCES[1]) },
            ),
            ("multicast", Segment { destination: "224.0.0.1".parse()?, ..Segment::from(SOURCES[0]) }),
            (
                "IPv6 multicast",
                Segment {
                    destination: IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)),
                    ..Segment::from(SOURCES[1])
                },
            ),
            ("from loopback", Segment::from("127.0.0.1")),
            ("a frame to all stations", Segment { to_group: true, ..Segment::from(SOURCES[0]) }),
        ];
        for (what, segment) in cases {
            assert_eq!(meets(filter, "tarpit", &segment)?.0, PASS, "tarpit: {what}");
            assert_eq!(meets(filter, "cookie", &segment)?.0, PASS, "cookie: {what}");
            if !what.contains("another") {
                assert_eq!(meets(filter, "reject", &segment)?.0, DROP, "reject: {what}");
            }
        }
        assert_eq!(filter.answered(Answered::NotOurs), 12);
        Ok(())
    });
}

#[test]
fn replies_are_capped_per_source_and_in_all_and_never_larger_than_what_asked() {
    let mut config = answering();
    config.answers = Answers { replies_per_source: 2, replies: 100, resets: 3, ..config.answers };
    with_answers("caps", config, |filter| {
        let sent = |name: &str, segment: &Segment| -> Result<bool> {
            let (verdict, frame) = meets(filter, name, segment)?;
            assert!(
                verdict == DROP || (verdict == TX && frame.len() <= segment.frame().len()),
                "{segment:?}"
            );
            Ok(verdict == TX)
        };
        for source in SOURCES {
            let mut answered = 0;
            for port in 1000..1100 {
                answered +=
                    u32::from(sent("tarpit", &Segment { ports: (port, 25), ..Segment::from(source) })?);
            }
            assert!(
                (20..30).contains(&answered),
                "{answered} of 100 answered to {source}: ten seconds' worth at once"
            );
        }
        let same = Segment::from("2001:db8:bad:0:ffff::1");
        assert!(!sent("tarpit", &same)?, "the /64 counts as one source");
        let mut answered = 0;
        for n in 0..600_u32 {
            let source = format!("203.0.{}.{}", n / 200, 1 + n % 200);
            answered += u32::from(sent("tarpit", &Segment::from(source.as_str()))?);
        }
        assert!((60..200).contains(&answered), "{answered} of 600 sources answered");
        let mut answered = 0;
        for port in 1000..1050 {
            answered +=
                u32::from(sent("reject", &Segment { ports: (port, 25), ..Segment::from(SOURCES[0]) })?);
        }
        assert!((3..10).contains(&answered), "{answered} of 50 refused");
        assert!(filter.answered(Answered::Capped) > 500);
        Ok(())
    });
}

#[test]
fn options_and_extension_headers_do_not_come_back() {
    with_answers("shapes", answering(), |filter| {
        let syn = Segment { sequence: 5, ..Segment::from(SOURCES[1]) };
        let want = Segment { acknowledgment: 6, flags: RST | ACK, ..syn.answered() };
        let stretched = Segment { extensions: 3, ..syn };
        assert_eq!(reply(filter, "reject", &stretched)?, want, "three destination options");
        let syn = Segment { sequence: 5, ..Segment::from(SOURCES[0]) };
        let want = Segment { acknowledgment: 6, flags: RST | ACK, ..syn.answered() };
        let stretched = Segment { extensions: 3, options: vec![1; 20], padding: 6, ..syn };
        assert_eq!(reply(filter, "reject", &stretched)?, want, "IPv4 options, TCP options, Ethernet padding");
        Ok(())
    });
}
