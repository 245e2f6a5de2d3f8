//! SYN cookies from XDP: the kernel takes what they open, and says how many.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use mailgate_common::answer::Answered;
use mailgate_packet::firewall::{RuleSet, SynCookies};
use mailgate_packet::{Config, PacketFilter as _};
use mailgate_tests::held::polling;
use mailgate_tests::{Namespace, Network};

use crate::station::{config, missing, open};
use crate::wire::{EVIL, GOOD, HUB, MX};

const SOON: Duration = Duration::from_secs(30);

fn cookies(of: &Namespace) -> SynCookies {
    of.within(|| Ok(SynCookies::read())).unwrap()
}

/// A connection that carries a line in both directions.
fn talks(listener: &TcpListener, from: &Namespace, to: SocketAddr) {
    let mut theirs = from.within(move || Ok(TcpStream::connect_timeout(&to, SOON)?)).unwrap();
    theirs.set_read_timeout(Some(SOON)).unwrap();
    theirs.write_all(&[b'x'; 40_000]).unwrap();
    let (mut ours, peer) = listener.accept().unwrap();
    assert_eq!(peer, theirs.local_addr().unwrap());
    ours.set_read_timeout(Some(SOON)).unwrap();
    let mut all = vec![0; 40_000];
    ours.read_exact(&mut all).unwrap();
    ours.write_all(&all).unwrap();
    theirs.read_exact(&mut all).unwrap();
}

#[test]
fn connections_that_a_cookie_of_the_filter_opens_are_taken_by_the_kernel() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = Network::new(HUB, &[MX, GOOD, EVIL]).unwrap();
    let (mx, good) = (network.node("mx").unwrap(), network.node("good").unwrap());
    let _polling = polling(network.hub(), "mx").unwrap();
    let bound = mx
        .within(|| {
            std::fs::write("/proc/sys/net/ipv4/tcp_syncookies", "1")?;
            let at = |port| -> anyhow::Result<_> {
                Ok([TcpListener::bind((MX.v4, port))?, TcpListener::bind((MX.v6, port))?])
            };
            Ok((at(25)?, at(587)?))
        })
        .unwrap();
    let (give, take) = mpsc::channel();
    mx.within(move || {
        let filter = open(&Config { interfaces: vec!["eth0".into()], ..config() })?;
        filter.apply(vec![crate::station::tables(&[], &[], &[], &[])])?;
        filter.set_rules(RuleSet { cookie_ports: vec![25], ..RuleSet::default() }, None)?;
        give.send(filter)?;
        Ok(())
    })
    .unwrap();
    let filter = take.recv().unwrap();
    assert_eq!(cookies(mx).mode, Some(2), "set for us");
    let before = cookies(mx);
    for (listener, to) in bound.0.iter().zip([SocketAddr::from((MX.v4, 25)), (MX.v6, 25).into()]) {
        talks(listener, good, to);
    }
    assert_eq!(filter.answered(Answered::Cookie), 2);
    let after = cookies(mx);
    assert_eq!(after.received - before.received, 2, "both were made of a cookie");
    assert_eq!((after.sent - before.sent, after.failed - before.failed), (0, 0), "none of the stack's own");
    for (listener, to) in bound.1.iter().zip([SocketAddr::from((MX.v4, 587)), (MX.v6, 587).into()]) {
        talks(listener, good, to);
    }
    assert_eq!(filter.answered(Answered::Cookie), 2, "other ports are left to the stack");
    let closed: SocketAddr = (MX.v4, 993).into();
    let refused = good.within(move || Ok(TcpStream::connect_timeout(&closed, SOON).map(drop))).unwrap();
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);

    let filter = mx
        .within(move || {
            filter.set_rules(RuleSet::default(), None)?;
            Ok(filter)
        })
        .unwrap();
    assert_eq!(cookies(mx).mode, Some(1), "put back when no port wants cookies");
    mx.within(move || {
        filter.set_rules(RuleSet { cookie_ports: vec![25], ..RuleSet::default() }, None)?;
        assert_eq!(SynCookies::read().mode, Some(2));
        Ok(filter.detach()?)
    })
    .unwrap();
    assert_eq!(cookies(mx).mode, Some(1), "put back with the filter");
}

#[test]
fn a_rejected_client_is_refused_at_once() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = Network::new(HUB, &[MX, EVIL]).unwrap();
    let (mx, evil) = (network.node("mx").unwrap(), network.node("evil").unwrap());
    let _polling = polling(network.hub(), "mx").unwrap();
    let (give, take) = mpsc::channel();
    mx.within(move || {
        let filter = open(&Config { interfaces: vec!["eth0".into()], ..config() })?;
        filter.apply(vec![crate::station::tables(&[], &[], &["198.18.3.0/24", "2001:db8:3::/48"], &[])])?;
        give.send(filter)?;
        Ok(())
    })
    .unwrap();
    let filter = take.recv().unwrap();
    for to in [SocketAddr::from((MX.v4, 25)), (MX.v6, 25).into()] {
        let refused = evil.within(move || Ok(TcpStream::connect_timeout(&to, SOON).map(drop))).unwrap();
        assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused, "{to}");
    }
    assert_eq!(filter.answered(Answered::Reset), 2);
    mx.within(move || Ok(filter.detach()?)).unwrap();
}
