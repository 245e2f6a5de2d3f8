//! Whom no table and no rule keeps out: this host, its gateways, the networks of administrators, and who is logged in.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::Timestamp;
use nix::ifaddrs::getifaddrs;
use serde::Serialize;

use super::peers::{Peer, connected};
use super::written::PortRange;

/// How long a connection to an administration port must last before its peer is protected, if it began after we looked
/// for the first time: sshd(8) ends those that have not logged in after 120 s (`LoginGraceTime`), so that nobody is
/// protected for guessing passwords.
const SETTLED: Duration = Duration::from_secs(150);
/// Administration ports asked about, at most.
const PORT_LIMIT: usize = 64;

/// Why a network is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// `firewall.admin` or `edge.local` names it.
    Configured,
    /// An address of this host.
    Own,
    /// A way out.
    Gateway,
    /// Connected to an administration port.
    LoggedIn,
}

/// A network that nothing keeps out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Protected {
    /// The network.
    pub network: IpNet,
    /// Why.
    pub why: Why,
}

/// Which connections count as logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// All that there are now: right before the rules change, so that nobody is locked out.
    Everybody,
    /// Those that are old enough.
    Settled,
}

/// Remembers who was connected when.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// When each connection was seen for the first time; `None` when it counts as logged in.
    seen: HashMap<u64, Option<Timestamp>>,
    /// It looked at least once.
    has_looked: bool,
}

impl Watch {
    /// The peers that count as logged in, after this look at all connections.
    fn look(&mut self, peers: &[Peer], trust: Trust, now: Timestamp) -> Vec<IpAddr> {
        // Who is there at the first look may be the one who just started us.
        let trusts_all = trust == Trust::Everybody || !self.has_looked;
        self.has_looked = true;
        let mut seen = HashMap::with_capacity(peers.len());
        let mut trusted = Vec::new();
        for peer in peers {
            let first = match self.seen.get(&peer.cookie) {
                _ if trusts_all => None,
                None => Some(now),
                Some(first) => first.filter(|first| now.since(*first) < SETTLED),
            };
            if first.is_none() {
                trusted.push(peer.ip);
            }
            seen.insert(peer.cookie, first);
        }
        self.seen = seen;
        trusted
    }

    /// All networks to protect now. What cannot be found out is told in the log and left out.
    pub(super) fn protected(
        &mut self,
        configured: &[IpNet],
        admin_ports: &[PortRange],
        trust: Trust,
        now: Timestamp,
    ) -> Vec<Protected> {
        let ports = admin_ports.iter().flat_map(|range| range.first..=range.last).take(PORT_LIMIT);
        let peers = connected(ports).unwrap_or_else(|error| {
            tracing::warn!(target: "edge", event = "protect", %error, "who is logged in cannot be told");
            Vec::new()
        });
        let of = |why: Why| move |ip: IpAddr| Protected { network: ip.to_canonical().into(), why };
        let configured =
            configured.iter().map(|network| Protected { network: network.trunc(), why: Why::Configured });
        let mut all: Vec<Protected> = configured
            .chain(own_addresses().into_iter().map(of(Why::Own)))
            .chain(gateways().into_iter().map(of(Why::Gateway)))
            .chain(self.look(&peers, trust, now).into_iter().map(of(Why::LoggedIn)))
            .filter(|one| !one.network.addr().is_loopback() && !one.network.addr().is_unspecified())
            .collect();
        all.sort_unstable();
        all.dedup_by_key(|one| one.network);
        all
    }
}

/// The addresses of all interfaces.
fn own_addresses() -> Vec<IpAddr> {
    let interfaces = match getifaddrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::warn!(target: "edge", event = "protect", %error, "own addresses cannot be told");
            return Vec::new();
        }
    };
    let address = |one: nix::ifaddrs::InterfaceAddress| -> Option<IpAddr> {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
    };
    interfaces.filter_map(address).collect()
}

/// The gateways of the default routes.
fn gateways() -> Vec<IpAddr> {
    // Of the thread: tests run in a namespace of their own.
    let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
    let (v4, v6) = (read("route"), read("ipv6_route"));
    v4.lines().filter_map(gateway4).chain(v6.lines().filter_map(gateway6)).collect()
}

/// A line of `/proc/net/route`: interface, destination, gateway, flags, three counters, mask. Words as the machine has
/// them in memory.
fn gateway4(line: &str) -> Option<IpAddr> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let word = |n: usize| u32::from_str_radix(fields.get(n)?, 16).ok();
    let (destination, gateway, mask) = (word(1)?, word(2)?, word(7)?);
    let is_default = destination == 0 && mask == 0 && gateway != 0;
    is_default.then(|| Ipv4Addr::from(gateway.to_ne_bytes()).into())
}

/// A line of `/proc/net/ipv6_route`: destination, its length, source, its length, next hop and more.
fn gateway6(line: &str) -> Option<IpAddr> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let length = u8::from_str_radix(fields.get(1)?, 16).ok()?;
    let hop = u128::from_str_radix(fields.get(4)?, 16).ok()?;
    (length == 0 && hop != 0).then(|| Ipv6Addr::from(hop).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8, cookie: u64) -> Peer {
        Peer { ip: Ipv4Addr::new(192, 0, 2, last).into(), cookie }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn who_is_there_at_first_is_trusted_others_when_they_stayed_longer_than_a_guess_takes() {
        let mut watch = Watch::default();
        let ips = |list: &[Peer]| list.iter().map(|peer| peer.ip).collect::<Vec<_>>();
        let (admin, guesser) = (peer(1, 1), peer(2, 2));
        assert_eq!(watch.look(&[admin], Trust::Settled, at(0)), ips(&[admin]));
        assert_eq!(watch.look(&[admin, guesser], Trust::Settled, at(10)), ips(&[admin]));
        assert_eq!(watch.look(&[admin, guesser], Trust::Settled, at(159)), ips(&[admin]));
        assert_eq!(watch.look(&[admin, guesser], Trust::Settled, at(160)), ips(&[admin, guesser]));
        // The same address with another connection begins anew.
        assert_eq!(watch.look(&[admin, peer(2, 3)], Trust::Settled, at(170)), ips(&[admin]));
        assert_eq!(watch.look(&[], Trust::Settled, at(180)), ips(&[]));
        assert_eq!(watch.look(&[admin], Trust::Settled, at(190)), ips(&[]), "gone and back");
        let both = [admin, guesser];
        assert_eq!(watch.look(&both, Trust::Everybody, at(200)), ips(&both), "before a change of rules");
    }

    #[test]
    fn default_routes_have_gateways_others_do_not() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
        assert_eq!(gateway4(head), None);
        let gateway = u32::from_ne_bytes([192, 0, 2, 254]);
        let line = |destination: &str, mask: &str| {
            format!("eth0\t{destination}\t{gateway:08X}\t0003\t0\t0\t0\t{mask}\t0\t0\t0")
        };
        assert_eq!(gateway4(&line("00000000", "00000000")), Some(Ipv4Addr::new(192, 0, 2, 254).into()));
        assert_eq!(gateway4(&line("0A000000", "000000FF")), None);
        let zero = "0".repeat(32);
        let hop = "fe800000000000000000000000000001";
        let line =
            |length: &str, hop: &str| format!("{zero} {length} {zero} 00 {hop} 00000400 1 0 00000003 eth0");
        assert_eq!(gateway6(&line("00", hop)), Some("fe80::1".parse().unwrap()));
        assert_eq!(gateway6(&line("40", hop)), None);
        assert_eq!(gateway6(&line("00", &zero)), None, "a route into the link");
    }

    #[test]
    fn what_this_host_is_and_what_is_configured_is_protected_loopback_is_not() {
        let configured = ["198.51.100.7/24", "127.0.0.0/8"].map(|text| text.parse::<IpNet>().unwrap());
        let all = Watch::default().protected(&configured, &[], Trust::Settled, at(0));
        let want = Protected { network: "198.51.100.0/24".parse().unwrap(), why: Why::Configured };
        assert!(all.contains(&want), "{all:?}");
        assert!(all.iter().all(|one| !one.network.addr().is_loopback()), "{all:?}");
    }
}
