use mailgate_proto::bgp::{AsPath, Attributes, Community, MpReach, MpUnreach, NextHop, Origin, Segment};
use proptest::prelude::*;

use super::*;

const BLOCK: TableIndex = 1;
const BYPASS: TableIndex = 0;

fn policy() -> Policy {
    Policy {
        speakers: Speakers { local_as: 65_500, peer_as: 65_066 },
        first_as: FirstAs::Enforce,
        max_prefix: 1000,
        communities: vec![("65066:42".parse().unwrap(), BYPASS), ("65066:666".parse().unwrap(), BLOCK)],
        names: BTreeMap::new(),
    }
}

fn attributes(path: &[u32], communities: &[u16]) -> Attributes {
    Attributes {
        origin: Some(Origin::Igp),
        as_path: Some(AsPath(vec![Segment::Sequence(path.to_vec())])),
        communities: communities.iter().map(|low| Community::new(65_066, *low)).collect(),
        ..Attributes::default()
    }
}

/// Announces prefixes of both families in one UPDATE.
fn announce(prefixes: &[&str], path: &[u32], communities: &[u16]) -> Update {
    let mut update = Update { attributes: attributes(path, communities), ..Update::default() };
    let mut other = Vec::new();
    for prefix in prefixes {
        match prefix.parse().unwrap() {
            IpNet::V4(net) => update.announced.push(net.into()),
            net => other.push(net.into()),
        }
    }
    if !other.is_empty() {
        let next_hop = NextHop::V6("2001:db8::1".parse().unwrap(), None);
        update.attributes.mp_reach = Some(MpReach { family: Family::Ipv6Unicast, next_hop, prefixes: other });
    }
    update
}

fn withdraw(prefixes: &[&str]) -> Update {
    let mut update = Update::default();
    let mut other = Vec::new();
    for prefix in prefixes {
        match prefix.parse().unwrap() {
            IpNet::V4(net) => update.withdrawn.push(net.into()),
            net => other.push(net.into()),
        }
    }
    if !other.is_empty() {
        update.attributes.mp_unreach = Some(MpUnreach { family: Family::Ipv6Unicast, prefixes: other });
    }
    update
}

/// Applies one UPDATE and returns what changes, as `+1 prefix`.
fn steps(rib: &mut Rib, update: &Update) -> Vec<String> {
    let mut steps = Vec::new();
    rib.apply(update, &mut steps).unwrap();
    shown(&steps)
}

fn shown(steps: &[Step]) -> Vec<String> {
    let sign = |kind| if kind == StepKind::Announce { '+' } else { '-' };
    let mut shown: Vec<String> =
        steps.iter().map(|step| format!("{}{} {}", sign(step.kind), step.table, step.prefix)).collect();
    shown.sort();
    shown
}

#[test]
fn communities_decide_the_table_and_a_new_announcement_replaces_the_old() {
    let mut rib = Rib::new(policy());
    let both = ["192.0.2.1/32", "2001:db8:1::/48"];
    assert_eq!(
        steps(&mut rib, &announce(&both, &[65_066], &[666])),
        ["+1 192.0.2.1/32", "+1 2001:db8:1::/48"]
    );
    assert_eq!(steps(&mut rib, &announce(&both, &[65_066, 1], &[666])), [""; 0]);
    assert_eq!(
        steps(&mut rib, &announce(&["192.0.2.1/32"], &[65_066], &[42])),
        ["+0 192.0.2.1/32", "-1 192.0.2.1/32"]
    );
    assert_eq!(steps(&mut rib, &announce(&["192.0.2.1/32"], &[65_066], &[7])), ["-0 192.0.2.1/32"]);
    assert_eq!(steps(&mut rib, &withdraw(&both)), ["-1 2001:db8:1::/48"]);
    assert!(rib.is_empty());
    assert_eq!(rib.counts().installed, 0);
}

#[test]
fn what_is_not_admitted_is_counted_and_never_installed() {
    struct Case {
        name: &'static str,
        prefix: &'static str,
        path: &'static [u32],
    }
    for Case { name, prefix, path } in [
        Case { name: "our AS in the path", prefix: "192.0.2.1/32", path: &[65_066, 65_500] },
        Case { name: "another first AS", prefix: "192.0.2.1/32", path: &[65_067] },
        Case { name: "empty path", prefix: "192.0.2.1/32", path: &[] },
    ] {
        let mut rib = Rib::new(policy());
        assert_eq!(steps(&mut rib, &announce(&[prefix], path, &[666])), [""; 0], "{name}");
        assert_eq!((rib.counts().received, rib.counts().accepted), (1, 0), "{name}");
    }
    let mut rib = Rib::new(Policy { first_as: FirstAs::Any, ..policy() });
    assert_eq!(steps(&mut rib, &announce(&["10.0.0.0/8"], &[65_067], &[666])), ["+1 10.0.0.0/8"]);
}

#[test]
fn a_route_that_becomes_inadmissible_leaves_its_table() {
    let mut rib = Rib::new(policy());
    steps(&mut rib, &announce(&["192.0.2.1/32"], &[65_066], &[666]));
    assert_eq!(steps(&mut rib, &announce(&["192.0.2.1/32"], &[65_066, 65_500], &[666])), ["-1 192.0.2.1/32"]);
}

#[test]
fn malformed_announcements_withdraw() {
    let mut rib = Rib::new(policy());
    steps(&mut rib, &announce(&["192.0.2.1/32"], &[65_066], &[666]));
    let mut update = announce(&["192.0.2.1/32"], &[65_066], &[666]);
    let treatment = mailgate_proto::bgp::Treatment::Withdraw;
    update.faults.push(mailgate_proto::bgp::Fault { code: 8, problem: "", treatment });
    assert_eq!(steps(&mut rib, &update), ["-1 192.0.2.1/32"]);
}

#[test]
fn a_prefix_withdrawn_and_announced_at_once_is_announced() {
    let mut rib = Rib::new(policy());
    let mut update = announce(&["192.0.2.1/32"], &[65_066], &[666]);
    update.withdrawn.push("192.0.2.1/32".parse::<IpNet>().unwrap().into());
    assert_eq!(steps(&mut rib, &update), ["+1 192.0.2.1/32"]);
}

#[test]
fn routes_of_a_lost_session_stay_until_the_end_of_routes_or_age() {
    let mut rib = Rib::new(policy());
    rib.begin(Families::ALL);
    steps(&mut rib, &announce(&["192.0.2.1/32", "192.0.2.2/32", "2001:db8:1::/48"], &[65_066], &[666]));
    rib.begin(Families::ALL);
    assert_eq!((rib.counts().stale, rib.counts().installed), (3, 3));
    assert_eq!(steps(&mut rib, &announce(&["192.0.2.1/32"], &[65_066], &[666])), [""; 0]);
    assert_eq!(rib.counts().stale, 2);
    let mut gone = Vec::new();
    rib.end(Family::Ipv4Unicast, &mut gone);
    assert_eq!(shown(&gone), ["-1 192.0.2.2/32"]);
    let mut gone = Vec::new();
    rib.age_out(&mut gone);
    assert_eq!(shown(&gone), ["-1 2001:db8:1::/48"]);
    assert_eq!((rib.counts().received, rib.counts().stale), (1, 0));
}

#[test]
fn one_prefix_more_than_allowed_ends_the_session_and_old_routes_do_not_count() {
    let mut rib = Rib::new(Policy { max_prefix: 2, ..policy() });
    steps(&mut rib, &announce(&["192.0.2.1/32", "192.0.2.2/32"], &[65_066], &[666]));
    rib.begin(Families::ALL);
    steps(&mut rib, &announce(&["192.0.2.3/32", "192.0.2.4/32"], &[65_066], &[666]));
    let one_more = announce(&["192.0.2.5/32"], &[65_066], &[666]);
    assert_eq!(rib.apply(&one_more, &mut Vec::new()), Err(TooManyPrefixes));
}

#[test]
fn sessions_that_never_settle_do_not_pile_up_routes() {
    let mut rib = Rib::new(Policy { max_prefix: 10, ..policy() });
    for session in 0..50_u8 {
        rib.begin(Families::ALL);
        for host in 0..5_u8 {
            steps(&mut rib, &announce(&[&format!("10.0.{session}.{host}/32")], &[65_066], &[666]));
        }
        assert!(rib.counts().received <= 20, "{:?}", rib.counts());
    }
}

#[derive(Debug, Clone)]
enum Deed {
    Announce(u8, u32, bool, u16),
    Begin,
    End,
    Refresh,
    Withdraw(u8, u32),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0_u8..16, 0_u32..3, any::<bool>(), prop_oneof![Just(42_u16), Just(666), Just(7)])
            .prop_map(|(host, path, loops, community)| Deed::Announce(host, path, loops, community)),
        2 => (0_u8..16, 0_u32..3).prop_map(|(host, path)| Deed::Withdraw(host, path)),
        1 => Just(Deed::Refresh),
        1 => Just(Deed::Begin),
        1 => Just(Deed::End),
    ]
}

proptest! {
    /// Steps added up are the tables, and counters are what a recount finds.
    #[test]
    fn steps_and_counters_agree_with_a_recount(deeds in proptest::collection::vec(deed(), 0..60)) {
        let mut rib = Rib::new(policy());
        let mut tables = std::collections::BTreeSet::new();
        for deed in deeds {
            let mut steps = Vec::new();
            match deed {
                Deed::Announce(host, number, loops, community) => {
                    let path: &[u32] = if loops { &[65_066, 65_500] } else { &[65_066] };
                    let mut update = announce(&[&format!("192.0.2.{host}/32")], path, &[community]);
                    update.announced[0].path = number;
                    rib.apply(&update, &mut steps).unwrap();
                }
                Deed::Withdraw(host, number) => {
                    let mut update = withdraw(&[&format!("192.0.2.{host}/32")]);
                    update.withdrawn[0].path = number;
                    rib.apply(&update, &mut steps).unwrap();
                }
                Deed::Refresh => rib.begin(Families { ipv4: true, ipv6: false }),
                Deed::Begin => rib.begin(Families::ALL),
                Deed::End => rib.end(Family::Ipv4Unicast, &mut steps),
            }
            for step in steps {
                let entry = (step.table, step.prefix);
                match step.kind {
                    StepKind::Announce => prop_assert!(tables.insert(entry)),
                    StepKind::Withdraw => prop_assert!(tables.remove(&entry)),
                }
            }
            let counts = rib.counts();
            let fates: Vec<Fate> = rib.routes().map(|seen| seen.fate).collect();
            prop_assert_eq!(counts.received, fates.len());
            let accepted = fates.iter().filter(|fate| matches!(fate, Fate::Accepted(_))).count();
            prop_assert_eq!(counts.accepted, accepted);
            prop_assert_eq!(counts.refused.iter().sum::<usize>(), counts.received - accepted);
            let installed: std::collections::BTreeSet<IpNet> = tables.iter().map(|(_, prefix)| *prefix).collect();
            prop_assert_eq!(counts.installed, installed.len());
            prop_assert_eq!(counts.stale, rib.routes().filter(|seen| seen.is_stale).count());
            let wanted: std::collections::BTreeSet<_> = rib
                .routes()
                .flat_map(|seen| Rib::tables_of(seen.fate).map(move |table| (table, seen.nlri.prefix)))
                .collect();
            prop_assert_eq!(&wanted, &tables);
        }
    }
}

#[test]
fn a_prefix_of_several_paths_is_in_the_tables_of_all_of_them() {
    let mut rib = Rib::new(policy());
    let path = |number, community| {
        let mut update = announce(&["192.0.2.1/32"], &[65_066], &[community]);
        update.announced[0].path = number;
        update
    };
    assert_eq!(steps(&mut rib, &path(1, 666)), ["+1 192.0.2.1/32"]);
    assert_eq!(steps(&mut rib, &path(2, 42)), ["+0 192.0.2.1/32"]);
    assert_eq!(steps(&mut rib, &path(3, 666)), [""; 0]);
    let mut gone = withdraw(&["192.0.2.1/32"]);
    gone.withdrawn[0].path = 1;
    assert_eq!(steps(&mut rib, &gone), [""; 0], "another path still says so");
    gone.withdrawn[0].path = 3;
    assert_eq!(steps(&mut rib, &gone), ["-1 192.0.2.1/32"]);
    // Nobody piles up paths.
    for number in 10..200 {
        steps(&mut rib, &path(number, 666));
    }
    assert_eq!(rib.counts().received, PATHS_LIMIT);
}

#[test]
fn a_feed_with_communities_of_its_own_for_each_route_takes_bounded_memory() {
    let mut rib = Rib::new(Policy { max_prefix: 1_000_000, ..policy() });
    let mut steps = Vec::new();
    for number in 0..70_000_u32 {
        let mut update = announce(&[], &[65_066], &[666]);
        update.attributes.communities.push(Community(number));
        let host = std::net::Ipv4Addr::from(0x0a00_0000 + number);
        update.announced.push(IpNet::from(std::net::IpAddr::from(host)).into());
        rib.apply(&update, &mut steps).unwrap();
    }
    assert_eq!(rib.counts().installed, 70_000);
    assert!(rib.sets.len() <= 65_537, "{}", rib.sets.len());
    for host in 0..70_000_u32 {
        let prefix = IpNet::from(std::net::IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + host)));
        rib.apply(&Update { withdrawn: vec![prefix.into()], ..Update::default() }, &mut steps).unwrap();
    }
    assert_eq!((rib.sets.len(), rib.counts().installed), (0, 0));
}
