//! The compiled tables against a naive reference.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mailgate_lists::{Action, Change, Entry, Snapshot, Table, TableName};
use mailgate_model::{ManualClock, Timestamp};
use proptest::prelude::*;

use super::area::Area;
use super::engine::{Backing, Engine, News, Part};
use super::{Memory, PacketFilter};
use crate::firewall::RuleSet;

/// What is done with a source, and the tables that hold it.
type Said = (Option<Action>, Vec<TableName>);

const ACTIONS: [Action; 7] = [
    Action::Bypass,
    Action::Drop,
    Action::Reject,
    Action::Tarpit,
    Action::FeedBypass,
    Action::Grey,
    Action::Score,
];

fn name(n: usize) -> TableName {
    TableName::parse(&format!("t{n}")).unwrap()
}

fn said(filter: &Memory, ip: IpAddr) -> Said {
    let verdict = filter.verdict(ip);
    (verdict.action, verdict.tables)
}

/// Tables as lists of entries, asked one by one.
#[derive(Debug, Clone, Default)]
struct Naive(Vec<Listed>);

/// One table: its action, and prefixes with whether they are holes.
type Listed = (Action, Vec<(IpNet, bool)>);

impl Naive {
    fn verdict(&self, ip: IpAddr) -> Said {
        let holds = |entries: &[(IpNet, bool)]| {
            let around = entries.iter().filter(|(net, _)| net.contains(&ip));
            around.max_by_key(|(net, _)| net.prefix_len()).is_some_and(|(_, hole)| !hole)
        };
        let hits: Vec<usize> = (0..self.0.len()).filter(|n| holds(&self.0[*n].1)).collect();
        (hits.iter().map(|n| self.0[*n].0).min(), hits.iter().map(|n| name(*n)).collect())
    }

    fn add(&mut self, table: usize, net: IpNet, hole: bool) {
        let entries = &mut self.0[table].1;
        entries.retain(|(other, _)| *other != net);
        entries.push((net, hole));
    }

    fn delete(&mut self, table: usize, net: IpNet) {
        self.0[table].1.retain(|(other, _)| *other != net);
    }

    fn snapshot(&self) -> Snapshot {
        let table = |(n, (action, entries)): (usize, &Listed)| {
            let mut entries: Vec<Entry> = entries.iter().map(|(net, hole)| entry(*net, *hole)).collect();
            entries.sort_by_key(|entry| entry.prefix);
            Table { name: name(n), action: *action, entries: Arc::new(entries.into()) }
        };
        Snapshot { tables: self.0.iter().enumerate().map(table).collect() }
    }

    /// First, last and neighbouring addresses of every prefix.
    fn boundaries(&self) -> Vec<IpAddr> {
        let mut all = Vec::new();
        for (net, _) in self.0.iter().flat_map(|(_, entries)| entries) {
            match net {
                IpNet::V4(net) => {
                    let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
                    for ip in
                        [first, last, first.wrapping_sub(1), last.wrapping_add(1), first ^ 1, last ^ 0x80]
                    {
                        all.push(Ipv4Addr::from(ip).into());
                    }
                }
                IpNet::V6(net) => {
                    let (first, last) = (u128::from(net.network()), u128::from(net.broadcast()));
                    for ip in
                        [first, last, first.wrapping_sub(1), last.wrapping_add(1), first ^ 1, last ^ 1 << 64]
                    {
                        all.push(Ipv6Addr::from(ip).into());
                    }
                }
            }
        }
        // A mapped address is asked as IPv4; the naive side would look among the IPv6 prefixes.
        all.retain(|ip: &IpAddr| ip.to_canonical() == *ip);
        all
    }
}

fn entry(prefix: IpNet, negated: bool) -> Entry {
    Entry { prefix, negated, expires: None }
}

fn memory() -> Memory {
    Memory::new(Arc::new(ManualClock::default()), "a test".into())
}

/// Prefixes that crowd: few different first bytes, so that they overlap.
fn net() -> impl Strategy<Value = IpNet> {
    let v4 = (
        prop_oneof![Just(0_u32), Just(0x0a00_0000), Just(0x0a00_0100), Just(0xffff_ff00)],
        0..600_u32,
        10..=32_u8,
    )
        .prop_map(|(base, more, length)| {
            Ipv4Net::new((base.wrapping_add(more)).into(), length).unwrap().trunc().into()
        });
    let wide4 =
        (any::<u32>(), 9..=32_u8).prop_map(|(ip, n)| Ipv4Net::new(ip.into(), n).unwrap().trunc().into());
    let v6 = (prop_oneof![Just(0_u128), Just(0x2001_0db8 << 96)], 0..40_u32, any::<u8>(), 0..=128_u8)
        .prop_map(|(base, shift, bits, length)| {
            Ipv6Net::new((base | u128::from(bits) << (shift * 3)).into(), length).unwrap().trunc().into()
        });
    prop_oneof![4 => v4, 1 => wide4, 3 => v6]
}

#[derive(Debug, Clone)]
enum Step {
    Add(usize, IpNet, bool),
    Delete(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..12_usize, net(), any::<bool>()).prop_map(|(table, net, hole)| Step::Add(table, net, hole)),
        2 => (0..12_usize, any::<usize>()).prop_map(|(table, at)| Step::Delete(table, at)),
    ]
}

fn probes() -> impl Strategy<Value = Vec<IpAddr>> {
    let v4 = any::<u32>().prop_map(|ip| Ipv4Addr::from(ip).into());
    let near = (0..0x400_u32).prop_map(|ip| Ipv4Addr::from(0x0a00_0000 + ip).into());
    let v6 = any::<u64>().prop_map(|ip| Ipv6Addr::from((0x2001_0db8_u128 << 96) | u128::from(ip)).into());
    prop::collection::vec(prop_oneof![v4, near, v6], 200)
}

fn same(filter: &Memory, naive: &Naive, probes: &[IpAddr]) -> Result<(), TestCaseError> {
    for ip in naive.boundaries().iter().chain(probes) {
        prop_assert_eq!(said(filter, *ip), naive.verdict(*ip), "of {}", ip);
    }
    Ok(())
}

fn tables(start: Vec<(usize, IpNet, bool)>) -> Naive {
    let mut naive = Naive((0..12).map(|n| (ACTIONS[n % 5], Vec::new())).collect());
    for (table, net, hole) in start {
        naive.add(table, net, hole);
    }
    naive
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn compiled_tables_answer_as_naive_ones_also_after_changes_in_place(
        start in prop::collection::vec((0..12_usize, net(), any::<bool>()), 0..60),
        steps in prop::collection::vec(step(), 1..60),
        probes in probes(),
    ) {
        let mut naive = tables(start);
        let filter = memory();
        filter.apply(vec![Change::Reload(naive.snapshot())]).unwrap();
        same(&filter, &naive, &probes)?;
        for step in steps {
            let change = match step {
                Step::Add(table, net, hole) => {
                    naive.add(table, net, hole);
                    Change::Add(name(table), entry(net, hole))
                }
                Step::Delete(table, at) => {
                    let entries = &naive.0[table].1;
                    if entries.is_empty() { continue }
                    let net = entries[at % entries.len()].0;
                    naive.delete(table, net);
                    Change::Delete(name(table), net)
                }
            };
            filter.apply(vec![change]).unwrap();
        }
        same(&filter, &naive, &probes)?;
        let anew = memory();
        anew.apply(vec![Change::Reload(naive.snapshot())]).unwrap();
        for ip in naive.boundaries().iter().chain(&probes) {
            prop_assert_eq!(filter.verdict(*ip), anew.verdict(*ip), "of {}", ip);
        }
    }

    #[test]
    fn a_batch_of_changes_is_the_same_as_one_by_one(
        start in prop::collection::vec((0..12_usize, net(), any::<bool>()), 0..40),
        steps in prop::collection::vec((0..12_usize, net(), any::<Option<bool>>()), 1..80),
        probes in probes(),
    ) {
        let mut naive = tables(start);
        let filter = memory();
        filter.apply(vec![Change::Reload(naive.snapshot())]).unwrap();
        let mut changes = Vec::new();
        for (table, net, hole) in steps {
            match hole {
                Some(hole) => {
                    naive.add(table, net, hole);
                    changes.push(Change::Add(name(table), entry(net, hole)));
                }
                None => {
                    naive.delete(table, net);
                    changes.push(Change::Delete(name(table), net));
                }
            }
        }
        filter.apply(changes).unwrap();
        same(&filter, &naive, &probes)?;
    }
}

/// A generator with a known start, so that a failure can be repeated.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

#[test]
fn a_hundred_thousand_hosts_are_found_and_strangers_are_not_while_growing_in_place() {
    let mut random = Random(7);
    let filter = memory();
    let first = tables(vec![(3, "192.0.2.1/32".parse().unwrap(), false)]);
    filter.apply(vec![Change::Reload(first.snapshot())]).unwrap();
    let mut all = std::collections::HashSet::new();
    for _ in 0..100 {
        let hosts: Vec<u32> = (0..1000).map(|_| random.next() as u32 | 1).collect();
        let change = |ip: &u32| Change::Add(name(3), entry(Ipv4Net::from(Ipv4Addr::from(*ip)).into(), false));
        filter.apply(hosts.iter().map(change).collect()).unwrap();
        all.extend(hosts);
    }
    assert_eq!(filter.status().entries4, all.len() as u64 + 1);
    for ip in &all {
        assert_eq!(filter.verdict(Ipv4Addr::from(*ip).into()).action, Some(Action::Tarpit));
    }
    for _ in 0..100_000 {
        let ip = random.next() as u32;
        let want = all.contains(&ip) || ip == 0xc000_0201;
        assert_eq!(
            filter.verdict(Ipv4Addr::from(ip).into()).action.is_some(),
            want,
            "{}",
            Ipv4Addr::from(ip)
        );
    }
}

#[test]
fn many_sets_of_tables_over_large_prefixes_use_slots_for_whole_blocks() {
    // Twelve tables, nested prefixes: more sets than fit into a nibble.
    let mut naive = tables(Vec::new());
    for n in 0..12 {
        naive.add(n, Ipv4Net::new(Ipv4Addr::new(10, 0, 0, 0), 12 + n as u8).unwrap().into(), false);
        naive.add(n, Ipv4Net::new(Ipv4Addr::new(10, 0, n as u8, 7), 32).unwrap().into(), n % 2 == 0);
    }
    let filter = memory();
    filter.apply(vec![Change::Reload(naive.snapshot())]).unwrap();
    let check = |naive: &Naive| {
        for ip in (0x0a00_0000..0x0a10_1000_u32).step_by(0x80).chain(0x0a00_0000..0x0a00_1000) {
            let ip = Ipv4Addr::from(ip).into();
            assert_eq!(said(&filter, ip), naive.verdict(ip), "{ip}");
        }
    };
    check(&naive);
    let net: IpNet = "10.0.0.0/14".parse().unwrap();
    naive.add(5, net, true);
    filter.apply(vec![Change::Add(name(5), entry(net, true))]).unwrap();
    check(&naive);
    naive.delete(5, net);
    naive.delete(0, "10.0.0.0/12".parse().unwrap());
    let deletions =
        vec![Change::Delete(name(5), net), Change::Delete(name(0), "10.0.0.0/12".parse().unwrap())];
    filter.apply(deletions).unwrap();
    check(&naive);
}

#[test]
fn everything_but_one_host_by_a_single_entry_and_back() {
    let mut naive = tables(vec![(1, "10.1.0.0/16".parse().unwrap(), false)]);
    let filter = memory();
    filter.apply(vec![Change::Reload(naive.snapshot())]).unwrap();
    for (net, hole) in
        [("0.0.0.0/0", false), ("192.0.2.7/32", true), ("::/0", false), ("2001:db8::/61", true)]
    {
        let net: IpNet = net.parse().unwrap();
        naive.add(3, net, hole);
        filter.apply(vec![Change::Add(name(3), entry(net, hole))]).unwrap();
        same(&filter, &naive, &["203.0.113.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]).unwrap();
    }
    for net in ["0.0.0.0/0", "::/0"] {
        let net: IpNet = net.parse().unwrap();
        naive.delete(3, net);
        filter.apply(vec![Change::Delete(name(3), net)]).unwrap();
        same(&filter, &naive, &["203.0.113.1".parse().unwrap()]).unwrap();
    }
}

#[test]
fn an_entry_that_has_ended_is_left_out() {
    let clock = ManualClock::at(Timestamp::from_secs(100));
    let filter = Memory::new(Arc::new(clock), "a test".into());
    let at = |secs| Some(Timestamp::from_secs(secs));
    let entry = |ip: &str, expires| Entry { prefix: ip.parse().unwrap(), negated: false, expires };
    let entries =
        vec![entry("192.0.2.1/32", at(100)), entry("192.0.2.2/32", at(101)), entry("192.0.2.3/32", None)];
    let table = Table { name: name(0), action: Action::Tarpit, entries: Arc::new(entries.into()) };
    filter.apply(vec![Change::Reload(Snapshot { tables: vec![table] })]).unwrap();
    let action = |ip: &str| filter.verdict(ip.parse().unwrap()).action;
    assert_eq!(action("192.0.2.1"), None);
    assert_eq!(action("192.0.2.2"), Some(Action::Tarpit));
    assert_eq!(action("::ffff:192.0.2.3"), Some(Action::Tarpit), "a mapped address is the IPv4 one");
}

#[test]
fn a_change_of_a_table_that_is_not_there_is_ignored_and_counted() {
    let filter = memory();
    filter.apply(vec![Change::Reload(tables(Vec::new()).snapshot())]).unwrap();
    let unknown = TableName::parse("elsewhere").unwrap();
    let net: IpNet = "192.0.2.1/32".parse().unwrap();
    let applied = filter
        .apply(vec![
            Change::Add(unknown, entry(net, false)),
            Change::Delete(name(0), net),
            Change::Add(name(0), entry(net, false)),
        ])
        .unwrap();
    assert_eq!((applied.added, applied.deleted, applied.ignored, applied.entries), (1, 0, 2, 1));
}

#[test]
fn more_tables_than_bits_are_refused_and_the_old_ones_stay() {
    let filter = memory();
    let naive = tables(vec![(1, "192.0.2.0/24".parse().unwrap(), false)]);
    filter.apply(vec![Change::Reload(naive.snapshot())]).unwrap();
    let table = |n| Table { name: name(n), action: Action::Drop, entries: Arc::default() };
    let refused = filter.apply(vec![Change::Reload(Snapshot { tables: (0..65).map(table).collect() })]);
    assert!(matches!(refused, Err(super::Error::Tables { found: 65 })));
    assert_eq!(filter.verdict("192.0.2.9".parse().unwrap()).action, Some(Action::Drop));
}

/// Memory that can be had only while the flag says so.
pub(super) struct Scarce(pub(super) Arc<std::sync::atomic::AtomicBool>);

impl Backing for Scarce {
    fn area(&self, _: Part, words: usize) -> Result<Area, super::Error> {
        if self.0.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(super::Error::kernel(
                "memory for the tables",
                std::io::ErrorKind::OutOfMemory.into(),
            ));
        }
        Ok(Area::anonymous(words).unwrap())
    }

    fn publish(&self, _: &News<'_>, _: Option<std::time::Duration>) -> Result<(), super::Error> {
        Ok(())
    }

    fn confirm(&self) -> Result<(), super::Error> {
        Ok(())
    }

    fn roll_back(&self) -> Result<(), super::Error> {
        Ok(())
    }

    fn interface(&self, _: &str) -> u32 {
        0
    }
}

#[test]
fn changes_that_found_no_memory_are_in_force_after_the_next_call_that_does() {
    let scarce = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut engine = Engine::new(
        Box::new(Scarce(Arc::clone(&scarce))),
        Arc::new(ManualClock::default()),
        RuleSet::default(),
    );
    engine.apply(vec![Change::Reload(tables(Vec::new()).snapshot())]).unwrap();
    let add = |text: &str| Change::Add(name(1), entry(text.parse().unwrap(), false));
    let says = |engine: &Engine, ip: &str| engine.current().verdict(ip.parse().unwrap()).action;
    engine.apply(vec![add("10.0.0.0/8")]).unwrap();
    scarce.store(true, std::sync::atomic::Ordering::Relaxed);
    // Too many for in place, so memory is asked for.
    let many = (0..2000_u32).map(|n| add(&format!("{}/32", Ipv4Addr::from(0xc000_0000 + n)))).collect();
    assert!(engine.apply(many).is_err());
    assert_eq!(says(&engine, "192.0.0.1"), None);
    assert_eq!(says(&engine, "10.1.1.1"), Some(Action::Drop), "the verdicts of before stay");
    let reload = Change::Reload(tables(vec![(1, "10.0.0.0/8".parse().unwrap(), false)]).snapshot());
    assert!(engine.apply(vec![reload]).is_err());
    scarce.store(false, std::sync::atomic::Ordering::Relaxed);
    engine.apply(vec![add("203.0.113.1/32")]).unwrap();
    for ip in ["192.0.0.1", "10.1.1.1", "203.0.113.1"] {
        assert_eq!(says(&engine, ip), Some(Action::Drop), "{ip}");
    }
}

#[test]
fn a_local_network_passes_the_filter_whatever_table_drops_it() {
    let backing = Scarce(Arc::default());
    let mut engine = Engine::new(Box::new(backing), Arc::new(ManualClock::default()), RuleSet::default());
    engine.protect(&["10.1.0.0/16".parse().unwrap(), "127.0.0.0/8".parse().unwrap()]).unwrap();
    let drop = |text: &str| vec![(1, text.parse().unwrap(), false)];
    engine.apply(vec![Change::Reload(tables(drop("10.0.0.0/8")).snapshot())]).unwrap();
    let says = |engine: &Engine, ip: &str| engine.current().verdict(ip.parse().unwrap()).action;
    assert_eq!(says(&engine, "10.2.0.1"), Some(Action::Drop));
    assert_eq!(says(&engine, "10.1.0.1"), Some(Action::Bypass));
    engine.apply(vec![Change::Add(name(1), entry("10.1.2.3/32".parse().unwrap(), false))]).unwrap();
    assert_eq!(says(&engine, "10.1.2.3"), Some(Action::Bypass), "also by an entry that came later");
    assert_eq!(says(&engine, "127.0.0.1"), None, "loopback meets no filter");
}

#[test]
fn tables_beyond_the_memory_limit_are_refused_before_anything_changes_and_the_error_says_what_to_do() {
    let filter = memory().limited(12 << 20);
    filter
        .apply(vec![Change::Reload(tables(vec![(1, "10.0.0.0/8".parse().unwrap(), false)]).snapshot())])
        .unwrap();
    let hosts = |count: u32| {
        let entries = (0..count).map(|n| entry(Ipv4Net::from(Ipv4Addr::from(0xc000_0000 + n)).into(), false));
        let table = Table { name: name(1), action: Action::Drop, entries: Arc::new(entries.collect()) };
        vec![Change::Reload(Snapshot { tables: vec![table] })]
    };
    let action = |ip: &str| filter.verdict(ip.parse().unwrap()).action;
    // Few enough by themselves, too many compiled; then too many at first sight.
    for count in [400_000, 2_000_000] {
        let refused = filter.apply(hosts(count)).unwrap_err();
        assert!(matches!(refused, super::Error::Memory { limit: 0xc0_0000, .. }), "{refused}");
        assert!(refused.to_string().contains(&format!("({count} IPv4 and 0 IPv6 prefixes)")), "{refused}");
        assert!(refused.to_string().contains("edge.packet.memory_limit is 12 MiB: raise it"), "{refused}");
        assert_eq!(refused.permanence(), mailgate_model::Permanence::Permanent);
        assert_eq!(action("192.0.0.1"), None);
        assert_eq!(action("10.1.1.1"), Some(Action::Drop), "the verdicts of before stay");
    }
    let status = filter.status();
    assert!(status.bytes + status.bytes_kept <= status.bytes_limit, "{status:?}");
    filter.apply(hosts(10_000)).unwrap();
    assert_eq!(action("192.0.0.1"), Some(Action::Drop));
}
