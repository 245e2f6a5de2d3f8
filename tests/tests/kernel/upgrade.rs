//! Restart, upgrade to another layout and change of mode while a listed source sends: not one of its packets passes.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use mailgate_packet::xdp::{Xdp, sys};
use mailgate_packet::{Config, Mode, PacketFilter as _};
use mailgate_tests::{Namespace, Network, rounds, until};

use crate::station::{config, missing, open, pins, tables, ways};
use crate::wire::{EVIL, GOOD, HUB, MX};

/// Where the packets go.
const PORT: u16 = 9999;
/// Packets of the listed source between two steps.
const BETWEEN: u32 = 500;

/// A source that sends as fast as it can.
pub(crate) struct Sender {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sender {
    pub(crate) fn begin(from: &Namespace) -> Self {
        let socket = from.within(|| Ok(UdpSocket::bind("0.0.0.0:0")?)).unwrap();
        socket.connect((MX.v4, PORT)).unwrap();
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counter, end) = (Arc::clone(&sent), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                // A refusal (ICMP) or a full queue is no reason to stop.
                if socket.send(b"x").is_ok() {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { sent, stop, thread: Some(thread) }
    }

    /// Waits until it sent some more.
    pub(crate) fn go_on(&self) {
        let enough = self.sent.load(Ordering::Relaxed) + u64::from(rounds(BETWEEN));
        until("the source to send", Duration::from_secs(20), || {
            (self.sent.load(Ordering::Relaxed) > enough).then_some(())
        })
        .unwrap();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Counts what arrives, per source; returns when nothing is left to read.
pub(crate) fn received(at: &UdpSocket) -> (u64, u64) {
    let (mut good, mut evil) = (0, 0);
    let mut byte = [0; 8];
    while let Ok((_, from)) = at.recv_from(&mut byte) {
        if from.ip() == std::net::IpAddr::V4(GOOD.v4) {
            good += 1;
        } else {
            evil += 1;
        }
    }
    (good, evil)
}

fn opened(mx: &Namespace, config: &Config) -> Xdp {
    let (give, take) = std::sync::mpsc::channel();
    let config = config.clone();
    mx.within(move || Ok(give.send(open(&config)?)?)).unwrap();
    take.recv().unwrap()
}

#[test]
fn no_packet_of_a_listed_source_passes_during_restart_upgrade_and_change_of_mode() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = Network::new(HUB, &[MX, GOOD, EVIL]).unwrap();
    let mx = network.node("mx").unwrap();
    let at = mx.within(|| Ok(UdpSocket::bind((MX.v4, PORT))?)).unwrap();
    at.set_nonblocking(true).unwrap();
    let good = UdpSocket::try_clone(
        &network.node("good").unwrap().within(|| Ok(UdpSocket::bind("0.0.0.0:0")?)).unwrap(),
    )
    .unwrap();
    good.connect((MX.v4, PORT)).unwrap();
    let native = Config { interfaces: vec!["eth0".into()], ..config() };
    let listed = || vec![tables(&[], &["198.18.3.0/24"], &[], &[])];
    let filter = opened(mx, &native);
    filter.apply(listed()).unwrap();
    let folder = pins(&filter);
    drop(filter);
    let sender = Sender::begin(network.node("evil").unwrap());

    for round in 0..rounds(5) {
        sender.go_on();
        let filter = opened(mx, &native);
        sender.go_on();
        assert_eq!(received(&at).1, 0, "restart {round}: before its first tables");
        filter.apply(listed()).unwrap();
        drop(filter);
        assert_eq!(received(&at).1, 0, "restart {round}");
    }

    for round in 0..rounds(5) {
        // What another version left: links and maps of another shape, under another name.
        let there = folder.clone();
        mx.within(move || Ok(std::fs::rename(&there, there.with_file_name("v0-old"))?)).unwrap();
        let filter = opened(mx, &native);
        sender.go_on();
        assert_eq!(received(&at).1, 0, "upgrade {round}: the new tables are still empty");
        let reason = filter.status().interfaces[0].reason.clone().unwrap();
        assert!(reason.contains("until the tables are loaded"), "{reason}");
        filter.apply(listed()).unwrap();
        sender.go_on();
        assert_eq!(received(&at).1, 0, "upgrade {round}: with the new tables");
        assert_eq!(filter.status().interfaces[0].reason, None);
        let old = folder.with_file_name("v0-old");
        let gone = mx.within(move || Ok(!old.exists())).unwrap();
        assert!(gone, "nothing of the old version stays");
    }

    let index = mx.within(|| Ok(nix::net::if_::if_nametoindex("eth0")?)).unwrap();
    let has_door = mx.within(move || Ok(sys::shut(index).is_ok())).unwrap();
    for mode in [Mode::Generic, Mode::Native, Mode::Generic, Mode::Native] {
        let filter = opened(mx, &Config { mode, ..native.clone() });
        sender.go_on();
        if !has_door {
            // Before Linux 6.6 nothing closes the gap: packets of that moment have passed, none do any more.
            received(&at);
            sender.go_on();
        }
        let way = if mode == Mode::Native { "native" } else { "generic" };
        assert_eq!(ways(&filter), [("eth0".to_owned(), way)]);
        assert_eq!(received(&at).1, 0, "change of mode to {way}");
        good.send(b"x").unwrap();
        until("a packet of somebody else", Duration::from_secs(30), || (received(&at).0 > 0).then_some(()))
            .unwrap();
    }

    let filter = opened(mx, &native);
    mx.within(move || -> Result<()> { Ok(filter.detach()?) }).unwrap();
    sender.go_on();
    until("the listed source to be heard again", Duration::from_secs(30), || {
        (received(&at).1 > 0).then_some(())
    })
    .unwrap();
}
