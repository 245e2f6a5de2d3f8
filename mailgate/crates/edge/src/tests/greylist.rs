use mailgate_lists::Action;
use mailgate_model::{Domain, Span};

use super::world::{MINUTE, SECOND, World};
use crate::config::Mode;

const FROM: &str = "a@x.org";
const TO: &str = "b@example.org";
const LATER: &str = "451 4.7.1 greylisted, try again in 1500 seconds; retry=00:25:00\r\n";

#[tokio::test]
async fn an_unknown_client_is_deferred_and_its_retry_goes_on_in_the_same_connection() {
    let mut world = World::usual().await;
    assert_eq!(world.attempt("192.0.2.1", FROM, TO).await.unwrap(), LATER);
    world.clock.advance(25 * MINUTE - SECOND);
    let reply = world.attempt("192.0.2.1", FROM, TO).await.unwrap();
    assert_eq!(reply, "451 4.7.1 greylisted, try again in 1 seconds; retry=00:00:01\r\n");
    world.clock.advance(SECOND);

    let mut peer = world.connect("192.0.2.1").await;
    assert_eq!(peer.reply().await, "220 mx.example.org ESMTP mailgate\r\n");
    peer.ask("EHLO Client.Example").await;
    peer.ask("MAIL FROM:<A@x.org> SIZE=1000").await;
    peer.send("RCPT TO:<B@example.org>\r\n").await;
    let handover = world.handed_over().await;
    assert!(handover.greeted);
    assert_eq!(handover.helo.as_deref(), Some("EHLO Client.Example"));
    assert_eq!(handover.mail.as_deref(), Some("MAIL FROM:<A@x.org> SIZE=1000"));
    assert_eq!(&handover.pending[..], b"RCPT TO:<B@example.org>\r\n");
    assert_eq!(handover.client.helo.as_deref(), Some("Client.Example"));
    let statistics = world.edge.statistics();
    assert_eq!((statistics.deferred, statistics.passed), (2, 1));
}

#[tokio::test]
async fn defect_09_two_connections_are_enough_and_the_next_mail_is_not_delayed() {
    let mut world = World::usual().await;
    assert!(world.attempt("192.0.2.1", FROM, TO).await.is_some());
    world.clock.advance(26 * MINUTE);
    assert!(world.attempt("192.0.2.1", FROM, TO).await.is_none(), "the retry itself passes");
    let _peer = world.connect("192.0.2.1").await;
    let handover = world.handed_over().await;
    assert!(!handover.greeted && handover.pending.is_empty(), "known now, so untouched");
}

/// spamd(8) walks its whole database once a minute and then replaces the whole table of the packet filter.
#[tokio::test]
async fn defect_02_a_pass_is_seen_at_once_without_any_scan() {
    let mut world = World::usual().await;
    for last in 1..=20 {
        let network = format!("198.51.100.{last}/32").parse().unwrap();
        world.edge.grey_add(crate::Given::Passed { network, lasts: None }).await.unwrap();
    }
    world.attempt("192.0.2.1", FROM, TO).await;
    world.clock.advance(26 * MINUTE);
    let (mut filter, standing) = world.edge.greylist.watch();
    assert_eq!(standing.len(), 20);
    // From here on the clock stands still.
    world.attempt("192.0.2.1", FROM, TO).await;
    let told = super::world::patiently(filter.next(MINUTE)).await;
    let told: Vec<String> = told.iter().map(|(network, _)| network.to_string()).collect();
    assert_eq!(told, ["192.0.2.1/32"], "what the filter hears, and of nobody else");
    let shown = world.edge.grey_show("192.0.2.1".parse().unwrap()).await.unwrap();
    assert_eq!((shown.standing, shown.route), ("passed", "reception"));
}

#[tokio::test]
async fn defect_03_a_pass_consumes_the_tuple_and_a_deleted_client_starts_anew() {
    let mut world = World::usual().await;
    world.attempt("192.0.2.1", FROM, TO).await;
    world.clock.advance(26 * MINUTE);
    world.attempt("192.0.2.1", FROM, TO).await;
    let asked = crate::Asked { kind: None, what: "192.0.2.1".into() };
    assert_eq!(world.edge.grey_delete(&asked).await.unwrap(), 1, "the standing, and no tuple");
    assert_eq!(world.attempt("192.0.2.1", FROM, TO).await.unwrap(), LATER);
}

#[tokio::test]
async fn defect_01_ipv6_clients_are_deferred_and_pass_like_others() {
    let mut world = World::usual().await;
    assert_eq!(world.attempt("2001:db8::1", FROM, TO).await.unwrap(), LATER);
    world.clock.advance(26 * MINUTE);
    assert!(world.attempt("2001:db8:0:1::1", FROM, TO).await.is_some(), "another network");
    assert!(world.attempt("2001:db8::1", FROM, TO).await.is_none());
    world.attempt("192.0.2.9", FROM, TO).await;
    world.clock.advance(26 * MINUTE);
    assert!(world.attempt("::ffff:192.0.2.9", FROM, TO).await.is_none(), "mapped is the same");
}

#[tokio::test]
async fn a_wider_key_treats_a_network_as_one_client() {
    let mut world = World::new(|config| {
        config.greylist.ipv4_prefix = 24;
        config.greylist.ipv6_prefix = 64;
    })
    .await;
    for (first, second) in [("192.0.2.1", "192.0.2.200"), ("2001:db8::1", "2001:db8::dead:beef")] {
        assert!(world.attempt(first, FROM, TO).await.is_some());
        world.clock.advance(26 * MINUTE);
        assert!(world.attempt(second, FROM, TO).await.is_none(), "{second}");
    }
}

/// An attempt that says this; its reply, or nothing when it was handed over.
async fn said(world: &mut World, helo: &str, from: &str, to: &str) -> Option<String> {
    let mut peer = world.connect("192.0.2.1").await;
    peer.reply().await;
    peer.ask(&format!("HELO {helo}")).await;
    peer.ask(&format!("MAIL FROM:<{from}>")).await;
    peer.send(&format!("RCPT TO:<{to}>\r\n")).await;
    tokio::select! {
        _ = world.handed_over() => None,
        reply = peer.reply() => Some(reply),
    }
}

#[tokio::test]
async fn defect_10_the_name_said_at_helo_is_no_part_of_the_key() {
    let mut world = World::usual().await;
    assert_eq!(said(&mut world, "out1.pool.example", FROM, TO).await.unwrap(), LATER);
    world.clock.advance(26 * MINUTE);
    assert!(said(&mut world, "out2.pool.example", FROM, TO).await.is_none(), "another host of the pool");
}

#[tokio::test]
async fn defect_11_other_letters_and_another_tag_are_the_same_sender_and_recipient() {
    for (from, to) in [
        ("prvs=2741ffffff=user@x.org", "b@example.org"),
        ("User@X.ORG", "B@Example.org"),
        ("user+news@x.org", "b@EXAMPLE.org"),
    ] {
        let mut world = World::usual().await;
        let first = said(&mut world, "c", "prvs=2740f2a1b3=User@X.org", "B@Example.org").await;
        assert_eq!(first.unwrap(), LATER);
        world.clock.advance(26 * MINUTE);
        assert!(said(&mut world, "c", from, to).await.is_none(), "{from} {to}");
    }
    let mut world = World::usual().await;
    said(&mut world, "c", "user@x.org", TO).await;
    world.clock.advance(26 * MINUTE);
    assert!(said(&mut world, "c", "other@x.org", TO).await.is_some(), "another sender");
}

#[tokio::test]
async fn defect_12_connections_teach_nothing_and_accepted_mail_keeps_a_client_passed() {
    let mut world = World::usual().await;
    world.attempt("192.0.2.1", FROM, TO).await;
    world.clock.advance(26 * MINUTE);
    world.attempt("192.0.2.1", FROM, TO).await;
    let day = 24 * 60 * MINUTE;
    world.clock.advance(20 * day);
    let client =
        mailgate_model::Client::new("192.0.2.1:1".parse().unwrap(), "192.0.2.25:25".parse().unwrap());
    world.edge.accepted(&client, mailgate_model::SessionId::from_bits(1), "Q1", "<m@x.org>");
    world.clock.advance(20 * day);
    for _ in 0..3 {
        let _peer = world.connect("192.0.2.1").await;
        assert!(!world.handed_over().await.greeted, "still passed");
    }
    world.clock.advance(16 * day);
    assert_eq!(world.attempt("192.0.2.1", FROM, TO).await.unwrap(), LATER, "36 days after its last mail");
}

#[tokio::test]
async fn a_retry_after_the_window_is_the_first_again() {
    let mut world = World::usual().await;
    world.attempt("192.0.2.1", FROM, TO).await;
    world.clock.advance(240 * MINUTE);
    assert_eq!(world.attempt("192.0.2.1", FROM, TO).await.unwrap(), LATER);
}

#[tokio::test]
async fn nothing_that_was_pipelined_is_lost() {
    let mut world = World::usual().await;
    let all = "EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n\
               RSET\r\nNOOP\r\nQUIT\r\n";
    let mut peer = world.connect("192.0.2.1").await;
    peer.reply().await;
    peer.send(all).await;
    let answers = peer.rest().await;
    let codes: Vec<&str> =
        answers.lines().filter(|line| !line.starts_with("250-")).map(|line| &line[..3]).collect();
    assert_eq!(codes, ["250", "250", "451", "451", "554", "250", "250", "221"]);

    world.clock.advance(26 * MINUTE);
    let mut peer = world.connect("192.0.2.1").await;
    peer.reply().await;
    peer.send(all).await;
    assert!(peer.reply().await.contains("PIPELINING"));
    assert_eq!(peer.reply().await, "250 2.1.0 Sender ok\r\n", "what came before the pass is answered");
    let handover = world.handed_over().await;
    let rest = "RCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\nRSET\r\nNOOP\r\nQUIT\r\n";
    assert_eq!(&handover.pending[..], rest.as_bytes());
}

#[tokio::test]
async fn commands_may_come_in_pieces() {
    let world = World::usual().await;
    let mut peer = world.connect("192.0.2.1").await;
    peer.reply().await;
    for piece in ["EH", "LO c", "\r", "\nNO", "OP\r\n"] {
        peer.send(piece).await;
        tokio::task::yield_now().await;
    }
    assert!(peer.reply().await.ends_with("250 STARTTLS\r\n"));
    assert_eq!(peer.reply().await, "250 2.0.0 Ok\r\n");
}

#[tokio::test]
async fn a_later_recipient_that_qualifies_takes_the_session_on() {
    let mut world = World::usual().await;
    world.attempt("192.0.2.1", FROM, TO).await;
    world.clock.advance(26 * MINUTE);
    let mut peer = world.connect("192.0.2.1").await;
    peer.reply().await;
    peer.ask("EHLO c").await;
    peer.ask("MAIL FROM:<a@x.org>").await;
    assert_eq!(peer.ask("RCPT TO:<new@example.org>").await, LATER);
    peer.send("RCPT TO:<b@example.org>\r\n").await;
    assert_eq!(&world.handed_over().await.pending[..], b"RCPT TO:<b@example.org>\r\n");
}

#[tokio::test]
async fn tls_works_and_is_handed_over_with_the_session() {
    let mut world = World::usual().await;
    world.attempt("192.0.2.1", FROM, TO).await;
    world.clock.advance(26 * MINUTE);
    let mut peer = world.connect("192.0.2.1").await;
    peer.reply().await;
    peer.ask("EHLO before").await;
    assert_eq!(peer.ask("STARTTLS").await, "220 2.0.0 Ready to start TLS\r\n");
    let mut peer = peer.start_tls(&world.tls).await;
    assert!(!peer.ask("EHLO inside").await.contains("STARTTLS"));
    peer.ask("MAIL FROM:<a@x.org>").await;
    peer.send("RCPT TO:<b@example.org>\r\nDATA\r\n").await;
    let handover = world.handed_over().await;
    assert!(handover.stream.tls_facts().is_some() && handover.client.tls.is_some());
    assert_eq!(handover.helo.as_deref(), Some("EHLO inside"));
    assert_eq!(&handover.pending[..], b"RCPT TO:<b@example.org>\r\nDATA\r\n");
}

#[tokio::test]
async fn what_was_pipelined_behind_starttls_is_not_taken_for_something_said_inside() {
    let world = World::usual().await;
    let mut peer = world.connect("192.0.2.1").await;
    peer.reply().await;
    peer.ask("EHLO c").await;
    peer.send("STARTTLS\r\nMAIL FROM:<injected@x.org>\r\n").await;
    assert!(peer.reply().await.starts_with("503 5.5.1 Nothing may follow STARTTLS"));
    assert_eq!(peer.rest().await, "");
}

#[tokio::test]
async fn chunks_are_swallowed_and_not_taken_for_commands() {
    let world = World::usual().await;
    let mut peer = world.connect("192.0.2.1").await;
    peer.reply().await;
    peer.ask("EHLO c").await;
    peer.ask("MAIL FROM:<a@x.org>").await;
    peer.ask("RCPT TO:<b@example.org>").await;
    let chunk = "QUIT\r\n".repeat(2000);
    peer.send(&format!("BDAT {}\r\n{chunk}BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", chunk.len())).await;
    assert!(peer.reply().await.starts_with("554 "));
    assert!(peer.reply().await.starts_with("554 "));
    assert_eq!(peer.reply().await, "250 2.0.0 Ok\r\n");
}

#[tokio::test]
async fn limits_end_a_session_with_a_reason() {
    let world = World::new(|config| {
        config.limits.mistakes = 3;
        config.limits.commands = 10;
    })
    .await;
    let mut peer = world.connect("192.0.2.1").await;
    peer.send("A\r\nB\r\nC\r\nNOOP\r\n").await;
    let answers = peer.rest().await;
    assert!(answers.ends_with("421 4.7.0 Too many errors, closing\r\n"), "{answers}");

    let mut peer = world.connect("192.0.2.1").await;
    peer.send(&"NOOP\r\n".repeat(20)).await;
    let answers = peer.rest().await;
    assert_eq!(answers.matches("250 ").count(), 10);
    assert!(answers.ends_with("421 4.7.0 Too many errors, closing\r\n"), "{answers}");

    let mut peer = world.connect("192.0.2.1").await;
    peer.send("NOOP\nMAIL FROM:<a@x.org>\r\n").await;
    let answers = peer.rest().await;
    assert!(
        answers.ends_with("500 5.5.2 Lines must end with CRLF and have no bare CR or LF\r\n"),
        "{answers}"
    );
}

#[tokio::test]
async fn a_line_of_a_megabyte_is_refused_and_costs_no_memory() {
    let world = World::usual().await;
    let mut peer = world.connect("192.0.2.1").await;
    peer.reply().await;
    for _ in 0..16 {
        peer.send(&"x".repeat(65_536)).await;
    }
    peer.send("\r\nNOOP\r\n").await;
    assert_eq!(peer.reply().await, "500 5.5.2 Line too long\r\n");
    assert_eq!(peer.reply().await, "250 2.0.0 Ok\r\n");
}

#[tokio::test]
async fn silence_and_slowness_end_a_session() {
    let world = World::usual().await;
    let mut silent = world.connect("192.0.2.1").await;
    silent.reply().await;
    let mut slow = world.connect("192.0.2.2").await;
    slow.reply().await;
    for _ in 0..3 {
        world.clock.advance(4 * MINUTE);
        assert_eq!(slow.ask("NOOP").await, "250 2.0.0 Ok\r\n");
    }
    assert_eq!(silent.rest().await, "421 4.4.2 Timeout, closing\r\n", "after five minutes");
    world.clock.advance(3 * MINUTE);
    assert_eq!(slow.rest().await, "421 4.4.2 Timeout, closing\r\n", "after fifteen in all");
    world.until(|now| now.greeting_now == 0).await;
}

#[tokio::test]
async fn sessions_are_limited_per_source_and_others_are_served() {
    let world = World::new(|config| config.limits.sessions_per_source = 2).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut peer = world.connect("192.0.2.1").await;
        peer.reply().await;
        kept.push(peer);
    }
    let mut third = world.connect("192.0.2.1").await;
    assert_eq!(third.rest().await, "421 4.3.2 Too many connections, try again later\r\n");
    assert!(world.connect("192.0.2.2").await.reply().await.starts_with("220 "));
    kept.pop();
    world.until(|now| now.greeting_now == 1).await;
    assert!(world.connect("192.0.2.1").await.reply().await.starts_with("220 "));
}

#[tokio::test]
async fn shutdown_says_so() {
    let world = World::usual().await;
    let mut peer = world.connect("192.0.2.1").await;
    peer.reply().await;
    world.shutdown.cancel();
    assert_eq!(peer.rest().await, "421 4.3.2 Shutting down, try again later\r\n");
}

#[tokio::test]
async fn local_bypassed_and_unjudged_clients_go_on_untouched() {
    let mut world = World::usual().await;
    world.list("192.0.2.1", Action::Bypass, &["bypass"]);
    for ip in ["192.0.2.1", "10.9.1.1"] {
        let _peer = world.connect(ip).await;
        let handover = world.handed_over().await;
        assert!(!handover.greeted && handover.helo.is_none(), "{ip}");
    }
    let mut world = World::new(|config| config.mode = Mode::Off).await;
    let _peer = world.connect("192.0.2.1").await;
    assert!(!world.handed_over().await.greeted);
}

#[tokio::test]
async fn refused_sources_hear_so_or_nothing() {
    let mut world = World::usual().await;
    world.list("192.0.2.1", Action::Reject, &["block"]);
    world.list("192.0.2.2", Action::Drop, &["block"]);
    let answer = world.connect("192.0.2.1").await.rest().await;
    assert_eq!(answer, "554 5.7.1 Your address may not send mail here\r\n");
    assert_eq!(world.connect("192.0.2.2").await.rest().await, "");
    assert!(world.nothing_handed_over());
    assert_eq!(world.edge.statistics().refused, 2);
}

#[tokio::test]
async fn parity_a_young_session_can_be_stuttered_and_an_older_one_is_not() {
    let world = World::new(|config| config.greylist.stutter_for = Span::from_secs(3)).await;
    let mut peer = world.connect("192.0.2.1").await;
    world.until(|now| now.greeting_now == 1).await;
    let mut greeting = Vec::new();
    for _ in 0..3 {
        // The session must wait for its next byte before time goes on.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        world.clock.advance(SECOND);
        greeting.push(peer.byte().await);
    }
    assert_eq!(greeting, b"220");
    assert_eq!(peer.reply().await, " mx.example.org ESMTP mailgate\r\n", "then the rest at once");
}

#[tokio::test]
async fn defect_08_recipients_outside_the_allowed_domains_trap_label_by_label() {
    let mut world = World::new(|config| {
        config.traps.allowed_domains = vec![Domain::parse("obtuse.com").unwrap()];
    })
    .await;
    for (ip, to) in
        [("192.0.2.1", "a@obtuse.com"), ("192.0.2.2", "a@mx.obtuse.com"), ("192.0.2.3", "postmaster")]
    {
        assert_eq!(world.attempt(ip, FROM, to).await.unwrap(), LATER, "{to}");
    }
    let mut peer = world.connect("192.0.2.4").await;
    peer.reply().await;
    peer.ask("EHLO c").await;
    peer.ask("MAIL FROM:<a@x.org>").await;
    peer.send("RCPT TO:<a@notobtuse.com>\r\n").await;
    world.until(|now| now.trapped == 1 && now.held_now == 1).await;
}
