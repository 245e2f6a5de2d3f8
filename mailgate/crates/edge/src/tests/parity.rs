//! The parity tests of greylisting with spamd(8), in mode `classic`. Those of traps and of the tarpit are beside them;
//! docs/greylisting.md ("What is the same as with spamd, and what is not") names the test of every item.

use mailgate_lists::Action;
use mailgate_store::greylist::{Origin, Peer, PeerKind};

use super::world::{MINUTE, SECOND, START, World};
use crate::{Asked, Given, Query};

const FROM: &str = "a@x.org";
const TO: &str = "b@example.org";
const PASS: std::time::Duration = std::time::Duration::from_secs(25 * 60);
const KEEP: std::time::Duration = std::time::Duration::from_secs(4 * 3600);

#[tokio::test]
async fn parity_a_retry_one_second_before_passtime_waits_and_one_second_after_goes_on() {
    for (after, passes) in [(PASS - SECOND, false), (PASS + SECOND, true)] {
        let mut world = World::usual().await;
        world.attempt("192.0.2.1", FROM, TO).await;
        world.clock.advance(after);
        assert_eq!(world.attempt("192.0.2.1", FROM, TO).await.is_none(), passes, "{after:?}");
    }
}

#[tokio::test]
async fn parity_at_greyexp_a_retry_is_the_first_attempt_again() {
    for (after, passes) in [(KEEP - SECOND, true), (KEEP, false), (KEEP + SECOND, false)] {
        let mut world = World::usual().await;
        world.attempt("192.0.2.1", FROM, TO).await;
        world.clock.advance(after);
        assert_eq!(world.attempt("192.0.2.1", FROM, TO).await.is_none(), passes, "{after:?}");
    }
}

#[tokio::test]
async fn parity_attempts_in_between_neither_restart_the_clock_nor_lengthen_it() {
    let mut world = World::usual().await;
    for _ in 0..5 {
        assert!(world.attempt("192.0.2.1", FROM, TO).await.is_some());
        world.clock.advance(5 * MINUTE);
    }
    assert!(world.attempt("192.0.2.1", FROM, TO).await.is_none());

    let mut world = World::usual().await;
    for _ in 0..4 {
        assert!(world.attempt("192.0.2.1", FROM, TO).await.is_some());
        world.clock.advance(6 * MINUTE);
    }
    world.clock.advance(KEEP - 24 * MINUTE);
    assert!(world.attempt("192.0.2.1", FROM, TO).await.is_some(), "greyexp is counted from the first one");
}

/// Where spamd(8) has whitelist and trap for one address, the last one counted; here the trap wins unless the administrator
/// says otherwise.
#[tokio::test]
async fn parity_a_trap_wins_over_what_passed_by_itself_and_the_administrator_over_both() {
    let mut world = World::usual().await;
    world.attempt("192.0.2.1", FROM, TO).await;
    world.clock.advance(PASS);
    assert!(world.attempt("192.0.2.1", FROM, TO).await.is_none());
    let network = "192.0.2.1/32".parse().unwrap();
    let route = async |world: &World| world.edge.grey_show("192.0.2.1".parse().unwrap()).await.unwrap().route;
    assert_eq!(route(&world).await, "reception");
    world.edge.greylist.trap(network, 24 * 60 * MINUTE);
    assert_eq!(route(&world).await, "tarpit", "what passed by itself and then stepped into a trap");
    let expires = START.plus(36 * 24 * 60 * MINUTE);
    let (kind, origin) = (PeerKind::Passed, Origin::Learned);
    let passed = Peer { kind, origin, first: START, pass: START, expires, blocked: 1, passed: 9 };
    world.edge.greylist.learn(network, passed);
    assert_eq!(route(&world).await, "tarpit", "in whatever order they are learned");
    world.list("192.0.2.1", Action::Tarpit, &["spews"]);
    world.edge.grey_add(Given::Passed { network, lasts: None }).await.unwrap();
    assert_eq!(route(&world).await, "reception", "the administrator said so");
    world.edge.greylist.trap(network, 24 * 60 * MINUTE);
    assert_eq!(route(&world).await, "reception", "and no trap says otherwise");
    world.edge.grey_add(Given::Trapped { network, lasts: None }).await.unwrap();
    assert_eq!(route(&world).await, "tarpit", "but the administrator may");
}

#[tokio::test]
async fn parity_a_dump_of_spamdb_goes_round() {
    let dump = "\
GREY|192.0.2.1|one.example|<a@x.org>|<b@y.org>|1699999000|1700013400|1700013400|2|0
GREY|2001:db8::1|two.example|<>|<b@y.org>|1699999500|1700013900|1700013900|1|0
WHITE|198.51.100.1|||1600000000|1600001500|1702000000|3|17
TRAPPED|203.0.113.9|1700080000
SPAMTRAP|trap@example.org
";
    let world = World::usual().await;
    let imported = world.edge.grey_import(dump).await.unwrap();
    assert_eq!((imported.grey, imported.passed, imported.trapped, imported.trap_addresses), (2, 1, 1, 1));
    assert_eq!(world.edge.grey_dump(Query::default()).await.unwrap(), dump);
    // In selective mode the keys are others; the dump is the same.
    let world = World::new(|config| config.mode = crate::config::Mode::Selective).await;
    world.edge.grey_import(dump).await.unwrap();
    let printed = world.edge.grey_dump(Query::default()).await.unwrap();
    let mut lines: Vec<&str> = printed.lines().collect();
    let mut want: Vec<&str> = dump.lines().collect();
    lines.sort_unstable();
    want.sort_unstable();
    assert_eq!(lines, want);
    assert_eq!(world.edge.grey_delete(&Asked { kind: None, what: "192.0.2.1".into() }).await.unwrap(), 1);
}

/// spamd(8) drops what a client sends behind the first command of one read, and the client waits for 400 s.
#[tokio::test]
async fn parity_a_pipelining_unknown_client_hears_every_reply_in_its_order() {
    let world = World::usual().await;
    let mut peer = world.connect("192.0.2.1").await;
    let group = "EHLO c\r\nMAIL FROM:<a@x.org>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\nRSET\r\nQUIT\r\n";
    peer.send(group).await;
    for code in ["220 ", "250-", "250 2.1.0", "451 4.7.1", "451 4.7.1", "554 5.5.1", "250 2.0.0", "221 2.0.0"]
    {
        let reply = peer.reply().await;
        assert!(reply.starts_with(code), "{reply}");
    }
    assert_eq!(peer.rest().await, "");
}

#[tokio::test]
async fn parity_a_tls_client_is_deferred_and_passes_inside_tls() {
    let mut world = World::usual().await;
    for passes in [false, true] {
        let mut peer = world.connect("192.0.2.1").await;
        peer.reply().await;
        peer.ask("EHLO c").await;
        assert!(peer.ask("STARTTLS").await.starts_with("220 "));
        let mut peer = peer.start_tls(&world.tls).await;
        peer.ask("EHLO c").await;
        peer.ask("MAIL FROM:<a@x.org>").await;
        peer.send("RCPT TO:<b@example.org>\r\n").await;
        if passes {
            assert!(world.handed_over().await.client.tls.is_some());
        } else {
            assert!(peer.reply().await.starts_with("451 4.7.1 greylisted"));
            world.clock.advance(PASS);
        }
    }
}

/// What commands say and what sessions do is one memory; that no other process has it is shown beside the file.
#[tokio::test]
async fn defect_13_commands_and_sessions_see_one_memory_at_once() {
    let mut world = World::usual().await;
    let network = "192.0.2.1/32".parse().unwrap();
    world.edge.grey_add(Given::Passed { network, lasts: None }).await.unwrap();
    let _peer = world.connect("192.0.2.1").await;
    assert!(!world.handed_over().await.greeted);
    world.edge.grey_delete(&Asked { kind: None, what: "192.0.2.1".into() }).await.unwrap();
    assert!(world.attempt("192.0.2.1", FROM, TO).await.is_some());
}
