use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use futures_util::future::BoxFuture;
use mailgate_model::{Domain, ForwardPath, Host, ManualClock, ReversePath, Timestamp};
use mailgate_queue::{Destination, Route};
use mailgate_store::spool::Trace;

use super::*;
use crate::{Config, Routes, StaticRoute};

#[derive(Default)]
pub(crate) struct Table(pub(crate) Mutex<HashMap<String, Found>>);

impl Directory for Table {
    fn is_local<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<bool, String>> {
        Box::pin(async move {
            match domain.as_str() {
                "broken.example" => Err("the disk is gone".to_owned()),
                domain => Ok(domain == "ours.example"),
            }
        })
    }
    fn find<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, Result<Found, String>> {
        Box::pin(async move {
            if address.local().as_str() == "broken" {
                return Err("the disk is gone".to_owned());
            }
            Ok(self.0.lock().unwrap().get(&address.to_string()).cloned().unwrap_or(Found::Nobody))
        })
    }
}

struct Bench {
    dir: tempfile::TempDir,
    agent: LocalAgent,
    spool: Spool,
}

fn bench(entries: &[(&str, Found)]) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_secs(1_700_000_000)));
    let spool = Spool::open(dir.path().join("spool"), Arc::clone(&clock)).unwrap();
    let mailboxes =
        Mailboxes::open(&dir.path().join("state"), &"mx.ours.example".parse().unwrap(), Arc::clone(&clock))
            .unwrap();
    let place = |found: &Found| match found {
        Found::Account(relative) => Found::Account(dir.path().join(relative)),
        other => other.clone(),
    };
    let entries = entries.iter().map(|(address, found)| ((*address).to_owned(), place(found))).collect();
    let directory = Arc::new(Table(Mutex::new(entries)));
    let agent = LocalAgent::new(
        directory,
        mailboxes,
        spool.clone(),
        Arc::new(IdGenerator::new(5)),
        Arc::clone(&clock),
    );
    Bench { dir, agent, spool }
}

fn account(name: &str) -> Found {
    Found::Account(PathBuf::from(name))
}

fn attempt(to: &[&str], content: &str) -> Attempt {
    Attempt {
        id: QueueId::from_bits(77),
        number: 0,
        envelope: Envelope {
            reverse_path: ReversePath::Address("from@b.example".parse().unwrap()),
            recipients: to.iter().map(|to| Recipient::plain(to.parse().unwrap())).collect(),
            envid: None,
            ret: None,
            smtputf8: false,
            eight_bit: false,
        },
        indices: (0..).take(to.len()).collect(),
        content: Bytes::copy_from_slice(content.as_bytes()),
    }
}

async fn tried(bench: &Bench, attempt: Attempt) -> Vec<Outcome> {
    let mut answers = bench.agent.attempt(attempt).await;
    answers.sort_by_key(|answer| answer.index);
    answers.into_iter().map(|answer| answer.outcome).collect()
}

pub(crate) fn messages(maildir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(maildir.join("new")) else { return Vec::new() };
    entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
}

fn status(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Deferred { status, .. } | Outcome::Failed { status, .. } => status.to_string(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn accounts_get_the_message_with_its_trace_once_however_often_it_is_tried() {
    let bench = bench(&[("a@ours.example", account("a")), ("b@ours.example", account("b"))]);
    let message = attempt(&["a@ours.example", "b@ours.example"], "Subject: x\r\n\r\nbody\r\n");
    for _ in 0..2 {
        assert_eq!(tried(&bench, message.clone()).await, [Outcome::Delivered, Outcome::Delivered]);
    }
    for name in ["a", "b"] {
        let messages = messages(&bench.dir.path().join(name));
        assert_eq!(messages.len(), 1);
        let unified = messages[0].replace("\r\n", "\n");
        let want =
            format!("Return-Path: <from@b.example>\nDelivered-To: {name}@ours.example\nSubject: x\n\nbody\n");
        assert_eq!(unified, want);
    }
}

#[tokio::test]
async fn the_null_reverse_path_is_written_as_such() {
    let bench = bench(&[("a@ours.example", account("a"))]);
    let mut message = attempt(&["a@ours.example"], "\r\nbody\r\n");
    message.envelope.reverse_path = ReversePath::Null;
    tried(&bench, message).await;
    assert!(messages(&bench.dir.path().join("a"))[0].starts_with("Return-Path: <>"));
}

#[tokio::test]
async fn nobody_loops_and_failures_have_their_outcomes() {
    let bench = bench(&[("a@ours.example", account("a")), ("full@ours.example", account("file/below"))]);
    std::fs::write(bench.dir.path().join("file"), "not a folder").unwrap();
    let looping = "Received: x\r\nDELIVERED-TO:  A@ours.example \r\n\r\nbody\r\n";
    let outcomes = tried(
        &bench,
        attempt(
            &["a@ours.example", "nobody@ours.example", "broken@ours.example", "full@ours.example"],
            looping,
        ),
    )
    .await;
    let words: Vec<_> = outcomes.iter().map(status).collect();
    assert_eq!(words, ["5.4.6", "5.1.1", "4.3.0", "4.3.0"]);
    for outcome in &outcomes {
        let (Outcome::Failed { detail, .. } | Outcome::Deferred { detail, .. }) = outcome else { panic!() };
        assert!(!detail.contains("disk") && !detail.contains('/'), "{detail}");
    }
    // Only in the header section it means anything.
    let quoted = attempt(&["a@ours.example"], "Subject: x\r\n\r\nDelivered-To: a@ours.example\r\n");
    assert_eq!(tried(&bench, quoted).await, [Outcome::Delivered]);
}

#[tokio::test]
async fn an_alias_is_committed_anew_for_whom_it_leads_to() {
    let targets = vec!["a@ours.example".parse().unwrap(), "x@elsewhere.example".parse().unwrap()];
    let bench = bench(&[("team@ours.example", Found::Elsewhere(targets.clone()))]);
    let mut message = attempt(&["team@ours.example"], "Subject: x\r\n\r\nbody\r\n");
    message.envelope.recipients[0].notify = DsnNotify { success: true, failure: true, delay: false };
    assert_eq!(tried(&bench, message).await, [Outcome::Delivered]);
    let listed = bench.spool.list(10, None).await.unwrap();
    assert_eq!(listed.len(), 1);
    let Trace::Queued(shown) = bench.spool.trace(listed[0].id).await.unwrap() else { panic!("not queued") };
    assert_eq!(shown.reverse_path.to_string(), "from@b.example");
    let to: Vec<_> = shown.recipients.iter().map(|row| row.recipient.address.clone()).collect();
    assert_eq!(to, targets);
    for row in &shown.recipients {
        assert_eq!(row.recipient.original, ForwardPath::Address("team@ours.example".parse().unwrap()));
        assert_eq!(row.recipient.notify, DsnNotify { success: false, failure: true, delay: false });
    }
    let content = bench.spool.content(shown.id).await.unwrap().unwrap();
    assert!(content.starts_with(b"Delivered-To: team@ours.example\r\nSubject: x"));
    // An alias that leads back to itself ends there.
    let again = String::from_utf8(content.to_vec()).unwrap();
    let outcomes = tried(&bench, attempt(&["team@ours.example"], &again)).await;
    assert_eq!(status(&outcomes[0]), "5.4.6");
}

#[tokio::test]
async fn hosts_lead_home_to_static_hops_or_into_the_world() {
    let route = StaticRoute {
        domain: ".fixed.example".to_owned().try_into().unwrap(),
        host: "relay.example".to_owned(),
        port: 2525,
    };
    let config = Config { route: vec![route], ..Config::default() };
    let routes = Routes::new(Arc::new(Table::default()), config);
    for (host, want) in [
        ("ours.example", Destination::Local),
        ("x.fixed.example", Destination::Via("relay.example:2525".to_owned())),
        ("b.example", Destination::Remote(Host::parse("b.example").unwrap())),
        ("[192.0.2.1]", Destination::Remote(Host::parse("[192.0.2.1]").unwrap())),
    ] {
        assert_eq!(routes.route(&Host::parse(host).unwrap()).await, Ok(want), "{host}");
    }
    let broken = routes.route(&Host::parse("broken.example").unwrap()).await;
    assert_eq!(status(&broken.unwrap_err()), "4.3.0");
}
