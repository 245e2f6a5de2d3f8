//! The tarpit in the kernel and real clients: who is held, who is not, and that nothing of ours is spent.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use mailgate_common::answer::Answered;
use mailgate_packet::firewall::RuleSet;
use mailgate_packet::{Answers, Listeners, Mode, PacketFilter as _};
use mailgate_tests::held::{EVIL, MX, Scene, clients, connections, greeted, listed, raise_file_limit};
use mailgate_tests::until;

use crate::station::missing;

const SOON: Duration = Duration::from_secs(30);
/// How long is waited for what is not to come.
const BRIEFLY: Duration = Duration::from_millis(500);

fn uncapped() -> Answers {
    Answers { replies_per_source: 1_000_000, replies: 1_000_000, ..Answers::default() }
}

fn pairs() -> [(IpAddr, SocketAddr); 2] {
    [(EVIL.v4.into(), (MX.v4, 25).into()), (EVIL.v6.into(), (MX.v6, 25).into())]
}

#[test]
fn a_listed_client_reads_the_banner_is_held_and_is_let_go_with_its_entry() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    for mode in [Mode::Native, Mode::Generic] {
        let scene = Scene::new(mode, Answers::default()).unwrap();
        let mut held = Vec::new();
        for (source, to) in pairs() {
            held.push(scene.evil().unwrap().within(move || greeted(source, to)).unwrap());
        }
        let before = scene.filter.answered(Answered::Held);
        for stream in &mut held {
            stream.write_all(b"EHLO client.example\r\n").unwrap();
        }
        until("probes of both to be answered", SOON, || {
            (scene.filter.answered(Answered::Held) >= before + 4).then_some(())
        })
        .unwrap();
        for stream in &mut held {
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let error = stream.read(&mut [0; 100]).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted),
                "{mode:?}: {error}"
            );
        }
        assert_eq!(connections(scene.evil().unwrap()).unwrap().0, 2, "established there");
        assert_eq!(connections(scene.mx().unwrap()).unwrap(), (0, 0), "no socket here");

        scene.filter.apply(vec![listed(&[]).unwrap()]).unwrap();
        for stream in &mut held {
            let (error, _) = until("a reset from the stack", SOON, || {
                stream.read(&mut [0; 100]).err().filter(|error| error.kind() == ErrorKind::ConnectionReset)
            })
            .unwrap();
            drop(error);
        }
        scene.end().unwrap();
    }
}

#[test]
fn two_thousand_clients_are_held_without_a_socket() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    const CLIENTS: usize = 2000;
    let limit = raise_file_limit().unwrap();
    if limit < 3000 {
        return mailgate_tests::skip(format!("{limit} open files are allowed, 3000 are needed"));
    }
    let scene = Scene::new(Mode::Native, uncapped()).unwrap();
    let mut held = Vec::new();
    for (source, to) in pairs() {
        held.extend(scene.evil().unwrap().within(move || clients(&[source], to, CLIENTS / 2)).unwrap().0);
    }
    assert_eq!(held.len(), CLIENTS);
    assert_eq!(connections(scene.evil().unwrap()).unwrap().0, CLIENTS as u64, "established there");
    assert_eq!(connections(scene.mx().unwrap()).unwrap(), (0, 0), "no socket here");
    assert!(scene.filter.answered(Answered::Greeted) >= CLIENTS as u64);
    drop(held);
    scene.end().unwrap();
}

#[test]
fn connections_of_before_the_listing_go_on() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let scene = Scene::new(Mode::Native, Answers::default()).unwrap();
    scene.filter.apply(vec![listed(&[]).unwrap()]).unwrap();
    let listeners = scene
        .mx()
        .unwrap()
        .within(|| Ok([TcpListener::bind((MX.v4, 25))?, TcpListener::bind((MX.v6, 25))?]))
        .unwrap();
    let mut live = Vec::new();
    for (listener, (_, to)) in listeners.iter().zip(pairs()) {
        let theirs = scene
            .evil()
            .unwrap()
            .within(move || Ok(std::net::TcpStream::connect_timeout(&to, SOON)?))
            .unwrap();
        live.push((theirs, listener.accept().unwrap().0));
    }
    scene.filter.apply(vec![listed(&["198.18.3.0/24", "2001:db8:3::/48"]).unwrap()]).unwrap();
    for (theirs, ours) in &mut live {
        ours.set_read_timeout(Some(SOON)).unwrap();
        theirs.set_read_timeout(Some(SOON)).unwrap();
        theirs.write_all(b"still here\r\n").unwrap();
        let mut text = [0; 12];
        ours.read_exact(&mut text).unwrap();
        ours.write_all(&text).unwrap();
        theirs.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"still here\r\n");
    }
    let (source, to) = pairs()[0];
    scene.evil().unwrap().within(move || greeted(source, to)).unwrap();
    scene.end().unwrap();
}

#[test]
fn only_listed_sources_are_held_and_only_when_asked_for() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let scene = Scene::new(Mode::Native, Answers::default()).unwrap();
    let listener = scene.mx().unwrap().within(|| Ok(TcpListener::bind((MX.v4, 25))?)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let to: SocketAddr = (MX.v4, 25).into();
    let connect = |patience: Duration| {
        let made = scene
            .evil()
            .unwrap()
            .within(move || Ok(std::net::TcpStream::connect_timeout(&to, SOON)?))
            .unwrap();
        let taken = until("the listener to take it", patience, || listener.accept().ok());
        drop(made);
        taken.is_ok()
    };
    assert!(!connect(BRIEFLY), "listed: held in the kernel");
    assert_eq!(scene.filter.answered(Answered::Offered), 1);

    scene.filter.protect(&["198.18.3.0/24".parse().unwrap()]).unwrap();
    assert!(connect(SOON), "a protected network is held by no table");
    scene.filter.protect(&[]).unwrap();
    scene.filter.apply(vec![listed(&["203.0.113.0/24"]).unwrap()]).unwrap();
    assert!(connect(SOON), "unknown: to the edge or whoever is bound");
    scene.filter.apply(vec![listed(&["198.18.3.0/24"]).unwrap()]).unwrap();
    assert!(!connect(BRIEFLY), "listed again");
    let edge = Listeners { v4: Some(listener.as_raw_fd()), v6: None };
    scene.filter.set_listeners(Listeners::default(), edge).unwrap();
    scene.filter.set_rules(RuleSet::default(), None).unwrap();
    assert!(connect(SOON), "without kernel_tarpit the edge holds it");
    assert_eq!(scene.filter.answered(Answered::Offered), 2);
    scene.end().unwrap();
}
