//! Real connections over a veth pair, with the program in native mode.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Result;
use mailgate_lists::Change;
use mailgate_packet::PacketFilter as _;
use mailgate_tests::{Namespace, Network, Node, until};

use crate::station::{config, entry, missing, name, open, tables, ways};

pub(crate) const HUB: Node = node("hub", 53);
pub(crate) const MX: Node = node("mx", 1);
pub(crate) const GOOD: Node = node("good", 2);
pub(crate) const EVIL: Node = node("evil", 3);

const fn node(label: &'static str, last: u8) -> Node {
    Node {
        label,
        v4: std::net::Ipv4Addr::new(198, 18, last, 1),
        v6: std::net::Ipv6Addr::new(0x2001, 0xdb8, last as u16, 0, 0, 0, 0, 1),
    }
}

/// The longest that a handshake takes on a busy machine: a SYN that was lost is sent again after 1, 3 and 7 s.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
/// How long is waited for what is not to come.
const BRIEFLY: Duration = Duration::from_millis(700);

/// A connection from a namespace, or `None` when nobody answers however long one waits.
pub(crate) fn connect(from: &Namespace, to: SocketAddr) -> Option<TcpStream> {
    from.within(move || Ok(TcpStream::connect_timeout(&to, PATIENCE).ok())).unwrap()
}

/// The same for one who waits but [`BRIEFLY`]: where nobody is to answer, or where it is tried until somebody does.
pub(crate) fn glance(from: &Namespace, to: SocketAddr) -> Option<TcpStream> {
    from.within(move || Ok(TcpStream::connect_timeout(&to, BRIEFLY).ok())).unwrap()
}

/// Takes the connection that a peer made, which comes to this listener: the end of the handshake may still be on its way.
pub(crate) fn take(listener: &TcpListener, peer: &TcpStream) -> Option<TcpStream> {
    listener.set_nonblocking(true).unwrap();
    let ((ours, address), _) = until("the listener to have it", PATIENCE, || listener.accept().ok()).ok()?;
    assert_eq!(address, peer.local_addr().unwrap(), "the true address stays visible");
    Some(ours)
}

fn listening(on: &Namespace) -> (TcpListener, TcpListener) {
    on.within(|| Ok((TcpListener::bind((MX.v4, 25))?, TcpListener::bind((MX.v6, 25))?))).unwrap()
}

#[test]
fn native_xdp_makes_a_listed_host_unable_to_connect_while_another_connects() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = Network::new(HUB, &[MX, GOOD, EVIL]).unwrap();
    let mx = network.node("mx").unwrap();
    let (good, evil) = (network.node("good").unwrap(), network.node("evil").unwrap());
    let _listeners = listening(mx);
    let (give, take) = mpsc::channel();
    mx.within(move || -> Result<()> {
        let filter = open(&mailgate_packet::Config { interfaces: vec!["eth0".into()], ..config() })?;
        assert_eq!(ways(&filter), [("eth0".to_owned(), "native")]);
        give.send(filter)?;
        Ok(())
    })
    .unwrap();
    let filter = take.recv().unwrap();
    let both: [SocketAddr; 2] = [(MX.v4, 25).into(), (MX.v6, 25).into()];
    for to in both {
        assert!(connect(good, to).is_some() && connect(evil, to).is_some(), "both connect before");
    }
    filter.apply(vec![tables(&[], &["198.18.3.0/24", "2001:db8:3::/48"], &[], &[])]).unwrap();
    for to in both {
        assert!(glance(evil, to).is_none(), "{to} for the listed one");
        assert!(connect(good, to).is_some(), "{to} for the other");
    }
    filter.apply(vec![Change::Add(name("bypass"), entry("198.18.3.1"))]).unwrap();
    assert!(connect(evil, both[0]).is_some(), "bypass beats drop");
    assert!(glance(evil, both[1]).is_none());
    mx.within(move || Ok(filter.detach()?)).unwrap();
    assert!(connect(evil, both[1]).is_some(), "after detach");
}
