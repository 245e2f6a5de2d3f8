//! Tables to generations: takes changes, keeps the shadow of both families, publishes memory.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use mailgate_common::ruleset::RULESET_WORDS;
use mailgate_common::{header, hidden};
use mailgate_lists::{Action, Change, Entries, Snapshot, TableName};
use mailgate_model::{Clock, Timestamp};

use super::area::Area;
use super::compile::{Plans, compile4, compile6, plan4, plan6, shadows};
use super::current::Current;
use super::generation4::Generation4;
use super::generation6::{Generation6, Plan6};
use super::plan4::Plan;
use super::ruleset::{Names, compile};
use super::shadow::Shadow;
use super::{Applied, Config, Error, Standing};
use crate::firewall::{Effective, RuleSet, Unknown, effective, with_behaviour};

/// What an area is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A generation of IPv4.
    V4,
    /// A generation of IPv6.
    V6,
    /// A ruleset.
    Rules,
}

/// New areas, to come into force together; `None` leaves a part as it is, `Some(None)` empties it.
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(
    not(feature = "ebpf"),
    expect(dead_code, reason = "in memory of our own there is nothing to switch")
)]
pub(super) struct News<'a> {
    pub(super) v4: Option<Option<&'a Area>>,
    pub(super) v6: Option<Option<&'a Area>>,
    pub(super) rules: Option<&'a Area>,
}

/// Where areas live: memory of our own, or maps of the kernel.
pub(super) trait Backing: Send + Sync {
    /// Zeroed memory.
    fn area(&self, part: Part, words: usize) -> Result<Area, Error>;
    /// From now on packets meet these. With `within` only for so long, unless [`Backing::confirm`] is called before.
    fn publish(&self, news: &News<'_>, within: Option<Duration>) -> Result<(), Error>;
    /// What was published for a time stays.
    fn confirm(&self) -> Result<(), Error>;
    /// What was published for a time goes now.
    fn roll_back(&self) -> Result<(), Error>;
    /// Number of an interface; 0 when there is none of this name.
    fn interface(&self, name: &str) -> u32;
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

/// Bit of the protected networks; the tables of the configuration have those before [`hidden::FIRST`].
pub(super) const LOCAL: u8 = hidden::PROTECTED;

/// The header last: until then the memory is no generation.
pub(super) fn write_header(area: &Area, stamp: Stamp, entries: usize) {
    area.store(header::GENERATION as usize, stamp.number);
    area.store(header::ENTRIES as usize, entries as u64);
    area.store(header::MAGIC_WORD as usize, header::MAGIC);
}

/// Tables and rules and their compiled form.
pub(super) struct Engine {
    backing: Box<dyn Backing>,
    clock: Arc<dyn Clock>,
    tables: Arc<[(TableName, Action)]>,
    index: HashMap<TableName, u8>,
    shadow4: Shadow<u32>,
    shadow6: Shadow<u128>,
    generation4: Option<Generation4>,
    generation6: Option<Generation6>,
    /// Networks that no table keeps out.
    local: Vec<IpNet>,
    /// Whether the kernel acts on behaviour, and what becomes then of who is unknown.
    behaviour: Option<Unknown>,
    rules: Rules,
    /// What is in force again unless somebody confirms, and when.
    before: Option<(Rules, Timestamp)>,
    number: u64,
    /// Bytes that all of this may take.
    limit: u64,
    /// A change of this family did not get into force; only compiling anew brings it there.
    stale4: bool,
    stale6: bool,
}

/// Rules as meant and in memory.
#[derive(Clone, Default)]
struct Rules {
    set: RuleSet,
    effective: Arc<[Effective]>,
    area: Option<Arc<Area>>,
}

/// Changes of single entries that are in the shadow and not yet in the generations.
#[derive(Default)]
struct Pending {
    v4: Vec<(u32, u8)>,
    v6: Vec<(u128, u8)>,
}

impl Engine {
    /// No tables; the rules come into force with the first reload.
    pub(super) fn new(backing: Box<dyn Backing>, clock: Arc<dyn Clock>, set: RuleSet) -> Self {
        Self {
            backing,
            clock,
            tables: Arc::default(),
            index: HashMap::new(),
            shadow4: Shadow::new(),
            shadow6: Shadow::new(),
            generation4: None,
            generation6: None,
            local: Vec::new(),
            behaviour: None,
            rules: Rules { set, ..Rules::default() },
            before: None,
            number: 0,
            limit: Config::MEMORY_LIMIT,
            stale4: false,
            stale6: false,
        }
    }

    /// From now on the tables may take so many bytes.
    pub(super) fn limit(&mut self, bytes: u64) {
        self.limit = bytes;
    }

    /// As [`super::PacketFilter::protect`].
    pub(super) fn protect(&mut self, networks: &[IpNet]) -> Result<(), Error> {
        let mut wanted: Vec<IpNet> =
            networks.iter().filter(|net| !net.addr().is_loopback()).map(IpNet::trunc).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let before = std::mem::replace(&mut self.local, wanted.clone());
        let mut pending = Pending::default();
        for gone in before.iter().filter(|net| !wanted.contains(net)) {
            self.mark(LOCAL, *gone, None, &mut pending);
        }
        for new in wanted.iter().filter(|net| !before.contains(net)) {
            self.mark(LOCAL, *new, Some(false), &mut pending);
        }
        self.settle(&pending, &mut Applied::default())
    }

    /// The rules in force are to know what behaviour says; before the first reload.
    pub(super) fn heed_behaviour(&mut self, unknown: Option<Unknown>) {
        self.behaviour = unknown;
    }

    /// As [`super::PacketFilter::stand`].
    pub(super) fn stand(&mut self, standings: &[Standing]) -> Result<(), Error> {
        let mut pending = Pending::default();
        for standing in standings {
            for (bit, entry) in standing.marks() {
                self.mark(bit, standing.network, entry, &mut pending);
            }
        }
        self.settle(&pending, &mut Applied::default())
    }

    /// As [`super::PacketFilter::set_rules`].
    pub(super) fn set_rules(&mut self, set: RuleSet, within: Option<Duration>) -> Result<(), Error> {
        self.tick()?;
        if self.before.is_some() {
            return Err(Error::Unconfirmed);
        }
        if self.rules.area.is_none() {
            // No reload yet: they come into force with the first.
            self.rules.set = set;
            return Ok(());
        }
        let rules = self.compile_rules(set, &self.tables, &self.index)?;
        let until = within.map(|within| self.clock.now().plus(within));
        self.backing.publish(&News { rules: rules.area.as_deref(), ..News::default() }, within)?;
        let before = std::mem::replace(&mut self.rules, rules);
        self.before = until.map(|until| (before, until));
        Ok(())
    }

    /// As [`super::PacketFilter::confirm`].
    pub(super) fn confirm(&mut self) -> Result<bool, Error> {
        self.tick()?;
        if self.before.is_none() {
            return Ok(false);
        }
        self.backing.confirm()?;
        self.before = None;
        Ok(true)
    }

    /// As [`super::PacketFilter::roll_back`].
    pub(super) fn roll_back(&mut self) -> Result<bool, Error> {
        let Some((before, until)) = self.before.take() else { return Ok(false) };
        if let Err(error) = self.backing.roll_back() {
            self.before = Some((before, until));
            return Err(error);
        }
        self.rules = before;
        Ok(true)
    }

    /// Takes back what nobody confirmed in time.
    pub(super) fn tick(&mut self) -> Result<bool, Error> {
        match &self.before {
            Some((_, until)) if *until <= self.clock.now() => self.roll_back(),
            _ => Ok(false),
        }
    }

    /// Until when somebody has to confirm.
    pub(super) fn unconfirmed(&self) -> Option<Timestamp> {
        self.before.as_ref().map(|(_, until)| *until)
    }

    /// Names of interfaces may stand for other numbers now.
    pub(super) fn renumber(&mut self) -> Result<(), Error> {
        if self.rules.area.is_none() || self.before.is_some() {
            return Ok(());
        }
        let rules = self.compile_rules(self.rules.set.clone(), &self.tables, &self.index)?;
        self.publish_rules(rules)
    }

    fn publish_rules(&mut self, rules: Rules) -> Result<(), Error> {
        self.backing.publish(&News { rules: rules.area.as_deref(), ..News::default() }, None)?;
        self.rules = rules;
        Ok(())
    }

    /// The rules in force over these tables, in fresh memory.
    fn compile_rules(
        &self,
        set: RuleSet,
        tables: &[(TableName, Action)],
        index: &HashMap<TableName, u8>,
    ) -> Result<Rules, Error> {
        let area = self.backing.area(Part::Rules, RULESET_WORDS as usize)?;
        let mut effective = effective(&set, tables);
        if let Some(unknown) = self.behaviour {
            effective = with_behaviour(effective, unknown);
        }
        let effective: Arc<[Effective]> = effective.into();
        let names = Names {
            table: &|name| index.get(name).copied(),
            interface: &|name| self.backing.interface(name),
        };
        compile(&area, self.number, &set, &effective, &names)?;
        Ok(Rules { set, effective, area: Some(Arc::new(area)) })
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
        self.mark(table, prefix, entry, pending)
    }

    fn mark(&mut self, table: u8, prefix: IpNet, entry: Option<bool>, pending: &mut Pending) -> bool {
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
        if found > usize::from(hidden::FIRST) {
            return Err(Error::Tables { found });
        }
        let tables: Arc<[_]> =
            snapshot.tables.iter().map(|table| (table.name.clone(), table.action)).collect();
        let index = (0..).zip(&*tables).map(|(n, (name, _))| (name.clone(), n)).collect();
        let rules = if tables == self.tables && self.rules.area.is_some() {
            None
        } else if self.before.is_some() {
            // The rules to go back to speak of the tables of before.
            return Err(Error::Unconfirmed);
        } else {
            Some(self.compile_rules(self.rules.set.clone(), &tables, &index)?)
        };
        self.admit(snapshot)?;
        // What behaviour says is in no snapshot.
        let kept = (self.shadow4.entries_of(hidden::BEHAVIOUR), self.shadow6.entries_of(hidden::BEHAVIOUR));
        let (shadow4, shadow6) = shadows(snapshot, now, &self.local, kept);
        let plans = Plans { v4: plan4(&shadow4)?, v6: plan6(&shadow6)? };
        self.fits(plans.bytes()?, &shadow4, &shadow6)?;
        let stamp = self.stamp();
        let generation4 = compile4(&shadow4, plans.v4, stamp, &*self.backing)?;
        let generation6 = compile6(&shadow6, plans.v6, stamp, &*self.backing)?;
        // If it fails half way, the next call has to bring the families of before into force again.
        (self.stale4, self.stale6) = (true, true);
        let news = News {
            v4: Some(generation4.as_ref().map(|new| &**new.area())),
            v6: Some(generation6.as_ref().map(|new| &**new.area())),
            rules: rules.as_ref().and_then(|rules| rules.area.as_deref()),
        };
        self.backing.publish(&news, None)?;
        (self.tables, self.index) = (tables, index);
        (self.shadow4, self.shadow6) = (shadow4, shadow6);
        (self.generation4, self.generation6) = (generation4, generation6);
        (self.stale4, self.stale6) = (false, false);
        self.rules = rules.unwrap_or_else(|| self.rules.clone());
        applied.rebuilt += 2;
        Ok(())
    }

    /// Brings the generations up to date with the shadow: in place if that is less work and there is room.
    fn settle(&mut self, pending: &Pending, applied: &mut Applied) -> Result<(), Error> {
        if self.rules.area.is_none() {
            // An earlier daemon's tables stay in force until the first reload, which takes up what is known by then.
            return Ok(());
        }
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
                let plan = plan4(&self.shadow4)?;
                let other = self.generation6.as_ref().map_or(0, |generation| generation.area().bytes());
                let bytes = plan.as_ref().map_or(Ok(0), Plan::bytes)? + other;
                self.fits(bytes, &self.shadow4, &self.shadow6)?;
                let stamp = self.stamp();
                let new = compile4(&self.shadow4, plan, stamp, &*self.backing)?;
                let v4 = Some(new.as_ref().map(|new| &**new.area()));
                self.backing.publish(&News { v4, ..News::default() }, None)?;
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
                let plan = plan6(&self.shadow6)?;
                let other = self.generation4.as_ref().map_or(0, |generation| generation.area().bytes());
                let bytes = plan.as_ref().map_or(0, Plan6::bytes) + other;
                self.fits(bytes, &self.shadow4, &self.shadow6)?;
                let stamp = self.stamp();
                let new = compile6(&self.shadow6, plan, stamp, &*self.backing)?;
                let v6 = Some(new.as_ref().map(|new| &**new.area()));
                self.backing.publish(&News { v6, ..News::default() }, None)?;
                self.generation6 = new;
                applied.rebuilt += 1;
            }
            self.stale6 = false;
        }
        Ok(())
    }

    /// Whether compiled tables of so many bytes may be made of these.
    fn fits(&self, compiled: u64, shadow4: &Shadow<u32>, shadow6: &Shadow<u128>) -> Result<(), Error> {
        self.check(compiled + shadow4.bytes() + shadow6.bytes(), shadow4.len(), shadow6.len())
    }

    /// Refuses a snapshot of which the entries alone are too many, before anything is made of it.
    fn admit(&self, snapshot: &Snapshot) -> Result<(), Error> {
        // In one table no prefix stands twice: the largest table is the least that there will be.
        let least = |family: fn(&Entries) -> usize| {
            snapshot.tables.iter().map(|table| family(&table.entries)).max().unwrap_or(0)
        };
        let (v4, v6) = (least(Entries::len4), least(Entries::len6));
        self.check(Shadow::<u32>::bytes_of(v4) + Shadow::<u128>::bytes_of(v6), v4, v6)
    }

    fn check(&self, needed: u64, v4: usize, v6: usize) -> Result<(), Error> {
        if needed <= self.limit { Ok(()) } else { Err(Error::Memory { needed, limit: self.limit, v4, v6 }) }
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
            rules: self.rules.area.clone(),
            effective: Arc::clone(&self.rules.effective),
            tables: Arc::clone(&self.tables),
            reception: self.rules.set.reception_ports.first().copied().unwrap_or(25),
        }
    }

    /// The rules as meant.
    pub(super) fn rule_set(&self) -> &RuleSet {
        &self.rules.set
    }

    /// Counts and bytes.
    pub(super) fn figures(&self) -> Figures {
        Figures {
            generation: self.number,
            entries4: self.shadow4.len() as u64,
            entries6: self.shadow6.len() as u64,
            kept: self.shadow4.bytes() + self.shadow6.bytes(),
            limit: self.limit,
        }
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

/// What the engine tells of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figures {
    /// Number of the newest generation.
    pub(super) generation: u64,
    /// Prefixes of IPv4.
    pub(super) entries4: u64,
    /// Prefixes of IPv6.
    pub(super) entries6: u64,
    /// Bytes of the prefixes as they are kept for changes.
    pub(super) kept: u64,
    /// Bytes that these and the compiled tables may take together.
    pub(super) limit: u64,
}
