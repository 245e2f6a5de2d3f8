//! Sessions over loopback with a peer that does exactly what a test says.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use mailgate_model::{Clock as _, ManualClock, Span, Timestamp};
use mailgate_proto::bgp::{
    AsPath, AsWidth, Attributes, Capability, Community, Families, Family, Framer, Message, MpReach,
    MpUnreach, NextHop, Notification, Open, Origin, Segment, Session, Update,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{BgpConfig, Config, FirstAs, SourceConfig};
use crate::rows::{BgpRow, SourceState};
use crate::{Change, Lists, TableName};

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

const HOLD: u16 = 90;

async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} does not happen"))
}

/// Our side, with a clock that stands still.
struct Station {
    lists: Lists,
    changes: mpsc::Receiver<Vec<Change>>,
    /// What the edge holds, as `table prefix`.
    told: BTreeSet<String>,
    clock: ManualClock,
    shutdown: CancellationToken,
    _state: Arc<tempfile::TempDir>,
}

impl Station {
    fn start(port: u16, adjust: impl FnOnce(&mut BgpConfig)) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), port, adjust)
    }

    /// With a folder for the state that was there before.
    fn start_in(state: Arc<tempfile::TempDir>, port: u16, adjust: impl FnOnce(&mut BgpConfig)) -> Self {
        let clock = ManualClock::at(Timestamp::from_secs(1_000_000));
        let shutdown = CancellationToken::new();
        let table = |name| TableName::parse(name).unwrap();
        let mut config = BgpConfig {
            name: Some("feed".into()),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port,
            local_address: None,
            local_as: 65_500,
            peer_as: 65_066,
            router_id: None,
            hold_time: Span::from_secs(HOLD.into()),
            retry_min: Span::from_secs(5),
            retry_max: Span::from_secs(120),
            communities: [
                ("65066:42".parse().unwrap(), table("bypass")),
                ("65066:666".parse().unwrap(), table("block")),
            ]
            .into(),
            max_prefix: 1000,
            first_as: FirstAs::Enforce,
            stale: Span::from_secs(3600),
            ..toml::from_str("peer = '127.0.0.1'\nlocal_as = 1\npeer_as = 2\ncommunities = {}").unwrap()
        };
        adjust(&mut config);
        let config = Config { source: vec![SourceConfig::Bgp(config)], ..Config::default() };
        let (lists, changes) =
            Lists::start(config, state.path(), Arc::new(clock.clone()), shutdown.clone()).unwrap();
        Self { lists, changes, told: BTreeSet::new(), clock, shutdown, _state: state }
    }

    /// Waits until the edge holds exactly these.
    async fn told(&mut self, want: &[&str]) {
        let want: BTreeSet<String> = want.iter().map(|text| (*text).to_owned()).collect();
        while self.told != want {
            let batch = tokio::time::timeout(PATIENCE, self.changes.recv()).await;
            let Ok(Some(batch)) = batch else { panic!("expected {want:?}, found {:?}", self.told) };
            batch.into_iter().for_each(|change| self.apply(change));
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Add(table, entry) => {
                self.told.insert(format!("{table} {}", entry.prefix));
            }
            Change::Delete(table, prefix) => {
                self.told.remove(&format!("{table} {prefix}"));
            }
            Change::Reload(snapshot) => {
                let each = snapshot.tables.iter().flat_map(|table| {
                    table.entries.iter().map(|entry| format!("{} {}", table.name, entry.prefix))
                });
                self.told = each.collect();
            }
        }
    }

    async fn row(&self) -> BgpRow {
        self.lists.bgp().await.unwrap().remove(0)
    }

    /// Waits until the summary is as wanted.
    async fn sees(&self, what: &str, want: impl Fn(&BgpRow) -> bool) -> BgpRow {
        patiently(what, async {
            loop {
                let row = self.row().await;
                if want(&row) {
                    return row;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }
}

/// The other side.
struct Peer {
    stream: TcpStream,
    framer: Framer,
    session: Session,
}

impl Peer {
    async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = patiently("a connection", listener.accept()).await.unwrap();
        let session = Session { as_width: AsWidth::Four, families: Families::ALL, ..Session::default() };
        Self { stream, framer: Framer::default(), session }
    }

    /// Accepts, and brings the session up.
    async fn establish(listener: &TcpListener) -> Self {
        let mut peer = Self::accept(listener).await;
        let Message::Open(open) = peer.receive().await else { panic!("expected an OPEN") };
        assert_eq!((open.asn(), open.hold_time), (65_500, HOLD));
        peer.open(65_066).await;
        assert_eq!(peer.receive().await, Message::Keepalive);
        peer.send(&Message::Keepalive).await;
        peer
    }

    async fn open(&mut self, asn: u32) {
        let capabilities = vec![
            Capability::Multiprotocol(1, 1),
            Capability::Multiprotocol(2, 1),
            Capability::FourOctetAs(asn),
        ];
        self.send(&Message::Open(Open::new(asn, HOLD, Ipv4Addr::new(192, 0, 2, 66), capabilities))).await;
    }

    async fn send(&mut self, message: &Message) {
        let bytes = message.encode(&self.session).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    async fn announce(&mut self, prefix: &str, low: u16) {
        let mut attributes = Attributes {
            origin: Some(Origin::Igp),
            as_path: Some(AsPath(vec![Segment::Sequence(vec![65_066])])),
            communities: vec![Community::new(65_066, low)],
            ..Attributes::default()
        };
        let mut announced = Vec::new();
        match prefix.parse().unwrap() {
            IpNet::V4(net) => {
                attributes.next_hop = Some(Ipv4Addr::new(192, 0, 2, 66));
                announced.push(net.into());
            }
            net => {
                attributes.mp_reach = Some(MpReach {
                    family: Family::Ipv6Unicast,
                    next_hop: NextHop::V6("2001:db8::66".parse().unwrap(), None),
                    prefixes: vec![net.into()],
                });
            }
        }
        self.send(&Message::Update(Box::new(Update { attributes, announced, ..Update::default() }))).await;
    }

    async fn withdraw(&mut self, prefix: &str) {
        let mut update = Update::default();
        match prefix.parse().unwrap() {
            IpNet::V4(net) => update.withdrawn.push(net.into()),
            net => {
                let family = Family::Ipv6Unicast;
                update.attributes.mp_unreach = Some(MpUnreach { family, prefixes: vec![net.into()] });
            }
        }
        self.send(&Message::Update(Box::new(update))).await;
    }

    /// Says that all routes have been sent.
    async fn end_routes(&mut self) {
        for family in Family::ALL {
            self.send(&Message::Update(Box::new(Update::end_of_rib(family)))).await;
        }
    }

    async fn receive(&mut self) -> Message {
        self.receive_or_end().await.expect("the connection ends")
    }

    /// The next message; `None` when the connection ends.
    async fn receive_or_end(&mut self) -> Option<Message> {
        loop {
            if let Some(frame) = self.framer.take().unwrap() {
                return Some(Message::decode(&frame, &self.session).unwrap());
            }
            let mut buffer = [0; 4096];
            let count = patiently("a message", self.stream.read(&mut buffer)).await.unwrap_or(0);
            if count == 0 {
                return None;
            }
            self.framer.push(&buffer[..count]);
        }
    }

    /// The reason of the end; what comes before it may only be signs of life and the empty end of routes.
    async fn farewell(&mut self) -> Notification {
        loop {
            match self.receive().await {
                Message::Notification(notification) => return notification,
                Message::Keepalive => {}
                Message::Update(update) => {
                    assert!(update.ends_rib().is_some(), "something is announced: {update:?}")
                }
                other => panic!("expected the end, got {other:?}"),
            }
        }
    }
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn communities_fill_tables_and_withdrawals_empty_them() {
    let (listener, port) = listen().await;
    let mut station = Station::start(port, |_| {});
    let mut peer = Peer::establish(&listener).await;
    peer.announce("192.0.2.1/32", 666).await;
    peer.announce("2001:db8:1::/48", 666).await;
    peer.announce("192.0.2.2/32", 42).await;
    peer.announce("192.0.2.3/32", 7).await;
    peer.announce("0.0.0.0/0", 666).await;
    station.told(&["block 192.0.2.1/32", "block 2001:db8:1::/48", "bypass 192.0.2.2/32"]).await;
    let row = station.sees("five routes", |row| row.received == 5).await;
    assert_eq!((row.state, row.accepted, row.installed), ("Established", 4, 3));
    assert_eq!(row.tables.iter().map(|(_, count)| count).sum::<usize>(), 3);

    peer.announce("192.0.2.1/32", 42).await;
    peer.withdraw("2001:db8:1::/48").await;
    peer.withdraw("192.0.2.2/32").await;
    station.told(&["bypass 192.0.2.1/32"]).await;

    let tested = station.lists.test("192.0.2.1".parse().unwrap()).await.unwrap();
    assert_eq!(tested.matches[0].entry.origins, ["feed"]);
    let source = station.lists.sources().await.unwrap().remove(0);
    assert_eq!((source.state, source.entries, source.refused), (SourceState::Good, 1, 1));
}

#[tokio::test]
async fn nothing_is_announced_and_the_end_is_told() {
    let (listener, port) = listen().await;
    let station = Station::start(port, |_| {});
    let mut peer = Peer::establish(&listener).await;
    for family in Family::ALL {
        let Message::Update(update) = peer.receive().await else { panic!("expected an end of routes") };
        assert_eq!(update.ends_rib(), Some(family));
    }
    station.shutdown.cancel();
    let farewell = peer.farewell().await;
    assert_eq!(farewell.to_string(), "cease: administrative shutdown: \"mailgate is shutting down\"");
    assert_eq!(peer.receive_or_end().await, None);
}

#[tokio::test]
async fn silence_ends_the_session_and_routes_stay_until_they_are_too_old() {
    let (listener, port) = listen().await;
    let mut station = Station::start(port, |_| {});
    let mut peer = Peer::establish(&listener).await;
    peer.announce("192.0.2.1/32", 666).await;
    station.told(&["block 192.0.2.1/32"]).await;

    station.clock.advance(Duration::from_secs(HOLD.into()));
    let farewell = peer.farewell().await;
    assert_eq!((farewell.code, farewell.subcode), (4, 0));
    let row = station.sees("the end of the session", |row| row.state == "Idle").await;
    assert_eq!((row.stale, row.installed), (1, 1));
    assert_eq!(row.since, station.clock.now());
    assert_eq!(row.error.as_deref(), Some("heard nothing for the hold time"));
    assert_eq!(station.lists.sources().await.unwrap()[0].state, SourceState::Stale);

    drop(listener);
    station.clock.advance(Duration::from_secs(3599));
    let tested = station.lists.test("192.0.2.1".parse().unwrap()).await.unwrap();
    assert!(tested.action.is_some(), "the last set is held");
    station.clock.advance(Duration::from_secs(1));
    station.told(&[]).await;
}

#[tokio::test]
async fn signs_of_life_keep_the_session() {
    let (listener, port) = listen().await;
    let station = Station::start(port, |_| {});
    let mut peer = Peer::establish(&listener).await;
    station.sees("the session", |row| row.state == "Established").await;
    for _ in 0..5 {
        let before = station.row().await.received_messages;
        station.clock.advance(Duration::from_secs(60));
        peer.send(&Message::Keepalive).await;
        station.sees("the sign of life", |row| row.received_messages > before).await;
    }
    assert_eq!(station.row().await.state, "Established");
}

#[tokio::test]
async fn a_lost_session_is_begun_anew_and_the_end_of_routes_sweeps() {
    let (listener, port) = listen().await;
    let mut station = Station::start(port, |_| {});
    let mut peer = Peer::establish(&listener).await;
    peer.announce("192.0.2.1/32", 666).await;
    peer.announce("192.0.2.2/32", 666).await;
    peer.announce("2001:db8:1::/48", 666).await;
    let all = ["block 192.0.2.1/32", "block 192.0.2.2/32", "block 2001:db8:1::/48"];
    station.told(&all).await;
    drop(peer);
    station.sees("the loss", |row| row.state == "Idle").await;

    station.clock.advance(Duration::from_secs(5));
    let mut peer = Peer::establish(&listener).await;
    peer.announce("192.0.2.2/32", 666).await;
    station.sees("the new session", |row| row.stale == 2).await;
    assert_eq!(station.lists.tables().await.unwrap()[1].entries, 3, "nothing is swept too early");
    peer.end_routes().await;
    station.told(&["block 192.0.2.2/32"]).await;
}

#[tokio::test]
async fn a_peer_that_never_ends_its_routes_is_swept_after_a_while() {
    let (listener, port) = listen().await;
    let mut station = Station::start(port, |_| {});
    let mut peer = Peer::establish(&listener).await;
    peer.announce("192.0.2.1/32", 666).await;
    station.told(&["block 192.0.2.1/32"]).await;
    drop(peer);
    station.sees("the loss", |row| row.state == "Idle").await;
    station.clock.advance(Duration::from_secs(5));
    let mut peer = Peer::establish(&listener).await;
    station.sees("the new session", |row| row.state == "Established").await;
    for _ in 0..2 {
        let before = station.row().await.received_messages;
        station.clock.advance(Duration::from_secs(60));
        peer.send(&Message::Keepalive).await;
        station.sees("the sign of life", |row| row.received_messages > before).await;
    }
    station.told(&[]).await;
}

#[tokio::test]
async fn a_refused_connection_is_tried_again() {
    let (listener, port) = listen().await;
    drop(listener);
    let station = Station::start(port, |_| {});
    let row = station.sees("the refusal", |row| row.state == "Active").await;
    assert!(row.error.is_some());
    assert_eq!(station.lists.sources().await.unwrap()[0].state, SourceState::Failed);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    station.clock.advance(Duration::from_secs(5));
    let _peer = Peer::establish(&listener).await;
    let row = station.sees("the session", |row| row.state == "Established").await;
    assert_eq!(row.error, None);
}

#[tokio::test]
async fn too_many_prefixes_end_the_session_and_keep_what_was_there() {
    let (listener, port) = listen().await;
    let mut station = Station::start(port, |config| config.max_prefix = 2);
    let mut peer = Peer::establish(&listener).await;
    for host in 1..=3 {
        peer.announce(&format!("192.0.2.{host}/32"), 666).await;
    }
    let farewell = peer.farewell().await;
    assert_eq!(farewell.to_string(), "cease: maximum number of prefixes reached");
    let row = station.sees("the end", |row| row.state == "Idle").await;
    assert!(row.installed >= 2);
    station.told(&["block 192.0.2.1/32", "block 192.0.2.2/32", "block 192.0.2.3/32"]).await;
    // Such a peer is not asked again soon: three quarters of the longest pause at least.
    station.clock.advance(Duration::from_secs(89));
    assert_eq!(station.row().await.state, "Idle");
    station.clock.advance(Duration::from_secs(31));
    Peer::establish(&listener).await;
}

#[tokio::test]
async fn peers_that_misbehave_hear_why() {
    struct Case {
        name: &'static str,
        bytes: &'static [u8],
        want: (u8, u8),
    }
    for Case { name, bytes, want } in [
        Case { name: "HTTP", bytes: b"HTTP/1.0 400 Bad Request\r\n\r\n", want: (1, 1) },
        Case {
            name: "an UPDATE that contradicts itself",
            bytes: b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x17\x02\x00\x09\x00\x00",
            want: (3, 1),
        },
        Case {
            name: "a message of 65535 bytes",
            bytes: b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",
            want: (1, 2),
        },
    ] {
        let (listener, port) = listen().await;
        let mut station = Station::start(port, |_| {});
        let mut peer = Peer::establish(&listener).await;
        peer.announce("192.0.2.1/32", 666).await;
        station.told(&["block 192.0.2.1/32"]).await;
        peer.stream.write_all(bytes).await.unwrap();
        let farewell = peer.farewell().await;
        assert_eq!((farewell.code, farewell.subcode), want, "{name}");
        let row = station.sees(name, |row| row.state == "Idle").await;
        assert_eq!(row.installed, 1, "{name}");
    }
}

#[tokio::test]
async fn a_peer_of_another_as_is_refused() {
    let (listener, port) = listen().await;
    let station = Station::start(port, |_| {});
    let mut peer = Peer::accept(&listener).await;
    peer.receive().await;
    peer.open(65_067).await;
    let farewell = peer.farewell().await;
    assert_eq!((farewell.code, farewell.subcode), (2, 2));
    let row = station.sees("the reason", |row| row.error.is_some()).await;
    assert_eq!(row.error.as_deref(), Some("found AS 65067, expected AS 65066"));
}

/// A free port to listen on.
async fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port()
}

impl Peer {
    /// Connects to a station that listens, and brings the session up.
    async fn come_in(port: u16) -> Self {
        let connected = async {
            loop {
                if let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                    return stream;
                }
                tokio::task::yield_now().await;
            }
        };
        let stream = patiently("the listener", connected).await;
        let session = Session { as_width: AsWidth::Four, families: Families::ALL, ..Session::default() };
        let mut peer = Self { stream, framer: Framer::default(), session };
        let Message::Open(_) = peer.receive().await else { panic!("expected an OPEN") };
        peer.open(65_066).await;
        assert_eq!(peer.receive().await, Message::Keepalive);
        peer.send(&Message::Keepalive).await;
        peer
    }

    async fn refresh(&mut self, subtype: u8) {
        let refresh = mailgate_proto::bgp::RouteRefresh { afi: 1, subtype, safi: 1 };
        self.send(&Message::RouteRefresh(refresh)).await;
    }
}

fn passive(port: u16) -> impl FnOnce(&mut BgpConfig) {
    move |config| {
        config.mode = crate::config::Mode::Passive;
        config.listen = Some((Ipv4Addr::LOCALHOST, port).into());
    }
}

#[tokio::test]
async fn a_neighbour_may_connect_and_strangers_are_closed() {
    let port = free_port().await;
    let mut station = Station::start(0, passive(port));
    let mut peer = Peer::come_in(port).await;
    peer.announce("192.0.2.1/32", 666).await;
    station.told(&["block 192.0.2.1/32"]).await;
    let session = station.row().await.session.unwrap();
    assert_eq!(session.opened_by, "neighbour");
    // From an address that is not configured.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, 99), 0).into()).unwrap();
    let mut stranger = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await.unwrap();
    let mut nothing = Vec::new();
    let heard = patiently("the end", stranger.read_to_end(&mut nothing)).await;
    assert!(nothing.is_empty(), "{heard:?} {nothing:?}");
    assert_eq!(station.row().await.state, "Established");
}

#[tokio::test]
async fn what_a_peer_had_told_is_there_after_a_restart_until_it_has_told_anew() {
    let state = Arc::new(tempfile::tempdir().unwrap());
    let (listener, port) = listen().await;
    let mut station = Station::start_in(Arc::clone(&state), port, |_| {});
    let mut peer = Peer::establish(&listener).await;
    peer.announce("192.0.2.1/32", 666).await;
    peer.announce("192.0.2.2/32", 666).await;
    peer.announce("2001:db8:1::/48", 42).await;
    let all = ["block 192.0.2.1/32", "block 192.0.2.2/32", "bypass 2001:db8:1::/48"];
    station.told(&all).await;
    station.shutdown.cancel();
    let saved = state.path().join("lists/bgp-feed.state");
    let before = patiently("the file", async {
        loop {
            if let Ok(bytes) = std::fs::read(&saved) {
                return bytes;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop((peer, listener));

    // The feed is away, the tables are not.
    let (listener, port) = listen().await;
    let mut station = Station::start_in(Arc::clone(&state), port, |_| {});
    station.told(&all).await;
    assert_eq!(station.row().await.stale, 3);
    let rows = station.lists.bgp_rib(None, None, None, 10).await.unwrap();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.stale && row.neighbor == "feed"), "{rows:?}");
    let mut peer = Peer::establish(&listener).await;
    peer.announce("192.0.2.2/32", 666).await;
    peer.end_routes().await;
    station.told(&["block 192.0.2.2/32"]).await;

    // A file that was cut is of no use, and does no harm.
    station.shutdown.cancel();
    drop(peer);
    std::fs::write(&saved, &before[..before.len() - 3]).unwrap();
    let (_listener, port) = listen().await;
    let mut station = Station::start_in(state, port, |_| {});
    station.told(&[]).await;
    assert_eq!(station.row().await.received, 0);
}

#[tokio::test]
async fn a_marked_refresh_sweeps_what_was_not_sent_again() {
    let (listener, port) = listen().await;
    let mut station = Station::start(port, |_| {});
    let mut peer = Peer::accept(&listener).await;
    peer.receive().await;
    let capabilities = vec![
        Capability::Multiprotocol(1, 1),
        Capability::FourOctetAs(65_066),
        Capability::RouteRefresh,
        Capability::EnhancedRouteRefresh,
    ];
    peer.send(&Message::Open(Open::new(65_066, HOLD, Ipv4Addr::new(192, 0, 2, 66), capabilities))).await;
    peer.receive().await;
    peer.send(&Message::Keepalive).await;
    peer.announce("192.0.2.1/32", 666).await;
    peer.announce("192.0.2.2/32", 666).await;
    station.told(&["block 192.0.2.1/32", "block 192.0.2.2/32"]).await;
    station.lists.bgp_refresh("feed").await.unwrap();
    let asked = loop {
        if let Message::RouteRefresh(asked) = peer.receive().await {
            break asked;
        }
    };
    assert_eq!((asked.afi, asked.subtype, asked.safi), (1, 0, 1));
    peer.refresh(1).await;
    peer.announce("192.0.2.2/32", 666).await;
    station.sees("the mark", |row| row.stale == 1).await;
    peer.refresh(2).await;
    station.told(&["block 192.0.2.2/32"]).await;
}

#[tokio::test]
async fn clearing_tells_the_neighbour_why_and_keeps_the_entries() {
    let (listener, port) = listen().await;
    let mut station = Station::start(port, |_| {});
    let mut peer = Peer::establish(&listener).await;
    peer.announce("192.0.2.1/32", 666).await;
    station.told(&["block 192.0.2.1/32"]).await;
    station.lists.bgp_clear("feed", "new policy").await.unwrap();
    assert_eq!(peer.farewell().await.shutdown_text(), Some("new policy"));
    station.sees("the end", |row| row.state == "Idle" && row.stale == 1).await;
    station.clock.advance(Duration::from_secs(5));
    let _peer = Peer::establish(&listener).await;
    station.sees("the new session", |row| row.state == "Established").await;
    let wrong = station.lists.bgp_clear("fead", "").await.unwrap_err();
    assert!(wrong.to_string().contains("expected one of feed"), "{wrong}");
    let late = station.lists.bgp_refresh("feed").await;
    assert!(late.unwrap_err().to_string().contains("mailgate bgp clear"), "a peer without route refresh");
}

#[tokio::test]
async fn graceful_restart_to_the_letter_keeps_what_was_promised_and_no_more() {
    struct Case {
        name: &'static str,
        families: Vec<(u16, u8, u8)>,
        stays: bool,
    }
    for Case { name, families, stays } in [
        Case { name: "nothing was promised", families: vec![], stays: false },
        Case { name: "two minutes were asked for", families: vec![(1, 1, 0x80)], stays: true },
    ] {
        let (listener, port) = listen().await;
        let mut station = Station::start(port, |config| config.stale_by = crate::config::StaleBy::Peer);
        let mut peer = Peer::accept(&listener).await;
        peer.receive().await;
        let capabilities = vec![
            Capability::Multiprotocol(1, 1),
            Capability::FourOctetAs(65_066),
            Capability::GracefulRestart { flags: 0, time: 120, families },
        ];
        peer.send(&Message::Open(Open::new(65_066, HOLD, Ipv4Addr::new(192, 0, 2, 66), capabilities))).await;
        peer.receive().await;
        peer.send(&Message::Keepalive).await;
        peer.announce("192.0.2.1/32", 666).await;
        station.told(&["block 192.0.2.1/32"]).await;
        drop(peer);
        let row = station.sees("the loss", |row| row.state == "Idle").await;
        assert_eq!(row.stale, usize::from(stays), "{name}");
        if stays {
            station.clock.advance(Duration::from_secs(119));
            assert_eq!(station.row().await.received, 1, "{name}");
            station.clock.advance(Duration::from_secs(2));
        }
        station.told(&[]).await;
    }
}
