//! The parity tests of greylisting with spamd(8), in mode `classic`. Those of traps and of the tarpit are beside them.

use mailgate_lists::Action;

use super::world::{MINUTE, SECOND, World};
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
    world.edge.grey_add(Given::Trapped { network, lasts: None }).await.unwrap();
    assert_eq!(route(&world).await, "tarpit");
    world.list("192.0.2.1", Action::Tarpit, &["spews"]);
    world.edge.grey_add(Given::Passed { network, lasts: None }).await.unwrap();
    assert_eq!(route(&world).await, "reception");
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

#[tokio::test]
async fn defect_13_the_memory_has_one_owner_and_no_other_process_writes_it() {
    // spamd, spamlogd and spamdb share one file under locks; here every verb goes through the daemon that has it open,
    // and a second one is told that the file is in use or newer, not left to guess. What can be shown without two
    // processes: commands and sessions see one memory at once.
    let mut world = World::usual().await;
    let network = "192.0.2.1/32".parse().unwrap();
    world.edge.grey_add(Given::Passed { network, lasts: None }).await.unwrap();
    let _peer = world.connect("192.0.2.1").await;
    assert!(!world.handed_over().await.greeted);
    world.edge.grey_delete(&Asked { kind: None, what: "192.0.2.1".into() }).await.unwrap();
    assert!(world.attempt("192.0.2.1", FROM, TO).await.is_some());
}
