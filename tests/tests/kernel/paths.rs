//! The tarpit in the kernel where packets take more than one way, and where many clients share an address.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mailgate_common::answer::Answered;
use mailgate_packet::{Answers, Listeners, Mode, PacketFilter as _};
use mailgate_tests::held::{EVIL, MX, Scene, connections, greeted, listed};
use mailgate_tests::{Namespace, until};

use crate::station::missing;

const SOON: Duration = Duration::from_secs(30);
/// Stations of the second cable: whoever is at its other end is told, nobody has to be asked.
const HERE: &str = "02:00:00:00:01:01";
const THERE: &str = "02:00:00:00:01:02";

fn sysctl(of: &Namespace, name: &'static str, value: &'static str) {
    of.within(move || {
        std::fs::write(format!("/proc/sys/net/{name}"), value).with_context(|| format!("net.{name}"))
    })
    .unwrap();
}

/// Lays a second cable, `eth1` at both ends, without any filter.
fn second_cable(from: &Namespace, to: &Namespace) {
    from.cable(to, "eth1", "eth1").unwrap();
    from.ip(&format!("link set eth1 address {HERE} up")).unwrap();
    to.ip(&format!("link set eth1 address {THERE} up")).unwrap();
    for namespace in [from, to] {
        // Packets come in by the one and go out by the other.
        sysctl(namespace, "ipv4/conf/all/rp_filter", "0");
        sysctl(namespace, "ipv4/conf/eth1/rp_filter", "0");
    }
}

/// From here on SYNs from this host leave by `eth1`, everything else as before.
fn syns_by_the_second_cable(from: &Namespace) {
    nft(
        from,
        "table inet ways {\nchain out {\ntype route hook output priority mangle\n\
         tcp flags & (syn|ack) == syn meta mark set 1\n}\n}\n",
    );
    for family in ["-4", "-6"] {
        from.ip(&format!("{family} rule add fwmark 1 lookup 100")).unwrap();
        from.ip(&format!("{family} route add default dev eth1 table 100")).unwrap();
    }
    for address in [IpAddr::from(MX.v4), IpAddr::from(MX.v6)] {
        from.ip(&format!("neighbour replace {address} lladdr {HERE} dev eth1")).unwrap();
    }
}

fn nft(on: &Namespace, text: &str) {
    let mut command = Command::new("nft");
    command.arg(text);
    on.run(command, SOON).unwrap().success().unwrap();
}

/// Packets that an interface has sent.
fn sent(by: &Namespace, interface: &'static str) -> u64 {
    by.within(move || {
        let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
        Ok(line.context("no such interface")?.split_whitespace().nth(9).context("no figure")?.parse()?)
    })
    .unwrap()
}

fn pairs() -> [(IpAddr, SocketAddr); 2] {
    [(EVIL.v4.into(), (MX.v4, 25).into()), (EVIL.v6.into(), (MX.v6, 25).into())]
}

fn listening(on: &Namespace) -> [TcpListener; 2] {
    on.within(|| Ok([TcpListener::bind((MX.v4, 25))?, TcpListener::bind((MX.v6, 25))?])).unwrap()
}

fn connected(from: &Namespace, to: SocketAddr) -> TcpStream {
    from.within(move || Ok(TcpStream::connect_timeout(&to, SOON)?)).unwrap()
}

/// Both ends hear each other.
fn talk(theirs: &mut TcpStream, ours: &mut TcpStream) {
    for stream in [&*theirs, &*ours] {
        stream.set_read_timeout(Some(SOON)).unwrap();
    }
    let mut text = [0; 12];
    theirs.write_all(b"still here\r\n").unwrap();
    ours.read_exact(&mut text).unwrap();
    ours.write_all(&text).unwrap();
    theirs.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"still here\r\n");
}

const LISTED: [&str; 2] = ["198.18.3.0/24", "2001:db8:3::/48"];

#[test]
fn with_replies_by_another_way_live_connections_go_on_and_new_ones_are_answered_where_they_came_from() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let scene = Scene::new(Mode::Native, Answers::default()).unwrap();
    let (mx, evil) = (scene.mx().unwrap(), scene.evil().unwrap());
    scene.filter.apply(vec![listed(&[]).unwrap()]).unwrap();
    second_cable(mx, evil);
    for (network, address) in [("198.18.3.0/24", IpAddr::from(EVIL.v4)), ("2001:db8:3::/48", EVIL.v6.into())]
    {
        mx.ip(&format!("route replace {network} dev eth1")).unwrap();
        mx.ip(&format!("neighbour replace {address} lladdr {THERE} dev eth1")).unwrap();
    }
    let listeners = listening(mx);
    let mut live = Vec::new();
    let before = sent(mx, "eth1");
    for (listener, (_, to)) in listeners.iter().zip(pairs()) {
        let theirs = connected(evil, to);
        live.push((theirs, listener.accept().unwrap().0));
    }
    assert!(sent(mx, "eth1") >= before + 2, "replies of the stack leave by the other way");
    scene.filter.apply(vec![listed(&LISTED).unwrap()]).unwrap();
    for (theirs, ours) in &mut live {
        talk(theirs, ours);
    }
    // Acknowledgments of what was just said may be under way.
    until("the other way to be quiet", SOON, || {
        let before = sent(mx, "eth1");
        std::thread::yield_now();
        (sent(mx, "eth1") == before).then_some(())
    })
    .unwrap();
    let before = scene.filter.answered(Answered::Greeted);
    let mut held = Vec::new();
    for (source, to) in pairs() {
        held.push(evil.within(move || greeted(source, to)).unwrap());
    }
    assert_eq!(scene.filter.answered(Answered::Greeted), before + 2);
    assert_eq!(connections(mx).unwrap().0, 2, "only the live ones have sockets here");
    for (theirs, ours) in &mut live {
        talk(theirs, ours);
    }
    scene.end().unwrap();
}

#[test]
fn a_handshake_whose_syn_came_by_a_way_without_the_filter_is_completed_by_the_stack() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    if mailgate_tests::find("nft").is_none() {
        return mailgate_tests::skip("nft is not installed, which sends SYNs another way");
    }
    let scene = Scene::new(Mode::Native, Answers::default()).unwrap();
    let (mx, evil) = (scene.mx().unwrap(), scene.evil().unwrap());
    second_cable(mx, evil);
    syns_by_the_second_cable(evil);
    let listeners = listening(mx);
    let [v4, v6] = &listeners;
    // The SYN meets only the choice of the listener, which holds listed sources by the edge.
    let edge = Listeners { v4: Some(v4.as_raw_fd()), v6: Some(v6.as_raw_fd()) };
    scene.filter.set_listeners(Listeners::default(), edge).unwrap();
    for (listener, (_, to)) in listeners.iter().zip(pairs()) {
        let mut theirs = connected(evil, to);
        let mut ours = listener.accept().unwrap().0;
        talk(&mut theirs, &mut ours);
    }
    assert_eq!(scene.filter.answered(Answered::Offered), 0, "no SYN came by here");
    assert_eq!(scene.filter.answered(Answered::Forged), 0, "and what came belonged to a socket");
    scene.end().unwrap();
}

#[test]
fn a_connection_of_another_host_with_our_address_is_not_reset() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    if mailgate_tests::find("nft").is_none() {
        return mailgate_tests::skip("nft is not installed, which sends SYNs another way");
    }
    // Anycast, or a balancer in front: the SYN went to a twin, what follows comes to us.
    let scene = Scene::new(Mode::Native, Answers::default()).unwrap();
    let evil = scene.evil().unwrap();
    let twin = Namespace::new("twin", None).unwrap();
    second_cable(&twin, evil);
    twin.ip(&format!("address add {}/32 dev lo", MX.v4)).unwrap();
    twin.ip(&format!("address add {}/128 dev lo nodad", MX.v6)).unwrap();
    for (family, address) in [("-4", IpAddr::from(EVIL.v4)), ("-6", EVIL.v6.into())] {
        twin.ip(&format!("{family} route add default dev eth1")).unwrap();
        twin.ip(&format!("neighbour replace {address} lladdr {THERE} dev eth1")).unwrap();
    }
    syns_by_the_second_cable(evil);
    let _listeners = listening(&twin);
    for (_, to) in pairs() {
        let mut theirs = connected(evil, to);
        let before = scene.filter.answered(Answered::Forged);
        theirs.write_all(b"EHLO client.example\r\n").unwrap();
        until("what is not ours to be dropped", SOON, || {
            (scene.filter.answered(Answered::Forged) > before).then_some(())
        })
        .unwrap();
        theirs.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let error = theirs.read(&mut [0; 100]).unwrap_err();
        let waits =
            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted);
        assert!(waits, "{error}");
    }
    assert_eq!(scene.filter.answered(Answered::Greeted), 0);
    assert_eq!(scene.filter.answered(Answered::Reset), 0);
    scene.end().unwrap();
}

/// Clients behind the listed address.
const BEHIND: u8 = 24;

#[test]
fn many_clients_behind_one_listed_address_are_held_each_by_itself_up_to_the_cap_and_let_go_together() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    if mailgate_tests::find("nft").is_none() {
        return mailgate_tests::skip("nft is not installed, which translates addresses");
    }
    let scene = Scene::new(Mode::Native, Answers { replies_per_source: 1000, ..Answers::default() }).unwrap();
    let (mx, evil) = (scene.mx().unwrap(), scene.evil().unwrap());
    let home = Namespace::new("home", None).unwrap();
    evil.cable(&home, "home", "eth0").unwrap();
    evil.ip("address add 10.0.0.254/24 dev home").unwrap();
    evil.ip("link set home up").unwrap();
    sysctl(evil, "ipv4/ip_forward", "1");
    nft(
        evil,
        "table ip nat {\nchain out {\ntype nat hook postrouting priority srcnat\noifname eth0 masquerade\n}\n}\n",
    );
    home.ip("link set eth0 up").unwrap();
    let client = |n: u8| IpAddr::from([10, 0, 0, n]);
    for n in 1..=BEHIND {
        home.ip(&format!("address add {}/24 dev eth0", client(n))).unwrap();
    }
    home.ip("route add default via 10.0.0.254").unwrap();
    let to: SocketAddr = (MX.v4, 25).into();

    // One of them has a connection before the address is listed, as an honest user of a shared address may.
    scene.filter.apply(vec![listed(&[]).unwrap()]).unwrap();
    let [listener, _] = listening(mx);
    let mut honest = connected(&home, to);
    let (mut taken, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), IpAddr::from(EVIL.v4), "the address of all");
    scene.filter.apply(vec![listed(&["198.18.3.1/32"]).unwrap()]).unwrap();

    let mut held = Vec::new();
    for n in 1..=BEHIND {
        held.push(home.within(move || greeted(client(n), to)).unwrap());
    }
    assert_eq!(scene.filter.answered(Answered::Greeted), u64::from(BEHIND), "each by itself");
    assert_eq!(connections(mx).unwrap().0, 1, "no socket for any of them");
    let before = scene.filter.answered(Answered::Held);
    for stream in &mut held {
        stream.write_all(b"EHLO client.example\r\n").unwrap();
    }
    until("probes of all to be answered", Duration::from_secs(30), || {
        (scene.filter.answered(Answered::Held) >= before + u64::from(BEHIND)).then_some(())
    })
    .unwrap();
    talk(&mut honest, &mut taken);

    // The address is let in: the next connection of each reaches the listener.
    scene.filter.apply(vec![listed(&["!198.18.3.1/32", "198.18.3.0/24"]).unwrap()]).unwrap();
    for n in [1, BEHIND] {
        let next = home.within(move || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(client(n), 0).into())?;
            socket.connect_timeout(&to.into(), SOON)?;
            Ok(TcpStream::from(socket))
        });
        let mut theirs = next.unwrap();
        let mut ours = listener.accept().unwrap().0;
        talk(&mut theirs, &mut ours);
    }
    scene.end().unwrap();
}

#[test]
fn one_address_gets_no_more_answers_than_its_cap_however_many_clients_it_hides() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    // One answer a second, ten at once: five handshakes with their banners.
    let scene = Scene::new(Mode::Native, Answers { replies_per_source: 1, ..Answers::default() }).unwrap();
    let evil = scene.evil().unwrap();
    let (source, to) = pairs()[0];
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(evil.within(move || greeted(source, to)).unwrap());
    }
    let tries: Vec<socket2::Socket> = (0..20)
        .map(|_| {
            evil.within(move || -> Result<socket2::Socket> {
                let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
                socket.bind(&SocketAddr::new(source, 0).into())?;
                socket.set_nonblocking(true)?;
                // It is under way.
                let _ = socket.connect(&to.into());
                Ok(socket)
            })
            .unwrap()
        })
        .collect();
    until("the cap to be met", SOON, || (scene.filter.answered(Answered::Capped) > 0).then_some(())).unwrap();
    // Who is held already is answered all the same: probes are no answers to a SYN.
    let before = scene.filter.answered(Answered::Held);
    for stream in &mut held {
        stream.write_all(b"EHLO client.example\r\n").unwrap();
    }
    until("the held ones to be answered", SOON, || {
        (scene.filter.answered(Answered::Held) >= before + 3).then_some(())
    })
    .unwrap();
    // And another address is not punished for it.
    let other: IpAddr = "198.18.3.2".parse().unwrap();
    evil.ip("address add 198.18.3.2/32 dev eth0").unwrap();
    evil.within(move || greeted(other, to)).unwrap();
    drop(tries);
    scene.end().unwrap();
}
