//! Who is in the lab, and what the DNS says of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;

use crate::{Dns, Network, Node, Sockets};

/// The domain whose mail is under test.
pub(super) const HOME: &str = "example.org";
/// Its MX.
pub(super) const MX: &str = "mx.example.org";
/// The domain of an honest stranger.
pub(super) const AWAY: &str = "example.net";
/// The MTA and MX of that stranger.
pub(super) const SENDER: &str = "mail.example.net";

const fn node(label: &'static str, v4: [u8; 4], net: u16) -> Node {
    Node {
        label,
        v4: Ipv4Addr::new(v4[0], v4[1], v4[2], v4[3]),
        v6: Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, 1),
    }
}

/// The bridge, where the DNS server listens.
pub(super) const HUB: Node = node("hub", [198, 18, 0, 53], 0x53);
/// Where mailgate runs.
pub(super) const GATE: Node = node("mx", [192, 0, 2, 25], 0x25);
/// An honest MTA that nobody knows.
pub(super) const STRANGER: Node = node("sender", [198, 51, 100, 10], 0x10);
/// Announced by the feeder, later.
pub(super) const SPAMMER: Node = node("spammer", [203, 0, 113, 66], 0x66);
/// The BGP feeder.
pub(super) const FEEDER: Node = node("feeder", [198, 18, 179, 1], 0x179);
/// Where people read their mail.
pub(super) const READER: Node = node("reader", [198, 18, 143, 1], 0x143);
/// A host on the bypass list.
pub(super) const FRIEND: Node = node("friend", [198, 18, 42, 1], 0x42);
/// A host that will be on the block list, action drop.
pub(super) const OUTCAST: Node = node("outcast", [203, 0, 113, 99], 0x99);

/// Lays the network and starts the DNS server on the bridge.
pub(super) fn build() -> Result<(Network, Dns)> {
    let network = Network::new(HUB, &[GATE, STRANGER, SPAMMER, FEEDER, READER, FRIEND, OUTCAST])?;
    let sockets = network.hub().within(|| {
        Sockets::bind(&[
            SocketAddr::from((HUB.v4, 53)),
            SocketAddr::from((HUB.v6, 53)),
            SocketAddr::from((Ipv4Addr::LOCALHOST, 53)),
        ])
    })?;
    let dns = Dns::start(sockets)?;
    publish(&dns)?;
    Ok((network, dns))
}

fn publish(dns: &Dns) -> Result<()> {
    for (host, node) in [
        (MX, GATE),
        (SENDER, STRANGER),
        ("host66.pool.example.com", SPAMMER),
        ("feeder.example.com", FEEDER),
        ("reader.example.com", READER),
        ("mail.friend.example", FRIEND),
        ("host99.pool.example.com", OUTCAST),
    ] {
        dns.host(host, IpAddr::V4(node.v4))?;
        dns.host(host, IpAddr::V6(node.v6))?;
    }
    for (domain, mx) in [(HOME, MX), (AWAY, SENDER), ("friend.example", "mail.friend.example")] {
        dns.mx(domain, mx)?;
        dns.txt(domain, "v=spf1 mx -all")?;
        dns.txt(&format!("_dmarc.{domain}"), "v=DMARC1; p=reject")?;
    }
    Ok(())
}
