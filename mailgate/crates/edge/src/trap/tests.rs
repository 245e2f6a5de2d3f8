use mailgate_store::greylist::Kind;

use super::*;
use crate::tests::world::{MINUTE, SECOND, World};
use crate::{Given, Query};

const FROM: &str = "a@x.org";

/// Says EHLO, MAIL and RCPT to `local`; whether the client was trapped by it.
async fn steps_into(world: &mut World, ip: &str, local: &str, to: &str) -> bool {
    let before = world.edge.statistics();
    let mut peer = world.connect_to(ip, local).await;
    peer.reply().await;
    peer.ask("EHLO c").await;
    peer.ask(&format!("MAIL FROM:<{FROM}>")).await;
    peer.send(&format!("RCPT TO:<{to}>\r\n")).await;
    world.until(|now| now.deferred > before.deferred || now.trapped > before.trapped).await;
    world.edge.statistics().trapped > before.trapped
}

async fn standing(world: &World, ip: &str) -> &'static str {
    world.edge.grey_show(ip.parse().unwrap()).await.unwrap().standing
}

#[tokio::test]
async fn parity_a_trap_address_traps_whatever_its_letters() {
    let mut world = World::usual().await;
    world.edge.grey_add(Given::TrapAddress { address: "Trap@Example.org".into() }).await.unwrap();
    assert!(!steps_into(&mut world, "192.0.2.1", "127.0.0.1", "other@example.org").await);
    assert!(steps_into(&mut world, "192.0.2.2", "127.0.0.1", "tRAP@example.ORG").await);
    assert!(steps_into(&mut world, "2001:db8::1", "127.0.0.1", "trap@example.org").await);
    assert_eq!(standing(&world, "192.0.2.1").await, "unknown");
    assert_eq!(standing(&world, "192.0.2.2").await, "trapped");
    assert_eq!(standing(&world, "2001:db8::ffff").await, "trapped", "its whole /64");
}

#[tokio::test]
async fn parity_a_suffix_of_letters_is_no_domain_of_ours() {
    let ours = |config: &mut crate::Config| {
        config.traps.allowed_domains = vec![mailgate_model::Domain::parse("obtuse.com").unwrap()];
    };
    let mut world = World::new(ours).await;
    assert!(!steps_into(&mut world, "192.0.2.1", "127.0.0.1", "a@obtuse.com").await);
    assert!(!steps_into(&mut world, "192.0.2.2", "127.0.0.1", "a@mail.Obtuse.com").await);
    assert!(steps_into(&mut world, "192.0.2.3", "127.0.0.1", "a@notobtuse.com").await);
    assert!(!steps_into(&mut world, "192.0.2.4", "127.0.0.1", "postmaster").await);
}

#[tokio::test]
async fn defect_08_the_file_of_domains_acts_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("alloweddomains");
    std::fs::write(&file, "example.org # ours\n").unwrap();
    let mut world = World::new(|config| config.traps.allowed_domains_file = Some(file.clone())).await;
    world.eventually(|| world.edge.traps.allowed.is_outside(&path("a@example.net"))).await;
    assert!(!steps_into(&mut world, "192.0.2.1", "127.0.0.1", "a@example.org").await);
    assert!(steps_into(&mut world, "192.0.2.2", "127.0.0.1", "a@example.net").await);

    std::fs::write(&file, "example.org\nexample.net\n").unwrap();
    world.clock.advance(2 * SECOND);
    world.eventually(|| !world.edge.traps.allowed.is_outside(&path("a@example.net"))).await;
    assert!(!steps_into(&mut world, "192.0.2.3", "127.0.0.1", "a@example.net").await);

    std::fs::remove_file(&file).unwrap();
    world.clock.advance(2 * SECOND);
    assert!(steps_into(&mut world, "192.0.2.4", "127.0.0.1", "a@example.com").await, "what was read holds");
}

fn path(text: &str) -> ForwardPath {
    ForwardPath::try_from(text.to_owned()).unwrap()
}

#[tokio::test]
async fn parity_the_low_priority_mx_traps_who_asks_it_first_but_for_the_first_minute() {
    let low = "192.0.2.9";
    let mut world = World::new(|config| config.traps.low_priority = vec![low.parse().unwrap()]).await;
    assert!(
        !steps_into(&mut world, "198.51.100.1", low, "b@example.org").await,
        "in the minute after the start"
    );
    world.clock.advance(MINUTE);
    assert!(!steps_into(&mut world, "198.51.100.1", low, "b@example.org").await, "no new attempt any more");
    assert!(!steps_into(&mut world, "198.51.100.2", "192.0.2.8", "b@example.org").await, "the primary");
    assert!(
        !steps_into(&mut world, "198.51.100.2", low, "b@example.org").await,
        "the primary was asked before"
    );
    assert!(steps_into(&mut world, "198.51.100.3", low, "b@example.org").await);
    assert!(steps_into(&mut world, "2001:db8::1", low, "b@example.org").await);
}

#[tokio::test]
async fn who_asks_for_recipients_that_do_not_exist_is_trapped_at_the_limit() {
    let mut world = World::new(|config| config.traps.unknown_recipients = 3).await;
    for known in ["known@example.org", "other@example.org"] {
        world.recipient(known, Known::Yes);
    }
    for n in 0..5 {
        world.recipient(&format!("guess{n}@example.org"), Known::No);
    }
    for to in ["guess0@example.org", "guess1@example.org", "unsure@example.org"] {
        assert!(!steps_into(&mut world, "192.0.2.1", "127.0.0.1", to).await, "{to}");
    }
    assert!(steps_into(&mut world, "192.0.2.1", "127.0.0.1", "guess2@example.org").await);
    for to in ["known@example.org", "guess0@example.org", "other@example.org", "guess1@example.org"] {
        assert!(!steps_into(&mut world, "192.0.2.2", "127.0.0.1", to).await, "an old list: {to}");
    }
    assert!(!steps_into(&mut world, "192.0.2.2", "127.0.0.1", "guess2@example.org").await, "three of five");
}

#[tokio::test]
async fn parity_passed_clients_never_meet_a_trap_and_a_trap_ends_what_was_learned() {
    let mut world = World::usual().await;
    world.edge.grey_add(Given::TrapAddress { address: "trap@example.org".into() }).await.unwrap();
    // Learned, then it sends to a trap: it goes to reception and stays passed, as WHITE hosts never reach spamd.
    assert!(world.attempt("192.0.2.1", FROM, "b@example.org").await.is_some());
    world.clock.advance(26 * MINUTE);
    assert!(world.attempt("192.0.2.1", FROM, "b@example.org").await.is_none());
    let _peer = world.connect("192.0.2.1").await;
    assert!(!world.handed_over().await.greeted);
    // TRAPPED beats WHITE when both are said of one address, unless the administrator said WHITE.
    world.edge.trap(
        "192.0.2.1".parse().unwrap(),
        mailgate_model::SessionId::from_bits(1),
        "t",
        TrapReason::Address,
    );
    assert_eq!(standing(&world, "192.0.2.1").await, "trapped");
    let dump = world.edge.grey_dump(Query::default()).await.unwrap();
    assert!(dump.starts_with("TRAPPED|192.0.2.1|"), "{dump}");
    let network = "192.0.2.1/32".parse().unwrap();
    world.edge.grey_add(Given::Passed { network, lasts: None }).await.unwrap();
    assert_eq!(standing(&world, "192.0.2.1").await, "passed");
    world.edge.trap(
        "192.0.2.1".parse().unwrap(),
        mailgate_model::SessionId::from_bits(1),
        "t",
        TrapReason::Address,
    );
    assert_eq!(standing(&world, "192.0.2.1").await, "passed", "the administrator's word");
    let query = Query { kind: Some(Kind::Trapped), ..Query::default() };
    assert_eq!(world.edge.grey_list(query).await.unwrap(), []);
}

#[tokio::test]
async fn parity_trapped_in_a_dump_replaces_white_before_it() {
    let world = World::usual().await;
    let dump = "WHITE|192.0.2.1|||1699990000|1699990000|1703110400|0|3\nTRAPPED|192.0.2.1|1700080000\n";
    world.edge.grey_import(dump).await.unwrap();
    assert_eq!(standing(&world, "192.0.2.1").await, "trapped");
}

#[tokio::test]
async fn traps_last_longer_each_time() {
    let mut world = World::usual().await;
    world.edge.grey_add(Given::TrapAddress { address: "trap@example.org".into() }).await.unwrap();
    let day = 24 * 60 * MINUTE;
    for days in [1, 2, 4, 7, 7] {
        assert!(steps_into(&mut world, "192.0.2.1", "127.0.0.1", "trap@example.org").await);
        world.clock.advance(days * day - SECOND);
        assert_eq!(standing(&world, "192.0.2.1").await, "trapped", "{days} days");
        world.clock.advance(SECOND);
        assert_eq!(standing(&world, "192.0.2.1").await, "unknown", "{days} days");
    }
}

#[tokio::test]
async fn what_speaks_for_a_client_keeps_it_out_of_every_trap() {
    let world = World::usual().await;
    world.edge.grey_add(Given::TrapAddress { address: "trap@example.org".into() }).await.unwrap();
    let client = Client::new("192.0.2.1:4000".parse().unwrap(), "192.0.2.9:25".parse().unwrap());
    let nothing = Excuses::default();
    for (excuses, trapped) in [
        (nothing, true),
        (Excuses { protected: true, ..nothing }, false),
        (Excuses { dnswl_high: true, ..nothing }, false),
        (Excuses { forwarder: true, ..nothing }, false),
        (Excuses { suspicious: false, ..nothing }, false),
    ] {
        let recipient = path("trap@example.org");
        let step = Step { client: &client, recipient: &recipient, is_new: true, excuses };
        let found = world.edge.traps.look(&world.edge.greylist, &step).await;
        assert_eq!(found.is_some(), trapped, "{excuses:?}");
    }
}
