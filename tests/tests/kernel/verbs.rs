//! What a command says is so for the next packet, and what the kernel counts is what the command shows.

use std::fmt::Write as _;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use mailgate_tests::{Daemon, Namespace, Network, rounds};
use serde_json::Value;

use crate::station::missing;
use crate::wire::{EVIL, GOOD, HUB, MX};

/// Longer than a datagram takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often an entry comes and goes.
const ROUNDS: u32 = 20;

/// A name of its own for each test, because they run at the same time.
fn instance(folder: &std::path::Path) -> String {
    folder.file_name().unwrap().to_string_lossy().replace('.', "-")
}

/// The listed host and another one send datagrams to mx, where a daemon runs.
struct Place {
    network: Network,
    listed: UdpSocket,
    marker: UdpSocket,
    at: UdpSocket,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let network = Network::new(HUB, &[MX, GOOD, EVIL]).unwrap();
        let at = network.node("mx").unwrap().within(|| Ok(UdpSocket::bind((MX.v4, 9999))?)).unwrap();
        at.set_read_timeout(Some(PATIENCE)).unwrap();
        let [listed, marker] = ["evil", "good"].map(|from| sender(network.node(from).unwrap()));
        let folder = tempfile::Builder::new().prefix("mailgate-verbs").tempdir().unwrap();
        Self { network, listed, marker, at, folder }
    }

    /// A daemon on mx; `more` are lines of its configuration.
    fn daemon(&self, more: &str) -> Daemon<'_> {
        let text = format!(
            "hostname = \"mx.example.org\"\n[smtp.mx]\nlisten = [\"{0}:25\"]\n[smtp.msa]\nlisten = []\n\
             submissions = []\n[access.imap]\nlisten = []\nlisten_tls = []\n[edge.packet]\n\
             interfaces = [\"eth0\"]\nmode = \"native\"\ninstance = \"{1}\"\n{more}",
            MX.v4,
            instance(self.folder.path())
        );
        let inside = self.network.node("mx").unwrap();
        let daemon = Daemon::start(self.folder.path(), &text, Some(inside)).unwrap();
        let status = daemon.json(&["status"]).unwrap();
        assert_eq!(status["filter"]["acts"], "kernel", "{status:#}");
        daemon
    }

    /// The next datagram that came to mx.
    fn received(&self) -> String {
        let mut buffer = [0; 100];
        let length = self.at.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// The filter outlives its daemon; what the test made is to be gone.
    fn detach(&self) {
        let instance = instance(self.folder.path());
        let mx = self.network.node("mx").unwrap();
        mx.within(move || {
            let config = mailgate_packet::Config {
                interfaces: vec!["eth0".to_owned()],
                instance,
                mode: mailgate_packet::Mode::Off,
                ..Default::default()
            };
            mailgate_packet::xdp::remove(&config)?;
            Ok(())
        })
        .unwrap();
    }
}

/// A socket of a namespace that talks to the one on mx.
fn sender(from: &Namespace) -> UdpSocket {
    from.within(|| {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        socket.connect((MX.v4, 9999))?;
        Ok(socket)
    })
    .unwrap()
}

#[test]
fn an_entry_that_a_command_added_or_deleted_is_so_for_the_next_packet() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let place = Place::new();
    let mut daemon = place.daemon("");
    let evil = EVIL.v4.to_string();

    let mut took = Vec::new();
    for round in 0..rounds(ROUNDS) {
        let began = Instant::now();
        daemon.command(&["table", "add", "drop", &evil]).unwrap();
        took.push(began.elapsed());
        place.listed.send(format!("stopped {round}").as_bytes()).unwrap();
        place.marker.send(format!("marker {round}").as_bytes()).unwrap();
        assert_eq!(place.received(), format!("marker {round}"), "the one sent before it was stopped");
        daemon.command(&["table", "delete", "drop", &evil]).unwrap();
        place.listed.send(format!("back {round}").as_bytes()).unwrap();
        assert_eq!(place.received(), format!("back {round}"));
    }
    took.sort();
    println!(
        "`table add` until it returns, in force and on disk: median {:?} of {}",
        took[took.len() / 2],
        took.len()
    );

    daemon.command(&["table", "add", "drop", &evil]).unwrap();
    let tested = daemon.attempt(&["table", "test", &evil], "").unwrap();
    assert_eq!(tested.status.code(), Some(0), "{}", tested.output);
    assert!(tested.output.contains("decides: drop;"), "{}", tested.output);
    daemon.stop();
    place.detach();
}

#[test]
fn a_table_that_counts_shows_what_the_kernel_counted_once_and_also_while_no_daemon_ran() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let place = Place::new();
    let counting = "[[lists.table]]\nname = \"drop\"\naction = \"drop\"\ncounters = true\n";
    let mut daemon = place.daemon(counting);
    daemon.command(&["table", "add", "drop", "198.18.3.0/24", "10.0.0.0/8"]).unwrap();
    let send = |count: usize| {
        for _ in 0..count {
            place.listed.send(b"12 bytes in it").unwrap();
        }
        place.marker.send(b"marker").unwrap();
        assert_eq!(place.received(), "marker");
    };
    let row = |daemon: &Daemon<'_>| -> Value {
        let rows = daemon.json(&["table", "show", "drop"]).unwrap();
        assert_eq!(rows[0]["packets"], 0, "nobody came from there: {rows:#}");
        rows[1].clone()
    };
    send(5);
    let counted = row(&daemon);
    assert_eq!(
        (&counted["prefix"], &counted["packets"]),
        (&"198.18.3.0/24".into(), &5.into()),
        "{counted:#}"
    );
    // Ethernet, IPv4 and UDP headers and 14 bytes.
    assert_eq!(counted["bytes"], 5 * (14 + 20 + 8 + 14), "{counted:#}");
    assert!(counted["last"].as_i64().unwrap() >= counted["added"].as_i64().unwrap(), "{counted:#}");
    daemon.command(&["table", "zero", "drop"]).unwrap();
    assert_eq!(row(&daemon)["packets"], 0);
    send(3);
    assert_eq!(row(&daemon)["packets"], 3);

    // The kernel counts on while no daemon runs.
    daemon.kill();
    send(4);
    daemon.begin().unwrap();
    assert_eq!(row(&daemon)["packets"], 7, "not those of before it was cleared, and none twice");
    let idle = daemon.command(&["table", "expire", "drop", "--idle", "1h"]).unwrap();
    assert_eq!(idle, "0/2 addresses expired.\n");

    daemon.stop();
    place.detach();
}

#[test]
fn a_set_of_100000_is_replaced_while_packets_are_judged_by_all_of_it_or_by_none() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let place = Place::new();
    let mut daemon = place.daemon("");
    // Both sets hold the sender: there is no moment at which it gets through, though every other entry changes.
    let set = |first: u32| {
        let mut text = format!("{}\n", EVIL.v4);
        for n in 0..100_000_u32 {
            writeln!(text, "{}", std::net::Ipv4Addr::from(first + 3 * n)).unwrap();
        }
        text
    };
    for first in [0x0a00_0000, 0x0b00_0000, 0x0a00_0001] {
        let said = daemon.command_with(&["table", "replace", "drop", "-f", "-"], &set(first)).unwrap();
        assert!(said.starts_with("10000"), "{said}");
        place.listed.send(b"stopped").unwrap();
        place.marker.send(b"marker").unwrap();
        assert_eq!(place.received(), "marker");
    }
    std::thread::scope(|scope| {
        let replacing =
            scope.spawn(|| daemon.command_with(&["table", "replace", "drop", "-f", "-"], &set(7)));
        let mut sent = 0;
        while !replacing.is_finished() {
            place.listed.send(b"stopped").unwrap();
            sent += 1;
        }
        replacing.join().unwrap().unwrap();
        println!("{sent} datagrams while the set was replaced");
    });
    place.marker.send(b"marker").unwrap();
    assert_eq!(place.received(), "marker", "a datagram got through between two sets");
    daemon.stop();
    place.detach();
}
