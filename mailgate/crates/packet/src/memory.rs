//! The stand-in without a kernel: the same words, the same lookup, asked at accept.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use mailgate_common::Facts;
use mailgate_lists::Change;
use mailgate_model::{Clock, Timestamp};

use super::area::Area;
use super::engine::{Backing, News, Part};
use super::shared::Shared;
use super::{Applied, Error, Listeners, PacketFilter, RuleRow, Standing, Status, Verdict, Where};
use crate::firewall::{RuleSet, Unknown};

/// The packet filter in user space.
pub struct Memory {
    reason: String,
    shared: Shared,
}

impl Memory {
    /// An empty filter; `reason` is shown by `status`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, reason: String) -> Self {
        Self::with_rules(clock, reason, RuleSet::default())
    }

    /// The same, with rules of its own from the first tables on.
    pub(super) fn with_rules(clock: Arc<dyn Clock>, reason: String, rules: RuleSet) -> Self {
        Self { reason, shared: Shared::new(Box::new(Anonymous), clock, rules) }
    }

    /// The same, with tables of at most so many bytes (`edge.packet.memory_limit`).
    #[must_use]
    pub fn limited(self, bytes: u64) -> Self {
        self.shared.engine().limit(bytes);
        self
    }

    /// The same, whose rules know what behaviour says ([`super::Config::behaviour`]).
    pub(super) fn heeding(self, behaviour: Option<Unknown>) -> Self {
        self.shared.engine().heed_behaviour(behaviour);
        self
    }

    /// The verdict of the kernel's program on a frame that comes in by this interface, from the same source over the same
    /// memory; it knows neither live connections nor routes.
    #[must_use]
    pub fn judge(&self, frame: &[u8], interface: u32) -> mailgate_common::Ruling {
        self.shared.current().judge(frame, interface)
    }
}

/// Generations in memory of our own.
struct Anonymous;

impl Backing for Anonymous {
    fn area(&self, _: Part, words: usize) -> Result<Area, Error> {
        Area::anonymous(words).map_err(|source| Error::kernel("memory for the tables", source))
    }

    fn publish(&self, _: &News<'_>, _: Option<Duration>) -> Result<(), Error> {
        Ok(())
    }

    fn confirm(&self) -> Result<(), Error> {
        Ok(())
    }

    fn roll_back(&self) -> Result<(), Error> {
        Ok(())
    }

    fn interface(&self, _: &str) -> u32 {
        0
    }
}

impl PacketFilter for Memory {
    fn apply(&self, changes: Vec<Change>) -> Result<Applied, Error> {
        self.shared.apply(changes)
    }

    fn verdict(&self, source: IpAddr) -> Verdict {
        self.shared.verdict(source)
    }

    fn explain(&self, source: IpAddr, facts: &Facts) -> Verdict {
        self.shared.explain(source, facts)
    }

    fn protect(&self, networks: &[IpNet]) -> Result<(), Error> {
        self.shared.protect(networks)
    }

    fn stand(&self, standings: &[Standing]) -> Result<(), Error> {
        self.shared.stand(standings)
    }

    fn set_rules(&self, rules: RuleSet, within: Option<Duration>) -> Result<(), Error> {
        self.shared.set_rules(rules, within)
    }

    fn confirm(&self) -> Result<bool, Error> {
        self.shared.confirm()
    }

    fn roll_back(&self) -> Result<bool, Error> {
        self.shared.roll_back()
    }

    fn unconfirmed(&self) -> Option<Timestamp> {
        self.shared.unconfirmed()
    }

    fn tick(&self) -> Result<bool, Error> {
        self.shared.tick()
    }

    fn rules(&self) -> Vec<RuleRow> {
        self.shared.rules(|_| (0, 0))
    }

    fn rule_set(&self) -> RuleSet {
        self.shared.rule_set()
    }

    fn set_listeners(&self, _: Listeners, _: Listeners) -> Result<(), Error> {
        Ok(())
    }

    fn status(&self) -> Status {
        let figures = self.shared.engine().figures();
        let current = self.shared.current();
        Status {
            acts: Where::Memory,
            reason: Some(self.reason.clone()),
            interfaces: Vec::new(),
            answers: Vec::new(),
            pins: None,
            generation: figures.generation,
            entries4: figures.entries4,
            entries6: figures.entries6,
            bytes: current.bytes(),
            bytes_kept: figures.kept,
            bytes_limit: figures.limit,
            tables: current.names(),
            counters: Vec::new(),
            cannot: Vec::new(),
        }
    }

    fn detach(&self) -> Result<(), Error> {
        Ok(())
    }
}
