//! Mode `selective`, on the wire.

use mailgate_lists::Action;
use mailgate_model::{Client, Span};

use super::world::{MINUTE, Peer, SECOND, World};
use crate::config::{Config, Mode};
use crate::suspicion::Spf;
use crate::{Reason, Supposed};

const FROM: &str = "a@sender.example";
const TO: &str = "b@example.org";

fn selective(config: &mut Config) {
    config.mode = Mode::Selective;
    // Tests of it say so.
    config.suspicion.silence = Span::from_secs(0);
}

/// A server of which nothing bad is known.
fn server(world: &World, ip: &str) {
    world.dns.host("client.example", ip);
    world.dns.spf("sender.example", Spf::Pass);
}

async fn last_decision(world: &World, about: &str) -> mailgate_store::greylist::Decision {
    world.edge.why(about).await.unwrap().decisions.remove(0)
}

#[tokio::test]
async fn a_good_server_goes_on_at_its_first_recipient_and_reception_hears_why() {
    let mut world = World::new(selective).await;
    server(&world, "192.0.2.1");
    let mut peer = world.connect("192.0.2.1").await;
    peer.reply().await;
    peer.ask("EHLO client.example").await;
    peer.ask("MAIL FROM:<a@sender.example>").await;
    peer.send("RCPT TO:<b@example.org>\r\n").await;
    let handover = world.handed_over().await;
    let contact = handover.client.contact.unwrap();
    assert_eq!(
        (contact.identity.as_str(), contact.words.as_str()),
        ("spf:sender.example", "low-suspicion; spf-pass")
    );
    assert_eq!(handover.client.rdns.as_deref(), Some("client.example"));
    let statistics = world.edge.statistics();
    assert_eq!((statistics.at_once, statistics.deferred), (1, 0));
    assert_eq!(statistics.reasons.get(&Reason::LowSuspicion), Some(&1));
}

#[tokio::test]
async fn a_suspicious_client_waits_and_is_known_afterwards() {
    let mut world = World::new(selective).await;
    let deferred = world.attempt("192.0.2.1", FROM, TO).await.unwrap();
    assert!(
        deferred.starts_with("451 4.7.1 greylisted, try again in 180 seconds; retry=00:03:00"),
        "{deferred}"
    );
    world.clock.advance(3 * MINUTE);
    assert!(world.attempt("192.0.2.1", FROM, TO).await.is_none());
    assert!(world.attempt("192.0.2.1", "c@other.example", TO).await.is_none());
    let why = world.edge.why("192.0.2.1").await.unwrap();
    let told: Vec<(&str, &str)> =
        why.decisions.iter().map(|one| (one.result.as_str(), one.reason.as_str())).collect();
    assert_eq!(
        told,
        [("accepted", "known-identity"), ("accepted", "retried"), ("deferred", "first-attempt")]
    );
    assert_eq!(why.decisions[1].waited, Some(180));
    assert!(why.decisions[2].findings.contains("no-reverse"), "{:?}", why.decisions[2]);
    let delays = world.edge.delays().await.unwrap();
    assert_eq!((delays.count, delays.p50, delays.p99), (1, 180, 180));
    let known = world.edge.identities(None, 10);
    assert_eq!(known.len(), 1);
    assert!(known[0].trusted && known[0].identity.to_string() == "192.0.2.1/32", "{known:?}");
}

#[tokio::test]
async fn a_dns_that_never_answers_delays_nobody_longer_than_the_budget_and_makes_nobody_suspicious() {
    let dns = super::dns::Dns { silent: true, ..super::dns::Dns::default() };
    let world = World::with_dns(selective, dns).await;
    let mut world = world;
    let mut peer = world.connect("192.0.2.1").await;
    peer.reply().await;
    peer.ask("EHLO client.example").await;
    peer.ask("MAIL FROM:<a@sender.example>").await;
    peer.send("RCPT TO:<b@example.org>\r\n").await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert!(world.nothing_handed_over(), "it waits for the DNS");
    world.clock.advance(2 * SECOND);
    let contact = world.handed_over().await.client.contact.unwrap();
    assert_eq!(contact.words, "low-suspicion");
}

/// A suspicious client, greeted with the first half.
async fn half_greeted(world: &World) -> Peer {
    let mut peer = world.connect("192.0.2.1").await;
    assert_eq!(peer.line().await, "220-mx.example.org ESMTP mailgate\r\n");
    peer
}

#[tokio::test]
async fn who_is_suspicious_must_be_silent_until_the_second_line() {
    let mut world = World::new(|config| {
        config.mode = Mode::Selective;
        config.suspicion.silence = Span::from_secs(4);
    })
    .await;
    let mut patient = half_greeted(&world).await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    world.clock.advance(4 * SECOND);
    assert_eq!(patient.line().await, "220 mx.example.org ESMTP mailgate\r\n");
    drop(patient);

    let mut early = half_greeted(&world).await;
    early.send("EHLO client.example\r\nMAIL FROM:<a@sender.example>\r\nRCPT TO:<b@example.org>\r\n").await;
    world.until(|now| now.early_talk == 1).await;
    // From here on one byte a second.
    let mut heard = String::new();
    while !heard.contains("greylisted") {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        world.clock.advance(SECOND);
        while let Some(byte) = early.ready_byte().await {
            heard.push(char::from(byte));
        }
    }
    let decision = last_decision(&world, "192.0.2.1").await;
    assert!(
        decision.findings.contains("early-talk") && decision.findings.contains("early-pipelining"),
        "{decision:?}"
    );
    // A server with a name hears its greeting at once.
    world.dns.host("client.example", "198.51.100.1");
    let mut good = world.connect("198.51.100.1").await;
    assert_eq!(good.reply().await, "220 mx.example.org ESMTP mailgate\r\n");
    assert!(world.nothing_handed_over());
}

#[tokio::test]
async fn tables_with_grey_and_score_make_a_good_server_wait() {
    let mut world = World::new(selective).await;
    server(&world, "192.0.2.1");
    server(&world, "192.0.2.2");
    world.list("192.0.2.1", Action::Grey, &["suspects"]);
    world.list("192.0.2.2", Action::Score, &["one", "two"]);
    for (ip, word) in [("192.0.2.1", "grey-table"), ("192.0.2.2", "score-table")] {
        assert!(world.attempt(ip, FROM, TO).await.unwrap().starts_with("451 "), "{ip}");
        assert!(last_decision(&world, ip).await.findings.contains(word), "{ip}");
        world.edge.grey_delete(&crate::Asked { kind: None, what: ip.into() }).await.unwrap();
    }
    // Off is off, but tables act all the same.
    let mut world = World::new(|config| {
        selective(config);
        config.mode = Mode::Off;
    })
    .await;
    world.list("192.0.2.1", Action::Grey, &["suspects"]);
    assert!(world.attempt("192.0.2.1", FROM, TO).await.is_some());
}

#[tokio::test]
async fn a_dry_run_only_reports() {
    let mut world = World::new(|config| {
        selective(config);
        config.greylist.dry_run = true;
    })
    .await;
    for _ in 0..2 {
        assert!(world.attempt("192.0.2.1", FROM, TO).await.is_none());
    }
    let statistics = world.edge.statistics();
    assert_eq!((statistics.spared, statistics.deferred, statistics.greylist.grey), (2, 0, 0));
    let decision = last_decision(&world, "192.0.2.1").await;
    assert_eq!((decision.result.as_str(), decision.reason.as_str()), ("spared", "first-attempt"));
    let mut world = World::new(|config| config.greylist.dry_run = true).await;
    assert!(world.attempt("192.0.2.1", FROM, TO).await.is_none(), "in classic mode too");
}

#[tokio::test]
async fn accepted_messages_make_an_identity_known_and_lead_to_their_decision() {
    let mut world = World::new(selective).await;
    server(&world, "192.0.2.1");
    for (n, session) in ["S1", "S2"].into_iter().enumerate() {
        let mut peer = world.connect("192.0.2.1").await;
        peer.reply().await;
        peer.ask("EHLO client.example").await;
        peer.ask("MAIL FROM:<a@sender.example>").await;
        peer.send("RCPT TO:<b@example.org>\r\n").await;
        let handover = world.handed_over().await;
        let (queue_id, message_id) = (format!("Q{n}"), format!(" <{session}@x>\r\n"));
        world.edge.accepted(&handover.client, handover.session, &queue_id, message_id.trim());
    }
    let known = world.edge.identities(Some("sender"), 10);
    assert!(known[0].trusted && known[0].known.messages == 2, "{known:?}");
    let why = world.edge.why("<S2@x>").await.unwrap();
    assert_eq!((why.decisions.len(), why.decisions[0].queue_id.as_str()), (1, "Q1"));
    assert_eq!(world.edge.why("Q0").await.unwrap().decisions[0].identity, "spf:sender.example");
    assert!(world.edge.why("nothing").await.unwrap().decisions.is_empty());
    // A client that nobody judged teaches nothing about an identity.
    let stranger = Client::new("198.51.100.1:1".parse().unwrap(), "192.0.2.25:25".parse().unwrap());
    world.edge.accepted(&stranger, mailgate_model::SessionId::from_bits(9), "Q9", "");
    assert_eq!(world.edge.identities(None, 10).len(), 1);
}

#[tokio::test]
async fn simulate_says_what_a_session_would_meet_and_changes_nothing() {
    let mut world = World::new(selective).await;
    server(&world, "192.0.2.1");
    let supposed = |ip: &str| Supposed {
        ip: ip.parse().unwrap(),
        helo: "client.example".into(),
        from: "<a@sender.example>".into(),
        to: TO.into(),
    };
    let good = world.edge.simulate(&supposed("192.0.2.1")).await;
    assert_eq!((good.result, good.reason, good.wait), ("accepted", Reason::LowSuspicion, None));
    world.dns.spf("sender.example", Spf::None);
    for _ in 0..2 {
        let bad = world.edge.simulate(&supposed("198.51.100.1")).await;
        assert_eq!((bad.result, bad.reason, bad.wait), ("deferred", Reason::FirstAttempt, Some(180)));
        assert!(bad.points >= bad.grey_at);
    }
    assert_eq!(world.edge.statistics().greylist.grey, 0);
    assert!(world.attempt("198.51.100.1", FROM, TO).await.is_some());
    world.clock.advance(MINUTE);
    let waiting = world.edge.simulate(&supposed("198.51.100.1")).await;
    assert_eq!((waiting.reason, waiting.wait), (Reason::TooEarly, Some(120)));
    world.clock.advance(2 * MINUTE);
    let passes = world.edge.simulate(&supposed("198.51.100.1")).await;
    assert_eq!((passes.result, passes.reason), ("accepted", Reason::Retried));
    world.list("203.0.113.1", Action::Reject, &["block"]);
    let refused = world.edge.simulate(&supposed("203.0.113.1")).await;
    assert_eq!((refused.result, refused.reason), ("refuse", Reason::Rejected));
    let json = serde_json::to_value(&waiting).unwrap();
    assert_eq!(
        (json["reason"].as_str(), json["identity"].as_str()),
        (Some("too-early"), Some("198.51.100.0/24"))
    );
}

#[tokio::test]
async fn beyond_the_limit_of_a_source_attempts_are_deferred_and_not_remembered() {
    let mut world = World::new(|config| {
        selective(config);
        config.greylist.selective.pending = 3;
    })
    .await;
    for n in 0..5 {
        assert!(
            world
                .attempt("192.0.2.1", &format!("{}@sender.example", ["a", "b", "c", "d", "e"][n]), TO)
                .await
                .is_some()
        );
    }
    assert_eq!(world.edge.statistics().greylist.grey, 3);
    world.clock.advance(3 * MINUTE);
    assert!(world.attempt("192.0.2.1", "a@sender.example", TO).await.is_none());
    assert!(
        world.attempt("192.0.2.1", "e@sender.example", TO).await.is_none(),
        "one that came again speaks for all"
    );
}
