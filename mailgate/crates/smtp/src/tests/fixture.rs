//! A server in a folder of its own, a DNS that knows a few names, and a client that checks what it hears.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use mailgate_accounts::{Accounts, Secret};
use mailgate_model::{
    Address, Client, Domain, IdGenerator, ManualClock, Service, SessionId, Span, Timestamp,
};
use mailgate_msgauth::{Algorithm, Signer, Verifier};
use mailgate_net::{Resolver, ResolverConfig, Stream, Tls, TlsConfig};
use mailgate_proto::smtp::{Answer, AnswerReader};
use mailgate_store::{Records, Spool};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Config, Learn, Parts, Resumed, Server};

/// Nothing on loopback takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// Saturday 21 November 2026.
pub(super) const NOW: Timestamp = Timestamp::from_secs(1_795_233_600);
pub(super) const HOSTNAME: &str = "mx.example.org";
pub(super) const PASSWORD: &str = "correct horse";

/// A server and all it stands on.
pub(super) struct Place {
    pub(super) server: Arc<Server>,
    pub(super) spool: Spool,
    pub(super) clock: ManualClock,
    pub(super) tls: Tls,
    pub(super) shutdown: CancellationToken,
    pub(super) accepted: Arc<Accepted>,
    _folder: TempDir,
}

/// With the default configuration.
pub(super) async fn place() -> Place {
    place_with(|_| {}).await
}

/// With a changed configuration.
pub(super) async fn place_with(change: impl FnOnce(&mut Config)) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(NOW);
    let hostname = Domain::parse(HOSTNAME).unwrap();
    let mut config = Config::default();
    change(&mut config);
    let records = Records::open(folder.path().join("records.db"), Arc::new(clock.clone())).unwrap();
    let accounts = people(folder.path(), records.clone(), &clock).await;
    let signer = Signer::new(records);
    let example = Domain::parse("example.org").unwrap();
    let key = signer.create_key(&example, "k1", Algorithm::Ed25519).await.unwrap();
    let servers = vec![dns((key.name.trim_end_matches('.').to_owned(), key.record)).await];
    let resolver = Resolver::new(&ResolverConfig { servers, timeout: Span::from_secs(20) }).unwrap();
    let tls = Tls::open(&TlsConfig::default(), folder.path(), &hostname).unwrap();
    let spool = Spool::open(folder.path().join("spool"), Arc::new(clock.clone())).unwrap();
    let shutdown = CancellationToken::new();
    let accepted = Arc::new(Accepted::default());
    let server = Server::new(Parts {
        config,
        hostname: hostname.clone(),
        accounts,
        spool: spool.clone(),
        verifier: Verifier::new(&resolver, HOSTNAME),
        signer,
        resolver,
        tls: tls.clone(),
        clock: Arc::new(clock.clone()),
        ids: Arc::new(IdGenerator::new(1)),
        learn: accepted.clone(),
        shutdown: shutdown.clone(),
    });
    Place { server, spool, clock, tls, shutdown, accepted, _folder: folder }
}

/// Whose messages were accepted on port 25.
#[derive(Default)]
pub(super) struct Accepted(pub(super) Mutex<Vec<IpAddr>>);

impl Learn for Accepted {
    fn accepted(&self, accepted: &crate::Accepted<'_>) {
        self.0.lock().unwrap().push(accepted.client.ip());
    }
}

/// Accounts alice, bob and postmaster at example.org; alias both for alice and bob.
async fn people(folder: &Path, records: Records, clock: &ManualClock) -> Accounts {
    let clock = Arc::new(clock.clone());
    let accounts = Accounts::open(records, mailgate_accounts::Config::default(), folder, clock);
    let address = |local: &str| Address::parse(&format!("{local}@example.org")).unwrap();
    accounts.add_domain(&Domain::parse("example.org").unwrap()).await.unwrap();
    for local in ["alice", "bob", "postmaster"] {
        accounts.add_account(&address(local), Secret::Password(PASSWORD.into()), None).await.unwrap();
    }
    accounts.add_alias("both@example.org", &[address("alice"), address("bob")]).await.unwrap();
    accounts
}

/// TXT records of the lab beside the key of example.org; everything else does not exist.
const TEXTS: &[(&str, &str)] =
    &[("_dmarc.strict.example", "v=DMARC1; p=reject"), ("spf.example", "v=spf1 ip4:127.0.0.1 -all")];

/// Answers on loopback until the runtime ends.
async fn dns(key: (String, String)) -> SocketAddr {
    let mut texts = vec![key];
    texts.extend(TEXTS.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0_u8; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut packet).await {
            let _ = socket.send_to(&answer_of(&packet[..length], &texts), peer).await;
        }
    });
    address
}

/// Header and question of the query, and a TXT record or NXDOMAIN (RFC 1035 §4.1).
fn answer_of(query: &[u8], texts: &[(String, String)]) -> Vec<u8> {
    let (mut name, mut at) = (String::new(), 12);
    while query[at] != 0 {
        let label = &query[at + 1..at + 1 + usize::from(query[at])];
        name.push_str(&String::from_utf8_lossy(label).to_lowercase());
        name.push('.');
        at += 1 + usize::from(query[at]);
    }
    let question = &query[12..at + 5];
    let is_txt = question[question.len() - 4..] == [0, 16, 0, 1];
    let found = texts.iter().find(|(known, _)| is_txt && name == format!("{known}."));
    let exists = texts.iter().any(|(known, _)| known.ends_with(name.trim_end_matches('.')) || name == ".");
    let flags = if exists { [0x85, 0x80] } else { [0x85, 0x83] };
    let count = [0, u8::from(found.is_some())];
    let mut answer = [&query[..2], &flags, &[0, 1], &count, &[0, 0, 0, 0], question].concat();
    if let Some((_, text)) = found {
        let length = u8::try_from(text.len()).unwrap();
        answer.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 0, length + 1, length]);
        answer.extend(text.bytes());
    }
    answer
}

/// Two ends of a connection over loopback.
pub(super) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

impl Place {
    /// A client at port 25, before the greeting.
    pub(super) async fn mx(&self) -> Peer {
        self.connect(Service::Mx).await
    }

    /// A client at port 25 that has said EHLO.
    pub(super) async fn mx_greeted(&self) -> Peer {
        let mut peer = self.mx().await;
        peer.hears("220").await;
        peer.says("EHLO client.example", "250").await;
        peer
    }

    /// A client at port 587, before the greeting.
    pub(super) async fn msa(&self) -> Peer {
        self.connect(Service::Msa).await
    }

    /// A client at port 465 that has said EHLO.
    pub(super) async fn submissions(&self) -> Peer {
        let (near, far) = pair().await;
        let (peer, local) = (far.peer_addr().unwrap(), far.local_addr().unwrap());
        let (server, tls) = (Arc::clone(&self.server), self.tls.clone());
        let task = tokio::spawn(async move {
            let stream = tls.accept(far).await.unwrap();
            server.serve(Service::Msa, stream, Client::new(peer, local), session()).await;
        });
        let stream = self.tls.connect(near, HOSTNAME).await.unwrap();
        let mut peer = Peer::new(stream, task);
        peer.hears("220").await;
        peer.says("EHLO client.example", "250").await;
        peer
    }

    /// A client at port 465 that has authenticated as alice.
    pub(super) async fn alice(&self) -> Peer {
        let mut peer = self.submissions().await;
        peer.says(&plain("alice@example.org", PASSWORD), "235 2.7.0").await;
        peer
    }

    /// A client whose session the edge began.
    pub(super) async fn resumed(&self, helo: Option<&str>, mail: Option<&str>, pending: &str) -> Peer {
        self.resumed_behind(helo, mail, None, pending).await
    }

    /// The same where RCPT and DATA were answered as well.
    pub(super) async fn resumed_behind(
        &self,
        helo: Option<&str>,
        mail: Option<&str>,
        rcpt: Option<&str>,
        pending: &str,
    ) -> Peer {
        let (near, far) = pair().await;
        let client = Client::new(far.peer_addr().unwrap(), far.local_addr().unwrap());
        let resumed = Resumed {
            stream: Stream::Plain(far),
            client,
            session: session(),
            helo: helo.map(str::to_owned),
            mail: mail.map(str::to_owned),
            rcpt: rcpt.map(str::to_owned),
            pending: BytesMut::from(pending),
        };
        let server = Arc::clone(&self.server);
        let task = tokio::spawn(async move { server.resume(resumed).await });
        Peer::new(Stream::Plain(near), task)
    }

    async fn connect(&self, service: Service) -> Peer {
        let (near, far) = pair().await;
        let client = Client::new(far.peer_addr().unwrap(), far.local_addr().unwrap());
        let server = Arc::clone(&self.server);
        let task = tokio::spawn(async move {
            server.serve(service, Stream::Plain(far), client, session()).await;
        });
        Peer::new(Stream::Plain(near), task)
    }

    /// Contents in the spool, oldest first.
    pub(super) async fn contents(&self) -> Vec<String> {
        let mut contents = Vec::new();
        for listed in self.spool.list(100, None).await.unwrap() {
            let content = self.spool.content(listed.id).await.unwrap().unwrap();
            contents.push(String::from_utf8(content.to_vec()).unwrap());
        }
        contents
    }

    /// The only content in the spool.
    pub(super) async fn content(&self) -> String {
        let contents = self.contents().await;
        assert_eq!(contents.len(), 1, "{contents:?}");
        contents.into_iter().next().unwrap()
    }
}

fn session() -> SessionId {
    IdGenerator::new(7).session_id(NOW)
}

/// AUTH PLAIN with an initial response.
pub(super) fn plain(login: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", STANDARD.encode(format!("\0{login}\0{password}")))
}

/// The client's end.
pub(super) struct Peer {
    pub(super) stream: Stream,
    input: BytesMut,
    answers: AnswerReader,
    task: JoinHandle<()>,
}

impl Peer {
    fn new(stream: Stream, task: JoinHandle<()>) -> Self {
        Self { stream, input: BytesMut::new(), answers: AnswerReader::new(), task }
    }

    /// Sends octets as they are.
    pub(super) async fn sends(&mut self, octets: impl AsRef<[u8]>) {
        self.stream.write_all(octets.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next reply, or `None` when the server closed.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.answers.next_answer(&mut self.input).unwrap() {
                return Some(answer);
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await;
            match read.expect("the server says nothing") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next reply, which must begin with `want`, such as `250` or `550 5.1.1`.
    pub(super) async fn hears(&mut self, want: &str) -> Answer {
        let answer = self.answer().await.unwrap_or_else(|| panic!("closed, expected {want}"));
        assert!(answer.one_line().starts_with(want), "expected {want}, heard {}", answer.one_line());
        answer
    }

    /// Sends one line and hears the reply to it.
    pub(super) async fn says(&mut self, line: &str, want: &str) -> Answer {
        self.sends(format!("{line}\r\n")).await;
        let answer = self.answer().await.unwrap_or_else(|| panic!("closed after {line}, expected {want}"));
        assert!(answer.one_line().starts_with(want), "{line}: expected {want}, heard {}", answer.one_line());
        answer
    }

    /// The server closes without another word, and its task ends.
    pub(super) async fn sees_the_end(mut self) {
        assert_eq!(self.answer().await, None);
        drop(self.stream);
        tokio::time::timeout(PATIENCE, self.task).await.expect("the session goes on").unwrap();
    }

    /// Closes at once; the server's task ends.
    pub(super) async fn vanishes(self) {
        drop(self.stream);
        tokio::time::timeout(PATIENCE, self.task).await.expect("the session goes on").unwrap();
    }

    /// Goes into TLS.
    pub(super) async fn starttls(self, place: &Place) -> Peer {
        let mut peer = self;
        peer.says("STARTTLS", "220 2.0.0").await;
        let Stream::Plain(tcp) = peer.stream else { panic!("in TLS already") };
        Peer::new(place.tls.connect(tcp, HOSTNAME).await.unwrap(), peer.task)
    }

    /// MAIL and RCPT that are accepted.
    pub(super) async fn envelope(&mut self, from: &str, to: &[&str]) {
        self.says(&format!("MAIL FROM:<{from}>"), "250 2.1.0").await;
        for to in to {
            self.says(&format!("RCPT TO:<{to}>"), "250 2.1.5").await;
        }
    }

    /// DATA with `content`, which ends with CRLF and needs no dot-stuffing; the reply after it must begin with `want`.
    pub(super) async fn data(&mut self, content: &str, want: &str) -> Answer {
        self.says("DATA", "354").await;
        self.sends(format!("{content}.\r\n")).await;
        self.hears(want).await
    }
}

/// A content that anybody may send.
pub(super) const CONTENT: &str = "From: a@client.example\r\nSubject: x\r\n\r\nbody\r\n";
