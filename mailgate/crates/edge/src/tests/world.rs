//! An edge, its surroundings, and clients from any address: the edge believes what it is told of the peer.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mailgate_lists::{Action, TableName};
use mailgate_model::{Client, Domain, ManualClock, SessionId, Timestamp};
use mailgate_net::{Stream, Tls, TlsConfig};
use mailgate_store::Greylist;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::dns::Dns;
use crate::{Config, Edge, Handoff, Handover, Parts, Statistics};
use mailgate_packet::{Applied, PacketFilter, Verdict};

pub(crate) const START: Timestamp = Timestamp::from_secs(1_700_000_000);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// Real time that nothing here should need; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tables with one address each.
#[derive(Default)]
struct Tables(Mutex<HashMap<IpAddr, (Action, Vec<TableName>)>>);

impl PacketFilter for Tables {
    fn apply(&self, _: Vec<mailgate_lists::Change>) -> Result<Applied, mailgate_packet::Error> {
        Ok(Applied::default())
    }

    fn set_listeners(
        &self,
        _: mailgate_packet::Listeners,
        _: mailgate_packet::Listeners,
    ) -> Result<(), mailgate_packet::Error> {
        Ok(())
    }

    fn status(&self) -> mailgate_packet::Status {
        unimplemented!("nobody asks here")
    }

    fn detach(&self) -> Result<(), mailgate_packet::Error> {
        Ok(())
    }

    fn verdict(&self, ip: IpAddr) -> Verdict {
        let tables = self.0.lock().unwrap();
        match tables.get(&ip) {
            Some((action, tables)) => {
                let meanings = vec![*action; tables.len()];
                Verdict { action: Some(*action), tables: tables.clone(), meanings, ..Verdict::default() }
            }
            None => Verdict::default(),
        }
    }
}

/// Who exists, and what lists say; nothing until a test says so.
#[derive(Default)]
pub(crate) struct Known {
    recipients: Mutex<HashMap<String, crate::Known>>,
    texts: Mutex<HashMap<IpAddr, Vec<(TableName, String)>>>,
}

impl crate::Recipients for Known {
    fn is_known<'a>(&'a self, path: &'a mailgate_model::ForwardPath) -> crate::Answer<'a, crate::Known> {
        let known = self.recipients.lock().unwrap().get(&path.to_string()).copied();
        Box::pin(std::future::ready(known.unwrap_or(crate::Known::Unsure)))
    }
}

impl crate::Texts for Known {
    fn messages(&self, ip: IpAddr) -> crate::Answer<'_, Vec<(TableName, String)>> {
        let texts = self.texts.lock().unwrap().get(&ip).cloned();
        Box::pin(std::future::ready(texts.unwrap_or_default()))
    }
}

struct Reception {
    given: mpsc::UnboundedSender<Handover>,
    takes_sessions: AtomicBool,
}

impl Handoff for Reception {
    fn hand_over(&self, handover: Handover) {
        self.given.send(handover).unwrap();
    }

    fn takes_sessions(&self) -> bool {
        self.takes_sessions.load(Ordering::Relaxed)
    }
}

pub(crate) struct World {
    pub(crate) edge: Arc<Edge>,
    pub(crate) clock: ManualClock,
    pub(crate) dns: Arc<Dns>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tls: Tls,
    tables: Arc<Tables>,
    known: Arc<Known>,
    behind: Arc<Reception>,
    reception: mpsc::UnboundedReceiver<Handover>,
    _state: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_dns(change, Dns::default()).await
    }

    pub(crate) async fn with_dns(change: impl FnOnce(&mut Config), dns: Dns) -> Self {
        // What is not about judging is easier seen where everybody unknown is deferred.
        let mode = crate::config::Mode::Classic;
        let mut config = Config { mode, local: vec!["10.9.0.0/16".parse().unwrap()], ..Config::default() };
        change(&mut config);
        assert_eq!(config.problems(), Vec::<String>::new());
        let clock = ManualClock::at(START);
        let state = tempfile::tempdir().unwrap();
        let hostname = Domain::parse("mx.example.org").unwrap();
        let tls = Tls::open(&TlsConfig::default(), state.path(), &hostname).unwrap();
        let (given, reception) = mpsc::unbounded_channel();
        let behind = Arc::new(Reception { given, takes_sessions: true.into() });
        let tables = Arc::new(Tables::default());
        let shutdown = CancellationToken::new();
        let known = Arc::new(Known::default());
        let greylist = Greylist::memory(Arc::new(clock.clone())).await.unwrap();
        let dns = Arc::new(dns);
        let edge = Edge::new(Parts {
            inquiry: Some(dns.clone()),
            feeds: vec![TableName::parse("feed").unwrap()],
            config,
            hostname,
            content_limit: 10_000_000,
            greylist,
            filter: tables.clone(),
            handoff: behind.clone(),
            tls: Some(tls.clone()),
            recipients: Some(known.clone()),
            texts: Some(known.clone()),
            clock: Arc::new(clock.clone()),
            shutdown: shutdown.clone(),
        });
        Self { edge, clock, dns, shutdown, tls, tables, known, behind, reception, _state: state }
    }

    /// From now on the server behind takes connections from their beginning only.
    pub(crate) fn takes_no_sessions(&self) {
        self.behind.takes_sessions.store(false, Ordering::Relaxed);
    }

    pub(crate) async fn usual() -> Self {
        Self::new(|_| {}).await
    }

    pub(crate) fn list(&self, ip: &str, action: Action, tables: &[&str]) {
        let tables = tables.iter().map(|name| TableName::parse(name).unwrap()).collect();
        self.tables.0.lock().unwrap().insert(ip.parse().unwrap(), (action, tables));
    }

    /// From now on a recipient exists, or not.
    pub(crate) fn recipient(&self, path: &str, known: crate::Known) {
        self.known.recipients.lock().unwrap().insert(path.to_owned(), known);
    }

    /// From now on lists say this to `ip`.
    pub(crate) fn text(&self, ip: &str, table: &str, text: &str) {
        let said = (TableName::parse(table).unwrap(), text.to_owned());
        self.known.texts.lock().unwrap().entry(ip.parse().unwrap()).or_default().push(said);
    }

    /// A connection that seems to come from `ip`, before anything was read.
    pub(crate) async fn connect(&self, ip: &str) -> Peer {
        self.connect_to(ip, "127.0.0.1").await
    }

    /// The same to an address of ours.
    pub(crate) async fn connect_to(&self, ip: &str, local: &str) -> Peer {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (ours, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let tcp = accepted.unwrap().0;
        let peer = SocketAddr::new(ip.parse().unwrap(), 40_000);
        let client = Client::new(peer, SocketAddr::new(local.parse().unwrap(), 25));
        let edge = Arc::clone(&self.edge);
        tokio::spawn(async move { edge.serve(tcp, client, SessionId::from_bits(1)).await });
        Peer(Stream::Plain(ours.unwrap()))
    }

    /// The connection that reception was given.
    pub(crate) async fn handed_over(&mut self) -> Handover {
        patiently(self.reception.recv()).await.unwrap()
    }

    /// Whether reception was given nothing that was not yet looked at.
    pub(crate) fn nothing_handed_over(&mut self) -> bool {
        self.reception.try_recv().is_err()
    }

    /// Waits until the counters are as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&Statistics) -> bool) {
        patiently(async {
            while !wanted(&self.edge.statistics()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits for something that no counter shows.
    pub(crate) async fn eventually(&self, wanted: impl Fn() -> bool) {
        patiently(async {
            while !wanted() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// One complete deferred or passed attempt; the last reply, or nothing when the session was handed over.
    pub(crate) async fn attempt(&mut self, ip: &str, from: &str, to: &str) -> Option<String> {
        let mut peer = self.connect(ip).await;
        peer.reply().await;
        assert!(peer.ask("EHLO client.example").await.starts_with("250-mx.example.org\r\n"));
        assert_eq!(peer.ask(&format!("MAIL FROM:<{from}>")).await, "250 2.1.0 Sender ok\r\n");
        peer.send(&format!("RCPT TO:<{to}>\r\n")).await;
        let answer = tokio::select! {
            handover = self.reception.recv() => {
                assert!(handover.is_some());
                None
            }
            reply = peer.reply() => Some(reply),
        };
        if answer.is_some() {
            assert_eq!(peer.ask("QUIT").await, "221 2.0.0 Bye\r\n");
        }
        answer
    }
}

/// The client's side of a connection.
pub(crate) struct Peer(pub(crate) Stream);

impl Peer {
    pub(crate) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// The next whole reply, all its lines.
    pub(crate) async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let line = self.line().await;
            let last = line.as_bytes().get(3) != Some(&b'-');
            reply.push_str(&line);
            if last {
                return reply;
            }
        }
    }

    pub(crate) async fn ask(&mut self, command: &str) -> String {
        self.send(&format!("{command}\r\n")).await;
        self.reply().await
    }

    pub(super) async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let byte = patiently(self.0.read_u8()).await;
            line.push(byte.unwrap_or_else(|error| {
                panic!("{error} after {:?}", String::from_utf8_lossy(&line));
            }));
        }
        String::from_utf8(line).unwrap()
    }

    /// The next byte, if it is here within some turns of the other tasks.
    pub(super) async fn ready_byte(&mut self) -> Option<u8> {
        let turns = async {
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            byte = self.0.read_u8() => byte.ok(),
            () = turns => None,
        }
    }

    /// The next byte.
    pub(crate) async fn byte(&mut self) -> u8 {
        patiently(self.0.read_u8()).await.unwrap()
    }

    /// Everything until the other side closes.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = patiently(self.0.read_to_end(&mut rest)).await;
        String::from_utf8(rest).unwrap()
    }

    /// Begins TLS as a client; the other side must have said that it is ready.
    pub(crate) async fn start_tls(self, tls: &Tls) -> Self {
        let Stream::Plain(tcp) = self.0 else { panic!("inside TLS already") };
        Self(patiently(tls.connect(tcp, "mx.example.org")).await.unwrap())
    }
}

pub(crate) async fn patiently<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("nothing should take so long")
}
