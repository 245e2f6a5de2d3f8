//! Step 3: the datagrams of spamd(8) on a wire: two hosts and a listener in one multicast group, each in a namespace.
//!
//! No spamd runs here: it exists for OpenBSD alone. What is compared with is its published layout, octet by octet, and
//! datagrams that another encoder made.
#![expect(clippy::indexing_slicing, reason = "an index that is not there fails the test")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use mailgate_tests::{Daemon, Namespace, Network, Node, SmtpClient, is_root, skip, until};
use serde_json::Value;

use super::sync::node;

/// The longest that anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 1, 240);
const PORT: u16 = 8025;
/// `/etc/mail/spamd.key` of all.
const KEY: &str = "mailgate test key\n";
/// Of another encoder, with that key: WHITE 192.0.2.25 and GREY 203.0.113.5, both of the year 2023.
const VECTORS: [&str; 2] = [
    "010200000000003240ee563ea4ffa7e5a6c744a7b4b4ed5c209fffc70000000200106553f10065836700c000021900000004",
    "0102000000010072d99b71e2a0e8402a90986d51402ae37e1e22005a0000000100506553f100cb00710500100010000f3c614065\
     78616d706c652e6f72673e003c62406578616d706c652e6e65743e006d782e6578616d706c652e6f726700000000000000000000\
     00000000000000000004",
];

const HUB: Node = node("hub", 53);
const HOSTS: [Node; 2] = [node("mx1", 11), node("mx2", 12)];
const LISTENER: Node = node("old", 13);

fn start<'a>(folder: &Path, host: Node, inside: &'a Namespace) -> Daemon<'a> {
    let key = folder.join("spamd.key");
    std::fs::write(&key, KEY).unwrap();
    let mut text = super::sync::lone_mx(host);
    text.push_str(&format!("[edge.sync.spamd]\nkey_file = \"{}\"\nmulticast = \"eth0\"\n", key.display()));
    Daemon::start(folder, &text, Some(inside)).unwrap()
}

/// The code of RCPT for a client that nobody knows, asked at a host.
fn attempt(network: &Network, host: Node) -> u16 {
    let asked = network.hub().within(move || {
        let mut client = SmtpClient::connect(SocketAddr::from((host.v4, 25)))?;
        client.greet("client.example")?;
        client.expect("MAIL FROM:<a@client.example>", "250")?;
        Ok(client.command("RCPT TO:<b@example.org>")?.code)
    });
    asked.unwrap()
}

fn counter(daemon: &Daemon<'_>, name: &str) -> u64 {
    let status = daemon.json(&["sync", "status"]).unwrap();
    status["spamd"][name].as_u64().unwrap_or_else(|| panic!("no counter {name} in {status}"))
}

fn rows(daemon: &Daemon<'_>, kind: &str) -> Vec<Value> {
    let rows = daemon.json(&["grey", "list", "--kind", kind]).unwrap();
    rows.as_array().cloned().unwrap_or_default()
}

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Takes all that waits; the first WHITE of this host among it.
fn white_of(socket: &UdpSocket, from: Node) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    let waiting = std::iter::from_fn(|| {
        let (length, peer) = socket.recv_from(&mut buffer).ok()?;
        Some((peer.ip() == from.v4 && buffer[30..32] == [0, 2]).then(|| buffer[..length].to_vec()))
    });
    waiting.fold(None, Option::or)
}

/// The next datagram of the group from this host.
fn heard(socket: &UdpSocket, from: Node) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let found = until("a datagram of the group", PATIENCE, || match socket.recv_from(&mut buffer) {
        Ok((length, peer)) => (peer.ip() == from.v4).then(|| buffer[..length].to_vec()),
        Err(_) => None,
    });
    found.unwrap().0
}

/// The header that every datagram has, and the end behind its one entry; the entry.
fn entry(datagram: &[u8]) -> &[u8] {
    assert_eq!(&datagram[..2], [1, 2], "version 1, IPv4");
    assert_eq!(usize::from(u16::from_be_bytes([datagram[6], datagram[7]])), datagram.len(), "its own length");
    assert!(datagram.len() <= 1408);
    let (entry, end) = datagram[30..].split_at(datagram.len() - 34);
    assert_eq!(end, [0, 0, 0, 4], "END");
    assert_eq!(usize::from(u16::from_be_bytes([entry[2], entry[3]])), entry.len());
    entry
}

#[test]
fn parity_sync_datagrams_of_spamd_are_heard_by_the_whole_group_and_only_with_the_key() {
    if !is_root() {
        return skip("namespaces need root");
    }
    let network = Network::new(HUB, &[HOSTS[0], HOSTS[1], LISTENER]).unwrap();
    let folders = [(); 2].map(|()| tempfile::Builder::new().prefix("mailgate-spamd").tempdir().unwrap());
    let socket = network.node(LISTENER.label).unwrap().within(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
        socket.join_multicast_v4(&GROUP, &LISTENER.v4)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    let socket = socket.unwrap();
    let daemons =
        [0, 1].map(|own| start(folders[own].path(), HOSTS[own], network.node(HOSTS[own].label).unwrap()));

    // A first attempt at one host is one at the other.
    assert_eq!(attempt(&network, HOSTS[0]), 451);
    let datagram = heard(&socket, HOSTS[0]);
    let grey = entry(&datagram);
    assert_eq!(&grey[..2], [0, 1], "GREY");
    assert_eq!(&grey[8..12], HUB.v4.octets(), "the client");
    assert_eq!(grey.len() % 16, 0);
    let lengths = [12, 14, 16].map(|at| usize::from(u16::from_be_bytes([grey[at], grey[at + 1]])));
    let texts: Vec<&[u8]> =
        grey[18..18 + lengths.iter().sum::<usize>()].split_inclusive(|byte| *byte == 0).collect();
    assert_eq!(texts, [&b"<a@client.example>\0"[..], b"<b@example.org>\0", b"client.example\0"]);
    assert_eq!(lengths.to_vec(), texts.iter().map(|text| text.len()).collect::<Vec<_>>());
    until("the tuple at the other host", PATIENCE, || (rows(&daemons[1], "grey").len() == 1).then_some(()))
        .unwrap();
    let mut white = None;
    until("the retry at the other host", PATIENCE, || {
        let code = attempt(&network, HOSTS[1]);
        // Each attempt is told to the group: whoever does not listen meanwhile has no room left for what matters.
        white = white.take().or_else(|| white_of(&socket, HOSTS[1]));
        (code != 451).then_some(())
    })
    .unwrap();

    // It passed there, and a trap begins here: both are told, and nobody tells on what it was told.
    let white =
        until("WHITE of the other host", PATIENCE, || white.take().or_else(|| white_of(&socket, HOSTS[1])));
    let white = white.unwrap().0;
    assert_eq!((entry(&white).len(), &entry(&white)[12..16]), (16, &HUB.v4.octets()[..]));
    until("the pass at the first host", PATIENCE, || (rows(&daemons[0], "passed").len() == 1).then_some(()))
        .unwrap();
    daemons[0].command(&["grey", "add", "203.0.113.9", "--kind", "trapped"]).unwrap();
    let trapped = until("TRAPPED of the first host", PATIENCE, || {
        let datagram = heard(&socket, HOSTS[0]);
        (datagram[30..32] == [0, 3]).then_some(datagram)
    });
    assert_eq!(&entry(&trapped.unwrap().0)[12..16], [203, 0, 113, 9]);
    until("the trap at the other host", PATIENCE, || (rows(&daemons[1], "trapped").len() == 1).then_some(()))
        .unwrap();
    assert_eq!((counter(&daemons[0], "forged"), counter(&daemons[1], "malformed")), (0, 0));

    // Another encoder's datagrams have our key, and are years old; with one bit changed nobody's; a replay is stale.
    let to = (HOSTS[1].v4, PORT);
    for vector in VECTORS {
        let mut datagram = octets(vector);
        socket.send_to(&datagram, to).unwrap();
        datagram[29] ^= 1;
        socket.send_to(&datagram, to).unwrap();
    }
    socket.send_to(&trapped_again(&daemons[0], &socket), to).unwrap();
    let counted = until("what came to be counted", PATIENCE, || {
        let counts = ["stale", "forged"].map(|name| counter(&daemons[1], name));
        (counts == [3, 2]).then_some(())
    });
    counted.unwrap_or_else(|error| panic!("{error}\n{:?}", daemons[1].json(&["sync", "status"])));
    assert_eq!(rows(&daemons[1], "trapped").len(), 2);
}

/// A datagram that everybody has heard already.
fn trapped_again(daemon: &Daemon<'_>, socket: &UdpSocket) -> Vec<u8> {
    daemon.command(&["grey", "add", "203.0.113.10", "--kind", "trapped"]).unwrap();
    let again = until("TRAPPED of another", PATIENCE, || {
        let datagram = heard(socket, HOSTS[0]);
        (datagram[30..32] == [0, 3] && datagram[42..46] == [203, 0, 113, 10]).then_some(datagram)
    });
    again.unwrap().0
}
