//! Steps 2 to 9 in one process: the real edge and the real reception, joined as in `wire.rs`, and clients that must not
//! notice where one ends and the other begins.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mailgate::wire::ToReception;
use mailgate_accounts::{Accounts, Secret};
use mailgate_edge::{Edge, Given, Statistics};
use mailgate_model::{Address, Client, Domain, IdGenerator, ManualClock, Span, Timestamp};
use mailgate_msgauth::{Signer, Verifier};
use mailgate_net::{Resolver, ResolverConfig, Tls, TlsConfig};
use mailgate_smtp::{Accepted, Learn, Server};
use mailgate_store::{Greylist, Records, Spool};
use mailgate_tests::{Dns, SmtpClient, until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Saturday 21 November 2026.
const NOW: Timestamp = Timestamp::from_secs(1_795_233_600);
const PASS: Duration = Duration::from_secs(120);
const STRANGER: &str = "192.0.2.1";
const CONTENT: &str = "From: a@client.example\r\nSubject: x\r\n\r\nbody\r\n";

/// Everything of port 25, and whose address the next client has.
struct World {
    edge: Arc<Edge>,
    spool: Spool,
    clock: ManualClock,
    address: SocketAddr,
    source: Arc<Mutex<IpAddr>>,
    runtime: tokio::runtime::Runtime,
    _dns: Dns,
    _folder: tempfile::TempDir,
}

/// The edge's memory hears what reception accepted.
struct Memory(Greylist);

impl Learn for Memory {
    fn accepted(&self, accepted: &Accepted<'_>) {
        let _ = self.0.accepted(accepted.client.ip(), Duration::from_secs(36 * 86_400));
    }
}

impl World {
    fn new() -> World {
        World::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut mailgate_edge::Config)) -> World {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let dns = Dns::on_loopback().unwrap();
        let clock = ManualClock::at(NOW);
        let source = Arc::new(Mutex::new(STRANGER.parse().unwrap()));
        let (edge, spool, address) =
            runtime.block_on(build(folder.path(), dns.address(), &clock, Arc::clone(&source), change));
        World { edge, spool, clock, address, source, runtime, _dns: dns, _folder: folder }
    }

    /// A client from this address, greeted.
    fn client(&self, ip: &str) -> SmtpClient {
        let mut client = self.silent(ip);
        let greeting = client.reply().unwrap();
        assert_eq!(greeting.to_string(), "220 mx.example.org ESMTP mailgate");
        client
    }

    /// The same before the greeting was read.
    fn silent(&self, ip: &str) -> SmtpClient {
        *self.source.lock().unwrap() = ip.parse().unwrap();
        let before = self.edge.statistics().connections;
        let client = SmtpClient::connect(self.address).unwrap();
        // The next client may have another address only when this one was taken.
        self.until(|now| now.connections > before);
        client
    }

    /// A first attempt with this tuple, deferred.
    fn deferred_before(&self, from: &str, to: &str) {
        let mut client = self.client(STRANGER);
        client.expect("EHLO client.example", "250").unwrap();
        client.expect(&format!("MAIL FROM:<{from}>"), "250").unwrap();
        client.expect(&format!("RCPT TO:<{to}>"), "451").unwrap();
        client.expect("DATA", "554").unwrap();
        client.expect("QUIT", "221").unwrap();
    }

    fn until(&self, wanted: impl Fn(&Statistics) -> bool) {
        until("the edge", Duration::from_secs(20), || wanted(&self.edge.statistics()).then_some(())).unwrap();
    }

    /// What is in the queue: reverse-path, recipients, and the content.
    fn queued(&self) -> Vec<(String, u32, String)> {
        self.runtime.block_on(async {
            let mut all = Vec::new();
            for listed in self.spool.list(100, None).await.unwrap() {
                let lease = self.spool.lease(listed.id, vec![0]).unwrap();
                let content = self.spool.load(&lease).await.unwrap().unwrap().content;
                let content = String::from_utf8_lossy(&content).into_owned();
                all.push((listed.reverse_path.to_string(), listed.recipients, content));
            }
            all
        })
    }
}

async fn build(
    folder: &std::path::Path,
    dns: SocketAddr,
    clock: &ManualClock,
    source: Arc<Mutex<IpAddr>>,
    change: impl FnOnce(&mut mailgate_edge::Config),
) -> (Arc<Edge>, Spool, SocketAddr) {
    let hostname = Domain::parse("mx.example.org").unwrap();
    let time: Arc<dyn mailgate_model::Clock> = Arc::new(clock.clone());
    let records = Records::open(folder.join("records.db"), Arc::clone(&time)).unwrap();
    let accounts = Accounts::open(records.clone(), Default::default(), folder, Arc::clone(&time));
    accounts.add_domain(&Domain::parse("example.org").unwrap()).await.unwrap();
    for name in ["alice", "bob"] {
        let address = Address::parse(&format!("{name}@example.org")).unwrap();
        accounts.add_account(&address, Secret::Password("secret".into()), None).await.unwrap();
    }
    let resolver =
        Resolver::new(&ResolverConfig { servers: vec![dns], timeout: Span::from_secs(20) }).unwrap();
    let tls = Tls::open(&TlsConfig::default(), folder, &hostname).unwrap();
    let spool = Spool::open(folder.join("spool"), Arc::clone(&time)).unwrap();
    let greylist = Greylist::memory(Arc::clone(&time)).await.unwrap();
    let shutdown = CancellationToken::new();
    let ids = Arc::new(IdGenerator::new(1));
    let server = Server::new(mailgate_smtp::Parts {
        config: mailgate_smtp::Config::default(),
        hostname: hostname.clone(),
        accounts,
        spool: spool.clone(),
        verifier: Verifier::new(&resolver, hostname.as_str()),
        signer: Signer::new(records),
        resolver,
        tls: tls.clone(),
        clock: Arc::clone(&time),
        ids: Arc::clone(&ids),
        learn: Arc::new(Memory(greylist.clone())),
        shutdown: shutdown.clone(),
    });
    let mode = mailgate_edge::config::Mode::Classic;
    let mut config = mailgate_edge::Config { mode, ..mailgate_edge::Config::default() };
    config.greylist.pass_after = Span::from_secs(PASS.as_secs());
    change(&mut config);
    let edge = Edge::new(mailgate_edge::Parts {
        content_limit: mailgate_smtp::Config::default().message_size,
        config,
        hostname,
        inquiry: None,
        feeds: Vec::new(),
        greylist: greylist.clone(),
        filter: mailgate_packet::open(&mailgate_packet::Config::default(), Arc::clone(&time)).unwrap(),
        handoff: Arc::new(ToReception::new(server, TaskTracker::new())),
        tls: Some(tls),
        recipients: None,
        texts: None,
        clock: Arc::clone(&time),
        shutdown,
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = Arc::clone(&edge);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let client = Client::new(SocketAddr::new(*source.lock().unwrap(), 40_000), address);
            let (edge, session) = (Arc::clone(&accepting), ids.session_id(time.now()));
            tokio::spawn(async move { edge.serve(tcp, client, session).await });
        }
    });
    (edge, spool, address)
}

/// The codes of so many replies.
fn codes(client: &mut SmtpClient, count: usize) -> Vec<u16> {
    (0..count).map(|_| client.reply().unwrap().code).collect()
}

#[test]
fn an_unknown_client_is_deferred_and_its_retry_goes_on_in_place() {
    let world = World::new();
    world.deferred_before("a@client.example", "alice@example.org");
    world.clock.advance(PASS);
    let mut client = world.client(STRANGER);
    let edge_said = client.expect("EHLO client.example", "250").unwrap();
    let reply = client.message("a@client.example", &["alice@example.org"], CONTENT).unwrap();
    assert_eq!(reply.code, 250, "{}", client.transcript());
    // The same connection, now reception's: everything goes on.
    let reception_said = client.expect("EHLO client.example", "250").unwrap();
    assert_eq!(edge_said, reception_said, "nobody may see which of the two answers");
    assert_eq!(client.message("a@client.example", &["bob@example.org"], CONTENT).unwrap().code, 250);
    client.expect("RCPT TO:<x@y.example>", "503").unwrap();
    client.expect("QUIT", "221").unwrap();
    let queued = world.queued();
    assert_eq!(queued.len(), 2);
    assert!(queued[0].2.contains("Received: from client.example ([192.0.2.1])"), "{}", queued[0].2);
    assert!(queued[0].2.contains("with ESMTP\r\n"), "{}", queued[0].2);
    let now = world.edge.statistics();
    assert_eq!((now.deferred, now.passed, now.straight), (1, 1, 0));

    // The next connection is not greeted by the edge at all.
    let mut client = world.client(STRANGER);
    client.expect("EHLO client.example", "250").unwrap();
    let reply = client.message("other@client.example", &["bob@example.org"], CONTENT).unwrap();
    assert_eq!(reply.code, 250);
    assert_eq!(world.edge.statistics().straight, 1);
}

#[test]
fn a_client_that_waits_inside_its_session_passes_in_it() {
    let world = World::new();
    let mut client = world.client(STRANGER);
    client.expect("EHLO client.example", "250").unwrap();
    client.expect("MAIL FROM:<a@client.example>", "250").unwrap();
    client.expect("RCPT TO:<alice@example.org>", "451").unwrap();
    world.clock.advance(PASS);
    client.expect("RCPT TO:<alice@example.org>", "250").unwrap();
    client.expect("DATA", "354").unwrap();
    client.send(CONTENT.as_bytes()).unwrap();
    client.expect(".", "250").unwrap();
    assert_eq!(world.queued().len(), 1);
}

#[test]
fn the_replies_to_a_pipelined_group_come_in_order_before_and_after_the_pass() {
    let world = World::new();
    let group = b"EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.org>\r\n\
                  RCPT TO:<nobody@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n";
    let mut client = world.client(STRANGER);
    client.send(group).unwrap();
    assert_eq!(codes(&mut client, 6), [250, 250, 451, 451, 451, 554]);
    client.expect("QUIT", "221").unwrap();
    world.clock.advance(PASS);
    let mut client = world.client(STRANGER);
    client.send(group).unwrap();
    assert_eq!(codes(&mut client, 6), [250, 250, 250, 550, 250, 354]);
    client.send(b"Subject: x\r\n\r\n..dot\r\n.\r\nNOOP\r\nQUIT\r\n").unwrap();
    assert_eq!(codes(&mut client, 3), [250, 250, 221]);
    let queued = world.queued();
    assert_eq!(queued.len(), 1);
    assert_eq!((queued[0].0.as_str(), queued[0].1), ("a@client.example", 2));
    assert!(queued[0].2.ends_with("\r\n\r\n.dot\r\n"), "{}", queued[0].2);
}

#[test]
fn a_client_that_sends_everything_at_once_and_byte_by_byte_is_heard_the_same_way() {
    let world = World::new();
    let all = "EHLO client.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.org>\r\n\
               BDAT 12\r\nFrom: a@b\r\n\rBDAT 2 LAST\r\n\nxNOOP\r\nQUIT\r\n";
    let mut client = world.silent(STRANGER);
    client.send(all.as_bytes()).unwrap();
    // Greeting, EHLO, MAIL, RCPT, two refused chunks, NOOP, QUIT.
    assert_eq!(codes(&mut client, 8), [220, 250, 250, 451, 554, 554, 250, 221]);
    world.clock.advance(PASS);
    let mut client = world.silent(STRANGER);
    for byte in all.as_bytes() {
        client.send(std::slice::from_ref(byte)).unwrap();
    }
    assert_eq!(codes(&mut client, 8), [220, 250, 250, 250, 250, 250, 250, 221]);
    let queued = world.queued();
    assert!(queued[0].2.ends_with("From: a@b\r\n\r\nx\r\n"), "{}", queued[0].2);
}

#[test]
fn a_client_inside_tls_stays_inside_tls() {
    let world = World::new();
    let session = |world: &World| {
        let mut client = world.client(STRANGER);
        client.expect("EHLO client.example", "250").unwrap();
        client.start_tls("mx.example.org").unwrap();
        let inside = client.expect("EHLO client.example", "250").unwrap();
        assert!(!inside.text().contains("STARTTLS"), "{inside}");
        client.send(b"MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n").unwrap();
        client
    };
    let mut client = session(&world);
    assert_eq!(codes(&mut client, 3), [250, 451, 554]);
    world.clock.advance(PASS);
    let mut client = session(&world);
    assert_eq!(codes(&mut client, 3), [250, 250, 354]);
    client.send(CONTENT.as_bytes()).unwrap();
    client.expect(".", "250").unwrap();
    client.expect("STARTTLS", "503").unwrap();
    client.expect("QUIT", "221").unwrap();
    let queued = world.queued();
    assert!(queued[0].2.contains("with ESMTPS\r\n"), "{}", queued[0].2);
    assert!(queued[0].2.contains("(using TLSv1.3 with cipher "), "{}", queued[0].2);
}

#[test]
fn what_is_smuggled_behind_starttls_ends_the_session_on_both_sides_with_the_same_words() {
    let smuggled = b"STARTTLS\r\nMAIL FROM:<evil@client.example>\r\nRCPT TO:<bob@example.org>\r\n";
    let world = World::new();
    world.deferred_before("a@client.example", "alice@example.org");
    world.clock.advance(PASS);
    let mut before = world.client(STRANGER);
    before.expect("EHLO client.example", "250").unwrap();
    before.send(smuggled).unwrap();
    let edge_said = before.reply().unwrap();
    let mut after = world.client(STRANGER);
    after.expect("EHLO client.example", "250").unwrap();
    after.expect("MAIL FROM:<a@client.example>", "250").unwrap();
    after.expect("RCPT TO:<alice@example.org>", "250").unwrap();
    after.expect("RSET", "250").unwrap();
    after.send(smuggled).unwrap();
    assert_eq!((edge_said.code, &edge_said), (503, &after.reply().unwrap()));
    assert!(before.receive().unwrap().is_empty() && after.receive().unwrap().is_empty());
}

#[test]
fn starttls_after_the_pass_forgets_what_was_said_before() {
    let world = World::new();
    world.deferred_before("a@client.example", "alice@example.org");
    world.clock.advance(PASS);
    let mut client = world.client(STRANGER);
    client.expect("EHLO client.example", "250").unwrap();
    client.expect("MAIL FROM:<a@client.example>", "250").unwrap();
    client.expect("RCPT TO:<alice@example.org>", "250").unwrap();
    client.start_tls("mx.example.org").unwrap();
    client.expect("RCPT TO:<alice@example.org>", "503").unwrap();
    client.expect("EHLO client.example", "250").unwrap();
    let reply = client.message("a@client.example", &["alice@example.org"], CONTENT).unwrap();
    assert_eq!(reply.code, 250);
    let queued = world.queued();
    assert!(queued.len() == 1 && queued[0].2.contains("with ESMTPS\r\n"), "{queued:?}");
}

#[test]
fn a_second_recipient_that_qualifies_makes_a_message_for_that_recipient_only() {
    let world = World::new();
    world.deferred_before("a@client.example", "bob@example.org");
    world.clock.advance(PASS);
    let mut client = world.client(STRANGER);
    client.expect("EHLO client.example", "250").unwrap();
    client.expect("MAIL FROM:<a@client.example>", "250").unwrap();
    // A new tuple, then the one that waited long enough.
    client.expect("RCPT TO:<alice@example.org>", "451").unwrap();
    client.expect("RCPT TO:<bob@example.org>", "250").unwrap();
    client.expect("DATA", "354").unwrap();
    client.send(CONTENT.as_bytes()).unwrap();
    client.expect(".", "250").unwrap();
    let queued = world.queued();
    assert_eq!((queued.len(), queued[0].1), (1, 1));
    assert!(queued[0].2.contains("for <bob@example.org>;"), "{}", queued[0].2);
    // The one that was deferred is tried again: the client has passed.
    let reply = client.message("a@client.example", &["alice@example.org"], CONTENT).unwrap();
    assert_eq!(reply.code, 250);
}

#[test]
fn reception_says_its_own_no_after_the_pass() {
    let world = World::new();
    for (to, code) in [("nobody@example.org", "550"), ("x@elsewhere.example", "550")] {
        world.deferred_before("a@client.example", to);
        world.clock.advance(PASS);
        let mut client = world.client(STRANGER);
        client.expect("EHLO client.example", "250").unwrap();
        client.expect("MAIL FROM:<a@client.example>", "250").unwrap();
        client.expect(&format!("RCPT TO:<{to}>"), code).unwrap();
        client.expect("DATA", "554").unwrap();
        world.runtime.block_on(world.edge.grey_delete(&asked(STRANGER))).unwrap();
    }
    assert!(world.queued().is_empty());
}

fn asked(what: &str) -> mailgate_edge::Asked {
    mailgate_edge::Asked { kind: None, what: what.to_owned() }
}

#[test]
fn internationalized_addresses_and_parameters_come_over_the_pass() {
    let world = World::new();
    let attempt = |world: &World, want: &str| {
        let mut client = world.client(STRANGER);
        client.expect("EHLO client.example", "250").unwrap();
        client.expect("MAIL FROM:<jürgen@client.example> SMTPUTF8 BODY=8BITMIME SIZE=100", "250").unwrap();
        client.expect("RCPT TO:<alice@example.org> NOTIFY=NEVER", want).unwrap();
        client
    };
    attempt(&world, "451");
    world.clock.advance(PASS);
    let mut client = attempt(&world, "250");
    client.expect("DATA", "354").unwrap();
    client.send("Subject: grüße\r\n\r\nx\r\n".as_bytes()).unwrap();
    client.expect(".", "250").unwrap();
    let queued = world.queued();
    assert_eq!(queued[0].0, "jürgen@client.example");
    assert!(queued[0].2.contains("with UTF8SMTP\r\n"), "{}", queued[0].2);
}

#[test]
fn a_trapped_client_never_reaches_reception_and_stays_trapped() {
    let world = World::new();
    let trap = Given::TrapAddress { address: "trap@example.org".into() };
    world.runtime.block_on(world.edge.grey_add(trap)).unwrap();
    world.deferred_before("a@client.example", "alice@example.org");
    world.clock.advance(PASS);
    let mut client = world.client(STRANGER);
    client.expect("EHLO client.example", "250").unwrap();
    client.expect("MAIL FROM:<a@client.example>", "250").unwrap();
    client.send(b"RCPT TO:<trap@example.org>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n").unwrap();
    world.until(|now| now.held_now == 1);
    // From now on a byte a second.
    let mut heard = String::new();
    while !heard.ends_with("\r\n") {
        world.clock.advance(Duration::from_secs(1));
        heard.push_str(&String::from_utf8(client.receive().unwrap()).unwrap());
    }
    assert_eq!(heard, "250 2.1.5 Recipient ok\r\n");
    // The tuple that waited long enough helps it no more.
    let mut other = world.silent(STRANGER);
    world.until(|now| now.held_now == 2);
    other.send(b"EHLO client.example\r\n").unwrap();
    let now = world.edge.statistics();
    assert_eq!((now.trapped, now.passed, now.straight), (1, 0, 0));
    assert!(world.queued().is_empty());
}

#[test]
fn accepted_mail_keeps_who_passed_and_silence_loses_it() {
    let world = World::new();
    world.deferred_before("a@client.example", "alice@example.org");
    world.clock.advance(PASS);
    let day = Duration::from_secs(86_400);
    for _ in 0..3 {
        let mut client = world.client(STRANGER);
        client.expect("EHLO client.example", "250").unwrap();
        let reply = client.message("a@client.example", &["alice@example.org"], CONTENT).unwrap();
        assert_eq!(reply.code, 250);
        client.expect("QUIT", "221").unwrap();
        world.clock.advance(30 * day);
    }
    assert_eq!(world.edge.statistics().deferred, 1, "90 days, and never deferred again");
    let entry = world.runtime.block_on(world.edge.grey_show(STRANGER.parse().unwrap())).unwrap();
    assert!(entry.standing.contains("passed"), "{:?}", entry.standing);
    world.clock.advance(7 * day);
    world.deferred_before("a@client.example", "alice@example.org");
}

#[test]
fn a_message_judged_by_its_content_is_taken_once_and_whole_and_reception_answers_for_it() {
    let world = World::with(|config| config.greylist.decide = mailgate_edge::config::Decide::Data);
    let hand_in = |from: &str, to: &str| {
        let mut client = world.client(from);
        client.expect("EHLO client.example", "250").unwrap();
        client.expect("MAIL FROM:<a@client.example>", "250").unwrap();
        client.expect(&format!("RCPT TO:<{to}>"), "250").unwrap();
        client.expect("RCPT TO:<bob@example.org>", "452").unwrap();
        client.expect("DATA", "354").unwrap();
        client.send(b"Message-ID: <1@x>\r\nSubject: x\r\n\r\n..dot\r\n").unwrap();
        let reply = client.command(".").unwrap();
        (client, reply)
    };
    for to in ["alice@example.org", "nobody@example.org"] {
        let (mut client, reply) = hand_in(STRANGER, to);
        assert_eq!(reply.code, 451, "{reply}");
        client.expect("QUIT", "221").unwrap();
    }
    assert!(world.queued().is_empty());
    world.clock.advance(PASS);
    // Another address of the pool.
    let (mut client, reply) = hand_in("198.51.100.7", "alice@example.org");
    assert_eq!(reply.code, 250, "{}", client.transcript());
    assert_eq!(client.message("a@client.example", &["bob@example.org"], CONTENT).unwrap().code, 250);
    let queued = world.queued();
    assert_eq!(queued.len(), 2);
    assert_eq!((queued[0].0.as_str(), queued[0].1), ("a@client.example", 1));
    assert!(queued[0].2.ends_with("Subject: x\r\n\r\n.dot\r\n"), "{}", queued[0].2);
    assert!(queued[0].2.contains("from client.example ([198.51.100.7])"), "{}", queued[0].2);
    // A recipient that reception does not know is refused after the content, and nothing is kept.
    let (mut client, reply) = hand_in("198.51.100.8", "nobody@example.org");
    assert_eq!(reply.code, 550, "{}", client.transcript());
    assert_eq!(client.message("a@client.example", &["bob@example.org"], CONTENT).unwrap().code, 250);
    assert_eq!(world.queued().len(), 3);
}
