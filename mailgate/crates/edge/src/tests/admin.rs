use mailgate_store::greylist::Kind;

use super::world::{MINUTE, START, World};
use crate::{Asked, Given, Query};

fn asked(what: &str) -> Asked {
    Asked { kind: None, what: what.into() }
}

#[tokio::test]
async fn entries_are_listed_shown_added_and_deleted() {
    let mut world = World::usual().await;
    world.attempt("192.0.2.1", "a@x.org", "b@example.org").await;
    let edge = world.edge.clone();
    let network = "198.51.100.0/24".parse().unwrap();
    edge.grey_add(Given::Passed { network, lasts: None }).await.unwrap();
    edge.grey_add(Given::Trapped { network: "2001:db8::/64".parse().unwrap(), lasts: None }).await.unwrap();
    edge.grey_add(Given::TrapAddress { address: "T@example.org".into() }).await.unwrap();
    assert!(edge.grey_add(Given::TrapAddress { address: "nobody".into() }).await.is_err());

    let all = edge.grey_list(Query::default()).await.unwrap();
    let kinds: Vec<Kind> = all.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [Kind::Grey, Kind::Passed, Kind::Trapped, Kind::TrapAddress]);
    assert_eq!(all[0].helo.as_deref(), Some("client.example"));
    assert_eq!(all[0].pass, Some(START.plus(25 * MINUTE)));

    let shown = edge.grey_show("198.51.100.7".parse().unwrap()).await.unwrap();
    assert_eq!((shown.standing, shown.route, shown.reason), ("passed", "reception", Some("admitted")));
    assert_eq!(shown.entries.len(), 1);
    let shown = edge.grey_show("2001:db8::7".parse().unwrap()).await.unwrap();
    assert_eq!((shown.standing, shown.route), ("trapped", "tarpit"));

    assert_eq!(edge.grey_delete(&asked("198.51.100.7")).await.unwrap(), 0, "only exactly the network");
    for what in ["198.51.100.0/24", "2001:db8::/64", "t@EXAMPLE.org", "192.0.2.1"] {
        assert_eq!(edge.grey_delete(&asked(what)).await.unwrap(), 1, "{what}");
    }
    assert!(edge.grey_delete(&asked("nonsense")).await.is_err());
    assert!(edge.grey_list(Query::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn deleting_one_kind_leaves_the_others() {
    let mut world = World::usual().await;
    world.attempt("192.0.2.1", "a@x.org", "b@example.org").await;
    let network = "192.0.2.1/32".parse().unwrap();
    world.edge.grey_add(Given::Passed { network, lasts: None }).await.unwrap();
    let only = Asked { kind: Some(Kind::Grey), what: "192.0.2.1".into() };
    assert_eq!(world.edge.grey_delete(&only).await.unwrap(), 1);
    let left = world.edge.grey_list(Query::default()).await.unwrap();
    assert_eq!(left.iter().map(|entry| entry.kind).collect::<Vec<_>>(), [Kind::Passed]);
}

#[tokio::test]
async fn parity_the_dump_of_spamdb_is_printed_exactly_and_reads_back() {
    let mut world = World::usual().await;
    world.attempt("192.0.2.1", "A@x.org", "b@Example.org").await;
    let edge = world.edge.clone();
    edge.grey_add(Given::Passed { network: "198.51.100.1/32".parse().unwrap(), lasts: None }).await.unwrap();
    edge.grey_add(Given::Trapped { network: "203.0.113.9/32".parse().unwrap(), lasts: None }).await.unwrap();
    edge.grey_add(Given::TrapAddress { address: "trap@example.org".into() }).await.unwrap();
    let dump = edge.grey_dump(Query::default()).await.unwrap();
    assert_eq!(
        dump,
        "GREY|192.0.2.1|client.example|<A@x.org>|<b@example.org>|1700000000|1700014400|1700014400|1|0\n\
         WHITE|198.51.100.1|||1700000000|1700000000|1703110400|0|0\n\
         TRAPPED|203.0.113.9|1700086400\n\
         SPAMTRAP|trap@example.org\n"
    );

    let mut other = World::usual().await;
    let imported = other.edge.grey_import(&dump).await.unwrap();
    assert_eq!((imported.grey, imported.passed, imported.trapped, imported.trap_addresses), (1, 1, 1, 1));
    assert_eq!(other.edge.grey_dump(Query::default()).await.unwrap(), dump);
    other.clock.advance(26 * MINUTE);
    assert!(other.attempt("192.0.2.1", "a@x.org", "b@example.org").await.is_none(), "its time goes on");
}

#[tokio::test]
async fn a_real_dump_is_taken_in_line_by_line_and_problems_are_named() {
    let world = World::usual().await;
    let dump = "\
# a comment of ours
GREY|192.0.2.1|one.example|<a@x.org>|<b@y.org>|1699999000|1700013400|1700013400|1|0
GREY|192.0.2.1|two.example|<A@X.org>|<b@y.org>|1699999500|1700013900|1700013900|3|0
GREY|192.0.2.2|old.example|<a@x.org>|<b@y.org>|1600000000|1600014400|1600014400|1|0
GREY|192.0.2.3|null.example|<>|<b@y.org>|1699999000|1700013400|1700013400|1|0
WHITE|198.51.100.1|||1600000000|1600001500|1702000000|3|17
TRAPPED|203.0.113.9|1700080000
SPAMTRAP|Trap@Example.org
WHITE|nonsense|||1|2|3|4|5
what is this
";
    let imported = world.edge.grey_import(dump).await.unwrap();
    assert_eq!((imported.grey, imported.passed, imported.trapped, imported.trap_addresses), (3, 1, 1, 1));
    assert_eq!((imported.expired, imported.problems.len()), (1, 2), "{imported:?}");
    assert!(imported.problems[0].starts_with("line 9: found \"WHITE|nonsense"), "{imported:?}");
    let query = Query { kind: Some(Kind::Grey), ..Query::default() };
    let grey = world.edge.grey_list(query).await.unwrap();
    assert_eq!(grey.len(), 2, "two that differ in HELO and letters are one: {grey:?}");
    assert_eq!(grey[0].blocked, Some(3));
    assert_eq!(grey[0].first.unwrap().secs(), 1_699_999_000);
}

#[tokio::test]
async fn a_dump_holds_what_the_listing_of_the_same_question_holds() {
    let mut world = World::usual().await;
    for (ip, from) in [("192.0.2.1", "a@one.example"), ("192.0.2.2", "a@two.example")] {
        world.attempt(ip, from, "b@example.org").await;
    }
    let network = "198.51.100.1/32".parse().unwrap();
    world.edge.grey_add(Given::Passed { network, lasts: None }).await.unwrap();
    for (from, to, want) in
        [(None, None, 3), (Some("TWO"), None, 1), (None, Some("b@"), 2), (Some("one"), Some("c@"), 0)]
    {
        let query = Query { from: from.map(str::to_owned), to: to.map(str::to_owned), ..Query::default() };
        assert_eq!(world.edge.grey_list(query.clone()).await.unwrap().len(), want, "{query:?}");
        let dump = world.edge.grey_dump(query).await.unwrap();
        assert_eq!(dump.lines().count(), want, "{dump}");
        assert!(from != Some("TWO") || dump.starts_with("GREY|192.0.2.2|"), "{dump}");
    }
}

#[tokio::test]
async fn entries_are_serialised_for_the_control_socket() {
    let world = World::usual().await;
    world
        .edge
        .grey_add(Given::Passed { network: "192.0.2.1/32".parse().unwrap(), lasts: None })
        .await
        .unwrap();
    let entries = world.edge.grey_list(Query::default()).await.unwrap();
    let json = serde_json::to_value(&entries).unwrap();
    assert_eq!(json[0]["kind"], "passed");
    assert_eq!(json[0]["network"], "192.0.2.1/32");
    assert_eq!(json[0]["origin"], "admin");
    assert!(json[0].get("helo").is_none());
    let given: Given =
        serde_json::from_str(r#"{"kind":"trapped","network":"192.0.2.0/24","lasts":"2h"}"#).unwrap();
    assert!(matches!(given, Given::Trapped { lasts: Some(_), .. }));
    assert_eq!(serde_json::from_str::<Query>(r#"{"kind":"grey"}"#).unwrap().kind, Some(Kind::Grey));
    assert_eq!(serde_json::to_value(world.edge.statistics()).unwrap()["greylist"]["passed"], 1);
}
