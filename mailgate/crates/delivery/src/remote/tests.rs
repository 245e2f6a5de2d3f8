//! A remote MTA on loopback that plays what is written down for it.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use mailgate_model::{
    Address, DsnNotify, DsnReturn, Envelope, ManualClock, QueueId, Recipient, ReversePath, Timestamp,
};
use mailgate_net::{LookupError, Mx, Stream, Tls, TlsConfig};
use mailgate_queue::DsnDuty;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::{Loopback, StaticRoute, TlsPolicy};

const PATIENCE: Duration = Duration::from_secs(20);
const CONTENT: &str = "Subject: x\r\n\r\n.dot\r\nbody\r\n";

/// What the server does when a line comes.
#[derive(Clone)]
pub(crate) enum Play {
    /// Sends this (CRLF is added to each line).
    Say(&'static str),
    /// Says this, then closes.
    SayAndClose(&'static str),
    /// Closes without a word.
    Close,
    /// Says nothing and keeps the connection.
    Silence,
}
use Play::{Close, Say, SayAndClose, Silence};

/// A server: the answers to the beginnings of commands, tried in order; each is used once unless it is the last of its
/// kind. `""` is the greeting, `"."` the end of the content.
pub(crate) struct Fake {
    pub(crate) port: u16,
    heard: Arc<Mutex<Vec<String>>>,
    sessions: Arc<Mutex<usize>>,
}

const EHLO: (&str, Play) =
    ("EHLO", Say("250-fake.example\n250-PIPELINING\n250-8BITMIME\n250-SIZE 1000\n250 DSN"));

pub(crate) fn fake(script: &[(&'static str, Play)]) -> Fake {
    fake_with(script, None)
}

fn fake_with(script: &[(&'static str, Play)], tls: Option<Tls>) -> Fake {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut plays: HashMap<&'static str, std::collections::VecDeque<Play>> = HashMap::new();
    for (line, play) in script {
        plays.entry(line).or_default().push_back(play.clone());
    }
    for (line, play) in [
        ("", Say("220 fake.example")),
        EHLO,
        ("HELO", Say("250 fake.example")),
        ("MAIL", Say("250 2.1.0 ok")),
        ("RCPT", Say("250 2.1.5 ok")),
        ("DATA", Say("354 go on")),
        (".", Say("250 2.0.0 taken")),
        ("RSET", Say("250 ok")),
        ("QUIT", SayAndClose("221 bye")),
        ("STARTTLS", Say("220 go on")),
    ] {
        plays.entry(line).or_default().extend(plays_none(&plays_of(script, line), play));
    }
    let plays = Arc::new(Mutex::new(plays));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sessions = Arc::new(Mutex::new(0));
    let fake = Fake { port, heard: Arc::clone(&heard), sessions: Arc::clone(&sessions) };
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            *sessions.lock().unwrap() += 1;
            let (plays, heard, tls) = (Arc::clone(&plays), Arc::clone(&heard), tls.clone());
            tokio::spawn(async move {
                // The peer may be gone at any time; what it did is in `heard`.
                let _ = serve(Stream::Plain(tcp), &plays, &heard, tls).await;
            });
        }
    });
    fake
}

fn plays_of(script: &[(&'static str, Play)], line: &str) -> Vec<Play> {
    script.iter().filter(|(other, _)| *other == line).map(|(_, play)| play.clone()).collect()
}

/// The usual answer, when nothing else was written down.
fn plays_none(written: &[Play], usual: Play) -> Option<Play> {
    written.is_empty().then_some(usual)
}

type Plays = Mutex<HashMap<&'static str, std::collections::VecDeque<Play>>>;

fn next_play(plays: &Plays, line: &str) -> Play {
    let mut plays = plays.lock().unwrap();
    // The longest beginning that fits, so that `RCPT TO:<a` can differ from `RCPT`.
    let key = plays
        .keys()
        .filter(|key| line.starts_with(**key) && (key.is_empty() == line.is_empty()))
        .max_by_key(|key| key.len());
    let Some(key) = key.copied() else { return Say("500 what?") };
    let queue = plays.get_mut(key).unwrap();
    if queue.len() > 1 { queue.pop_front().unwrap() } else { queue[0].clone() }
}

async fn serve(
    stream: Stream,
    plays: &Plays,
    heard: &Mutex<Vec<String>>,
    tls: Option<Tls>,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut in_content = false;
    loop {
        let play = if in_content && line != "." { None } else { Some(next_play(plays, &line)) };
        match play {
            None => {}
            Some(Say(text)) => {
                in_content = text.starts_with("354");
                stream.write_all((text.replace('\n', "\r\n") + "\r\n").as_bytes()).await?;
                stream.flush().await?;
                if let Some(tls) = tls.as_ref().filter(|_| line == "STARTTLS") {
                    let Stream::Plain(tcp) = stream.into_inner() else { panic!("TLS inside TLS") };
                    stream = BufReader::new(tls.accept(tcp).await?);
                    heard
                        .lock()
                        .unwrap()
                        .push(format!("TLS {}", stream.get_ref().tls_facts().unwrap().version));
                }
            }
            Some(SayAndClose(text)) => {
                stream.write_all((text.to_owned() + "\r\n").as_bytes()).await?;
                return stream.shutdown().await;
            }
            Some(Close) => return Ok(()),
            Some(Silence) => std::future::pending().await,
        }
        let mut raw = Vec::new();
        if stream.read_until(b'\n', &mut raw).await? == 0 {
            return Ok(());
        }
        line = String::from_utf8_lossy(&raw).trim_end().to_owned();
        heard.lock().unwrap().push(line.clone());
    }
}

impl Fake {
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    pub(crate) fn sessions(&self) -> usize {
        *self.sessions.lock().unwrap()
    }
}

#[derive(Default)]
pub(crate) struct Table(HashMap<String, Vec<IpAddr>>);

impl Names for Table {
    fn mx<'a>(&'a self, _: &'a Domain) -> BoxFuture<'a, Result<Vec<Mx>, LookupError>> {
        let exchanges = self.0.keys().cloned().zip(1..);
        let mut exchanges: Vec<_> = exchanges.map(|(host, preference)| Mx { preference, host }).collect();
        exchanges.sort_by(|a, b| a.host.cmp(&b.host));
        for (preference, exchange) in (1..).zip(&mut exchanges) {
            exchange.preference = preference;
        }
        async { Ok(exchanges) }.boxed()
    }
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>> {
        async move { self.0.get(host).cloned().ok_or(LookupError::NotFound) }.boxed()
    }
}

/// A handshake that always fails, as with a peer whose TLS is broken.
pub(crate) struct NoTls;

impl Encrypt for NoTls {
    fn connect<'a>(&'a self, tcp: TcpStream, _: &'a str) -> BoxFuture<'a, io::Result<Stream>> {
        async {
            drop(tcp);
            Err(io::Error::other("handshake failed"))
        }
        .boxed()
    }
}

fn agent(port: u16, change: impl FnOnce(&mut Config)) -> RemoteAgent {
    let route = StaticRoute { domain: "*".to_owned().try_into().unwrap(), host: "127.0.0.1".into(), port };
    let mut config = Config { route: vec![route], ..Config::default() };
    change(&mut config);
    let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
    RemoteAgent::new(
        config,
        "us.example".parse().unwrap(),
        Arc::new(Table::default()),
        Arc::new(NoTls),
        Arc::new(clock),
    )
}

fn attempt(to: &[&str]) -> Attempt {
    Attempt {
        id: QueueId::from_bits(7),
        number: 0,
        envelope: Envelope {
            reverse_path: ReversePath::Address("from@us.example".parse().unwrap()),
            recipients: to.iter().map(|to| Recipient::plain(Address::parse(to).unwrap())).collect(),
            envid: None,
            ret: None,
            smtputf8: false,
            eight_bit: false,
        },
        indices: (10..).take(to.len()).collect(),
        content: Bytes::from_static(CONTENT.as_bytes()),
    }
}

async fn tried(agent: &RemoteAgent, attempt: Attempt) -> Vec<Outcome> {
    let indices = attempt.indices.clone();
    let mut answers = tokio::time::timeout(PATIENCE, agent.attempt(attempt)).await.expect("an attempt ends");
    answers.sort_by_key(|answer| answer.index);
    assert_eq!(answers.iter().map(|answer| answer.index).collect::<Vec<_>>(), indices, "one answer for each");
    answers.into_iter().map(|answer| answer.outcome).collect()
}

/// `relayed`, `deferred 4.x.y` or `failed 5.x.y`.
fn words(outcomes: &[Outcome]) -> Vec<String> {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Relayed { .. } => "relayed".to_owned(),
        Outcome::Deferred { status, .. } => format!("deferred {status}"),
        Outcome::Failed { status, .. } => format!("failed {status}"),
        Outcome::Delivered => "delivered".to_owned(),
    };
    outcomes.iter().map(word).collect()
}

#[tokio::test]
async fn a_message_for_many_goes_in_one_transaction_with_dots_doubled() {
    let fake = fake(&[]);
    let outcomes = tried(&agent(fake.port, |_| ()), attempt(&["a@b.example", "c@d.example"])).await;
    assert_eq!(words(&outcomes), ["relayed", "relayed"]);
    let Outcome::Relayed { remote, detail } = &outcomes[0] else { panic!() };
    assert_eq!(*remote, format!("127.0.0.1[127.0.0.1]:{}", fake.port));
    assert_eq!(detail, "250 2.0.0 taken");
    assert_eq!(
        fake.heard(),
        [
            "EHLO us.example",
            "MAIL FROM:<from@us.example> SIZE=26",
            "RCPT TO:<a@b.example>",
            "RCPT TO:<c@d.example>",
            "DATA",
            "Subject: x",
            "",
            "..dot",
            "body",
            ".",
            "QUIT"
        ]
    );
}

#[tokio::test]
async fn greylisting_defers_and_the_next_attempt_gets_through() {
    let fake = fake(&[("RCPT", Say("451 4.7.1 try again later")), ("RCPT", Say("250 ok"))]);
    let agent = agent(fake.port, |_| ());
    assert_eq!(words(&tried(&agent, attempt(&["a@b.example"])).await), ["deferred 4.7.1"]);
    assert!(fake.heard().contains(&"RSET".to_owned()), "a refused transaction is left cleanly");
    assert_eq!(words(&tried(&agent, attempt(&["a@b.example"])).await), ["relayed"]);
    assert_eq!(fake.sessions(), 2, "the other hosts are not pestered in the same attempt");
}

#[tokio::test]
async fn each_recipient_has_the_outcome_of_its_own_reply() {
    let fake = fake(&[
        ("RCPT TO:<no@", Say("550 5.1.1 unknown")),
        ("RCPT TO:<later@", Say("450 busy")),
        ("RCPT TO:<bare@", Say("553 no status here")),
    ]);
    let to = ["yes@b.example", "no@b.example", "later@b.example", "bare@b.example"];
    let outcomes = tried(&agent(fake.port, |_| ()), attempt(&to)).await;
    assert_eq!(words(&outcomes), ["relayed", "failed 5.1.1", "deferred 4.0.0", "failed 5.0.0"]);
    let Outcome::Failed { detail, .. } = &outcomes[1] else { panic!() };
    assert_eq!(detail, "550 5.1.1 unknown");
}

#[tokio::test]
async fn refusals_of_mail_data_and_content_reach_everybody_accepted_so_far() {
    for (script, want) in [
        (("MAIL", Say("550 5.7.1 not you")), "failed 5.7.1"),
        (("MAIL", Say("451 4.3.0 no")), "deferred 4.3.0"),
        (("DATA", Say("554 5.5.1 no")), "failed 5.5.1"),
        ((".", Say("554 5.7.1 spam")), "failed 5.7.1"),
        ((".", Say("452 4.3.1 full")), "deferred 4.3.1"),
        (("DATA", Say("250 out of step")), "deferred 4.5.0"),
    ] {
        let fake = fake(&[script]);
        let outcomes = tried(&agent(fake.port, |_| ()), attempt(&["a@b.example", "c@b.example"])).await;
        assert_eq!(words(&outcomes), [want, want]);
    }
}

#[tokio::test]
async fn too_many_recipients_go_on_in_the_next_transaction() {
    let fake = fake(&[
        ("RCPT", Say("250 ok")),
        ("RCPT", Say("250 ok")),
        ("RCPT", Say("452 4.5.3 too many")),
        ("RCPT", Say("552 too many")),
        ("RCPT", Say("250 ok")),
    ]);
    let to = ["a@b.example", "b@b.example", "c@b.example", "d@b.example"];
    let outcomes = tried(&agent(fake.port, |_| ()), attempt(&to)).await;
    assert_eq!(words(&outcomes), ["relayed"; 4]);
    assert_eq!(fake.heard().iter().filter(|line| line.starts_with("MAIL")).count(), 2);
    assert_eq!(fake.sessions(), 1);
}

#[tokio::test]
async fn a_connection_lost_after_the_final_dot_is_deferred_never_failed_or_relayed() {
    for play in [Close, SayAndClose("25"), SayAndClose("garbage")] {
        let fake = fake(&[(".", play)]);
        let outcomes = tried(&agent(fake.port, |_| ()), attempt(&["a@b.example"])).await;
        assert_eq!(words(&outcomes), ["deferred 4.4.2"]);
        assert!(fake.heard().contains(&".".to_owned()));
    }
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_left_after_its_time() {
    for (line, limit) in [("", 300), ("EHLO", 300), ("MAIL", 300), ("DATA", 120), (".", 600)] {
        let fake = fake(&[(line, Silence)]);
        let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
        let RemoteAgent(inner) = agent(fake.port, |_| ());
        let agent = RemoteAgent::new(
            inner.config.clone(),
            inner.hostname.clone(),
            Arc::clone(&inner.names),
            Arc::clone(&inner.encrypt),
            Arc::new(clock.clone()),
        );
        let start = clock.now();
        let trying = tokio::spawn(async move { tried(&agent, attempt(&["a@b.example"])).await });
        let waiting = async {
            // Time stands still until the silence has begun.
            while fake.sessions() == 0
                || !(line.is_empty() || fake.heard().iter().any(|l| l.starts_with(line)))
            {
                tokio::task::yield_now().await;
            }
            while !trying.is_finished() {
                clock.advance(Duration::from_millis(500));
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the limit ends it");
        assert_eq!(words(&trying.await.unwrap()), ["deferred 4.4.2"], "{line}");
        assert!(clock.now().since(start) >= Duration::from_secs(limit), "{line}");
    }
}

#[tokio::test]
async fn old_servers_get_helo_and_one_command_at_a_time() {
    let fake = fake(&[("EHLO", Say("500 what?"))]);
    let outcomes = tried(&agent(fake.port, |_| ()), attempt(&["a@b.example", "c@b.example"])).await;
    assert_eq!(words(&outcomes), ["relayed", "relayed"]);
    assert!(fake.heard().contains(&"MAIL FROM:<from@us.example>".to_owned()), "no parameters");
}

#[tokio::test]
async fn broken_starttls_falls_back_to_a_new_connection_in_the_clear_unless_required() {
    const OFFER: (&str, Play) = ("EHLO", Say("250-fake.example\n250 STARTTLS"));
    let opportunistic = fake(&[OFFER]);
    let outcomes = tried(&agent(opportunistic.port, |_| ()), attempt(&["a@b.example"])).await;
    assert_eq!(words(&outcomes), ["relayed"]);
    assert_eq!(opportunistic.sessions(), 2);
    let heard = opportunistic.heard();
    assert_eq!(heard.iter().filter(|line| *line == "STARTTLS").count(), 1);

    let refused = fake(&[OFFER, ("STARTTLS", Say("454 not now"))]);
    assert_eq!(words(&tried(&agent(refused.port, |_| ()), attempt(&["a@b.example"])).await), ["relayed"]);
    assert_eq!(refused.sessions(), 1);

    let required = fake(&[OFFER]);
    let strict = agent(required.port, |config| config.tls = TlsPolicy::Require);
    assert_eq!(words(&tried(&strict, attempt(&["a@b.example"])).await), ["deferred 4.7.10"]);
    assert!(!required.heard().iter().any(|line| line.starts_with("MAIL")));

    let never = fake(&[OFFER]);
    let plain = agent(never.port, |config| config.tls = TlsPolicy::Never);
    assert_eq!(words(&tried(&plain, attempt(&["a@b.example"])).await), ["relayed"]);
    assert!(!never.heard().contains(&"STARTTLS".to_owned()));
}

#[tokio::test]
async fn working_starttls_is_used_and_what_was_offered_in_the_clear_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let tls = Tls::open(&TlsConfig::default(), dir.path(), &"fake.example".parse().unwrap()).unwrap();
    let fake = fake_with(
        &[
            ("EHLO", Say("250-fake.example\n250-SIZE 10\n250 STARTTLS")),
            ("EHLO", Say("250-fake.example\n250 8BITMIME")),
        ],
        Some(tls.clone()),
    );
    let RemoteAgent(inner) = agent(fake.port, |config| config.tls = TlsPolicy::Require);
    let (config, own) = (inner.config.clone(), inner.hostname.clone());
    let agent =
        RemoteAgent::new(config, own, Arc::clone(&inner.names), Arc::new(tls), Arc::clone(&inner.clock));
    assert_eq!(words(&tried(&agent, attempt(&["a@b.example"])).await), ["relayed"]);
    assert_eq!(
        fake.heard()[..5],
        ["EHLO us.example", "STARTTLS", "TLS TLSv1.3", "EHLO us.example", "MAIL FROM:<from@us.example>"]
    );
    assert_eq!(fake.sessions(), 1);
}

/// Postfix's own sink, when it is installed: a peer that we did not write.
#[tokio::test]
async fn smtp_sink_of_postfix_takes_our_messages() {
    let Some(sink) = ["/usr/sbin/smtp-sink", "/usr/bin/smtp-sink"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
    else {
        println!("skipped: smtp-sink is not installed");
        return;
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(sink);
    command.kill_on_drop(true).current_dir(dir.path());
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        // As root it wants to become somebody else, who must be able to write here.
        command.args(["-u", "nobody"]);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let mut child =
        command.args(["-d", "m.", &format!("127.0.0.1:{port}"), "100"]).spawn().expect("smtp-sink starts");
    let listening = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(child.try_wait().unwrap().is_none(), "smtp-sink ended");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, listening).await.expect("smtp-sink listens");
    let agent = agent(port, |_| ());
    for _ in 0..20 {
        let outcomes = tried(&agent, attempt(&["a@b.example", "c@d.example"])).await;
        assert_eq!(words(&outcomes), ["relayed", "relayed"]);
    }
    child.kill().await.unwrap();
    let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let stored = std::fs::read_to_string(file).unwrap();
    assert!(stored.contains("\n.dot\n") || stored.contains("\n.dot\r\n"), "{stored}");
}

#[tokio::test]
async fn bytes_that_come_with_the_go_ahead_of_starttls_are_not_believed() {
    let fake = fake(&[
        ("EHLO", Say("250-fake.example\n250 STARTTLS")),
        ("STARTTLS", Say("220 go on\n250-evil\n250 AUTH PLAIN")),
    ]);
    let strict = agent(fake.port, |config| config.tls = TlsPolicy::Require);
    let outcomes = tried(&strict, attempt(&["a@b.example"])).await;
    assert_eq!(words(&outcomes), ["deferred 4.7.10"]);
}

#[tokio::test]
async fn dsn_wishes_go_on_where_they_are_understood() {
    let fake = fake(&[]);
    let mut asked = attempt(&["a@b.example", "c@b.example"]);
    asked.envelope.envid = Some("QQ+3D".to_owned());
    asked.envelope.ret = Some(DsnReturn::Headers);
    asked.envelope.recipients[0].notify = DsnNotify { success: true, failure: true, delay: false };
    asked.envelope.recipients[0].orcpt = Some("rfc822;a@b.example".to_owned());
    asked.envelope.recipients[1].notify = DsnNotify { success: false, failure: false, delay: false };
    // What somebody smuggled into the spool does not become a command.
    asked.envelope.recipients[1].orcpt = Some("rfc822;x\r\nRSET".to_owned());
    let answers = agent(fake.port, |_| ()).attempt(asked.clone()).await;
    assert!(answers.iter().all(|answer| answer.duty == DsnDuty::PassedOn));
    let heard = fake.heard();
    assert_eq!(heard[1], "MAIL FROM:<from@us.example> SIZE=26 RET=HDRS ENVID=QQ+3D");
    assert_eq!(heard[2], "RCPT TO:<a@b.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a@b.example");
    assert_eq!(heard[3], "RCPT TO:<c@b.example> NOTIFY=NEVER");

    let deaf = self::fake(&[("EHLO", Say("250 fake.example"))]);
    let answers = agent(deaf.port, |_| ()).attempt(asked).await;
    assert!(answers.iter().all(|answer| answer.duty == DsnDuty::Ours));
    assert_eq!(deaf.heard()[2], "RCPT TO:<a@b.example>");
}

#[tokio::test]
async fn what_the_peer_cannot_take_fails_before_it_is_sent() {
    let fake = fake(&[("EHLO", Say("250-fake.example\n250 SIZE 20"))]);
    assert_eq!(words(&tried(&agent(fake.port, |_| ()), attempt(&["a@b.example"])).await), ["failed 5.3.4"]);

    let fake = self::fake(&[]);
    let outcomes = tried(&agent(fake.port, |_| ()), attempt(&["ü@b.example", "a@b.example"])).await;
    assert_eq!(words(&outcomes), ["failed 5.6.7", "relayed"]);

    let capable = self::fake(&[("EHLO", Say("250-fake.example\n250-8BITMIME\n250 SMTPUTF8"))]);
    let mut message = attempt(&["ü@b.example"]);
    message.content = Bytes::from_static("Subject: ü\r\n\r\nü\r\n".as_bytes());
    assert_eq!(words(&tried(&agent(capable.port, |_| ()), message).await), ["relayed"]);
    assert_eq!(capable.heard()[1], "MAIL FROM:<from@us.example> BODY=8BITMIME SMTPUTF8");
}

#[tokio::test]
async fn hundreds_of_recipients_are_pipelined_without_a_deadlock() {
    let fake = fake(&[]);
    let to: Vec<_> = (0..500).map(|n| format!("user-with-a-long-name-{n}@b.example")).collect();
    let outcomes =
        tried(&agent(fake.port, |_| ()), attempt(&to.iter().map(String::as_str).collect::<Vec<_>>())).await;
    assert_eq!(words(&outcomes), vec!["relayed"; 500]);
}

#[tokio::test]
async fn replies_without_end_are_cut_off() {
    let endless: &'static str = Box::leak("250-x\n".repeat(5000).into_boxed_str());
    let long: &'static str = Box::leak(format!("250 {}", "x".repeat(100_000)).into_boxed_str());
    for text in [endless, long, "250-a\n550 b", "hello", "999 x"] {
        let fake = fake(&[("EHLO", Say(text))]);
        let outcomes = tried(&agent(fake.port, |_| ()), attempt(&["a@b.example"])).await;
        assert!(matches!(outcomes[0], Outcome::Deferred { .. }), "{:?}", words(&outcomes));
    }
}

#[tokio::test]
async fn the_next_host_is_asked_when_one_cannot_be_used() {
    // Two hosts with addresses of loopback; nobody listens at the first.
    for first in ["127.0.0.2", "127.0.0.3"] {
        let fake = fake(&[]);
        let busy;
        if first == "127.0.0.3" {
            busy = TcpListener::bind(("127.0.0.3", fake.port)).await.unwrap();
            tokio::spawn(async move {
                while let Ok((mut tcp, _)) = busy.accept().await {
                    tcp.write_all(b"554 5.3.2 no service\r\n").await.unwrap();
                }
            });
        }
        let table = Table(HashMap::from([
            ("mx1.b.example".to_owned(), vec![first.parse().unwrap()]),
            ("mx2.b.example".to_owned(), vec!["127.0.0.1".parse().unwrap()]),
        ]));
        let config = Config { loopback: Loopback::Allow, port: fake.port, ..Config::default() };
        let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
        let own = "us.example".parse().unwrap();
        let agent = RemoteAgent::new(config, own, Arc::new(table), Arc::new(NoTls), Arc::new(clock));
        let outcomes = tried(&agent, attempt(&["a@b.example"])).await;
        let Outcome::Relayed { remote, .. } = &outcomes[0] else { panic!("{outcomes:?}") };
        assert!(remote.starts_with("mx2.b.example[127.0.0.1]"), "{remote}");
    }
}

#[tokio::test]
async fn nobody_listening_is_transient_and_a_refusing_greeting_of_all_is_permanent() {
    // Bound but not listening: refuses, and nobody else gets the port.
    let reserved = tokio::net::TcpSocket::new_v4().unwrap();
    reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = reserved.local_addr().unwrap().port();
    assert_eq!(words(&tried(&agent(closed, |_| ()), attempt(&["a@b.example"])).await), ["deferred 4.4.1"]);
    let fake = fake(&[("", SayAndClose("554 5.7.1 not from you"))]);
    assert_eq!(words(&tried(&agent(fake.port, |_| ()), attempt(&["a@b.example"])).await), ["failed 5.7.1"]);
}

#[tokio::test]
async fn a_record_that_leads_back_to_us_makes_no_loop() {
    let fake = fake(&[]);
    let table = Table(HashMap::from([("mx.b.example".to_owned(), vec!["127.0.0.1".parse().unwrap()])]));
    let config = Config { port: fake.port, ..Config::default() };
    let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
    let own = "us.example".parse().unwrap();
    let agent = RemoteAgent::new(config, own, Arc::new(table), Arc::new(NoTls), Arc::new(clock));
    assert_eq!(words(&tried(&agent, attempt(&["a@b.example"])).await), ["failed 5.4.6"]);
    assert_eq!(fake.sessions(), 0);
}

#[tokio::test]
async fn a_message_in_circles_fails() {
    let fake = fake(&[]);
    let mut message = attempt(&["a@b.example"]);
    message.content = ("Received: x\r\n".repeat(HOP_LIMIT + 1) + "\r\n").into();
    assert_eq!(words(&tried(&agent(fake.port, |_| ()), message).await), ["failed 5.4.6"]);
    assert_eq!(fake.sessions(), 0);
}

#[tokio::test]
async fn remote_text_is_one_bounded_line() {
    let text: &'static str =
        Box::leak(format!("550-5.1.1 a\tb\n550 5.1.1 {}", "y".repeat(1500)).into_boxed_str());
    let fake = fake(&[("RCPT", Say(text))]);
    let outcomes = tried(&agent(fake.port, |_| ()), attempt(&["a@b.example"])).await;
    let Outcome::Failed { detail, .. } = &outcomes[0] else { panic!("{outcomes:?}") };
    assert!(detail.len() <= 500 && !detail.chars().any(char::is_control), "{detail}");
}
