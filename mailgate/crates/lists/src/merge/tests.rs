use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::prefix::Sense;
use crate::{Change, Entry};

/// When everything happens that does not say when.
const T0: Timestamp = Timestamp::from_millis(0);

/// A file that ranks before peers, and one of the peers.
const FILE: Origin = SOURCES;
const OTHER_FILE: Origin = SOURCES + 1;
const PEER: Origin = SOURCES + 2;

const TABLES: [&str; 2] = ["bypass", "block"];

fn merged() -> Merged {
    let table = |name| TableConfig::new(TableName::parse(name).unwrap(), Action::Tarpit);
    Merged::new(TABLES.into_iter().map(table), usize::MAX, Timestamp::default())
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn listed() -> Option<Claim> {
    Some(Claim::new(Sense::Listed, T0, None))
}

fn hole() -> Option<Claim> {
    Some(Claim::new(Sense::Hole, T0, None))
}

fn until(secs: i64) -> Option<Claim> {
    Some(Claim::new(Sense::Listed, T0, Some(Timestamp::from_secs(secs))))
}

/// The changes since last asked, as `+table prefix` and `-table prefix`.
fn changes(merged: &mut Merged) -> Vec<String> {
    let shown = |change: Change| match change {
        Change::Add(table, entry) => {
            format!("+{table} {}{}", if entry.negated { "!" } else { "" }, entry.prefix)
        }
        Change::Delete(table, prefix) => format!("-{table} {prefix}"),
        Change::Reload(_) => "reload".into(),
    };
    let mut changes: Vec<String> = merged.take_changes().unwrap_or_default().into_iter().map(shown).collect();
    changes.sort();
    changes
}

#[test]
fn a_prefix_stays_until_its_last_origin_withdraws() {
    let mut merged = merged();
    assert_eq!(changes(&mut merged), ["reload"]);
    merged.set(1, net("192.0.2.1/32"), 4, listed());
    merged.set(1, net("192.0.2.1/32"), 2, listed());
    assert_eq!(changes(&mut merged), ["+block 192.0.2.1/32"]);
    merged.set(1, net("192.0.2.1/32"), 4, None);
    assert_eq!(changes(&mut merged), [""; 0]);
    assert_eq!(merged.origins(1, net("192.0.2.1/32")), [2]);
    merged.set(1, net("192.0.2.1/32"), 2, None);
    assert_eq!(changes(&mut merged), ["-block 192.0.2.1/32"]);
}

#[test]
fn the_administrator_overrules_sources() {
    let mut merged = merged();
    changes(&mut merged);
    merged.set(1, net("192.0.2.1/32"), 2, listed());
    merged.set(1, net("192.0.2.1/32"), MANUAL, hole());
    assert_eq!(changes(&mut merged), ["+block !192.0.2.1/32"]);
    merged.set(1, net("192.0.2.1/32"), MANUAL, None);
    assert_eq!(changes(&mut merged), ["+block 192.0.2.1/32"]);
}

#[test]
fn an_entry_that_ends_uncovers_what_others_say() {
    let mut merged = merged();
    merged.set(1, net("192.0.2.1/32"), MANUAL, until(100));
    merged.set(1, net("192.0.2.2/32"), MANUAL, until(200));
    merged.set(1, net("192.0.2.1/32"), 1, listed());
    changes(&mut merged);
    assert_eq!(merged.expire(Timestamp::from_secs(99)), Some(Timestamp::from_secs(100)));
    assert_eq!(merged.expire(Timestamp::from_secs(100)), Some(Timestamp::from_secs(200)));
    assert_eq!(changes(&mut merged), [""; 0], "a source holds it without end, before and after");
    assert_eq!(merged.expire(Timestamp::from_secs(200)), None);
    assert_eq!(changes(&mut merged), ["-block 192.0.2.2/32"]);
}

#[test]
fn renewing_an_entry_moves_its_end() {
    let mut merged = merged();
    merged.set(1, net("192.0.2.1/32"), MANUAL, until(100));
    merged.set(1, net("192.0.2.1/32"), MANUAL, until(300));
    assert_eq!(merged.expire(Timestamp::from_secs(150)), Some(Timestamp::from_secs(300)));
    merged.set(1, net("192.0.2.1/32"), MANUAL, listed());
    assert_eq!(merged.expire(Timestamp::from_secs(1000)), None);
    assert_eq!(merged.count(1, MANUAL), 1);
}

#[test]
fn many_differences_become_one_reload_and_few_do_not() {
    let host = |n: u32| IpNet::from(std::net::IpAddr::V4(n.into()));
    let set = |count: u32| {
        let mut set = PrefixSet::default();
        (0..count).for_each(|n| set.push(host(n), Sense::Listed));
        set.sort();
        set
    };
    let mut merged = merged();
    changes(&mut merged);
    merged.replace(1, FILE, set(10_000), T0);
    assert_eq!(changes(&mut merged), ["reload"]);
    assert_eq!(merged.replace(1, FILE, set(9_990), T0), Difference { deleted: 10, ..Difference::default() });
    assert_eq!(changes(&mut merged).len(), 10);
    for n in 0..10_000 {
        merged.set(0, host(n), 2, listed());
    }
    assert_eq!(changes(&mut merged), ["reload"]);
    for _ in 0..10_000 {
        merged.set(0, host(7), 2, None);
        merged.set(0, host(7), 2, listed());
    }
    assert_eq!(changes(&mut merged), ["+bypass 0.0.0.7/32"], "a prefix that flaps counts once");
}

#[test]
fn tables_that_did_not_change_share_their_entries_with_the_last_snapshot() {
    let mut merged = merged();
    merged.set(0, net("192.0.2.1/32"), 1, listed());
    let before = merged.snapshot();
    merged.set(1, net("192.0.2.1/32"), 1, listed());
    let after = merged.snapshot();
    assert!(Arc::ptr_eq(&before.tables[0].entries, &after.tables[0].entries));
    assert!(!Arc::ptr_eq(&before.tables[1].entries, &after.tables[1].entries));
}

#[test]
fn entries_of_a_set_keep_their_age_through_more_readings_than_there_are_epochs() {
    let set = |more: Option<u32>| {
        let mut set = PrefixSet::default();
        set.push(net("2001:db8::1/128"), Sense::Listed);
        set.push(net("192.0.2.1/32"), Sense::Listed);
        more.into_iter().for_each(|n| {
            set.push(
                std::net::Ipv4Addr::from(n).to_string().parse::<std::net::IpAddr>().unwrap().into(),
                Sense::Listed,
            )
        });
        set.sort();
        set
    };
    let mut merged = merged();
    merged.replace(1, FILE, set(None), Timestamp::from_secs(1));
    for reading in 2..140_000_u32 {
        merged.replace(1, FILE, set(Some(reading)), Timestamp::from_secs(reading.into()));
    }
    let age = |prefix: &str| merged.find(1, net(prefix)).unwrap().added().secs();
    assert_eq!((age("192.0.2.1/32"), age("2001:db8::1/128")), (1, 1));
    let last = std::net::Ipv4Addr::from(139_999).to_string() + "/32";
    assert_eq!(age(&last), 139_999);
}

/// Prefixes that touch and cover each other, of both families.
fn prefix() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (0_u32..32, 24_u8..=32).prop_map(|(host, length)| {
            IpNet::new(std::net::IpAddr::V4((0xc000_0200 + host).into()), length).unwrap().trunc()
        }),
        (0_u128..8, 120_u8..=128).prop_map(|(host, length)| {
            IpNet::new(std::net::IpAddr::V6((0x2001_0db8 << 96 | host).into()), length).unwrap().trunc()
        }),
    ]
}

fn sense() -> impl Strategy<Value = Sense> {
    prop_oneof![3 => Just(Sense::Listed), 1 => Just(Sense::Hole)]
}

#[derive(Debug, Clone)]
enum Deed {
    /// Of an origin that brings sets.
    Replace(TableIndex, Origin, Vec<(IpNet, Sense)>),
    /// Of an origin that speaks of single prefixes.
    Set(TableIndex, Origin, IpNet, Option<(Sense, Option<i64>)>),
    Tell,
}

fn deed() -> impl Strategy<Value = Deed> {
    let claim = prop::option::of((sense(), prop::option::of(1_i64..1000)));
    let live = prop_oneof![Just(MANUAL), Just(OVERLOAD), Just(PEER)];
    let bulk = prop_oneof![Just(FILE), Just(OTHER_FILE)];
    prop_oneof![
        6 => (0_u8..2, live, prefix(), claim).prop_map(|(table, origin, prefix, claim)| {
            // Routes do not end.
            let claim = claim.map(|(sense, end)| (sense, end.filter(|_| origin != PEER)));
            Deed::Set(table, origin, prefix, claim)
        }),
        2 => (0_u8..2, bulk, proptest::collection::vec((prefix(), sense()), 0..40))
            .prop_map(|(table, origin, set)| Deed::Replace(table, origin, set)),
        1 => Just(Deed::Tell),
    ]
}

/// What everybody claims, kept as simply as possible.
type Naive = BTreeMap<(TableIndex, IpNet), BTreeMap<Origin, (Sense, Option<i64>)>>;

fn naive_entry(prefix: IpNet, claims: &BTreeMap<Origin, (Sense, Option<i64>)>) -> Entry {
    let (sense, _) = claims.first_key_value().unwrap().1;
    let ends = claims.values().filter(|(other, _)| other == sense).map(|(_, end)| *end);
    let expires = ends.reduce(|a, b| Some(a?.max(b?))).unwrap().map(Timestamp::from_millis);
    Entry { prefix, negated: *sense == Sense::Hole, expires }
}

fn naive_table(naive: &Naive, table: TableIndex) -> Vec<Entry> {
    let here = naive.iter().filter(|((other, _), _)| *other == table);
    here.map(|((_, prefix), claims)| naive_entry(*prefix, claims)).collect()
}

fn do_naively(naive: &mut Naive, deed: &Deed) {
    match deed {
        Deed::Set(table, origin, prefix, Some(claim)) => {
            naive.entry((*table, *prefix)).or_default().insert(*origin, *claim);
        }
        Deed::Set(table, origin, prefix, None) => {
            naive.entry((*table, *prefix)).or_default().remove(origin);
        }
        Deed::Replace(table, origin, set) => {
            naive.iter_mut().filter(|((other, _), _)| other == table).for_each(|(_, claims)| {
                claims.remove(origin);
            });
            for (prefix, sense) in set {
                let claims = naive.entry((*table, *prefix)).or_default();
                let known = claims.entry(*origin).or_insert((*sense, None));
                // Both listed and a hole: a hole.
                known.0 = known.0.min(*sense);
            }
        }
        Deed::Tell => {}
    }
    naive.retain(|_, claims| !claims.is_empty());
}

fn do_merged(merged: &mut Merged, deed: &Deed) {
    match deed {
        Deed::Set(table, origin, prefix, claim) => {
            let claim = claim.map(|(sense, end)| Claim::new(sense, T0, end.map(Timestamp::from_millis)));
            merged.set(*table, *prefix, *origin, claim);
        }
        Deed::Replace(table, origin, set) => {
            let mut sorted = PrefixSet::default();
            set.iter().for_each(|(prefix, sense)| sorted.push(*prefix, *sense));
            sorted.sort();
            merged.replace(*table, *origin, sorted, T0);
        }
        Deed::Tell => {}
    }
}

/// What the edge holds after applying what it was told.
#[derive(Default)]
struct Told(BTreeMap<(String, IpNet), Entry>);

impl Told {
    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Add(table, entry) => {
                    self.0.insert((table.to_string(), entry.prefix), entry);
                }
                Change::Delete(table, prefix) => {
                    self.0.remove(&(table.to_string(), prefix));
                }
                Change::Reload(snapshot) => {
                    let each = snapshot.tables.iter().flat_map(|table| {
                        table.entries.iter().map(|e| ((table.name.to_string(), e.prefix), e))
                    });
                    self.0 = each.collect();
                }
            }
        }
    }
}

proptest! {
    /// Whatever happens, the tables are what the claims say, and the edge, told in pieces, holds the same.
    #[test]
    fn tables_and_the_told_edge_agree_with_the_claims(deeds in proptest::collection::vec(deed(), 0..40)) {
        let mut merged = merged();
        let mut naive = Naive::new();
        let mut told = Told::default();
        for deed in &deeds {
            do_merged(&mut merged, deed);
            do_naively(&mut naive, deed);
            if matches!(deed, Deed::Tell) {
                told.apply(merged.take_changes().unwrap_or_default());
            }
            for (table, row) in (0..).zip(merged.snapshot().tables) {
                prop_assert_eq!(row.entries.iter().collect::<Vec<_>>(), naive_table(&naive, table));
                prop_assert_eq!(merged.tables().nth(table.into()).unwrap().2, row.entries.len());
                for origin in 0..=PEER {
                    let claims = naive.iter().filter(|((other, _), claims)| *other == table && claims.contains_key(&origin));
                    prop_assert_eq!(merged.count(table, origin), claims.count());
                }
            }
        }
        told.apply(merged.take_changes().unwrap_or_default());
        prop_assert!(!merged.is_pending());
        for (table, name) in (0..).zip(TABLES) {
            let held: Vec<Entry> =
                told.0.iter().filter(|((other, _), _)| other == name).map(|(_, entry)| entry.clone()).collect();
            prop_assert_eq!(held, naive_table(&naive, table));
        }
    }

    /// Sets of different origins may arrive in any order.
    #[test]
    fn any_order_of_updates_gives_the_same_snapshot(
        sets in proptest::collection::vec(proptest::collection::vec((prefix(), sense()), 0..20), 3),
        order in Just([0_usize, 1, 2]).prop_shuffle(),
    ) {
        let snapshot = |order: [usize; 3]| {
            let mut merged = merged();
            for at in order {
                let origin = SOURCES + Origin::try_from(at).unwrap();
                do_merged(&mut merged, &Deed::Replace(1, origin, sets[at].clone()));
            }
            merged.snapshot().tables.remove(1).entries
        };
        prop_assert_eq!(snapshot(order), snapshot([0, 1, 2]));
    }

    #[test]
    fn the_most_specific_entry_is_found(deeds in proptest::collection::vec(deed(), 0..40), host in 0_u32..32) {
        let mut merged = merged();
        deeds.iter().for_each(|deed| do_merged(&mut merged, deed));
        let address = IpAddr::V4((0xc000_0200 + host).into());
        let found = merged.covering(1, address).map(|found| found.entry);
        let snapshot = merged.snapshot();
        let covering = snapshot.tables[1].entries.iter().filter(|entry| entry.prefix.contains(&address));
        prop_assert_eq!(found, covering.max_by_key(|entry| entry.prefix.prefix_len()));
    }

    #[test]
    fn ends_are_kept_whatever_happens(deeds in proptest::collection::vec(deed(), 0..40), now in 0_i64..1000) {
        let mut merged = merged();
        let mut naive = Naive::new();
        for deed in &deeds {
            do_merged(&mut merged, deed);
            do_naively(&mut naive, deed);
        }
        let next = merged.expire(Timestamp::from_millis(now));
        naive.values_mut().for_each(|claims| claims.retain(|_, (_, end)| end.is_none_or(|end| end > now)));
        naive.retain(|_, claims| !claims.is_empty());
        for (table, row) in (0..).zip(merged.snapshot().tables) {
            prop_assert_eq!(row.entries.iter().collect::<Vec<_>>(), naive_table(&naive, table));
        }
        let ends = naive.values().flat_map(|claims| claims.values().filter_map(|(_, end)| *end));
        prop_assert_eq!(next, ends.min().map(Timestamp::from_millis));
    }

    /// Page after page, everything is seen once and in order.
    #[test]
    fn pages_hold_what_the_table_holds(deeds in proptest::collection::vec(deed(), 0..40), size in 1_usize..6) {
        let mut merged = merged();
        deeds.iter().for_each(|deed| do_merged(&mut merged, deed));
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page: Vec<Entry> = merged.entries(1, after).take(size).map(|found| found.entry).collect();
            let Some(last) = page.last() else { break };
            after = Some(last.prefix);
            pages.extend(page);
        }
        prop_assert_eq!(pages, merged.snapshot().tables[1].entries.iter().collect::<Vec<_>>());
    }

    /// Whoever says what in which order: the administrator's bypass beats every block, and every block a feed's bypass.
    #[test]
    fn a_block_beats_the_bypass_of_a_feed_and_not_that_of_the_administrator(
        deeds in proptest::collection::vec(deed(), 0..40),
        hosts in proptest::collection::vec(any::<u32>(), 16),
    ) {
        let actions = [Action::Bypass, Action::Tarpit];
        let tables = TABLES.into_iter().zip(actions);
        let tables = tables.map(|(name, action)| TableConfig::new(TableName::parse(name).unwrap(), action));
        let mut merged = Merged::new(tables, usize::MAX, T0);
        merged.fed_by(0, PEER);
        let (mut naive, mut told) = (Naive::new(), Told::default());
        for deed in &deeds {
            do_merged(&mut merged, deed);
            do_naively(&mut naive, deed);
            if matches!(deed, Deed::Tell) {
                told.apply(merged.take_changes().unwrap_or_default());
            }
        }
        told.apply(merged.take_changes().unwrap_or_default());
        let actions: BTreeMap<String, Action> =
            merged.snapshot().tables.into_iter().map(|table| (table.name.to_string(), table.action)).collect();
        // Without what feeds say.
        let mut own = naive.clone();
        own.values_mut().for_each(|claims| claims.retain(|origin, _| *origin != PEER));
        own.retain(|_, claims| !claims.is_empty());
        let ends = naive.keys().flat_map(|(_, prefix)| [prefix.network(), prefix.broadcast()]);
        let hosts = hosts.into_iter().map(|host| IpAddr::V4(host.into()));
        for address in ends.chain(hosts) {
            let want = if holds(&naive_table(&own, 0), address) {
                Some(Action::Bypass)
            } else if holds(&naive_table(&naive, 1), address) {
                Some(Action::Tarpit)
            } else {
                holds(&naive_table(&naive, 0), address).then_some(Action::FeedBypass)
            };
            let held = |name: &String| {
                let of_table = told.0.iter().filter(|((other, _), _)| other == name);
                holds(&of_table.map(|(_, entry)| entry.clone()).collect::<Vec<_>>(), address)
            };
            let found = actions.iter().filter(|(name, _)| held(name)).map(|(_, action)| *action).min();
            prop_assert_eq!(found, want, "{}", address);
            let said = (0..2).filter(|table| merged.covering(*table, address).is_some_and(|found| !found.entry.negated)
                || merged.own_covering(*table, address).is_some_and(|entry| !entry.negated));
            prop_assert_eq!(said.filter_map(|table| merged.meaning(table, address)).min(), want, "{}", address);
        }
    }

    /// What the kernel counts of a source arrives whole, however often it is asked and whenever it forgets.
    #[test]
    fn every_packet_is_counted_once(
        rounds in proptest::collection::vec((0_u32..8, 1_u64..100, prop::bool::weighted(0.1)), 0..60),
    ) {
        let config = TableConfig {
            counters: true,
            ..TableConfig::new(TableName::parse("block").unwrap(), Action::Drop)
        };
        let mut merged = Merged::new([config], usize::MAX, T0);
        merged.set(0, net("192.0.2.0/30"), MANUAL, listed());
        merged.set(0, net("192.0.2.0/24"), MANUAL, listed());
        let mut kernel: BTreeMap<IpAddr, u64> = BTreeMap::new();
        let mut sent = [0_u64; 2];
        for (host, packets, forgets) in rounds {
            let source = IpAddr::V4((0xc000_0200 + host).into());
            if forgets {
                // Asked before it forgets, as the daemon does often enough; then one more packet than it had, or less.
                kernel.remove(&source);
                let hits: Vec<Hit> = kernel.iter().map(|(source, n)| hit(*source, *n)).collect();
                merged.take_hits(&hits);
            }
            *kernel.entry(source).or_default() += packets;
            sent[usize::from(host < 4)] += packets;
            let hits: Vec<Hit> = kernel.iter().map(|(source, n)| hit(*source, *n)).collect();
            merged.take_hits(&hits);
        }
        let count = |prefix| merged.tally(0).unwrap().counts.get(&net(prefix)).map_or(0, |count| count.packets);
        prop_assert_eq!([count("192.0.2.0/24"), count("192.0.2.0/30")], sent);
    }
}

fn hit(source: IpAddr, packets: u64) -> Hit {
    Hit { source, packets, bytes: packets * 60, last: T0 }
}

/// Whether a table of these entries holds an address.
fn holds(entries: &[Entry], address: IpAddr) -> bool {
    let around = entries.iter().filter(|entry| entry.prefix.contains(&address));
    around.max_by_key(|entry| entry.prefix.prefix_len()).is_some_and(|entry| !entry.negated)
}
