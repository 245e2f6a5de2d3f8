//! Whole edges that share what they learn, over real sockets of loopback.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use mailgate_model::Clock as _;
use mailgate_net::{Fingerprint, Pinned};
use mailgate_proto::spamdsync::{Event, Guard, encode};
use mailgate_store::greylist::{Grey, Kind, Next, PeerKind, Said, Standing, Tuple};
use tokio_util::task::TaskTracker;

use super::config::{PeerConfig, SpamdConfig, SyncConfig, Trust};
use super::spamd::Spamd;
use super::{Parts, Sync};
use crate::tests::world::{MINUTE, START, World};
use crate::{Asked, Given};

/// Real time that nothing here should need.
const PATIENCE: Duration = Duration::from_secs(30);

struct Host {
    world: World,
    sync: Sync,
    tasks: TaskTracker,
    folder: tempfile::TempDir,
}

fn key_in(folder: &Path) -> Fingerprint {
    Pinned::open(&folder.join(super::KEY_FILE), []).unwrap().own()
}

fn peer(name: &str, key: Fingerprint, address: Option<SocketAddr>, trust: Trust) -> PeerConfig {
    PeerConfig { name: name.to_owned(), key, address, trust, gives: None }
}

impl Host {
    async fn new(folder: tempfile::TempDir, peers: Vec<PeerConfig>) -> Self {
        let world = World::usual().await;
        Self::around(world, folder, peers).await
    }

    async fn around(world: World, folder: tempfile::TempDir, peer: Vec<PeerConfig>) -> Self {
        let tasks = TaskTracker::new();
        let config =
            SyncConfig { listen: vec!["127.0.0.1:0".parse().unwrap()], peer, ..SyncConfig::default() };
        let sync = Sync::start(Parts {
            config,
            edge: world.edge.clone(),
            hostname: mailgate_model::Domain::parse("mx.example.org").unwrap(),
            state_dir: folder.path().to_owned(),
            tasks: tasks.clone(),
            shutdown: world.shutdown.clone(),
        });
        Self { sync: sync.await.unwrap(), world, tasks, folder }
    }

    fn address(&self) -> Option<SocketAddr> {
        self.sync.status().listen.first().copied()
    }

    fn standing(&self, ip: &str) -> Option<PeerKind> {
        match self.world.edge.greylist.standing(ip.parse().unwrap()) {
            Standing::Passed(_, peer) | Standing::Trapped(_, peer) => Some(peer.kind),
            Standing::Unknown => None,
        }
    }

    async fn stop(self) -> (World, tempfile::TempDir) {
        self.world.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        (self.world, self.folder)
    }
}

fn tuple() -> Tuple {
    let (reverse_path, forward_path) = ("a@example.org".to_owned(), "b@example.net".to_owned());
    Tuple { client: "192.0.2.1/32".parse().unwrap(), reverse_path, forward_path }
}

fn grey() -> Grey {
    Grey {
        first: START,
        pass: START.plus(MINUTE * 25),
        expires: START.plus(MINUTE * 240),
        blocked: 1,
        passed: 0,
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "in vain: {what}");
}

fn passed(network: &str) -> Given {
    Given::Passed { network: network.parse().unwrap(), lasts: None }
}

#[tokio::test]
async fn three_hosts_learn_from_each_other_and_deletions_stay_deleted() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let keys = [0, 1, 2].map(|number: usize| key_in(folders[number].path()));
    let [first, second, third] = folders;
    let a =
        Host::new(first, vec![peer("b", keys[1], None, Trust::Full), peer("c", keys[2], None, Trust::Full)])
            .await;
    let b = vec![peer("a", keys[0], a.address(), Trust::Full), peer("c", keys[2], None, Trust::Full)];
    let b = Host::new(second, b).await;
    let c = vec![peer("a", keys[0], a.address(), Trust::Full), peer("b", keys[1], b.address(), Trust::Full)];
    let c = Host::new(third, c).await;

    // A client tries at one host and passes at another.
    a.world.edge.greylist.attempt(&tuple(), &Said::default(), |_| Next::Defer(grey()));
    until("the tuple at c", || c.world.edge.greylist.state(&tuple()) == Some(grey())).await;
    assert!(c.world.edge.greylist.forget_tuple(&tuple()));
    until("its end at a and b", || {
        a.world.edge.greylist.state(&tuple()).is_none() && b.world.edge.greylist.state(&tuple()).is_none()
    })
    .await;

    // Traps, trap addresses, commands.
    b.world.edge.greylist.trap("198.51.100.7/32".parse().unwrap(), MINUTE * 60);
    b.world.edge.grey_add(Given::TrapAddress { address: "trap@example.net".to_owned() }).await.unwrap();
    until("the trap everywhere", || {
        [&a, &c].iter().all(|host| {
            host.standing("198.51.100.7") == Some(PeerKind::Trapped)
                && host.world.edge.greylist.is_trap("trap@example.net")
        })
    })
    .await;
    c.world.edge.grey_add(passed("198.51.100.7/32")).await.unwrap();
    until("the command everywhere", || {
        [&a, &b].iter().all(|host| host.standing("198.51.100.7") == Some(PeerKind::Passed))
    })
    .await;

    // Away while something is deleted.
    let (world, folder) = b.stop().await;
    drop(world);
    let asked = Asked { kind: Some(Kind::Passed), what: "198.51.100.7".to_owned() };
    assert_eq!(a.world.edge.grey_delete(&asked).await.unwrap(), 1);
    until("the deletion at c", || c.standing("198.51.100.7").is_none()).await;
    let world = World::usual().await;
    // It comes back with what it had.
    world
        .edge
        .grey_add(Given::Trapped { network: "203.0.113.0/24".parse().unwrap(), lasts: None })
        .await
        .unwrap();
    let back =
        vec![peer("a", keys[0], a.address(), Trust::Full), peer("c", keys[2], c.address(), Trust::Full)];
    let b = Host::around(world, folder, back).await;
    until("b to be level", || {
        b.standing("198.51.100.7").is_none()
            && b.world.edge.greylist.is_trap("trap@example.net")
            && c.standing("203.0.113.9") == Some(PeerKind::Trapped)
    })
    .await;
    let status = serde_json::to_value(a.sync.status()).unwrap();
    assert_eq!(status["peers"].as_array().unwrap().len(), 2);
    for host in [a, b, c] {
        host.stop().await;
    }
}

#[tokio::test]
async fn a_friend_traps_and_cannot_pass_and_a_clock_far_away_is_refused() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let keys = [0, 1, 2].map(|number: usize| key_in(folders[number].path()));
    let [first, second, third] = folders;
    let peers = vec![peer("friend", keys[1], None, Trust::Traps), peer("wrong", keys[2], None, Trust::Full)];
    let a = Host::new(first, peers).await;
    let friend = Host::new(second, vec![peer("a", keys[0], a.address(), Trust::Full)]).await;
    friend.world.edge.grey_add(passed("192.0.2.9/32")).await.unwrap();
    friend.world.edge.greylist.trap("198.51.100.7/32".parse().unwrap(), MINUTE * 60);
    until("the trap", || a.standing("198.51.100.7") == Some(PeerKind::Trapped)).await;
    assert_eq!(a.standing("192.0.2.9"), None);

    let world = World::usual().await;
    world.clock.advance(MINUTE * 6);
    world.edge.grey_add(passed("192.0.2.10/32")).await.unwrap();
    let wrong = Host::around(world, third, vec![peer("a", keys[0], a.address(), Trust::Full)]).await;
    until("the refusal on both sides", || {
        let said = |sync: &Sync, name: &str| {
            sync.status().peers.iter().any(|peer| peer.name == name && peer.error.contains("clock"))
        };
        said(&a.sync, "wrong") && said(&wrong.sync, "a")
    })
    .await;
    assert_eq!(a.standing("192.0.2.10"), None);
    for host in [a, friend, wrong] {
        host.stop().await;
    }
}

/// Two hosts that speak as spamd does, without the wire between them.
async fn spamd(key: Option<&Path>) -> (World, Spamd) {
    let world = World::usual().await;
    let config = SpamdConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        key_file: key.map(Path::to_owned),
        empty_key: key.is_none(),
        targets: vec!["192.0.2.2".to_owned().try_into().unwrap()],
        ..SpamdConfig::default()
    };
    let spamd = Spamd::open(&config, world.edge.clone()).unwrap();
    (world, spamd)
}

#[tokio::test]
async fn parity_sync_grey_events_are_attempts_by_our_own_clock() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("spamd.key");
    std::fs::write(&file, "mailgate test key\n").unwrap();
    let (world, spamd) = spamd(Some(&file)).await;
    let mut guard = Guard::new(MINUTE * 5);
    let from: IpAddr = "192.0.2.2".parse().unwrap();
    let told = |at: i64| {
        let at = u32::try_from(at).unwrap();
        let (from, to, helo) = ("<A@example.org>".to_owned(), "<b@example.net>".to_owned(), "mx".to_owned());
        Event::Grey { at, ip: "192.0.2.1".parse().unwrap(), from, to, helo }
    };
    let mut tell = |event: &Event, counter| {
        spamd.heard(&encode(event, counter, spamd.secret()).unwrap(), from, &mut guard);
        spamd.counters().status()
    };
    // The sender's clock is behind by four minutes: the delay begins by ours.
    tell(&told(START.secs() - 240), 0);
    assert_eq!(world.edge.greylist.state(&tuple()).unwrap().first, START);
    // Replayed: no second attempt.
    let status = tell(&told(START.secs() - 240), 0);
    assert_eq!((status.stale, world.edge.greylist.state(&tuple()).unwrap().blocked), (1, 1));
    world.clock.advance(MINUTE * 25);
    tell(&told(world.clock.now().secs()), 1);
    let standing = world.edge.greylist.standing("192.0.2.1".parse().unwrap());
    assert!(matches!(standing, Standing::Passed(..)), "{standing:?}");
    // The vector, with the real key of that file, is too old now and yet genuine.
    let vector = "010200000000003240ee563ea4ffa7e5a6c744a7b4b4ed5c209fffc70000000200106553f10065836700c000021900000004";
    let bytes: Vec<u8> = (0..vector.len() / 2)
        .map(|at| u8::from_str_radix(&vector[at * 2..at * 2 + 2], 16).unwrap())
        .collect();
    spamd.heard(&bytes, from, &mut guard);
    let status = spamd.counters().status();
    assert_eq!((status.stale, status.forged, status.malformed), (2, 0, 0));
    // Another key.
    let other = std::fs::write(&file, "another\n").map(|()| file.clone()).unwrap();
    let (_, stranger) = self::spamd(Some(&other)).await;
    let forged = encode(&told(world.clock.now().secs()), 9, stranger.secret()).unwrap();
    spamd.heard(&forged, from, &mut guard);
    assert_eq!(spamd.counters().status().forged, 1);
}

#[tokio::test]
async fn parity_sync_white_and_trapped_last_as_said_and_a_trap_stays_a_trap() {
    let (world, spamd) = spamd(None).await;
    let mut guard = Guard::new(MINUTE * 5);
    let at = u32::try_from(START.secs()).unwrap();
    let ip = "192.0.2.25".parse().unwrap();
    let mut tell = |event: Event, from: &str| {
        spamd.heard(&encode(&event, 0, spamd.secret()).unwrap(), from.parse().unwrap(), &mut guard);
    };
    let ends = |world: &World| match world.edge.greylist.standing(IpAddr::V4(ip)) {
        Standing::Passed(_, peer) | Standing::Trapped(_, peer) => {
            (peer.kind, peer.expires.secs() - START.secs())
        }
        Standing::Unknown => panic!("nothing is known"),
    };
    // With the empty key only targets are heard.
    tell(Event::White { at, expires: at + 100, ip }, "203.0.113.1");
    assert_eq!(spamd.counters().status().forged, 1);
    tell(Event::White { at, expires: at + 1000, ip }, "192.0.2.2");
    assert_eq!(ends(&world), (PeerKind::Passed, 1000));
    // Never shortened, and extended: a backup forgets nobody whom the primary sees daily (spamd's defect 5).
    tell(Event::White { at, expires: at + 500, ip }, "192.0.2.2");
    assert_eq!(ends(&world), (PeerKind::Passed, 1000));
    tell(Event::White { at: at + 1, expires: at + 3001, ip }, "192.0.2.2");
    assert_eq!(ends(&world), (PeerKind::Passed, 3000));
    tell(Event::Trapped { at, expires: u32::MAX, ip }, "192.0.2.2");
    assert_eq!(ends(&world), (PeerKind::Trapped, 7 * 86_400));
    tell(Event::White { at, expires: at + 9000, ip }, "192.0.2.2");
    assert_eq!(ends(&world).0, PeerKind::Trapped, "spamd's defect 4");
}

#[tokio::test]
async fn what_we_see_is_told_as_spamd_would_and_what_came_by_datagram_is_not() {
    let (world, spamd) = spamd(None).await;
    let mut follower = world.edge.greylist.follow();
    let said = Said {
        ip: Some("192.0.2.1".parse().unwrap()),
        helo: "mx".to_owned(),
        reverse_path: "A@example.org".to_owned(),
        forward_path: "b@example.net".to_owned(),
    };
    world.edge.greylist.attempt(&tuple(), &said, |_| Next::Defer(grey()));
    world.edge.greylist.trap("198.51.100.7/32".parse().unwrap(), MINUTE);
    world.edge.greylist.trap("2001:db8::/64".parse().unwrap(), MINUTE);
    let mut guard = Guard::new(MINUTE);
    let at = u32::try_from(START.secs()).unwrap();
    let trapped = Event::Trapped { at, expires: at + 60, ip: "192.0.2.77".parse().unwrap() };
    spamd.heard(&encode(&trapped, 0, spamd.secret()).unwrap(), "192.0.2.2".parse().unwrap(), &mut guard);
    let mailgate_store::greylist::feed::Heard::News(news) = follower.next().await else {
        panic!("nothing was lost")
    };
    let sources: Vec<_> = news.iter().map(|one| one.source).collect();
    use mailgate_store::greylist::feed::Source::{Datagram, Here};
    assert_eq!(sources, [Here, Here, Here, Datagram]);
    let events: Vec<_> = news.iter().map(|one| spamd.event(one)).collect();
    let (from, to, helo) = ("<A@example.org>".to_owned(), "<b@example.net>".to_owned(), "mx".to_owned());
    assert_eq!(events[0], Some(Event::Grey { at, ip: "192.0.2.1".parse().unwrap(), from, to, helo }));
    assert!(matches!(events[1], Some(Event::Trapped { .. })));
    assert_eq!(events[2], None, "spamd knows no IPv6");
}
