//! A server with one account on two ports of loopback, and a client that speaks lines.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mailgate_access::imap::{Called, Learn, Parts, Server};
use mailgate_access::{Imap, PlainLogin};
use mailgate_accounts::{Accounts, Secret};
use mailgate_model::{Address, Clock, Domain, IdGenerator, QueueId, Timestamp};
use mailgate_net::{Limits, Stream, SystemClock, Tls, TlsConfig};
use mailgate_store::records::Records;
use mailgate_store::{Mailboxes, mailboxes::Delivery};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

pub const LOGIN: &str = "user@example.test";
pub const PASSWORD: &str = "correct horse";
/// No answer of the server takes this long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What was said of messages, in order.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Vec<(QueueId, Called)>>>);

impl Learn for Heard {
    fn called(&self, message: QueueId, called: Called) {
        self.0.lock().unwrap().push((message, called));
    }
}

impl Heard {
    /// What was said since the last time.
    pub fn take(&self) -> Vec<(QueueId, Called)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

pub struct House {
    pub dir: TempDir,
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    pub mailboxes: Mailboxes,
    pub client_tls: Tls,
    pub shutdown: CancellationToken,
    pub heard: Heard,
    ids: IdGenerator,
}

impl House {
    pub async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut Imap)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let hostname = Domain::parse("mx.example.test").unwrap();
        let records = Records::open(dir.path().join("records.sqlite"), Arc::clone(&clock)).unwrap();
        let accounts = Accounts::open(records, Default::default(), dir.path(), Arc::clone(&clock));
        accounts.add_domain(&Domain::parse("example.test").unwrap()).await.unwrap();
        let secret = Secret::Password(PASSWORD.to_owned());
        accounts.add_account(&Address::parse(LOGIN).unwrap(), secret, None).await.unwrap();
        let tls = Tls::open(&TlsConfig::default(), dir.path(), &hostname).unwrap();
        let mailboxes = Mailboxes::open(&dir.path().join("state"), &hostname, Arc::clone(&clock)).unwrap();
        let shutdown = CancellationToken::new();
        let mut config = Imap { plain_login: PlainLogin::Loopback, ..Imap::default() };
        config.wrong_password_delay = mailgate_model::Span::from_millis(10);
        change(&mut config);
        let heard = Heard::default();
        let server = Server::new(Parts {
            config,
            hostname,
            accounts,
            mailboxes: mailboxes.clone(),
            learn: Arc::new(heard.clone()),
            tls: tls.clone(),
            clock,
            shutdown: shutdown.clone(),
        });
        let plain = door(&server, None, &shutdown);
        let inside = door(&server, Some(tls.clone()), &shutdown);
        let ids = IdGenerator::new(std::process::id());
        Self { dir, plain, tls: inside, mailboxes, client_tls: tls, shutdown, heard, ids }
    }

    pub fn maildir(&self) -> PathBuf {
        self.dir.path().join("mail/example.test/user/Maildir")
    }

    pub async fn deliver(&self, message: &str) {
        let id = self.ids.queue_id(SystemClock.now().plus(Duration::from_secs(1)));
        let message = message.replace('\n', "\r\n");
        let stored = self.mailboxes.deliver(&self.maildir(), "INBOX", id, 0, message.as_bytes()).await;
        assert!(matches!(stored.unwrap(), Delivery::Stored(_)));
    }

    pub async fn connect(&self) -> Peer {
        let tcp = TcpStream::connect(self.plain).await.unwrap();
        Peer::greeted(Stream::Plain(tcp)).await
    }

    pub async fn login(&self) -> Peer {
        let mut peer = self.connect().await;
        peer.ok(&format!("LOGIN {LOGIN} \"{PASSWORD}\"")).await;
        peer
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn door(server: &Arc<Server>, tls: Option<Tls>, shutdown: &CancellationToken) -> SocketAddr {
    static SESSIONS: AtomicU32 = AtomicU32::new(1);
    let listener = mailgate_net::listen((IpAddr::from(Ipv4Addr::LOCALHOST), 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let server = Arc::clone(server);
    let limits = Limits { total: 100, per_source: 100 };
    tokio::spawn(mailgate_net::serve(listener, limits, shutdown.clone(), move |tcp, client| {
        let (server, tls) = (Arc::clone(&server), tls.clone());
        async move {
            let stream = match tls {
                Some(tls) => match tls.accept(tcp).await {
                    Ok(stream) => stream,
                    Err(_) => return,
                },
                None => Stream::Plain(tcp),
            };
            let ids = IdGenerator::new(SESSIONS.fetch_add(1, Ordering::Relaxed));
            server.serve(stream, client, ids.session_id(Timestamp::from_secs(1))).await;
        }
    }));
    address
}

/// A client that sends commands and gathers what comes back.
pub struct Peer {
    stream: Option<Stream>,
    received: Vec<u8>,
    tags: u32,
    pub greeting: String,
}

impl Peer {
    pub async fn greeted(stream: Stream) -> Self {
        let mut peer = Self { stream: Some(stream), received: Vec::new(), tags: 0, greeting: String::new() };
        peer.greeting = peer.line().await;
        peer
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        let stream = self.stream.as_mut().unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
    }

    /// Whether more came before the end.
    async fn read(&mut self) -> bool {
        let mut buffer = vec![0; 65_536];
        let stream = self.stream.as_mut().unwrap();
        let count =
            tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.expect("the server is silent");
        // A connection that is reset has ended as well.
        let count = count.unwrap_or(0);
        self.received.extend_from_slice(&buffer[..count]);
        count > 0
    }

    /// One line without CRLF; at the end of the connection what is left.
    pub async fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.received.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.received.drain(..at + 2).collect();
                return String::from_utf8_lossy(&line[..at]).into_owned();
            }
            if !self.read().await {
                return String::from_utf8_lossy(&std::mem::take(&mut self.received)).into_owned();
            }
        }
    }

    /// Everything until the server closes.
    pub async fn rest(&mut self) -> String {
        while self.read().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.received)).into_owned()
    }

    /// Sends a command and gathers everything up to its tagged reply; the tag is cut from it.
    pub async fn command(&mut self, command: &str) -> Answer {
        self.tags += 1;
        let tag = format!("t{}", self.tags);
        self.send(format!("{tag} {command}\r\n").as_bytes()).await;
        self.answer(&tag).await
    }

    pub async fn answer(&mut self, tag: &str) -> Answer {
        let mut untagged = Vec::new();
        loop {
            let line = self.line().await;
            if let Some(result) = line.strip_prefix(&format!("{tag} ")) {
                return Answer { untagged, result: result.to_owned() };
            }
            assert!(
                !line.is_empty() || !self.received.is_empty() || untagged.len() < 100_000,
                "the server went away"
            );
            untagged.push(line);
        }
    }

    pub async fn ok(&mut self, command: &str) -> Vec<String> {
        let answer = self.command(command).await;
        assert!(answer.result.starts_with("OK"), "{command}: {answer:?}");
        answer.untagged
    }

    pub async fn fails(&mut self, command: &str, result: &str) {
        let answer = self.command(command).await;
        assert!(answer.result.starts_with(result), "{command}: {answer:?}");
    }

    /// Sends a literal with a command: `head {n}`, the bytes, `tail`.
    pub async fn with_literal(&mut self, head: &str, literal: &[u8], tail: &str) -> Answer {
        self.tags += 1;
        let tag = format!("t{}", self.tags);
        self.send(format!("{tag} {head}{{{}}}\r\n", literal.len()).as_bytes()).await;
        let line = self.line().await;
        if !line.starts_with('+') {
            return Answer { untagged: vec![], result: line.split_once(' ').unwrap().1.to_owned() };
        }
        self.send(literal).await;
        self.send(format!("{tail}\r\n").as_bytes()).await;
        self.answer(&tag).await
    }

    pub async fn start_tls(&mut self, tls: &Tls) {
        self.ok("STARTTLS").await;
        let Some(Stream::Plain(tcp)) = self.stream.take() else { panic!("TLS twice") };
        self.stream = Some(tls.connect(tcp, "mx.example.test").await.unwrap());
    }
}

#[derive(Debug)]
pub struct Answer {
    pub untagged: Vec<String>,
    pub result: String,
}
