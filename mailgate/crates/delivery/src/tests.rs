//! Spool, queue, agents and a scripted MTA together.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mail_parser::{MessageParser, MimeHeaders as _};
use mailgate_model::{Clock, Envelope, IdGenerator, ManualClock, QueueId, Recipient, ReversePath, Timestamp};
use mailgate_queue::{Parts, Queue};
use mailgate_store::spool::{State, Trace};
use mailgate_store::{Mailboxes, Spool};
use tokio_util::sync::CancellationToken;

use crate::local::tests::{Table as People, messages};
use crate::remote::tests::{NoTls, Play, Table as Names, fake};
use crate::{Config, Found, LocalAgent, RemoteAgent, Routes, StaticRoute};

const PATIENCE: Duration = Duration::from_secs(20);

/// One host with an account `sender@ours.example`; everything else goes to the scripted MTA.
struct House {
    dir: tempfile::TempDir,
    clock: ManualClock,
    port: u16,
    life: u32,
    running: Option<(Queue, Spool, CancellationToken)>,
}

impl House {
    fn new(port: u16) -> Self {
        let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
        let mut house = Self { dir: tempfile::tempdir().unwrap(), clock, port, life: 0, running: None };
        house.start();
        house
    }

    fn maildir(&self) -> PathBuf {
        self.dir.path().join("sender")
    }

    fn start(&mut self) {
        self.life += 1;
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let hostname: mailgate_model::Domain = "mx.ours.example".parse().unwrap();
        let spool = Spool::open(self.dir.path().join("spool"), Arc::clone(&clock)).unwrap();
        let mailboxes =
            Mailboxes::open(&self.dir.path().join("state"), &hostname, Arc::clone(&clock)).unwrap();
        let ids = Arc::new(IdGenerator::new(self.life * 1000));
        let sender = ("sender@ours.example".to_owned(), Found::Account(self.maildir()));
        let people = Arc::new(People(Mutex::new(HashMap::from([sender]))));
        let route = StaticRoute {
            domain: "*".to_owned().try_into().unwrap(),
            host: "127.0.0.1".to_owned(),
            port: self.port,
        };
        let config = Config { route: vec![route], ..Config::default() };
        let local =
            LocalAgent::new(people.clone(), mailboxes, spool.clone(), Arc::clone(&ids), Arc::clone(&clock));
        let names = Arc::new(Names::default());
        let remote =
            RemoteAgent::new(config.clone(), hostname.clone(), names, Arc::new(NoTls), Arc::clone(&clock));
        let shutdown = CancellationToken::new();
        let queue = Queue::start(Parts {
            spool: spool.clone(),
            route: Arc::new(Routes::new(people, config)),
            local: Arc::new(local),
            remote: Arc::new(remote),
            config: mailgate_queue::Config { jitter_percent: 0, ..mailgate_queue::Config::default() },
            clock,
            hostname,
            ids,
            shutdown: shutdown.clone(),
        });
        self.running = Some((queue, spool, shutdown));
    }

    async fn restart(&mut self) {
        let (queue, spool, shutdown) = self.running.take().unwrap();
        shutdown.cancel();
        queue.stopped().await;
        drop((queue, spool));
        self.start();
    }

    async fn commit(&self, id: u64, to: &[&str]) -> QueueId {
        let envelope = Envelope {
            reverse_path: ReversePath::Address("sender@ours.example".parse().unwrap()),
            recipients: to.iter().map(|to| Recipient::plain(to.parse().unwrap())).collect(),
            envid: None,
            ret: None,
            smtputf8: false,
            eight_bit: false,
        };
        let content = Bytes::from_static(b"From: sender@ours.example\r\nSubject: hello\r\n\r\nbody\r\n");
        let (_, spool, _) = self.running.as_ref().unwrap();
        spool.commit(QueueId::from_bits(id), envelope, content).await.unwrap().id()
    }

    async fn idle(&self) -> Option<Timestamp> {
        let (queue, ..) = self.running.as_ref().unwrap();
        tokio::time::timeout(PATIENCE, queue.idle()).await.expect("the queue comes to rest").unwrap()
    }

    async fn states(&self, id: QueueId) -> Vec<State> {
        let (queue, ..) = self.running.as_ref().unwrap();
        let rows = match queue.show(id).await.unwrap() {
            Trace::Queued(shown) => shown.recipients,
            Trace::Finished(finished) => finished.recipients,
            Trace::Unknown => panic!("{id} is unknown"),
        };
        rows.into_iter().map(|row| row.state).collect()
    }
}

#[tokio::test]
async fn greylisted_mail_gets_through_after_a_restart_of_ours() {
    let mx = fake(&[("RCPT", Play::Say("451 4.7.1 greylisted")), ("RCPT", Play::Say("250 ok"))]);
    let mut house = House::new(mx.port);
    let id = house.commit(7, &["a@b.example"]).await;
    let next = house.idle().await.expect("a second attempt is planned");
    assert_eq!(next.since(house.clock.now()), Duration::from_secs(300));
    house.restart().await;
    assert_eq!(house.idle().await, Some(next), "the restart does not hurry");
    assert_eq!(mx.sessions(), 1);
    house.clock.advance(Duration::from_secs(300));
    assert_eq!(house.idle().await, None);
    assert_eq!(house.states(id).await, [State::Relayed]);
    assert_eq!(mx.sessions(), 2);
}

#[tokio::test]
async fn a_refusal_comes_back_to_the_senders_inbox_as_a_dsn() {
    let mx = fake(&[("RCPT TO:<no@", Play::Say("550 5.1.1 no such user\u{7}"))]);
    let house = House::new(mx.port);
    let id = house.commit(7, &["yes@b.example", "no@b.example"]).await;
    assert_eq!(house.idle().await, None);
    assert_eq!(house.states(id).await, [State::Relayed, State::Failed]);
    let inbox = messages(&house.maildir());
    assert_eq!(inbox.len(), 1);
    let message = MessageParser::default().parse(inbox[0].as_bytes()).unwrap();
    assert_eq!(message.header_raw("Return-Path").unwrap().trim(), "<>");
    assert_eq!(message.content_type().unwrap().attribute("report-type"), Some("delivery-status"));
    assert!(inbox[0].contains("Final-Recipient: rfc822; no@b.example"));
    assert!(inbox[0].contains("Diagnostic-Code: smtp; 550 5.1.1 no such user?"));
    assert!(!inbox[0].contains("yes@b.example"));
}

#[tokio::test]
async fn a_connection_dropped_after_the_final_dot_is_tried_again() {
    let mx = fake(&[(".", Play::Close), (".", Play::Say("250 taken"))]);
    let house = House::new(mx.port);
    let id = house.commit(7, &["a@b.example"]).await;
    assert!(house.idle().await.is_some());
    assert_eq!(house.states(id).await, [State::Queued]);
    house.clock.advance(Duration::from_secs(300));
    assert_eq!(house.idle().await, None);
    assert_eq!(house.states(id).await, [State::Relayed]);
    assert_eq!(mx.heard().iter().filter(|line| *line == ".").count(), 2);
}

#[tokio::test]
async fn a_dead_host_is_tried_for_five_days_and_then_reported() {
    // Bound but not listening: refuses, and nobody else gets the port.
    let reserved = tokio::net::TcpSocket::new_v4().unwrap();
    reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let dead = reserved.local_addr().unwrap().port();
    let house = House::new(dead);
    let id = house.commit(7, &["a@b.example"]).await;
    let start = house.clock.now();
    while let Some(next) = house.idle().await {
        house.clock.advance(next.since(house.clock.now()));
    }
    assert_eq!(house.states(id).await, [State::Expired]);
    assert_eq!(house.clock.now().since(start), Duration::from_secs(5 * 86_400));
    let inbox = messages(&house.maildir());
    assert_eq!(inbox.len(), 2, "one delay, one failure");
    assert_eq!(inbox.iter().filter(|text| text.contains("Action: failed")).count(), 1);
    assert_eq!(inbox.iter().filter(|text| text.contains("Action: delayed")).count(), 1);
}
