//! Limits of connections beside servers that are not ours: the daemon counts them, lists who is over, ends what is there.

use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use mailgate_tests::{Daemon, Namespace, Network, Node, lab, until};

const HUB: Node = node("hub", 53);
const MX: Node = node("mx", 25);
const FRIEND: Node = node("friend", 42);
const GUESSER: Node = node("guesser", 66);

const fn node(label: &'static str, last: u8) -> Node {
    Node {
        label,
        v4: Ipv4Addr::new(198, 18, last, 1),
        v6: Ipv6Addr::new(0x2001, 0xdb8, last as u16, 0, 0, 0, 0, 1),
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
const IMAPS: u16 = 993;

/// The limits of the seed's pf.conf for people who read mail.
const LIMITS: &str = r#"
hostname = "mx.example.org"
[edge]
mode = "classic"
behind = "foreign"
[edge.packet]
interfaces = ["eth0"]
[firewall]
admin = ["198.18.42.0/24"]
[[firewall.rule]]
name = "reading"
ports = ["imaps"]
action = "limit"
connections = 50
rate = "50/5s"
overload = "drop"
flush = true
"#;

fn connect(from: &Namespace, to: SocketAddr) -> Option<TcpStream> {
    from.within(move || Ok(TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok())).unwrap()
}

#[test]
fn who_opens_too_many_connections_to_a_foreign_server_is_listed_and_loses_them_all() {
    if !cfg!(feature = "ebpf") {
        return mailgate_tests::skip("built without the kernel filter (cargo xtask setup, cargo xtask test)");
    }
    if let Some(obstacle) = lab::obstacle() {
        return mailgate_tests::skip(obstacle.to_string());
    }
    let network = Network::new(HUB, &[MX, FRIEND, GUESSER]).unwrap();
    let mx = network.node("mx").unwrap();
    let (friend, guesser) = (network.node("friend").unwrap(), network.node("guesser").unwrap());
    let to: SocketAddr = (MX.v4, IMAPS).into();
    let listener = mx.within(move || Ok(TcpListener::bind(to)?)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(folder.path(), LIMITS, Some(mx)).unwrap();

    let friends: Vec<TcpStream> = (0..55).map(|_| connect(friend, to).unwrap()).collect();
    let mut held: Vec<TcpStream> = (0..51).map(|_| connect(guesser, to).unwrap()).collect();
    for stream in &mut held {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert!(connect(guesser, to).is_none(), "it is listed");
    for mut stream in &friends {
        stream.set_nonblocking(true).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock, "administrators go on");
    }
    let shown = daemon.command(&["table", "show", "-v", "drop"]).unwrap();
    assert!(shown.contains(&GUESSER.v4.to_string()), "{shown}");
    assert!(shown.contains("(reading), offence 1"), "{shown}");
    let lines = daemon.log().lines().filter(|line| line.contains("overload")).count();
    assert_eq!(lines, 1, "one line for one event: {}", daemon.log());
    let (remembered, _) = until("the offence to be written down", PATIENCE, || {
        std::fs::read_to_string(daemon.state().join("overload.txt")).ok()
    })
    .unwrap();
    assert!(remembered.contains(&format!("drop {}/32 level=1", GUESSER.v4)), "{remembered}");

    daemon.kill();
    assert!(connect(guesser, to).is_none(), "without the daemon too");
    assert!(connect(friend, to).is_some());
    daemon.begin().unwrap();
    assert!(connect(guesser, to).is_none(), "and after it has come back");
    daemon.command(&["table", "delete", "drop", &GUESSER.v4.to_string()]).unwrap();
    let back = until("the door to open again", PATIENCE, || connect(guesser, to));
    back.unwrap();
    drop(listener);
}
