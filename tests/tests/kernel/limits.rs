//! Connections counted in the kernel, for a listener that is not ours.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use anyhow::Result;
use ipnet::IpNet;
use mailgate_common::Action;
use mailgate_common::limit::{Counts, Excess, LimitSpec, SOURCES, SourceKey, identity};
use mailgate_lists::{Change, TableName};
use mailgate_model::{ManualClock, Timestamp};
use mailgate_packet::firewall::{Limit, Rate, Rule, RuleSet};
use mailgate_packet::overload::{
    Accounting, Config as Stays, Limited, Listing, Overload, Parts, Policy, guard,
};
use mailgate_packet::xdp::Xdp;
use mailgate_packet::{Config, PacketFilter as _};
use mailgate_tests::{Namespace, Network, until};
use tokio_util::sync::CancellationToken;

use crate::flood;
use crate::station::{config, entry, missing, name, open, tables};
use crate::wire::{EVIL, GOOD, HUB, MX, connect, glance};

const PATIENCE: Duration = Duration::from_secs(30);
const PORT: u16 = 993;

/// Fifty at once, fifty in five seconds, as the seed's pf.conf has it for IMAP.
fn imap() -> LimitSpec {
    LimitSpec {
        connections: 50,
        rate: 50,
        window_ms: 5_000,
        prefix4: 32,
        prefix6: 64,
        overload: Some(1),
        flush: true,
        id: identity("imap"),
    }
}

/// A server as others run them: it accepts and keeps what it accepted.
struct Server {
    listener: TcpListener,
    taken: Vec<TcpStream>,
}

impl Server {
    fn new(on: &Namespace, at: SocketAddr) -> Self {
        let listener = on.within(move || Ok(TcpListener::bind(at)?)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { listener, taken: Vec::new() }
    }

    fn take(&mut self, count: usize) {
        until("the connections to be accepted", PATIENCE, || {
            self.taken.extend(self.listener.accept().map(|(stream, _)| stream));
            (self.taken.len() >= count).then_some(())
        })
        .unwrap();
    }
}

/// The rule `imap`: this limit, for connections to one port.
fn rule(spec: &LimitSpec) -> Rule {
    let allowed = |n: u32| (n != 0).then_some(n);
    Rule {
        ports: vec![PORT..=PORT],
        limit: Some(Limit {
            connections: allowed(spec.connections),
            rate: allowed(spec.rate)
                .map(|count| Rate { count, per: Duration::from_millis(spec.window_ms.into()) }),
            prefix4: spec.prefix4,
            prefix6: spec.prefix6,
            overload: spec.overload.map(|_| name("drop")),
            flush: spec.flush,
        }),
        ..Rule::new("imap", Action::Limit)
    }
}

/// Opens the filter with one limit on one port. The network of the hub is protected.
fn limited(mx: &Namespace, spec: LimitSpec) -> (Arc<Xdp>, Arc<dyn Accounting>) {
    let (give, take) = mpsc::channel();
    mx.within(move || -> Result<()> {
        let filter = open(&Config { interfaces: vec!["eth0".into()], ..config() })?;
        filter.apply(vec![tables(&[], &[], &[], &[])])?;
        filter.protect(&[IpNet::from(IpAddr::V4(HUB.v4))])?;
        filter.set_rules(RuleSet { rules: vec![rule(&spec)], ..RuleSet::default() }, None)?;
        give.send(filter)?;
        Ok(())
    })
    .unwrap();
    let filter = take.recv().unwrap();
    let accounting = filter.accounting().expect("the accounting");
    (Arc::new(filter), accounting)
}

fn detach(mx: &Namespace, filter: Arc<Xdp>) {
    mx.within(move || Ok(filter.detach()?)).unwrap();
}

fn key(address: IpAddr, spec: &LimitSpec) -> SourceKey {
    let bits = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
    .to_bits();
    let (high, low) = ((bits >> 64) as u64, bits as u64);
    SourceKey::new(high, low, spec.id, spec.bits(high, low))
}

fn count(accounting: &dyn Accounting, address: impl Into<IpAddr>) -> u64 {
    accounting.counts(&key(address.into(), &imap())).unwrap().unwrap_or_default().connections
}

/// Asserts that every one of the peer's connections was reset.
fn assert_reset(held: &mut [TcpStream]) {
    for stream in held {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the peer is told");
    }
}

#[test]
fn the_fifty_first_connection_to_a_foreign_server_trips_and_ended_ones_are_seen_to_end() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = Network::new(HUB, &[MX, GOOD, EVIL]).unwrap();
    let mx = network.node("mx").unwrap();
    let (good, evil) = (network.node("good").unwrap(), network.node("evil").unwrap());
    // Over IPv4, over IPv6, and over IPv4 to a server that listens on an IPv6 socket for both.
    for (bound, to, source, friend) in [
        ((MX.v4, PORT).into(), (MX.v4, PORT).into(), IpAddr::V4(EVIL.v4), IpAddr::V4(GOOD.v4)),
        ((MX.v6, PORT).into(), (MX.v6, PORT).into(), EVIL.v6.into(), GOOD.v6.into()),
        ("[::]:993".parse().unwrap(), (MX.v4, PORT).into(), EVIL.v4.into(), GOOD.v4.into()),
    ] {
        let mut server = Server::new(mx, bound);
        let (filter, accounting) = limited(mx, imap());
        let friendly = connect(good, to).unwrap();
        let mut held: Vec<TcpStream> = (0..50).map(|_| connect(evil, to).unwrap()).collect();
        server.take(51);
        assert_eq!(count(&*accounting, source), 50);
        assert_eq!(accounting.overruns(10), [], "fifty are allowed");

        held.push(connect(evil, to).unwrap());
        server.take(52);
        let overruns = accounting.overruns(10);
        assert_eq!(overruns.len(), 1);
        let overrun = overruns[0];
        assert_eq!((overrun.excess, overrun.connections, overrun.first), (Excess::Connections as u32, 51, 1));
        assert_eq!((overrun.limit, overrun.local_port), (imap().id, PORT));
        assert_eq!(overrun.source_port, held[50].local_addr().unwrap().port());

        assert!(glance(evil, to).is_none(), "further ones get no handshake");
        assert_eq!(accounting.counted().unwrap().len(), 52, "what the sockets themselves say");

        // What mx itself asked of the same host is not a connection of that host's.
        let elsewhere =
            Server::new(evil, ((if to.is_ipv4() { IpAddr::V4(EVIL.v4) } else { EVIL.v6.into() }), 80).into());
        let ours = connect(mx, elsewhere.listener.local_addr().unwrap()).unwrap();
        assert_eq!(accounting.end(&mut |ends| ends.source == source).unwrap(), 51);
        assert_reset(&mut held);
        ours.set_nonblocking(true).unwrap();
        assert_eq!((&ours).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock, "that one goes on");
        assert_eq!(count(&*accounting, source), 0, "their ends are counted");
        assert_eq!(count(&*accounting, friend), 1, "others go on");
        drop((friendly, server));
        until("the last one to be counted", PATIENCE, || (count(&*accounting, friend) == 0).then_some(()))
            .unwrap();
        drop(accounting);
        detach(mx, filter);
    }
}

/// One rule; its table is the filter's own `drop`.
struct OneRule {
    filter: Arc<Xdp>,
    spec: LimitSpec,
    listed: Mutex<Vec<(String, Timestamp)>>,
}

impl Policy for OneRule {
    fn limit(&self, id: u32) -> Option<Limited> {
        let limited = || Limited { rule: "imap".into(), spec: self.spec, table: Some(name("drop")) };
        (id == self.spec.id).then(limited)
    }
    fn is_protected(&self, address: IpAddr) -> bool {
        address == IpAddr::V4(HUB.v4)
    }
    fn list<'a>(
        &'a self,
        table: &'a TableName,
        network: IpNet,
        until: Timestamp,
        note: &'a str,
    ) -> Listing<'a> {
        assert_eq!(note, "51 connections at once (imap), offence 1");
        self.listed.lock().unwrap().push((network.to_string(), until));
        let added = self.filter.apply(vec![Change::Add(table.clone(), entry(&network.to_string()))]);
        Box::pin(std::future::ready(added.map(drop).map_err(|error| error.to_string())))
    }
}

#[test]
fn an_offender_lands_in_the_table_and_its_connections_end_while_others_go_on() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = Network::new(HUB, &[MX, GOOD, EVIL]).unwrap();
    let mx = network.node("mx").unwrap();
    let (good, evil) = (network.node("good").unwrap(), network.node("evil").unwrap());
    let to: SocketAddr = (MX.v4, PORT).into();
    let mut server = Server::new(mx, to);
    let (filter, accounting) = limited(mx, imap());
    let rule = Arc::new(OneRule { filter: Arc::clone(&filter), spec: imap(), listed: Mutex::default() });
    let state = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let shutdown = CancellationToken::new();
    let overload = runtime.block_on(async {
        Overload::start(Parts {
            config: Stays::default(),
            accounting: Arc::clone(&accounting),
            policy: rule.clone(),
            state_dir: state.path().to_owned(),
            clock: Arc::new(ManualClock::at(Timestamp::from_secs(1_000_000))),
            shutdown: shutdown.clone(),
        })
        .unwrap()
    });

    let friendly = connect(good, to).unwrap();
    // Protected: as many as it likes.
    let protected: Vec<TcpStream> = (0..60).map(|_| connect(network.hub(), to).unwrap()).collect();
    let mut held: Vec<TcpStream> = (0..51).map(|_| connect(evil, to).unwrap()).collect();
    server.take(112);
    assert_reset(&mut held);
    assert!(glance(evil, to).is_none(), "it is in the table");
    let until_then = Timestamp::from_secs(1_000_600);
    assert_eq!(
        *rule.listed.lock().unwrap(),
        [(format!("{}/32", EVIL.v4), until_then)],
        "once, for ten minutes"
    );
    let _another = connect(good, to).expect("others come and go");
    for stream in protected.iter().chain([&friendly]) {
        stream.set_nonblocking(true).unwrap();
        let mut stream = stream;
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock, "goes on");
    }
    let rows = overload.sources(10).unwrap();
    let shown: Vec<(String, u64)> =
        rows.iter().map(|row| (row.network.to_string(), row.connections)).collect();
    assert_eq!(shown, [(format!("{}/32", GOOD.v4), 2), (format!("{}/32", EVIL.v4), 0)]);
    shutdown.cancel();
    drop((overload, rule, runtime, accounting));
    detach(mx, filter);
}

#[test]
fn connections_that_come_too_fast_trip_though_each_of_them_ends_at_once() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = Network::new(HUB, &[MX, EVIL]).unwrap();
    let (mx, evil) = (network.node("mx").unwrap(), network.node("evil").unwrap());
    let to: SocketAddr = (MX.v4, PORT).into();
    let _server = Server::new(mx, to);
    // A long window: how fast this machine connects does not matter.
    let spec = LimitSpec { connections: 0, window_ms: 3_600_000, ..imap() };
    let (filter, accounting) = limited(mx, spec);
    for _ in 0..50 {
        drop(connect(evil, to).unwrap());
    }
    assert_eq!(accounting.overruns(10), []);
    // Decay takes a little off fifty; the fifty-first or the one after it is above.
    let tripped = until("the rate to trip", PATIENCE, || {
        drop(glance(evil, to));
        accounting.overruns(10).first().copied()
    });
    let (overrun, _) = tripped.unwrap();
    assert_eq!(overrun.excess, Excess::Rate as u32);
    assert!((50_001..=51_000).contains(&overrun.rate), "{}", overrun.rate);
    until("further ones to be refused", PATIENCE, || glance(evil, to).is_none().then_some(())).unwrap();
    detach(mx, filter);
}

#[test]
fn a_limit_without_a_table_refuses_what_is_too_much_and_takes_it_again_later() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = Network::new(HUB, &[MX, GOOD, EVIL]).unwrap();
    let mx = network.node("mx").unwrap();
    let (good, evil) = (network.node("good").unwrap(), network.node("evil").unwrap());
    let to: SocketAddr = (MX.v4, PORT).into();
    let mut server = Server::new(mx, to);
    let spec = LimitSpec { connections: 3, rate: 0, overload: None, flush: false, ..imap() };
    let (filter, accounting) = limited(mx, spec);
    let mut held: Vec<TcpStream> = (0..3).map(|_| connect(evil, to).unwrap()).collect();
    assert!(glance(evil, to).is_none(), "a fourth");
    assert!(connect(good, to).is_some(), "of somebody else");
    assert_eq!(accounting.overruns(10), [], "nothing was over");
    server.take(4);
    held.pop();
    server.taken.clear();
    until("the place to be free", PATIENCE, || glance(evil, to)).unwrap();
    detach(mx, filter);
}

#[test]
fn a_restart_goes_on_counting_and_hears_what_happened_meanwhile() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = Network::new(HUB, &[MX, EVIL]).unwrap();
    let (mx, evil) = (network.node("mx").unwrap(), network.node("evil").unwrap());
    let to: SocketAddr = (MX.v4, PORT).into();
    let mut server = Server::new(mx, to);
    let (first, accounting) = limited(mx, imap());
    let mut held: Vec<TcpStream> = (0..50).map(|_| connect(evil, to).unwrap()).collect();
    server.take(50);
    drop((first, accounting));

    // No daemon: the kernel goes on.
    held.push(connect(evil, to).unwrap());
    server.take(51);
    assert!(glance(evil, to).is_none(), "refused without us");
    held.truncate(10);
    server.taken.clear();
    drop(held);

    let (second, accounting) = limited(mx, imap());
    let overruns = accounting.overruns(10);
    assert_eq!(
        overruns.iter().map(|overrun| overrun.connections).collect::<Vec<_>>(),
        [51],
        "it waited for us"
    );
    until("all ends to be counted", PATIENCE, || (count(&*accounting, EVIL.v4) == 0).then_some(())).unwrap();
    let _one = connect(evil, to).unwrap();
    assert_eq!(count(&*accounting, EVIL.v4), 1);
    detach(mx, second);
}

#[test]
fn sockets_of_other_network_namespaces_do_not_count() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = Network::new(HUB, &[MX, GOOD, EVIL]).unwrap();
    let mx = network.node("mx").unwrap();
    let (good, evil) = (network.node("good").unwrap(), network.node("evil").unwrap());
    let (filter, accounting) = limited(mx, imap());
    let mut container = Server::new(good, (GOOD.v4, PORT).into());
    let _there = connect(evil, (GOOD.v4, PORT).into()).unwrap();
    container.take(1);
    assert_eq!(accounting.sources().unwrap(), [], "a container's, in the same control group");
    let mut server = Server::new(mx, (MX.v4, PORT).into());
    let _here = connect(evil, (MX.v4, PORT).into()).unwrap();
    server.take(1);
    let _itself = connect(mx, (MX.v4, PORT).into()).unwrap();
    server.take(2);
    let sources: Vec<_> = accounting.sources().unwrap().into_iter().map(|(source, _)| source).collect();
    assert_eq!(sources, [key(EVIL.v4.into(), &imap())], "nor what this host asks of itself");
    detach(mx, filter);
}

#[test]
fn more_sources_than_there_is_room_for_push_others_out_and_the_guard_counts_them_again() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = Network::new(HUB, &[MX, EVIL]).unwrap();
    let (mx, evil) = (network.node("mx").unwrap(), network.node("evil").unwrap());
    let to: SocketAddr = (MX.v4, PORT).into();
    let mut server = Server::new(mx, to);
    let (filter, accounting) = limited(mx, imap());
    let held: Vec<TcpStream> = (0..7).map(|_| connect(evil, to).unwrap()).collect();
    server.take(7);
    for n in 0..2 * SOURCES as u64 {
        let other = SourceKey { high: 0x2001_0db8_0000_0000 | n, low: 0, limit: imap().id, bits: 64 };
        accounting.correct(&other, Counts { connections: 1, total: 1, ..Counts::default() }).unwrap();
    }
    let sources = accounting.sources().unwrap().len();
    assert!(sources > SOURCES / 2 && sources <= SOURCES, "{sources} sources");
    // The kernel may have kept whom it saw more than once; then we push it out.
    accounting.correct(&key(EVIL.v4.into(), &imap()), Counts::default()).unwrap();

    let done = guard::correct(&*accounting).unwrap();
    assert!(done.wrong > SOURCES / 2, "{done:?}: nobody is what the flood said");
    // What it wrote may have pushed somebody out again, when all places are taken.
    guard::correct(&*accounting).unwrap();
    assert_eq!(count(&*accounting, EVIL.v4), 7, "what its sockets say");
    let all = accounting.sources().unwrap().iter().map(|(_, counts)| counts.connections).sum::<u64>();
    assert_eq!(all, 7);
    assert_eq!(guard::correct(&*accounting).unwrap().wrong, 0);
    drop((held, server));
    until("their ends to be counted", PATIENCE, || (count(&*accounting, EVIL.v4) == 0).then_some(()))
        .unwrap();
    detach(mx, filter);
}

#[test]
fn a_million_spoofed_sources_count_for_nothing_and_cost_no_memory() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    let network = Network::new(HUB, &[MX, GOOD, EVIL]).unwrap();
    let mx = network.node("mx").unwrap();
    let (good, evil) = (network.node("good").unwrap(), network.node("evil").unwrap());
    // Answers to the flood go back to where it comes from, and end there.
    mx.ip(&format!("route add 10.0.0.0/8 via {} dev eth0 onlink", EVIL.v4)).unwrap();
    let to: SocketAddr = (MX.v4, PORT).into();
    let mut server = Server::new(mx, to);
    let (filter, accounting) = limited(mx, imap());
    let held = connect(good, to).unwrap();
    server.take(1);
    let flood = mailgate_tests::rounds(1_000_000);
    assert_eq!(evil.within(move || flood::syns(MX.v4, PORT, flood)).unwrap(), flood);
    let sources = accounting.sources().unwrap();
    assert_eq!(sources.len(), 1, "a SYN is no connection");
    assert_eq!((count(&*accounting, GOOD.v4), accounting.overruns(1)), (1, vec![]));
    until("somebody to connect all the same", PATIENCE, || glance(good, to)).unwrap();
    drop(held);
    detach(mx, filter);
}
