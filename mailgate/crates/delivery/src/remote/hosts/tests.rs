use std::collections::HashMap;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::*;

#[derive(Default)]
struct Table {
    mx: HashMap<&'static str, Result<Vec<Mx>, LookupError>>,
    ip: HashMap<&'static str, Result<Vec<IpAddr>, LookupError>>,
}

impl Names for Table {
    fn mx<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Vec<Mx>, LookupError>> {
        async { self.mx.get(domain.as_str()).cloned().unwrap_or(Err(LookupError::NotFound)) }.boxed()
    }
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, LookupError>> {
        async move { self.ip.get(host).cloned().unwrap_or(Err(LookupError::NotFound)) }.boxed()
    }
}

fn mx(records: &[(u16, &str)]) -> Table {
    let exchange = |(preference, host): &(u16, &str)| Mx { preference: *preference, host: (*host).into() };
    let records = records.iter().map(exchange).collect();
    Table { mx: HashMap::from([("b.example", Ok(records))]), ..Table::default() }
}

async fn found(table: &Table, config: &Config, host: &str) -> Result<Vec<String>, Outcome> {
    let own = "mx.ours.example".parse().unwrap();
    let host = Host::parse(host).unwrap();
    let hop = find(table, config, &own, &host, QueueId::from_bits(7)).await?;
    Ok(hop.hosts.into_iter().map(|host| host.name).collect())
}

fn status(outcome: Outcome) -> String {
    match outcome {
        Outcome::Deferred { status, .. } | Outcome::Failed { status, .. } => status.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn hosts_come_by_preference_and_the_domain_stands_in_for_missing_records() {
    let config = Config::default();
    let table = mx(&[(20, "second.b.example."), (10, "first.b.example"), (30, "third.b.example")]);
    assert_eq!(
        found(&table, &config, "b.example").await.unwrap(),
        ["first.b.example", "second.b.example", "third.b.example"]
    );
    assert_eq!(found(&table, &config, "other.example").await.unwrap(), ["other.example"]);
    assert_eq!(found(&table, &config, "[192.0.2.1]").await.unwrap(), ["192.0.2.1"]);
}

#[tokio::test]
async fn null_mx_and_our_own_name_and_failing_dns_have_their_outcomes() {
    let config = Config::default();
    let cases = [
        (mx(&[(0, ".")]), "5.1.10"),
        (mx(&[(0, "")]), "5.1.10"),
        (mx(&[(10, "MX.ours.example."), (20, "backup.b.example")]), "5.4.6"),
        (
            Table {
                mx: HashMap::from([("b.example", Err(LookupError::Temporary("timeout".into())))]),
                ..Table::default()
            },
            "4.4.3",
        ),
    ];
    for (table, want) in cases {
        assert_eq!(status(found(&table, &config, "b.example").await.unwrap_err()), want);
    }
}

#[tokio::test]
async fn as_backup_mx_only_better_hosts_are_asked() {
    let table = mx(&[
        (10, "primary.b.example"),
        (20, "mx.ours.example"),
        (20, "equal.b.example"),
        (30, "worse.b.example"),
    ]);
    assert_eq!(found(&table, &Config::default(), "b.example").await.unwrap(), ["primary.b.example"]);
}

#[tokio::test]
async fn equal_hosts_are_spread_over_messages_but_stay_for_one() {
    let table = mx(&[(10, "a.b.example"), (10, "b.b.example"), (10, "c.b.example")]);
    let own = "mx.ours.example".parse().unwrap();
    let host = Host::parse("b.example").unwrap();
    let mut firsts = std::collections::HashSet::new();
    for bits in 0..60 {
        let id = QueueId::from_bits(bits);
        let one = find(&table, &Config::default(), &own, &host, id).await.unwrap();
        let again = find(&table, &Config::default(), &own, &host, id).await.unwrap();
        assert_eq!(one, again);
        firsts.insert(one.hosts[0].name.clone());
    }
    assert_eq!(firsts.len(), 3);
}

#[tokio::test]
async fn static_routes_fit_by_pattern_and_ask_no_dns() {
    let route = |domain: &str, host: &str| StaticRoute {
        domain: domain.to_owned().try_into().unwrap(),
        host: host.into(),
        port: 2525,
    };
    let config = Config {
        route: vec![route("b.example", "one"), route(".b.example", "two"), route("*", "three")],
        ..Config::default()
    };
    let table = mx(&[(10, "mx.b.example")]);
    for (domain, want) in [("b.example", "one"), ("x.b.example", "two"), ("c.example", "three")] {
        assert_eq!(found(&table, &config, domain).await.unwrap(), [want], "{domain}");
    }
}

#[tokio::test]
async fn records_of_strangers_do_not_lead_to_ourselves() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let table = Table {
        ip: HashMap::from([
            (
                "evil",
                Ok(vec![ip("127.0.0.1"), ip("::1"), ip("0.0.0.0"), ip("::ffff:127.0.0.1"), ip("224.0.0.1")]),
            ),
            ("mixed", Ok(vec![ip("127.0.0.1"), ip("192.0.2.1"), ip("2001:db8::1")])),
            ("none", Err(LookupError::NotFound)),
            ("slow", Err(LookupError::Temporary("timeout".into()))),
        ]),
        ..Table::default()
    };
    let config = Config::default();
    let at = |name: &str| HostAt { name: name.into(), port: 25 };
    let ask = async |name: &str, own| addresses(&table, &config, own, &at(name)).await;
    assert_eq!(status(ask("evil", OwnAddress::Loop).await.unwrap_err()), "5.4.6");
    assert_eq!(status(ask("none", OwnAddress::Loop).await.unwrap_err()), "5.4.4");
    assert_eq!(status(ask("slow", OwnAddress::Loop).await.unwrap_err()), "4.4.3");
    let mixed = ask("mixed", OwnAddress::Loop).await.unwrap();
    assert_eq!(mixed, ["[2001:db8::1]:25".parse().unwrap(), "192.0.2.1:25".parse().unwrap()]);
    assert!(ask("127.0.0.1", OwnAddress::Fine).await.is_ok(), "a static route may");
    assert_eq!(status(found(&table, &config, "[127.0.0.1]").await.unwrap_err()), "5.1.2");
}
