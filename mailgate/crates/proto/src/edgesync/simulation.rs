//! Three hosts in a network that loses connections, delays, and restarts hosts at any moment: whatever happens, once it
//! is whole again all three say the same.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1000;
const SKEW: i64 = 300 * SECOND;
const START: i64 = 1_700_000_000_000;
const HOSTS: usize = 3;

/// A host: what it stores, what it has not yet told its replica, its replica.
struct Host {
    replica: Replica,
    store: BTreeMap<Key, Body>,
    told: VecDeque<(Key, Option<Body>)>,
    marks: BTreeMap<Key, (Stamp, i64)>,
    skew: i64,
    starts: u64,
}

/// Two hosts, the smaller first.
#[derive(PartialEq, Eq, PartialOrd, Ord, Clone, Copy, Debug)]
struct Pair(usize, usize);

/// A connection: sessions and frames on their way, by the smaller host first.
struct Link {
    sessions: [Session; 2],
    wires: [VecDeque<Frame>; 2],
}

struct World {
    now: i64,
    hosts: Vec<Host>,
    links: BTreeMap<Pair, Option<Link>>,
    knows: BTreeMap<(usize, usize), (u64, u64)>,
}

#[derive(Debug, Clone)]
enum Step {
    Change { host: usize, key: usize, how: usize },
    Tell { host: usize },
    Carry { link: usize, direction: usize, frames: usize },
    Cut { link: usize },
    Heal { link: usize },
    Restart { host: usize, forgets: bool },
    Compare { link: usize },
    Pass { seconds: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    let (host, link) = (0..HOSTS, 0..HOSTS);
    prop_oneof![
        8 => (host.clone(), 0..5_usize, 0..9_usize).prop_map(|(host, key, how)| Step::Change { host, key, how }),
        6 => host.clone().prop_map(|host| Step::Tell { host }),
        12 => (link.clone(), 0..2_usize, 1..6_usize).prop_map(|(link, direction, frames)| Step::Carry { link, direction, frames }),
        2 => link.clone().prop_map(|link| Step::Cut { link }),
        3 => link.clone().prop_map(|link| Step::Heal { link }),
        1 => (host, any::<bool>()).prop_map(|(host, forgets)| Step::Restart { host, forgets }),
        2 => link.prop_map(|link| Step::Compare { link }),
        4 => prop_oneof![0..30_i64, 0..3000_i64, 0..100_000_i64].prop_map(|seconds| Step::Pass { seconds }),
    ]
}

fn key(number: usize) -> Key {
    match number {
        0 => Key::of(Kind::TUPLE, &["192.0.2.1/32", "a@example.org", "b@example.net"]),
        1 => Key::of(Kind::TUPLE, &["192.0.2.2/32", "", "b@example.net"]),
        2 => Key::of(Kind::NETWORK, &["192.0.2.1/32"]),
        3 => Key::of(Kind::NETWORK, &["2001:db8::/64"]),
        _ => Key::of(Kind::TRAP_ADDRESS, &["trap@example.net"]),
    }
}

impl Host {
    fn new(skew: i64, starts: u64) -> Self {
        let (store, told, marks) = (BTreeMap::new(), VecDeque::new(), BTreeMap::new());
        Self { replica: Replica::new(starts), store, told, marks, skew, starts }
    }

    /// What a greylist does by itself.
    fn change(&mut self, key: Key, how: usize, time: i64) {
        let now = time + self.skew;
        let old = self.store.get(&key).copied().filter(|body| !body.is_over(now));
        let fresh = |state, origin, lasts: i64| Body {
            origin,
            state,
            first: now,
            pass: now,
            expires: now + lasts * SECOND,
            blocked: 1,
            passed: 0,
        };
        let learned = |body: Body| match old {
            Some(old) if old.origin == Origin::Admin => Some(old),
            _ => Some(body),
        };
        let new = match (key.kind, how) {
            (_, 0) => None,
            (Kind::TUPLE, _) => Some(match old {
                Some(old) => Body { blocked: old.blocked + 1, ..old },
                None => fresh(State::Grey, Origin::Learned, 4000),
            }),
            (Kind::TRAP_ADDRESS, _) => {
                Some(old.unwrap_or(Body { expires: NEVER, ..fresh(State::Trapped, Origin::Admin, 0) }))
            }
            (_, 1 | 2) => match old {
                Some(old) if old.state == State::Trapped => Some(old),
                _ => learned(fresh(State::Passed, Origin::Learned, 50_000)),
            },
            (_, 3 | 4) => learned(match old {
                Some(old) if old.state == State::Trapped => {
                    Body { blocked: old.blocked + 1, expires: old.expires.max(now + 5000 * SECOND), ..old }
                }
                _ => fresh(State::Trapped, Origin::Learned, 5000),
            }),
            (_, 5) => Some(fresh(State::Passed, Origin::Admin, 20_000)),
            (_, 6) => Some(fresh(State::Trapped, Origin::Admin, 20_000)),
            (_, _) => old.map(|old| match old.state {
                State::Passed => {
                    Body { passed: old.passed + 1, expires: old.expires.max(now + 50_000 * SECOND), ..old }
                }
                State::Grey | State::Trapped => old,
            }),
        };
        if self.store.get(&key).copied() != new {
            match new {
                Some(body) => drop(self.store.insert(key.clone(), body)),
                None => drop(self.store.remove(&key)),
            }
            self.told.push_back((key, new));
        }
    }

    fn tell(&mut self, time: i64) {
        while let Some((key, body)) = self.told.pop_front() {
            if let Some(applied) = self.replica.local(key, body, time + self.skew) {
                self.apply(&applied, time + self.skew);
            }
        }
        self.keep_marks();
    }

    fn apply(&mut self, applied: &Applied, now: i64) {
        // What is over may have been swept.
        let live = |body: Option<Body>| body.filter(|body| !body.is_over(now));
        if live(self.store.get(&applied.key).copied()) != live(applied.was) {
            return self.replica.missed(applied);
        }
        match applied.is {
            Some(body) => drop(self.store.insert(applied.key.clone(), body)),
            None => drop(self.store.remove(&applied.key)),
        }
    }

    fn keep_marks(&mut self) {
        for Mark { key, stamp, until } in self.replica.take_marks() {
            if until == 0 {
                self.marks.remove(&key)
            } else {
                self.marks.insert(key, (stamp, until))
            };
        }
    }

    fn restart(&mut self, forgets: bool) {
        self.starts += 1000;
        self.replica = Replica::new(self.starts);
        self.told.clear();
        if forgets {
            // The last changes of stamps were not yet on disk.
            self.marks.pop_first();
        }
        for (key, (stamp, until)) in &self.marks {
            self.replica.load(key.clone(), None, *stamp, *until);
        }
        for (key, body) in &self.store {
            self.replica.load(key.clone(), Some(*body), Stamp::default(), 0);
        }
        self.keep_marks();
    }
}

impl World {
    fn new(skews: [i64; HOSTS]) -> Self {
        let hosts = skews.iter().zip(1..).map(|(skew, starts)| Host::new(*skew * SECOND, starts)).collect();
        let links = [Pair(0, 1), Pair(0, 2), Pair(1, 2)].map(|pair| (pair, None)).into_iter().collect();
        Self { now: START, hosts, links, knows: BTreeMap::new() }
    }

    fn pair(link: usize) -> Pair {
        [Pair(0, 1), Pair(0, 2), Pair(1, 2)][link]
    }

    fn heal(&mut self, pair: Pair) {
        let place = self.links.get_mut(&pair).unwrap();
        if place.is_some() {
            return;
        }
        let settings = |own: usize, other: usize| Settings {
            name: own.to_string(),
            takes: Scope::All,
            gives: Scope::All,
            skew: SKEW,
            compares: own < other,
            knows: self.knows.get(&(own, other)).copied().unwrap_or_default(),
        };
        let sessions = [Session::new(settings(pair.0, pair.1)), Session::new(settings(pair.1, pair.0))];
        *place = Some(Link { sessions, wires: [VecDeque::new(), VecDeque::new()] });
    }

    fn cut(&mut self, pair: Pair) {
        if let Some(link) = self.links.get_mut(&pair).unwrap().take() {
            for (session, (own, other)) in link.sessions.iter().zip([(pair.0, pair.1), (pair.1, pair.0)]) {
                self.knows.insert((own, other), session.progress().knows);
            }
        }
    }

    /// Lets one side send what it has to say, some frames, and the other side hear it.
    fn carry(&mut self, pair: Pair, direction: usize, frames: usize) -> bool {
        let Some(Some(link)) = self.links.get_mut(&pair) else { return false };
        let ends = [pair.0, pair.1];
        let (from, to) = (ends[direction], ends[1 - direction]);
        let mut any = false;
        for _ in 0..frames {
            let host = &mut self.hosts[from];
            let time = self.now + host.skew;
            if let Some(frame) = link.sessions[direction].output(&mut host.replica, time) {
                // What is written is read the same.
                let mut wire = Vec::new();
                frame.put(&mut wire);
                let mut buffer = bytes::BytesMut::from(&wire[..]);
                assert_eq!(Frame::take(&mut buffer), Ok(Some(frame.clone())));
                link.wires[direction].push_back(frame);
                any = true;
            }
        }
        for _ in 0..frames {
            let Some(frame) = link.wires[direction].pop_front() else { break };
            any = true;
            let host = &mut self.hosts[to];
            // What is changed, taken back and said by a peer within those milliseconds may stay on one host alone until it
            // ends (docs/sync.md).
            host.tell(self.now);
            let time = self.now + host.skew;
            let applied = link.sessions[1 - direction].input(frame, &mut host.replica, time);
            applied.expect("nobody misbehaves").iter().for_each(|applied| host.apply(applied, time));
            host.keep_marks();
        }
        any
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Change { host, key: number, how } => {
                let now = self.now;
                self.hosts[host].change(key(number), how, now);
            }
            Step::Tell { host } => {
                let now = self.now;
                self.hosts[host].tell(now);
            }
            Step::Carry { link, direction, frames } => drop(self.carry(Self::pair(link), direction, frames)),
            Step::Cut { link } => self.cut(Self::pair(link)),
            Step::Heal { link } => self.heal(Self::pair(link)),
            Step::Restart { host, forgets } => {
                for pair in [0, 1, 2].map(Self::pair) {
                    if pair.0 == host || pair.1 == host {
                        self.cut(pair);
                    }
                }
                self.knows.retain(|(own, _), _| *own != host);
                self.hosts[host].restart(forgets);
            }
            Step::Compare { link } => {
                if let Some(Some(link)) = self.links.get_mut(&Self::pair(link)) {
                    link.sessions[0].compare();
                }
            }
            Step::Pass { seconds } => {
                // A store tells within milliseconds.
                let now = self.now;
                self.hosts.iter_mut().for_each(|host| host.tell(now));
                self.now += seconds * SECOND;
                for host in &mut self.hosts {
                    while host.replica.sweep(self.now + host.skew, 2) {}
                    let now = self.now + host.skew;
                    host.store.retain(|_, body| body.expires.saturating_add(3600 * SECOND) > now);
                    host.keep_marks();
                }
            }
        }
    }

    /// The network is whole; everything is said and compared.
    fn settle(&mut self) {
        for _round in 0..3 {
            for pair in [0, 1, 2].map(Self::pair) {
                self.heal(pair);
                self.links.get_mut(&pair).unwrap().as_mut().unwrap().sessions[0].compare();
            }
            let mut turns = 0;
            loop {
                let now = self.now;
                self.hosts.iter_mut().for_each(|host| host.tell(now));
                let mut any = false;
                for pair in [0, 1, 2].map(Self::pair) {
                    any |= self.carry(pair, 0, 4);
                    any |= self.carry(pair, 1, 4);
                }
                if !any {
                    break;
                }
                turns += 1;
                assert!(turns < 2000, "they talk for ever");
            }
        }
    }

    /// What a host says, without keys of which something ends about now on any host: clocks differ.
    fn says(&self, host: usize) -> BTreeMap<Key, Body> {
        let now = self.now - SKEW..=self.now + SKEW;
        let ends = |key: &Key| {
            let bodies = self.hosts.iter().filter_map(|host| host.store.get(key));
            bodies.into_iter().any(|body| now.contains(&body.expires))
        };
        let live =
            self.hosts[host].store.iter().filter(|(key, body)| body.expires > *now.end() && !ends(key));
        live.map(|(key, body)| (key.clone(), *body)).collect()
    }

    fn check(&self) {
        for host in 1..HOSTS {
            assert_eq!(self.says(0), self.says(host), "hosts 0 and {host}");
        }
        for host in &self.hosts {
            for (key, body) in &host.store {
                if !body.is_over(self.now - SKEW) {
                    assert_eq!(host.replica.state(key), Some(*body), "{key}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn parity_sync_any_schedule_of_loss_partition_restart_and_skew_converges(
        skews in [-120..120_i64, -120..120_i64, -120..120_i64],
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(skews);
        for step in &steps {
            world.step(step);
        }
        world.settle();
        world.check();
    }

    #[test]
    fn parity_sync_records_in_any_order_and_again_come_to_the_same(
        steps in proptest::collection::vec((0..5_usize, 0..9_usize, 0..9000_i64), 1..20),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 1..60),
    ) {
        // Every state that one host ever had of every key.
        let mut host = Host::new(0, 1);
        let (mut now, mut records) = (START, Vec::new());
        for (number, how, pass) in steps {
            now += pass * SECOND;
            host.change(key(number), how, now);
            host.tell(now);
            records.extend(host.replica.range(0, u64::MAX).map(|(_, slot)| slot.record()));
        }
        if records.is_empty() {
            return Ok(());
        }
        let (mut shuffled, mut straight) = (Replica::new(2), Replica::new(3));
        for index in order {
            let _ = shuffled.merge(records[index.index(records.len())].clone(), now, SKEW);
        }
        for record in records.iter().rev() {
            let _ = shuffled.merge(record.clone(), now, SKEW);
        }
        for record in records {
            let _ = straight.merge(record, now, SKEW);
        }
        let live = |replica: &Replica| -> Vec<(Key, Body)> {
            let states = replica.states().filter_map(|(key, body)| Some((key.clone(), body?)));
            states.filter(|(_, body)| !body.is_over(now)).collect()
        };
        prop_assert_eq!(live(&shuffled), live(&straight));
    }
}

#[test]
fn what_has_ended_takes_nothing_along_that_began_later() {
    let mut world = World::new([0; HOSTS]);
    for step in [
        // A command, and a tuple that began anew, which have a stamp; and what others learn after they have ended.
        Step::Change { host: 2, key: 2, how: 5 },
        Step::Change { host: 0, key: 0, how: 1 },
        Step::Pass { seconds: 4000 },
        Step::Change { host: 0, key: 0, how: 1 },
        Step::Pass { seconds: 1556 },
        Step::Change { host: 1, key: 0, how: 1 },
        Step::Pass { seconds: 2444 },
        Step::Pass { seconds: 12_000 },
        Step::Change { host: 0, key: 2, how: 1 },
    ] {
        world.step(&step);
    }
    world.settle();
    world.check();
    assert!(!world.says(0).is_empty());
}
