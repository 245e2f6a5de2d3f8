//! `decide = "data"`: clients that are judged after the first octets of their message.

use std::sync::Arc;

use mailgate_model::Span;
use mailgate_store::Outbound;
use tokio::io::AsyncWriteExt as _;

use super::world::{MINUTE, Peer, SECOND, World};
use crate::config::{Behind, Config, Decide, Mode};
use crate::suspicion::Spf;
use crate::{Handover, Query, Reason};

const FROM: &str = "a@sender.example";
const TO: &str = "b@example.org";
const LETTER: &str = "Message-ID: <1@sender.example>\r\nSubject: x\r\n\r\nA line.\r\n..and a dot\r\n.\r\n";
const COME_AGAIN: &str = "451 4.7.1 You are known now, connect again and you are served at once\r\n";
const LATER: &str = "451 4.7.1 greylisted, try again in 180 seconds; retry=00:03:00\r\n";

fn selective(config: &mut Config) {
    config.mode = Mode::Selective;
    config.greylist.decide = Decide::Data;
    config.suspicion.silence = Span::from_secs(0);
    config.suspicion.grey_at = 1;
}

fn classic(config: &mut Config) {
    config.greylist.decide = Decide::Data;
}

/// In front of a mail server that is not told who the client is: `handover = "defer"`.
fn defer(config: &mut Config) {
    config.behind = Behind::Foreign;
    config.packet.interfaces = vec!["eth0".to_owned()];
}

/// A pool: every host has a name of its own and none is vouched for by SPF, so that nothing but the message joins them.
async fn pool() -> World {
    let world = World::new(selective).await;
    for last in 1..=64 {
        world.dns.host(&format!("out{last}.pool{last}.example"), &format!("192.0.{last}.1"));
    }
    world
}

/// EHLO, MAIL and RCPT, which is accepted until the content was seen.
async fn opened(world: &World, ip: &str, from: &str, to: &str) -> Peer {
    let mut peer = world.connect(ip).await;
    peer.reply().await;
    let offered = peer.ask("EHLO client.example").await;
    assert!(!offered.contains("CHUNKING"), "{offered}");
    peer.ask(&format!("MAIL FROM:<{from}>")).await;
    assert_eq!(peer.ask(&format!("RCPT TO:<{to}>")).await, "250 2.1.5 Recipient ok\r\n");
    peer
}

/// The reply after the content, which is "later".
async fn deferred(world: &World, ip: &str, letter: &str) -> String {
    let mut peer = opened(world, ip, FROM, TO).await;
    assert!(peer.ask("DATA").await.starts_with("354 "));
    peer.send(letter).await;
    let reply = peer.reply().await;
    assert_eq!(peer.ask("NOOP").await, "250 2.0.0 Ok\r\n", "the session goes on");
    reply
}

/// The hand-over in the middle of the content.
async fn passed(world: &mut World, ip: &str, letter: &str) -> Handover {
    let mut peer = opened(world, ip, FROM, TO).await;
    assert!(peer.ask("DATA").await.starts_with("354 "));
    peer.send(letter).await;
    world.handed_over().await
}

#[tokio::test]
async fn a_retry_of_a_message_passes_from_any_address_of_a_pool_and_nothing_of_it_is_lost() {
    let mut world = pool().await;
    assert_eq!(deferred(&world, "192.0.1.1", LETTER).await, LATER);
    world.clock.advance(3 * MINUTE - SECOND);
    let early = deferred(&world, "192.0.2.1", LETTER).await;
    assert!(early.starts_with("451 4.7.1 greylisted, try again in 1 seconds"), "{early}");
    world.clock.advance(SECOND);
    for address in ["192.0.3.1", "192.0.64.1"] {
        let handover = passed(&mut world, address, &format!("{LETTER}NOOP\r\n")).await;
        assert_eq!(handover.rcpt.as_deref(), Some("RCPT TO:<b@example.org>"));
        assert_eq!(handover.mail.as_deref(), Some("MAIL FROM:<a@sender.example>"));
        assert_eq!(handover.pending, format!("{LETTER}NOOP\r\n").as_bytes(), "as it came, dots and all");
        assert!(handover.client.contact.unwrap().words.starts_with("same-message"), "{address}");
    }
    let why = world.edge.why("1@sender.example").await.unwrap();
    let told: Vec<(&str, &str)> =
        why.decisions.iter().map(|one| (one.result.as_str(), one.reason.as_str())).collect();
    let want = [
        ("accepted", "same-message"),
        ("accepted", "same-message"),
        ("deferred", "too-early"),
        ("deferred", "first-attempt"),
    ];
    assert_eq!(told, want);
    assert_eq!(why.decisions[0].waited, Some(180), "from the first attempt of the pool");
    assert_eq!(world.edge.found(Reason::SameMessage), 2);
}

#[tokio::test]
async fn another_text_message_id_sender_or_recipient_is_another_message() {
    let world = pool().await;
    deferred(&world, "192.0.1.1", LETTER).await;
    world.clock.advance(10 * MINUTE);
    for (host, letter) in [(2, LETTER.replace("A line", "A lime")), (3, LETTER.replace("<1@", "<2@"))] {
        assert_eq!(deferred(&world, &format!("192.0.{host}.1"), &letter).await, LATER, "{letter}");
    }
    for (host, from, to) in [(4, "c@sender.example", TO), (5, FROM, "c@example.org")] {
        let mut peer = opened(&world, &format!("192.0.{host}.1"), from, to).await;
        peer.ask("DATA").await;
        peer.send(LETTER).await;
        assert_eq!(peer.reply().await, LATER, "{from} {to}");
    }
}

#[tokio::test]
async fn in_classic_mode_the_address_that_hands_the_message_in_again_is_passed() {
    let mut world = World::new(classic).await;
    let reply = deferred(&world, "192.0.2.1", LETTER).await;
    assert!(reply.starts_with("451 4.7.1 greylisted, try again in 1500 seconds"), "{reply}");
    world.clock.advance(25 * MINUTE);
    passed(&mut world, "198.51.100.1", LETTER).await;
    let _peer = world.connect("198.51.100.1").await;
    assert!(!world.handed_over().await.greeted, "passed like one that came again itself");
    let shown = world.edge.grey_show("192.0.2.1".parse().unwrap()).await.unwrap();
    assert_eq!(shown.standing, "unknown");
}

#[tokio::test]
async fn a_retry_from_the_same_client_passes_at_rcpt_without_its_content() {
    let mut world = World::new(classic).await;
    deferred(&world, "192.0.2.1", LETTER).await;
    world.clock.advance(25 * MINUTE);
    assert!(world.attempt("192.0.2.1", FROM, TO).await.is_none());
}

#[tokio::test]
async fn a_message_has_one_recipient_until_its_client_is_known() {
    let mut world = World::new(classic).await;
    let mut peer = opened(&world, "192.0.2.1", FROM, TO).await;
    let more = "452 4.5.3 One recipient at a time until you are known\r\n";
    assert_eq!(peer.ask("RCPT TO:<c@example.org>").await, more);
    // Even where the client is passed meanwhile: the first recipient was accepted, and nobody else knows of it.
    let network = "192.0.2.1/32".parse().unwrap();
    world.edge.grey_add(crate::Given::Passed { network, lasts: None }).await.unwrap();
    assert_eq!(peer.ask("RCPT TO:<c@example.org>").await, more);
    peer.ask("DATA").await;
    peer.send(LETTER).await;
    let handover = world.handed_over().await;
    assert_eq!(handover.rcpt.as_deref(), Some("RCPT TO:<b@example.org>"));
    assert_eq!(handover.pending, LETTER.as_bytes());
}

/// A content longer than what is read of it before the judgement.
fn long_letter() -> String {
    format!("Message-ID: <1@x>\r\n\r\n{}.\r\n", "0123456789abcdef 0123456789abcdef\r\n".repeat(9000))
}

#[tokio::test]
async fn who_may_go_on_where_no_session_can_hears_so_after_its_whole_content_and_the_session_goes_on() {
    let mut world = World::new(|config| {
        classic(config);
        defer(config);
    })
    .await;
    world.takes_no_sessions();
    // The message comes again, by another address.
    for letter in [LETTER.to_owned(), long_letter()] {
        assert!(deferred(&world, "192.0.2.1", &letter).await.starts_with("451 4.7.1 greylisted"));
    }
    world.clock.advance(25 * MINUTE);
    for (ip, letter) in [("192.0.2.2", LETTER.to_owned()), ("192.0.2.3", long_letter())] {
        assert_eq!(deferred(&world, ip, &letter).await, COME_AGAIN);
    }
    // A parallel session of the client qualifies while this one sends.
    for (ip, letter) in [("192.0.2.4", LETTER.to_owned()), ("192.0.2.5", long_letter())] {
        let mut peer = opened(&world, ip, FROM, TO).await;
        peer.ask("DATA").await;
        let network = format!("{ip}/32").parse().unwrap();
        world.edge.grey_add(crate::Given::Passed { network, lasts: None }).await.unwrap();
        peer.send(&letter).await;
        assert_eq!(peer.reply().await, COME_AGAIN);
        assert_eq!(peer.ask("MAIL FROM:<a@sender.example>").await, "250 2.1.0 Sender ok\r\n");
        assert_eq!(peer.ask("QUIT").await, "221 2.0.0 Bye\r\n");
    }
    assert!(world.nothing_handed_over());
}

#[tokio::test]
async fn where_no_session_can_go_on_a_retry_costs_one_more_connection_and_no_content() {
    for change in [classic, selective] {
        let mut world = World::new(|config| {
            change(config);
            defer(config);
        })
        .await;
        world.dns.host("out1.pool1.example", "192.0.1.1");
        world.takes_no_sessions();
        deferred(&world, "192.0.1.1", LETTER).await;
        world.clock.advance(25 * MINUTE);
        assert_eq!(world.attempt("192.0.1.1", FROM, TO).await.as_deref(), Some(COME_AGAIN), "at its RCPT");
        let _peer = world.connect("192.0.1.1").await;
        assert!(!world.handed_over().await.greeted, "and then it is at the server");
    }
}

#[tokio::test]
async fn where_no_session_can_go_on_every_address_of_a_pool_comes_once_more() {
    let mut world = World::new(|config| {
        selective(config);
        defer(config);
    })
    .await;
    for last in 1..=3 {
        world.dns.host(&format!("out{last}.pool{last}.example"), &format!("192.0.{last}.1"));
    }
    world.takes_no_sessions();
    assert_eq!(deferred(&world, "192.0.1.1", LETTER).await, LATER);
    world.clock.advance(3 * MINUTE);
    for ip in ["192.0.2.1", "192.0.3.1"] {
        assert_eq!(deferred(&world, ip, LETTER).await, COME_AGAIN, "the message is known, its address not");
        let _peer = world.connect(ip).await;
        assert!(!world.handed_over().await.greeted, "known from then on");
    }
}

#[tokio::test]
async fn who_asks_for_recipients_and_sends_nothing_learns_nothing_and_is_not_remembered() {
    let world = World::new(selective).await;
    for (path, known) in [("<b@example.org>", crate::Known::Yes), ("<nobody@example.org>", crate::Known::No)]
    {
        world.recipient(path, known);
        // A server that verifies the sender of our message, and one that asks in another's name.
        for from in ["", FROM] {
            let to = path.trim_matches(['<', '>']);
            let mut peer = opened(&world, "192.0.2.1", from, to).await;
            assert_eq!(peer.ask("QUIT").await, "221 2.0.0 Bye\r\n");
        }
    }
    let statistics = world.edge.statistics();
    assert_eq!((statistics.greylist.grey, statistics.deferred), (0, 0));
    assert!(world.edge.why("192.0.2.1").await.unwrap().decisions.is_empty());
    assert_eq!(deferred(&world, "192.0.2.1", LETTER).await, LATER, "its first message is a first attempt");
}

#[tokio::test]
async fn who_is_trapped_while_it_sends_never_hears_that_its_message_was_taken() {
    let mut world = World::new(classic).await;
    let mut peer = opened(&world, "192.0.2.1", FROM, TO).await;
    peer.ask("DATA").await;
    let network = "192.0.2.1/32".parse().unwrap();
    world.edge.grey_add(crate::Given::Trapped { network, lasts: None }).await.unwrap();
    peer.send(LETTER).await;
    assert!(peer.rest().await.starts_with("421 4.3.2 "));
    assert!(world.nothing_handed_over());
}

#[tokio::test]
async fn what_is_not_followed_by_content_is_no_attempt_and_leaves_nothing() {
    let world = World::new(classic).await;
    for after in ["RSET", "EHLO other.example", "QUIT"] {
        let mut peer = opened(&world, "192.0.2.1", FROM, TO).await;
        peer.ask(after).await;
        if after != "QUIT" {
            let reply = peer.ask("DATA").await;
            assert!(reply.starts_with("503 "), "{reply}");
        }
    }
    assert_eq!(world.edge.statistics().greylist.grey, 0);
    let mut peer = opened(&world, "192.0.2.1", FROM, TO).await;
    peer.ask("RSET").await;
    peer.ask("MAIL FROM:<a@sender.example>").await;
    assert!(peer.ask("DATA").await.starts_with("554 "));
}

#[tokio::test]
async fn the_rest_of_a_long_message_is_thrown_away_and_a_long_one_that_passes_goes_on_before_its_end() {
    let mut world = World::new(classic).await;
    let long = format!("Message-ID: <1@x>\r\n\r\n{}", "0123456789abcdef 0123456789abcdef\r\n".repeat(9000));
    let reply = deferred(&world, "192.0.2.1", &format!("{long}.\r\n")).await;
    assert!(reply.starts_with("451 4.7.1 greylisted"), "{reply}");
    world.clock.advance(25 * MINUTE);
    // The end never came, and need not: the server gives the answer.
    let handover = passed(&mut world, "192.0.2.9", &long).await;
    assert!(long.as_bytes().starts_with(&handover.pending));
    assert!((96 * 1024..128 * 1024).contains(&handover.pending.len()), "{}", handover.pending.len());
}

#[tokio::test]
async fn a_content_that_never_ends_is_cut_off_at_the_size_that_was_announced() {
    let world = World::new(classic).await;
    let mut peer = opened(&world, "192.0.2.1", FROM, TO).await;
    peer.ask("DATA").await;
    let block = "0123456789abcdef 0123456789abcdef\r\n".repeat(10_000);
    let mut sent = 0;
    super::world::patiently(async {
        while peer.0.write_all(block.as_bytes()).await.is_ok() {
            sent += block.len();
            assert!(sent < 40_000_000, "nobody listens so long");
        }
    })
    .await;
    assert!(sent > 9_000_000, "{sent}");
    assert_eq!(world.edge.statistics().deferred, 1);
}

#[tokio::test]
async fn commands_pipelined_behind_the_content_are_answered_and_none_inside_it() {
    let world = World::new(classic).await;
    let mut peer = world.connect("192.0.2.1").await;
    peer.reply().await;
    peer.ask("EHLO client.example").await;
    peer.send("MAIL FROM:<a@x.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n").await;
    for code in ["250 ", "250 ", "354 "] {
        assert!(peer.reply().await.starts_with(code));
    }
    peer.send("Subject: x\r\n\r\nRSET\r\nQUIT\r\n\n.\r\nMAIL FROM:<c@x.org>\r\n.\r\nRSET\r\nQUIT\r\n").await;
    for code in ["451 ", "250 ", "221 "] {
        let reply = peer.reply().await;
        assert!(reply.starts_with(code), "{reply}");
    }
}

#[tokio::test]
async fn who_is_strongly_suspicious_is_judged_at_rcpt_and_so_is_everybody_when_there_is_no_room() {
    let mut world = World::new(|config| {
        selective(config);
        config.suspicion.grey_at = 5;
    })
    .await;
    world.dns.spf("sender.example", Spf::Fail);
    let reply = world.attempt("192.0.2.1", FROM, TO).await.unwrap();
    assert!(reply.starts_with("451 4.7.1 greylisted, try again in 1500 seconds"), "{reply}");

    let mut world = World::new(classic).await;
    let all = Arc::clone(&world.edge.contents);
    let taken = all.try_acquire_many(u32::try_from(crate::greylist::CONTENTS).unwrap()).unwrap();
    assert!(world.attempt("192.0.2.1", FROM, TO).await.unwrap().starts_with("451 "));
    drop(taken);
    opened(&world, "192.0.2.2", FROM, TO).await;
}

#[tokio::test]
async fn an_answer_to_a_message_of_ours_does_not_wait_and_the_correspondent_is_trusted() {
    let mut world = pool().await;
    world.edge.remember_outbound(Outbound::memory(Arc::new(world.clock.clone())).await.unwrap());
    world.edge.sent(TO, [FROM], Some("<ours@mx>"));
    let answer = |field: &str| format!("{field}: <ours@mx>\r\n\r\nThank you.\r\n.\r\n");
    for (host, field) in [(1, "In-Reply-To"), (2, "references")] {
        let handover = passed(&mut world, &format!("192.0.{host}.1"), &answer(field)).await;
        assert!(handover.client.contact.unwrap().words.starts_with("answer"));
    }
    let known = world.edge.identities(Some("pool1.example"), 9);
    assert!(known.len() == 1 && known[0].trusted, "{known:?}");
    assert_eq!(deferred(&world, "192.0.3.1", &answer("X-About")).await, LATER);
    // A report of failure holds the header of what failed.
    let mut peer = opened(&world, "192.0.4.1", "", TO).await;
    peer.ask("DATA").await;
    peer.send("Subject: failed\r\n\r\nMessage-ID: <ours@mx>\r\n.\r\n").await;
    let handover = world.handed_over().await;
    assert!(handover.client.contact.unwrap().words.starts_with("answer"));
    assert!(world.edge.identities(Some("pool4.example"), 9).is_empty(), "nobody wrote to it");
}

#[tokio::test]
async fn messages_are_listed_as_such_and_a_dump_for_spamdb_has_none() {
    let world = World::new(classic).await;
    deferred(&world, "192.0.2.1", LETTER).await;
    let listed = world.edge.grey_list(Query::default()).await.unwrap();
    let clients: Vec<String> =
        listed.iter().filter_map(|one| one.identity.as_ref()).map(ToString::to_string).collect();
    assert_eq!(clients.len(), 2);
    assert!(clients[0] == "192.0.2.1/32" && clients[1].starts_with("msg:"), "{clients:?}");
    assert_eq!(world.edge.grey_dump(Query::default()).await.unwrap().lines().count(), 1);
    let asked = crate::Asked { kind: None, what: "192.0.2.1".into() };
    assert_eq!(world.edge.grey_delete(&asked).await.unwrap(), 2, "both are of that address");
}
