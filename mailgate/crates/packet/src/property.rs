//! Random tables, random and boundary probes: the compiled structure answers as plain maps of prefixes do, also while
//! changes go in place and at growth. One million probes in all; each test prints the seed that failed.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mailgate_lists::{Action, Change, Entry, Snapshot, Table, TableName};
use mailgate_model::{Clock as _, ManualClock, Timestamp};

use super::engine::Engine;
use super::shadow::Address;
use super::tests::{Random, Scarce};
use crate::firewall::RuleSet;

const START: i64 = 1_000_000;

/// What each table says at each prefix: (tables with an entry, those whose entry is a hole).
type Said<A> = HashMap<(A, u8), (u64, u64)>;

/// Tables as maps of prefixes, asked length by length: nothing is shared with the structure under test.
#[derive(Default)]
struct Reference {
    v4: Said<u32>,
    v6: Said<u128>,
    /// When entries end.
    ends: HashMap<(usize, IpNet), Timestamp>,
}

impl Reference {
    fn set(&self, ip: IpAddr) -> u64 {
        match ip {
            IpAddr::V4(ip) => holding(&self.v4, u32::from(ip)),
            IpAddr::V6(ip) => holding(&self.v6, u128::from(ip)),
        }
    }

    fn say(&mut self, table: usize, net: IpNet, entry: Option<bool>) {
        match net {
            IpNet::V4(net) => say(&mut self.v4, (net.network().into(), net.prefix_len()), table, entry),
            IpNet::V6(net) => say(&mut self.v6, (net.network().into(), net.prefix_len()), table, entry),
        }
        self.ends.remove(&(table, net));
    }

    fn entries(&self) -> usize {
        self.v4.len() + self.v6.len()
    }
}

fn holding<A: Address>(said: &Said<A>, address: A) -> u64 {
    let (mut set, mut decided) = (0, 0);
    for length in (0..=A::BITS).rev() {
        let Some((present, holes)) = said.get(&(address.first(length), length)) else { continue };
        set |= present & !holes & !decided;
        decided |= present;
    }
    set
}

fn say<A: Address>(said: &mut Said<A>, prefix: (A, u8), table: usize, entry: Option<bool>) {
    let bit = 1 << table;
    let (present, holes) = said.entry(prefix).or_default();
    *present = if entry.is_some() { *present | bit } else { *present & !bit };
    *holes = if entry == Some(true) { *holes | bit } else { *holes & !bit };
    if *present == 0 {
        said.remove(&prefix);
    }
}

/// How the prefixes of one run lie.
#[derive(Clone, Copy)]
struct Shape {
    seed: u64,
    tables: usize,
    /// Prefixes at the beginning, for each of six in IPv4 one in IPv6.
    prefixes: usize,
    /// Networks that they crowd in.
    crowds: u64,
    /// Entries of several tables at one prefix.
    together: u64,
    /// Rounds of changes, and changes in each.
    rounds: usize,
    changes: usize,
    probes: usize,
}

/// One run: the filter and the reference, changed and probed side by side.
struct Run {
    shape: Shape,
    random: Random,
    clock: ManualClock,
    engine: Engine,
    reference: Reference,
    known: Vec<(usize, IpNet)>,
    probed: usize,
    rebuilt: u64,
}

impl Run {
    fn new(shape: Shape) -> Self {
        let clock = ManualClock::at(Timestamp::from_secs(START));
        let mut run = Self {
            shape,
            random: Random(shape.seed),
            engine: Engine::new(
                Box::new(Scarce(Arc::default())),
                Arc::new(clock.clone()),
                RuleSet::default(),
            ),
            clock,
            reference: Reference::default(),
            known: Vec::new(),
            probed: 0,
            rebuilt: 0,
        };
        let mut entries = vec![HashMap::new(); shape.tables];
        for _ in 0..shape.prefixes {
            for (table, entry) in run.entries() {
                entries[table].insert(entry.prefix, entry);
            }
        }
        run.reload(entries);
        run
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random.next() % limit
    }

    /// A prefix, near others more often than not.
    fn prefix(&mut self) -> IpNet {
        let bits = self.random.next();
        let crowd = self.below(self.shape.crowds);
        if self.below(7) == 0 {
            let far = u128::from(0x2001_0db8_u32) << 96 | u128::from(crowd) << 80;
            let near = (u128::from(bits) << (self.below(9) * 8)) & ((1 << 80) - 1);
            let length = self.below(129) as u8;
            // A short one now and then: it holds nearly everything.
            let length = if length < 16 && self.below(8) > 0 { 48 + length } else { length };
            return Ipv6Net::new(Ipv6Addr::from(far | near), length).unwrap().trunc().into();
        }
        let length = match self.below(20) {
            0 => 8 + self.below(8),
            1..4 => 16 + self.below(8),
            4..7 => 24,
            7..10 => 25 + self.below(7),
            _ => 32,
        };
        // Crowds of 2^12 addresses; every eighth prefix is anywhere.
        let near = (crowd as u32).wrapping_mul(0x9e37_79b1) & !0xfff | bits as u32 & 0xfff;
        let address = if self.below(8) == 0 { bits as u32 } else { near };
        Ipv4Net::new(Ipv4Addr::from(address), length as u8).unwrap().trunc().into()
    }

    /// Entries of one or more tables at one prefix: holes, and such as end, among them.
    fn entries(&mut self) -> Vec<(usize, Entry)> {
        let prefix = self.prefix();
        let count = 1 + self.below(self.shape.together);
        let mut one = || {
            let table = self.below(self.shape.tables as u64) as usize;
            let ends = self.below(6) == 0;
            let at = START + self.below(2000) as i64;
            let expires = ends.then(|| Timestamp::from_secs(at));
            (table, Entry { prefix, negated: self.below(4) == 0, expires })
        };
        (0..count).map(|_| one()).collect()
    }

    fn reload(&mut self, entries: Vec<HashMap<IpNet, Entry>>) {
        let now = self.clock.now();
        self.reference = Reference::default();
        self.known.clear();
        let mut tables = Vec::new();
        for (n, entries) in entries.into_iter().enumerate() {
            let mut entries: Vec<Entry> = entries.into_values().collect();
            entries.sort_by_key(|entry| entry.prefix);
            for entry in &entries {
                self.tell(n, entry, now);
            }
            tables.push(Table { name: name(n), action: Action::Drop, entries: Arc::new(entries.into()) });
        }
        self.engine.apply(vec![Change::Reload(Snapshot { tables })]).unwrap();
    }

    /// Tells the reference of an entry.
    fn tell(&mut self, table: usize, entry: &Entry, now: Timestamp) {
        let live = entry.expires.is_none_or(|at| at > now);
        self.reference.say(table, entry.prefix, live.then_some(entry.negated));
        if live && let Some(at) = entry.expires {
            self.reference.ends.insert((table, entry.prefix), at);
        }
        self.known.push((table, entry.prefix));
    }

    /// One round: time goes on, entries end, others come and go; then the same questions to both sides.
    fn round(&mut self) {
        let mut changes = Vec::new();
        self.clock.advance(Duration::from_secs(self.random.next() % 60));
        let now = self.clock.now();
        // `lists` tells of an end by a deletion.
        let ended = self.reference.ends.iter().filter(|(_, at)| **at <= now);
        let ended: Vec<(usize, IpNet)> = ended.map(|(entry, _)| *entry).collect();
        for (table, prefix) in ended {
            self.reference.say(table, prefix, None);
            changes.push(Change::Delete(name(table), prefix));
        }
        for _ in 0..self.shape.changes {
            if self.below(3) == 0 && !self.known.is_empty() {
                let at = self.below(self.known.len() as u64) as usize;
                let (table, prefix) = self.known.swap_remove(at);
                self.reference.say(table, prefix, None);
                changes.push(Change::Delete(name(table), prefix));
            } else {
                for (table, entry) in self.entries() {
                    self.tell(table, &entry, now);
                    changes.push(Change::Add(name(table), entry));
                }
            }
        }
        let applied = self.engine.apply(changes).unwrap();
        self.rebuilt += applied.rebuilt;
        assert_eq!(applied.entries, self.reference.entries() as u64, "seed {}", self.shape.seed);
        self.probe();
    }

    fn probe(&mut self) {
        let current = self.engine.current();
        for _ in 0..self.shape.probes {
            let ip = self.question();
            let (found, expected) = (current.set(ip), self.reference.set(ip));
            assert_eq!(found, expected, "of {ip}, seed {}", self.shape.seed);
            self.probed += 1;
        }
    }

    /// An address: the edge of a known prefix, one inside it, one beside it, or any.
    fn question(&mut self) -> IpAddr {
        let bits = self.random.next();
        let wide = u128::from(self.random.next()) << 64 | u128::from(bits);
        if self.known.is_empty() || bits.is_multiple_of(8) {
            let any4 = Ipv4Addr::from(bits as u32 >> 3);
            return if bits.is_multiple_of(16) { any4.into() } else { not_mapped(wide >> 3 | 1 << 125) };
        }
        let at = self.below(self.known.len() as u64) as usize;
        let pick = |first: u128, last: u128| match bits >> 3 & 7 {
            0 => first,
            1 => last,
            2 => first.wrapping_sub(1),
            3 => last.wrapping_add(1),
            4 => first ^ 1 << (bits >> 6 & 31),
            _ => first + wide % (last - first).saturating_add(1).max(1),
        };
        match self.known[at].1 {
            IpNet::V4(net) => {
                let [first, last] = [net.network(), net.broadcast()].map(|ip| u128::from(u32::from(ip)));
                Ipv4Addr::from(pick(first, last) as u32).into()
            }
            IpNet::V6(net) => not_mapped(pick(net.network().into(), net.broadcast().into())),
        }
    }
}

/// A mapped address would be asked as IPv4.
fn not_mapped(address: u128) -> IpAddr {
    let ip = Ipv6Addr::from(address);
    if ip.to_ipv4_mapped().is_some() { Ipv6Addr::LOCALHOST.into() } else { ip.into() }
}

fn name(n: usize) -> TableName {
    TableName::parse(&format!("t{n}")).unwrap()
}

/// All rounds; how many probes, and how many generations were built anew by changes.
fn run(shape: Shape) -> (usize, u64) {
    let mut run = Run::new(shape);
    run.probe();
    for _ in 0..shape.rounds {
        run.round();
    }
    (run.probed, run.rebuilt)
}

#[test]
fn few_tables_that_overlap_answer_as_plain_maps_do() {
    let shape = |seed| Shape {
        seed,
        tables: 5,
        prefixes: 3000,
        crowds: 40,
        together: 2,
        rounds: 40,
        changes: 40,
        probes: 2000,
    };
    let probed: usize = (1..=5).map(|seed| run(shape(seed)).0).sum();
    assert!(probed >= 400_000, "{probed}");
}

#[test]
fn many_tables_make_more_sets_than_fit_into_a_nibble_or_a_small_slot() {
    let shape = |seed| Shape {
        seed,
        tables: 60,
        prefixes: 2000,
        crowds: 10,
        together: 12,
        rounds: 30,
        changes: 60,
        probes: 4000,
    };
    let probed: usize = (11..=13).map(|seed| run(shape(seed)).0).sum();
    assert!(probed >= 350_000, "{probed}");
}

#[test]
fn a_table_that_grows_in_place_is_built_anew_and_still_exact() {
    let shape = |seed| Shape {
        seed,
        tables: 3,
        prefixes: 100,
        crowds: 60_000,
        together: 1,
        rounds: 60,
        changes: 990,
        probes: 4100,
    };
    let results = [21, 22].map(|seed| run(shape(seed)));
    let probed: usize = results.iter().map(|(probed, _)| probed).sum();
    assert!(probed >= 500_000, "{probed}");
    assert!(results.iter().all(|(_, rebuilt)| *rebuilt >= 2), "nothing grew: {results:?}");
}
