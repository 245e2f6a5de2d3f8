//! `sk_lookup` gives connections to the right listener.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::mpsc;

use anyhow::Result;
use mailgate_common::Reason;
use mailgate_packet::{Config, Listeners, PacketFilter as _};
use mailgate_tests::Network;

use crate::station::{config, missing, open, tables};
use crate::wire::{EVIL, GOOD, HUB, MX, connect, glance, take};

/// One IPv4 listener.
fn v4(listener: &TcpListener) -> Listeners {
    Listeners { v4: Some(listener.as_raw_fd()), v6: None }
}

/// Takes the connection that a peer just made, if it came here.
fn took(listener: &TcpListener, peer: &TcpStream) -> bool {
    take(listener, peer).is_some_and(|ours| {
        assert_eq!(ours.local_addr().unwrap(), peer.peer_addr().unwrap(), "so does the address asked for");
        true
    })
}

#[test]
fn bypassed_sources_reach_reception_all_others_the_edge_and_a_missing_socket_fails_open() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = Network::new(HUB, &[MX, GOOD, EVIL]).unwrap();
    let mx = network.node("mx").unwrap();
    let (good, evil) = (network.node("good").unwrap(), network.node("evil").unwrap());
    // Somebody else's MTA is bound to port 25; ours listen elsewhere.
    let (bound, reception, edge, edge6) = mx
        .within(|| {
            Ok((
                TcpListener::bind((MX.v4, 25))?,
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
                TcpListener::bind("[::1]:0")?,
            ))
        })
        .unwrap();
    let (give, take) = mpsc::channel();
    mx.within(move || -> Result<()> {
        give.send(open(&Config { interfaces: vec!["eth0".into()], ..config() })?)?;
        Ok(())
    })
    .unwrap();
    let filter = take.recv().unwrap();
    filter.apply(vec![tables(&["198.18.2.1", "2001:db8:2::/64"], &[], &[], &["198.18.3.0/24"])]).unwrap();
    let to: SocketAddr = (MX.v4, 25).into();

    let peer = connect(network.hub(), to).unwrap();
    assert!(took(&bound, &peer), "no listener is known: whoever is bound takes an unknown source");
    assert_eq!(filter.counter(Reason::SteeredNowhere), 1);
    assert!(glance(evil, to).is_none(), "but a listed one stays out");

    filter.set_listeners(v4(&reception), v4(&edge)).unwrap();
    let peer = connect(good, to).unwrap();
    assert!(took(&reception, &peer), "bypassed");
    let peer = connect(evil, to).unwrap();
    assert!(took(&edge, &peer), "held by a table");
    let peer = connect(network.hub(), to).unwrap();
    assert!(took(&edge, &peer), "unknown");
    assert_eq!((filter.counter(Reason::SteeredReception), filter.counter(Reason::SteeredEdge)), (1, 2));
    let peer = connect(mx, to).unwrap();
    assert!(took(&bound, &peer), "through loopback: left alone");
    assert!(glance(evil, (MX.v4, 26).into()).is_none(), "other ports are not touched");

    filter.set_listeners(Listeners::default(), Listeners { v4: None, v6: Some(edge6.as_raw_fd()) }).unwrap();
    let peer = connect(good, to).unwrap();
    assert!(took(&bound, &peer), "bypassed with no reception listener: whoever is bound");
    let peer = connect(evil, (MX.v6, 25).into()).unwrap();
    assert!(took(&edge6, &peer), "IPv6");
    drop(edge6);
    filter.set_listeners(Listeners::default(), v4(&edge)).unwrap();
    drop(edge);
    let peer = connect(network.hub(), to).unwrap();
    assert!(took(&bound, &peer), "a closed listener leaves the map by itself");
    mx.within(move || Ok(filter.detach()?)).unwrap();
}
