//! Tables to generations: takes changes, keeps the shadow of both families, publishes memory.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use mailgate_common::{
    Destination, LINE_WORDS, PAGE_WORDS, Policy, TABLES, Verdict as Decision, decide, header, lookup4,
    lookup6,
};
use mailgate_lists::{Action, Change, Entry, Snapshot, TableName};
use mailgate_model::{Clock, Timestamp};

use super::area::Area;
use super::generation4::Generation4;
use super::generation6::Generation6;
use super::shadow::Shadow;
use super::{Applied, Error, Verdict};

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// Where generations live: memory of our own, or maps of the kernel.
pub(super) trait Backing: Send + Sync {
    /// Zeroed memory for a generation.
    fn area(&self, family: Family, words: usize) -> Result<Area, Error>;
    /// From now on lookups use this one (`None`: the family has no entries).
    fn publish(&self, family: Family, area: Option<&Area>) -> Result<(), Error>;
}

/// What distinguishes one generation from the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) number: u64,
    pub(super) seed: u64,
}

/// Changes of one call, beyond which a family is compiled anew instead of changed in place.
const IN_PLACE_MIN: usize = 1000;
/// The same as a share of the entries: one in this many.
const IN_PLACE_SHARE: usize = 8;

/// Bit of the local networks, the last one; the tables of the configuration have those before it.
const LOCAL: u8 = TABLES as u8 - 1;

/// The header last: until then the memory is no generation.
pub(super) fn write_header(area: &Area, policy: &Policy, stamp: Stamp, entries: usize) {
    area.store(header::GENERATION as usize, stamp.number);
    area.store(header::ENTRIES as usize, entries as u64);
    let masks = [policy.bypass, policy.drop, policy.reject, policy.tarpit];
    for (n, mask) in masks.into_iter().enumerate() {
        area.store(header::POLICY as usize + n, mask);
    }
    area.store(header::MAGIC_WORD as usize, header::MAGIC);
}

/// The tables and their compiled form.
pub(super) struct Engine {
    backing: Box<dyn Backing>,
    clock: Arc<dyn Clock>,
    tables: Arc<[(TableName, Action)]>,
    index: HashMap<TableName, u8>,
    policy: Policy,
    shadow4: Shadow<u32>,
    shadow6: Shadow<u128>,
    generation4: Option<Generation4>,
    generation6: Option<Generation6>,
    /// Networks that no table keeps out.
    local: Vec<IpNet>,
    number: u64,
    /// A change of this family did not get into force; only compiling anew brings it there.
    stale4: bool,
    stale6: bool,
}

/// Changes of single entries that are in the shadow and not yet in the generations.
#[derive(Default)]
struct Pending {
    v4: Vec<(u32, u8)>,
    v6: Vec<(u128, u8)>,
}

impl Engine {
    /// No tables.
    pub(super) fn new(backing: Box<dyn Backing>, clock: Arc<dyn Clock>) -> Self {
        Self {
            backing,
            clock,
            tables: Arc::default(),
            index: HashMap::new(),
            policy: Policy::default(),
            shadow4: Shadow::new(),
            shadow6: Shadow::new(),
            generation4: None,
            generation6: None,
            local: Vec::new(),
            number: 0,
            stale4: false,
            stale6: false,
        }
    }

    /// Networks whose packets pass whatever the tables say. Those of loopback never come in by an interface.
    #[cfg_attr(
        not(any(feature = "ebpf", test)),
        expect(dead_code, reason = "at accept the edge looks at the local networks itself")
    )]
    pub(super) fn spare(&mut self, local: &[IpNet]) {
        self.local = local.iter().filter(|network| !network.addr().is_loopback()).copied().collect();
    }

    /// As [`super::PacketFilter::apply`].
    pub(super) fn apply(&mut self, changes: Vec<Change>) -> Result<Applied, Error> {
        let now = self.clock.now();
        let mut applied = Applied::default();
        let mut pending = Pending::default();
        for change in changes {
            match change {
                Change::Add(table, entry) => {
                    let live = entry.expires.is_none_or(|at| at > now);
                    if self.note(&table, entry.prefix, live.then_some(entry.negated), &mut pending) {
                        applied.added += 1;
                    } else {
                        applied.ignored += 1;
                    }
                }
                Change::Delete(table, prefix) => {
                    if self.note(&table, prefix, None, &mut pending) {
                        applied.deleted += 1;
                    } else {
                        applied.ignored += 1;
                    }
                }
                Change::Reload(snapshot) => {
                    // What came before it is part of it; if it fails, that is brought into force all the same.
                    if let Err(error) = self.reload(&snapshot, now, &mut applied) {
                        self.settle(&pending, &mut applied)?;
                        return Err(error);
                    }
                    pending = Pending::default();
                }
            }
        }
        self.settle(&pending, &mut applied)?;
        applied.entries = (self.shadow4.len() + self.shadow6.len()) as u64;
        Ok(applied)
    }

    /// Puts one change into the shadow; `false` when it changes nothing.
    fn note(&mut self, table: &TableName, prefix: IpNet, entry: Option<bool>, pending: &mut Pending) -> bool {
        let Some(table) = self.index.get(table).copied() else {
            tracing::warn!(target: "edge", event = "packet", %table, "a change names a table that is not known");
            return false;
        };
        match prefix.trunc() {
            IpNet::V4(net) => {
                let prefix = (u32::from(net.network()), net.prefix_len());
                let changed = self.shadow4.set(prefix, table, entry);
                if changed {
                    pending.v4.push(prefix);
                }
                changed
            }
            IpNet::V6(net) => {
                let prefix = (u128::from(net.network()), net.prefix_len());
                let changed = self.shadow6.set(prefix, table, entry);
                if changed {
                    pending.v6.push(prefix);
                }
                changed
            }
        }
    }

    fn reload(&mut self, snapshot: &Snapshot, now: Timestamp, applied: &mut Applied) -> Result<(), Error> {
        let found = snapshot.tables.len();
        if found > TABLES {
            return Err(Error::Tables { found });
        }
        let mut policy = policy(snapshot);
        // Only drop reaches packets; what else a table says is decided at accept, where local networks come first.
        let mut local = self.local.as_slice();
        if policy.drop == 0 {
            local = &[];
        } else if found > usize::from(LOCAL) && !local.is_empty() {
            tracing::warn!(target: "edge", event = "packet", "too many tables to spare local networks in the kernel");
            local = &[];
        }
        if !local.is_empty() {
            policy.bypass |= 1 << LOCAL;
        }
        let (shadow4, shadow6) = shadows(snapshot, now, local);
        let stamp = self.stamp();
        let generation4 = compile4(&shadow4, &policy, stamp, &*self.backing)?;
        let generation6 = compile6(&shadow6, &policy, stamp, &*self.backing)?;
        // If the second fails, the first has to be taken back by the next call.
        (self.stale4, self.stale6) = (true, true);
        self.backing.publish(Family::V4, generation4.as_ref().map(|new| &**new.area()))?;
        self.backing.publish(Family::V6, generation6.as_ref().map(|new| &**new.area()))?;
        self.policy = policy;
        self.tables =
            snapshot.tables.iter().map(|table| (table.name.clone(), table.action)).collect::<Vec<_>>().into();
        self.index = (0..).zip(&snapshot.tables).map(|(n, table)| (table.name.clone(), n)).collect();
        (self.shadow4, self.shadow6) = (shadow4, shadow6);
        (self.generation4, self.generation6) = (generation4, generation6);
        (self.stale4, self.stale6) = (false, false);
        applied.rebuilt += 2;
        Ok(())
    }

    /// Brings the generations up to date with the shadow: in place if that is less work and there is room.
    fn settle(&mut self, pending: &Pending, applied: &mut Applied) -> Result<(), Error> {
        let in_place = |changes: usize, entries: usize| changes <= IN_PLACE_MIN.max(entries / IN_PLACE_SHARE);
        let (stale4, stale6) = (self.stale4, self.stale6);
        self.stale4 |= !pending.v4.is_empty();
        self.stale6 |= !pending.v6.is_empty();
        if self.stale4 {
            let done = !stale4
                && in_place(pending.v4.len(), self.shadow4.len())
                && self.generation4.as_mut().is_some_and(|generation| {
                    pending.v4.iter().all(|prefix| generation.refresh(&self.shadow4, *prefix).is_ok())
                });
            if !done {
                let stamp = self.stamp();
                let new = compile4(&self.shadow4, &self.policy, stamp, &*self.backing)?;
                self.backing.publish(Family::V4, new.as_ref().map(|new| &**new.area()))?;
                self.generation4 = new;
                applied.rebuilt += 1;
            }
            self.stale4 = false;
        }
        if self.stale6 {
            let done = !stale6
                && in_place(pending.v6.len(), self.shadow6.len())
                && self.generation6.as_mut().is_some_and(|generation| {
                    pending.v6.iter().all(|prefix| generation.refresh(&self.shadow6, *prefix).is_ok())
                });
            if !done {
                let stamp = self.stamp();
                let new = compile6(&self.shadow6, &self.policy, stamp, &*self.backing)?;
                self.backing.publish(Family::V6, new.as_ref().map(|new| &**new.area()))?;
                self.generation6 = new;
                applied.rebuilt += 1;
            }
            self.stale6 = false;
        }
        Ok(())
    }

    fn stamp(&mut self) -> Stamp {
        self.number += 1;
        // The standard library's hasher is keyed by the system's randomness.
        let mut hasher = std::hash::RandomState::new().build_hasher();
        hasher.write_u64(self.number);
        Stamp { number: self.number, seed: hasher.finish() }
    }

    /// What lookups use now.
    pub(super) fn current(&self) -> Current {
        Current {
            area4: self.generation4.as_ref().map(|generation| Arc::clone(generation.area())),
            area6: self.generation6.as_ref().map(|generation| Arc::clone(generation.area())),
            policy: self.policy,
            tables: Arc::clone(&self.tables),
        }
    }

    /// Number of the newest generation, prefixes of IPv4 and IPv6.
    pub(super) fn figures(&self) -> (u64, u64, u64) {
        (self.number, self.shadow4.len() as u64, self.shadow6.len() as u64)
    }

    /// Numbers of generations go on from here.
    #[cfg_attr(
        not(feature = "ebpf"),
        expect(dead_code, reason = "only pinned generations outlive the daemon")
    )]
    pub(super) fn continue_from(&mut self, number: u64) {
        self.number = self.number.max(number);
    }
}

/// What lookups in user space use.
#[derive(Clone, Default)]
pub(super) struct Current {
    area4: Option<Arc<Area>>,
    area6: Option<Arc<Area>>,
    policy: Policy,
    tables: Arc<[(TableName, Action)]>,
}

impl Current {
    /// As [`super::PacketFilter::verdict`].
    pub(super) fn verdict(&self, source: IpAddr) -> Verdict {
        let set = match source.to_canonical() {
            IpAddr::V4(ip) => self
                .area4
                .as_ref()
                .map_or(0, |area| lookup4(&area.view::<{ LINE_WORDS as usize }>(), ip.into())),
            IpAddr::V6(ip) => self.area6.as_ref().map_or(0, |area| {
                let address = u128::from(ip);
                lookup6(&area.view::<{ PAGE_WORDS as usize }>(), (address >> 64) as u64, address as u64)
            }),
        };
        let action = match decide(set, &self.policy, Destination::Reception) {
            Decision::Bypass => Some(Action::Bypass),
            Decision::Drop => Some(Action::Drop),
            Decision::Reject => Some(Action::Reject),
            Decision::Tarpit => Some(Action::Tarpit),
            Decision::Unknown => None,
        };
        let holds = |n: usize| set >> n & 1 == 1;
        let names = self.tables.iter().enumerate().filter(|(n, _)| holds(*n));
        Verdict { action, tables: names.map(|(_, (name, _))| name.clone()).collect() }
    }

    /// Bytes of the compiled tables.
    pub(super) fn bytes(&self) -> u64 {
        [&self.area4, &self.area6].into_iter().flatten().map(|area| area.bytes()).sum()
    }

    /// Names of the tables, in order.
    pub(super) fn names(&self) -> Vec<String> {
        self.tables.iter().map(|(name, _)| name.to_string()).collect()
    }
}

fn compile4(
    shadow: &Shadow<u32>,
    policy: &Policy,
    stamp: Stamp,
    backing: &dyn Backing,
) -> Result<Option<Generation4>, Error> {
    if shadow.is_empty() { Ok(None) } else { Generation4::build(shadow, policy, stamp, backing).map(Some) }
}

fn compile6(
    shadow: &Shadow<u128>,
    policy: &Policy,
    stamp: Stamp,
    backing: &dyn Backing,
) -> Result<Option<Generation6>, Error> {
    if shadow.is_empty() { Ok(None) } else { Generation6::build(shadow, policy, stamp, backing).map(Some) }
}

/// Both shadows of a snapshot; entries that have ended are left out.
fn shadows(snapshot: &Snapshot, now: Timestamp, local: &[IpNet]) -> (Shadow<u32>, Shadow<u128>) {
    let size = snapshot.tables.iter().map(|table| table.entries.len()).sum();
    let (mut v4, mut v6) = (Vec::with_capacity(size), Vec::new());
    let mut push = |prefix: IpNet, table: u8, hole: bool| match prefix.trunc() {
        IpNet::V4(net) => v4.push(((u32::from(net.network()), net.prefix_len()), table, hole)),
        IpNet::V6(net) => v6.push(((u128::from(net.network()), net.prefix_len()), table, hole)),
    };
    local.iter().for_each(|network| push(*network, LOCAL, false));
    for (n, table) in (0_u8..).zip(&snapshot.tables) {
        let live = table.entries.iter().filter(|entry| entry.expires.is_none_or(|at| at > now));
        for Entry { prefix, negated, .. } in live {
            push(*prefix, n, *negated);
        }
    }
    (Shadow::build(v4), Shadow::build(v6))
}

fn policy(snapshot: &Snapshot) -> Policy {
    let mut policy = Policy::default();
    for (n, table) in snapshot.tables.iter().enumerate() {
        let mask = match table.action {
            Action::Bypass => &mut policy.bypass,
            Action::Drop => &mut policy.drop,
            Action::Reject => &mut policy.reject,
            Action::Tarpit => &mut policy.tarpit,
        };
        *mask |= 1 << n;
    }
    policy
}
