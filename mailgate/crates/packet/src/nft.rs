//! The filter as a table of nftables, where the kernel lets nobody load programs: sets, drops, refusals, redirection.
//!
//! The table stays when the daemon ends, as the pins of the other backend do; `detach` removes it. Verdicts at accept
//! come from the same memory as without any kernel filter.

mod hits;
mod kept;
mod left;
mod ranges;
mod rules;
mod script;
mod worker;

use std::fs;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use mailgate_common::Facts;
use mailgate_lists::Change;
use mailgate_model::{Clock, Timestamp};
use nix::sys::socket::{SockaddrLike as _, SockaddrStorage, getsockname};

use super::lock::Lock;
use super::{
    Applied, Config, Error, How, Interface, Listeners, Memory, PacketFilter, RuleRow, Standing, Status,
    Verdict, Where,
};
use crate::firewall::{Effective, RuleSet};
use hits::Hits;
use kept::Kept;
pub(super) use left::Leftover;
pub use left::unblock;
use left::{lock, marker};
use ranges::{Difference, Ranges};
use rules::Words;
use script::{Family, Stations};
use worker::Worker;

/// Between two signs of life; three may be lost.
const HEARTBEAT: Duration = Duration::from_secs(script::ALIVE_SECONDS as u64 / 3);

/// What nftables does not do for us; shown by `status`.
const CANNOT: &[&str] = &[
    "packets are counted by rule only, neither by other reasons nor by source",
    "limits of connections do not act on foreign listeners",
    "no check against the routes, no martians, no impossible flags: see rp_filter",
    "nothing is held in the kernel: tarpit means the edge",
    "no log and no trace",
    "who passed the greylist is asked again after its time, though it went on sending (edge-only mode)",
    "connections through loopback are not redirected",
    "a packet costs several times as much, and so does a change: a second of processor time for 100,000 networks",
];

/// The packet filter in nftables. Dropping it leaves the table in force; see [`PacketFilter::detach`].
pub struct Nft {
    reason: Option<String>,
    interfaces: Vec<String>,
    table: String,
    memory: Memory,
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
    worker: Worker,
    /// Removed with the table.
    marker: PathBuf,
    _lock: Lock,
}

impl Nft {
    /// Finds out whether nft is there and takes such a table; what an earlier start left stays until the first tables.
    ///
    /// `reason` says why it is not the other backend; `before` removes what that one left.
    ///
    /// # Errors
    /// [`Error::Held`] when another process has this instance, else what is missing.
    pub fn open(
        config: &Config,
        clock: Arc<dyn Clock>,
        reason: Option<String>,
        before: Box<dyn FnOnce() + Send>,
    ) -> Result<Self, Error> {
        if let Some(strange) = config.interfaces.iter().find(|name| !is_matched(name)) {
            return Err(Error::Missing(format!(
                "edge.packet.interfaces: nftables cannot match {strange:?}, only names and names with one * at the end"
            )));
        }
        let marker = marker(config).map_err(|source| Error::kernel("network namespace", source))?;
        let lock = lock(&marker, config)?;
        let worker = Worker::begin(HEARTBEAT)?;
        let nft = Self {
            reason: reason.clone(),
            interfaces: config.interfaces.clone(),
            table: script::table(&config.instance),
            memory: Memory::with_rules(Arc::clone(&clock), reason.unwrap_or_default(), config.rules())
                .limited(config.memory_limit)
                .heeding(config.behaviour),
            clock,
            kept: Mutex::new(Kept::new(config.behaviour.is_some(), before)),
            worker,
            marker,
            _lock: lock,
        };
        let (whole, ..) = nft.whole(&nft.kept(), "".lines());
        nft.worker.check(script::removal(&nft.table) + &whole + &script::samples(&nft.table))?;
        nft.protect(&config.local)?;
        Ok(nft)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the kernel up to date, in one transaction. Before the first tables there is nothing to bring.
    fn settle(&self, kept: &mut Kept, is_first: bool) -> Result<(), Error> {
        if kept.ended {
            return Ok(());
        }
        if kept.rules.is_none() {
            if !is_first && kept.is_empty() {
                return Ok(());
            }
            // What is in force is filled anew in place: a packet that has seen the hooks of before the change meets those
            // after it with their rules, as it would not if the table were made anew.
            let earlier = fs::read_to_string(&self.marker).unwrap_or_default();
            let (text, rules, sets) = self.whole(kept, earlier.lines());
            if let Err(error) = self.worker.run(text) {
                // Somebody changed the table, or an earlier version made it.
                tracing::debug!(target: "edge", event = "nft", %error, "the table is made anew");
                let (text, ..) = self.whole(kept, "".lines());
                self.worker.run(script::removal(&self.table) + &text)?;
            }
            fs::write(&self.marker, sets.join("\n"))
                .map_err(|source| Error::kernel("names of the sets", source))?;
            kept.rules = Some(rules);
            for ranges in kept.sets_mut().flat_map(|(_, ranges)| ranges) {
                let all = ranges.all();
                ranges.is_in_force(all);
            }
            if let Some(before) = kept.before.take() {
                before();
            }
            return Ok(());
        }
        let rules = self.words(kept);
        let news =
            if kept.rules.as_ref() == Some(&rules) { String::new() } else { rules.clone() + &self.trial() };
        let mut text = String::new();
        let mut pending: Vec<(&mut Ranges, Difference)> = Vec::new();
        for (of, ranges) in kept.sets_mut() {
            for (ranges, family) in ranges.iter_mut().zip(Family::ALL) {
                let difference = ranges.difference();
                let set = script::set(of, family);
                script::elements(&mut text, "delete", &self.table, &set, family, &difference.gone);
                script::elements(&mut text, "add", &self.table, &set, family, &difference.new);
                pending.push((ranges, difference));
            }
        }
        text.push_str(&news);
        if !text.is_empty()
            && let Err(error) = self.worker.run(text)
        {
            // Next time everything anew: somebody may have emptied the ruleset.
            kept.rules = None;
            return Err(error);
        }
        for (ranges, difference) in pending {
            ranges.done(&difference);
        }
        kept.rules = Some(rules);
        Ok(())
    }

    /// The table as a whole; its rules; its sets. `earlier` are the sets that an earlier start made.
    fn whole<'a>(
        &self,
        kept: &Kept,
        earlier: impl Iterator<Item = &'a str>,
    ) -> (String, String, Vec<String>) {
        let (mut filled, mut sets) = (String::new(), Vec::new());
        for (of, ranges) in kept.sets() {
            for (ranges, family) in ranges.iter().zip(Family::ALL) {
                let set = script::set(of, family);
                filled.push_str(&script::sets_made(&self.table, &set, family));
                script::elements(&mut filled, "add", &self.table, &set, family, &ranges.all());
                sets.push(set);
            }
        }
        let gone: String = earlier
            .filter(|set| !sets.iter().any(|kept| kept == set))
            .map(|set| script::sets_gone(&self.table, set))
            .collect();
        let rules = self.words(kept);
        let alive = if kept.stations == Stations::default() {
            String::new()
        } else {
            script::alive(&self.table, &self.memory.rule_set().reception_ports)
        };
        (script::chains(&self.table) + &gone + &filled + &rules + &self.trial() + &alive, rules, sets)
    }

    /// The rules in force in user space; those of tables that are not there yet wait for them.
    fn effective(&self) -> Vec<Effective> {
        self.memory.rules().into_iter().map(|row| row.effective).collect()
    }

    /// The rules of the memory in the words of nft, beside those of before while they wait for a confirmation.
    fn words(&self, kept: &Kept) -> String {
        let (effective, rules) = (self.effective(), self.memory.rule_set());
        let words = |effective, rules| Words {
            table: &self.table,
            interfaces: &self.interfaces,
            effective,
            rules,
            stations: kept.stations,
        };
        let now = words(&effective, &rules);
        match &kept.confirmed {
            Some((effective, rules)) if self.memory.unconfirmed().is_some() => {
                words(effective, rules).rules(Some(&now))
            }
            _ => now.rules(None),
        }
    }

    /// How long the rules that wait for a confirmation are in force, for the kernel to end them without us.
    fn trial(&self) -> String {
        let until = self.memory.unconfirmed();
        let left = until.map(|until| until.millis().saturating_sub(self.clock.now().millis()));
        script::trial(&self.table, left.map(|left| left.max(1).unsigned_abs().div_ceil(1000)))
    }

    /// What was counted so far; what cannot be asked for is what was known before.
    fn hits(&self) -> Hits {
        let mut kept = self.kept();
        if kept.rules.is_some() {
            match self.worker.ask(script::counts(&self.table)) {
                Ok(text) => kept.hits.add(&text),
                Err(error) => {
                    tracing::debug!(target: "edge", event = "nft", %error, "counters cannot be read")
                }
            }
        }
        kept.hits.clone()
    }

    /// After the rules changed.
    fn follow<T>(&self, done: Result<T, Error>) -> Result<T, Error> {
        let done = done?;
        let mut kept = self.kept();
        if self.memory.unconfirmed().is_none() {
            kept.confirmed = None;
        }
        self.settle(&mut kept, false)?;
        Ok(done)
    }
}

impl PacketFilter for Nft {
    fn apply(&self, changes: Vec<Change>) -> Result<Applied, Error> {
        let mut kept = self.kept();
        let is_first = changes.iter().any(|change| matches!(change, Change::Reload(_)));
        kept.take(&changes, self.clock.now())?;
        let applied = self.memory.apply(changes)?;
        self.settle(&mut kept, is_first)?;
        Ok(applied)
    }

    fn verdict(&self, source: IpAddr) -> Verdict {
        self.memory.verdict(source)
    }

    fn explain(&self, source: IpAddr, facts: &Facts) -> Verdict {
        self.memory.explain(source, facts)
    }

    fn protect(&self, networks: &[IpNet]) -> Result<(), Error> {
        let mut kept = self.kept();
        kept.protected.iter_mut().for_each(Ranges::clear);
        for network in networks.iter().filter(|network| !network.addr().is_loopback()) {
            kept::set(&mut kept.protected, *network, Some(false));
        }
        self.memory.protect(networks)?;
        self.settle(&mut kept, false)
    }

    fn stand(&self, standings: &[Standing]) -> Result<(), Error> {
        let mut kept = self.kept();
        kept.stand(standings)?;
        self.memory.stand(standings)?;
        self.settle(&mut kept, false)
    }

    fn set_rules(&self, rules: RuleSet, within: Option<Duration>) -> Result<(), Error> {
        let before = (self.effective(), self.memory.rule_set());
        self.memory.set_rules(rules, within)?;
        self.kept().confirmed = Some(before);
        self.follow(Ok(()))
    }

    fn confirm(&self) -> Result<bool, Error> {
        self.follow(self.memory.confirm())
    }

    fn roll_back(&self) -> Result<bool, Error> {
        self.follow(self.memory.roll_back())
    }

    fn unconfirmed(&self) -> Option<Timestamp> {
        self.memory.unconfirmed()
    }

    fn tick(&self) -> Result<bool, Error> {
        if self.memory.tick()? { self.follow(Ok(true)) } else { Ok(false) }
    }

    fn rules(&self) -> Vec<RuleRow> {
        let mut rows = self.memory.rules();
        let hits = self.hits();
        for row in &mut rows {
            (row.packets, row.bytes) = hits.of_rule(row.number);
        }
        rows
    }

    fn rule_set(&self) -> RuleSet {
        self.memory.rule_set()
    }

    fn set_listeners(&self, reception: Listeners, edge: Listeners) -> Result<(), Error> {
        let ports = |of: Listeners| [of.v4, of.v6].map(|listener| listener.and_then(port));
        let stations = Stations { edge: ports(edge), reception: ports(reception) };
        let mut kept = self.kept();
        kept.stations = stations;
        self.settle(&mut kept, false)?;
        let lives = stations != Stations::default();
        let ports = self.memory.rule_set().reception_ports;
        self.worker.repeat(lives.then(|| script::alive(&self.table, &ports)));
        if kept.rules.is_some() {
            // At once, for the first time; and its end, if there is nobody any more.
            self.worker.run(script::alive(&self.table, if lives { &ports } else { &[] }))?;
        }
        Ok(())
    }

    fn status(&self) -> Status {
        let interfaces = self.interfaces.iter().map(|name| Interface {
            name: name.clone(),
            how: How::Nft,
            reason: self.reason.clone(),
        });
        Status {
            acts: Where::Nft,
            interfaces: interfaces.collect(),
            pins: Some(format!("table {}", self.table)),
            counters: self.hits().reasons(&self.memory.rules()),
            cannot: CANNOT.to_vec(),
            ..self.memory.status()
        }
    }

    fn detach(&self) -> Result<(), Error> {
        self.worker.repeat(None);
        self.worker.run(script::removal(&self.table))?;
        let mut kept = self.kept();
        (kept.rules, kept.ended) = (None, true);
        let _ = fs::remove_file(&self.marker);
        Ok(())
    }
}

impl Drop for Nft {
    fn drop(&mut self) {
        let kept = self.kept();
        if kept.rules.is_some() && kept.stations != Stations::default() {
            // The end is known at once, not after the last sign of life grew old.
            let _ = self.worker.run(script::alive(&self.table, &[]));
        }
    }
}

/// Whether nft can match such a name: a star only at the end.
fn is_matched(interface: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@');
    let name = interface.strip_suffix('*').unwrap_or(interface);
    !name.is_empty() && name.len() < 16 && name.bytes().all(fits)
}

fn port(listener: RawFd) -> Option<u16> {
    let address: SockaddrStorage = getsockname(listener).ok()?;
    match address.family()? {
        nix::sys::socket::AddressFamily::Inet => address.as_sockaddr_in().map(|address| address.port()),
        nix::sys::socket::AddressFamily::Inet6 => address.as_sockaddr_in6().map(|address| address.port()),
        _ => None,
    }
}
