//! The table of nftables by itself: rules that nobody confirmed, and who goes where when the mail server is another program.

use std::io::ErrorKind::TimedOut;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use ipnet::IpNet;
use mailgate_common::Action;
use mailgate_lists::Change;
use mailgate_packet::firewall::{Rule, RuleSet, Unknown};
use mailgate_packet::nft::Nft;
use mailgate_packet::{Config, Error, Listeners, PacketFilter as _, Standing, StandingKind};
use mailgate_tests::{Namespace, Network, until};

use crate::nftables::{by_nft, lacks, listing, opened, refusal};
use crate::station::{entry, name, tables};
use crate::wire::{EVIL, GOOD, HUB, MX, PATIENCE, connect, glance};

/// Longer than an attempt to connect takes on a busy machine.
const TRIAL: Duration = Duration::from_secs(10);
/// Much longer than the test takes.
const LONG: Duration = Duration::from_secs(3600);

const AT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(MX.v4), 25);

/// Some table that concerns nobody here.
fn begin(filter: &Nft) {
    filter.apply(vec![tables(&[], &["203.0.113.0/24"], &[], &[])]).unwrap();
}

/// Nobody comes to port 25 any more.
fn closed(filter: &Nft) -> RuleSet {
    let rule = Rule { ports: vec![25..=25], ..Rule::new("closed", Action::Drop) };
    RuleSet { rules: vec![rule], ..filter.rule_set() }
}

#[test]
fn rules_that_nobody_confirms_are_taken_back_by_nftables_when_no_daemon_is_left() {
    if let Some(reason) = lacks() {
        return mailgate_tests::skip(reason);
    }
    let network = Network::new(HUB, &[MX, GOOD]).unwrap();
    let (mx, good) = (network.node("mx").unwrap(), network.node("good").unwrap());
    let _bound = mx.within(|| Ok(TcpListener::bind(AT)?)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = by_nft(folder.path());

    let filter = opened(mx, &config);
    begin(&filter);
    assert!(connect(good, AT).is_some(), "before");
    filter.set_rules(closed(&filter), Some(TRIAL)).unwrap();
    assert_eq!(refusal(good, AT), TimedOut, "while the new rules are tried");
    assert!(matches!(filter.set_rules(RuleSet::default(), None), Err(Error::Unconfirmed)));
    drop(filter);
    until("the rules of before", Duration::from_secs(30), || glance(good, AT)).unwrap();

    let filter = opened(mx, &config);
    begin(&filter);
    filter.set_rules(closed(&filter), Some(LONG)).unwrap();
    assert_eq!(refusal(good, AT), TimedOut);
    assert!(filter.roll_back().unwrap());
    assert!(connect(good, AT).is_some(), "taken back by hand");

    filter.set_rules(closed(&filter), Some(LONG)).unwrap();
    assert!(listing(mx).contains("goto trial.judge"), "beside the rules of before");
    assert!(filter.confirm().unwrap());
    assert!(!listing(mx).contains("goto trial.judge"), "alone");
    drop(filter);
    assert_eq!(refusal(good, AT), TimedOut, "confirmed rules stay without a daemon");
    let filter = opened(mx, &config);
    filter.detach().unwrap();
    assert_eq!(listing(mx), "");
}

fn stands(filter: &Nft, source: Ipv4Addr, kind: Option<StandingKind>) {
    filter.stand(&[Standing { network: IpNet::from(std::net::IpAddr::V4(source)), kind }]).unwrap();
}

/// Who takes a connection from there.
fn taken_by(from: &Namespace, foreign: &TcpListener, edge: &TcpListener) -> &'static str {
    let peer = connect(from, AT).unwrap();
    for listener in [foreign, edge] {
        listener.set_nonblocking(true).unwrap();
    }
    // The end of the handshake may still be on its way.
    let taken = until("either to have it", PATIENCE, || {
        let who = [(foreign, "the other mail server"), (edge, "the edge")];
        who.into_iter().find_map(|(listener, name)| Some((listener.accept().ok()?.1, name)))
    });
    let ((address, name), _) = taken.unwrap();
    assert_eq!(address, peer.local_addr().unwrap(), "the true address stays visible");
    name
}

#[test]
fn behind_nftables_too_who_passed_reaches_the_other_mail_server_and_who_is_unknown_the_edge() {
    if let Some(reason) = lacks() {
        return mailgate_tests::skip(reason);
    }
    let network = Network::new(HUB, &[MX, GOOD, EVIL]).unwrap();
    let mx = network.node("mx").unwrap();
    let (good, evil) = (network.node("good").unwrap(), network.node("evil").unwrap());
    let (foreign, edge) =
        mx.within(|| Ok((TcpListener::bind(AT)?, TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?))).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = Config { behaviour: Some(Unknown::Edge), ..by_nft(folder.path()) };

    let filter = opened(mx, &config);
    stands(&filter, GOOD.v4, Some(StandingKind::Passed));
    begin(&filter);
    filter.set_listeners(Listeners::default(), Listeners { v4: Some(edge.as_raw_fd()), v6: None }).unwrap();
    assert_eq!(taken_by(good, &foreign, &edge), "the other mail server", "passed before the start");
    assert_eq!(taken_by(evil, &foreign, &edge), "the edge", "unknown");
    stands(&filter, EVIL.v4, Some(StandingKind::Passed));
    assert_eq!(taken_by(evil, &foreign, &edge), "the other mail server", "passed now");
    stands(&filter, EVIL.v4, Some(StandingKind::Trapped));
    assert_eq!(taken_by(evil, &foreign, &edge), "the edge", "trapped");
    stands(&filter, EVIL.v4, Some(StandingKind::Admitted));
    filter.apply(vec![Change::Add(name("tarpit"), entry("198.18.0.0/16"))]).unwrap();
    assert_eq!(taken_by(evil, &foreign, &edge), "the other mail server", "let in by the administrator");
    assert_eq!(taken_by(good, &foreign, &edge), "the edge", "passed, and listed since");
    stands(&filter, EVIL.v4, None);
    assert_eq!(taken_by(evil, &foreign, &edge), "the edge", "listed");

    drop(filter);
    assert_eq!(refusal(good, AT), TimedOut, "listed, and no daemon");
    let filter = opened(mx, &config);
    begin(&filter);
    drop(filter);
    assert_eq!(taken_by(evil, &foreign, &edge), "the other mail server", "unknown, and no daemon");

    let filter = opened(mx, &by_nft(folder.path()));
    let standing = Standing { network: IpNet::from(std::net::IpAddr::V4(GOOD.v4)), kind: None };
    assert!(matches!(filter.stand(&[standing]), Err(Error::NoBehaviour)), "where the edge weighs it itself");
    filter.detach().unwrap();
}
