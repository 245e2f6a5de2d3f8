//! The reverse path check against the routes of the host.

use std::os::fd::AsFd as _;

use anyhow::Result;
use mailgate_common::Reason;
use mailgate_packet::PacketFilter as _;
use mailgate_packet::firewall::{ReversePath, RuleSet};
use mailgate_packet::xdp::{Xdp, sys};

use crate::frames::Frame;
use crate::station::{config, missing, namespace, open, tables};

/// What becomes of a frame that comes in by an interface: whether its reason is this one.
fn meets(filter: &Xdp, source: &str, interface: u32, reason: Reason) -> Result<bool> {
    let before = filter.counter(reason);
    // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let frame = Frame::tcp(80).ip(source).ethernet();
    let mut context = [0, frame.len() as u32, 0, interface, 0, 0].map(u32::to_ne_bytes).concat();
    sys::test_run(filter.program("ingress")?.as_fd(), &frame, &mut context, 1)?;
    Ok(filter.counter(reason) == before + 1)
}

#[test]
fn sources_without_a_way_back_by_the_interface_they_came_by_are_dropped() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let station = namespace("urpf");
    for words in [
        "link set lo up",
        "link set v0 up",
        "link set v1 up",
        "address add 192.0.2.1/24 dev v0",
        "address add 198.51.100.1/24 dev v1",
        "route add 203.0.113.0/24 via 192.0.2.254",
        "route add blackhole 203.0.113.128/25",
        "-6 address add 2001:db8:1::1/64 dev v0 nodad",
    ] {
        station.ip(words).unwrap();
    }
    station
        .within(|| {
            let filter = open(&config())?;
            filter.apply(vec![tables(&[], &[], &[], &[])])?;
            let rules = |way| {
                let mut rules = RuleSet::default();
                (rules.options.reverse_path, rules.options.own_source) = (way, true);
                rules
            };
            let index = |name: &str| nix::net::if_::if_nametoindex(name);
            let (v0, v1) = (index("v0")?, index("v1")?);
            filter.set_rules(rules(ReversePath::Strict), None)?;
            for (source, interface, reason, what) in [
                ("192.0.2.7", v0, Reason::Unruled, "a neighbour"),
                ("192.0.2.7", v1, Reason::ReversePath, "a neighbour by the wrong interface"),
                ("203.0.113.9", v0, Reason::Unruled, "behind the gateway"),
                ("203.0.113.200", v0, Reason::ReversePath, "behind a black hole"),
                ("8.8.8.8", v0, Reason::ReversePath, "no route leads there"),
                ("192.0.2.1", v0, Reason::OwnSource, "our own address"),
                ("0.0.0.0", v0, Reason::Unruled, "who asks for an address"),
                ("2001:db8:1::7", v0, Reason::Unruled, "an IPv6 neighbour"),
                ("2001:db8:1::7", v1, Reason::ReversePath, "an IPv6 neighbour by the wrong interface"),
                ("2001:db8:1::1", v0, Reason::OwnSource, "our own IPv6 address"),
                ("2620::1", v0, Reason::ReversePath, "no route leads to IPv6"),
            ] {
                assert!(meets(&filter, source, interface, reason)?, "{what}: {source}");
            }
            filter.set_rules(rules(ReversePath::Loose), None)?;
            assert!(meets(&filter, "192.0.2.7", v1, Reason::Unruled)?, "loosely, any route will do");
            assert!(meets(&filter, "8.8.8.8", v0, Reason::ReversePath)?, "but there must be one");
            let added = std::process::Command::new("ip")
                .args(["route", "add", "default", "via", "192.0.2.254"])
                .status()?;
            assert!(added.success());
            filter.tick()?;
            assert!(meets(&filter, "8.8.8.8", v0, Reason::Unruled)?, "a route came");
            assert!(meets(&filter, "2620::1", v0, Reason::ReversePath)?, "of IPv4 only");
            filter.detach()?;
            Ok(())
        })
        .unwrap();
}
