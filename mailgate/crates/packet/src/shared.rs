//! What every backend has: the engine behind a lock, and what lookups in user space use.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use ipnet::IpNet;
use mailgate_common::Facts;
use mailgate_lists::Change;
use mailgate_model::{Clock, Timestamp};

use super::current::Current;
use super::engine::{Backing, Engine};
use super::{Applied, Error, RuleRow, Standing, Verdict};
use crate::firewall::RuleSet;

/// The engine and its newest result.
pub(super) struct Shared {
    engine: Mutex<Engine>,
    current: RwLock<Current>,
}

impl Shared {
    pub(super) fn new(backing: Box<dyn Backing>, clock: Arc<dyn Clock>, rules: RuleSet) -> Self {
        Self { engine: Mutex::new(Engine::new(backing, clock, rules)), current: RwLock::default() }
    }

    pub(super) fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the engine; afterwards lookups use what is in force then.
    fn with<T>(&self, act: impl FnOnce(&mut Engine) -> T) -> T {
        let mut engine = self.engine();
        let done = act(&mut engine);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = engine.current();
        done
    }

    pub(super) fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn apply(&self, changes: Vec<Change>) -> Result<Applied, Error> {
        self.with(|engine| engine.apply(changes))
    }

    pub(super) fn verdict(&self, source: IpAddr) -> Verdict {
        self.current.read().unwrap_or_else(PoisonError::into_inner).verdict(source)
    }

    pub(super) fn explain(&self, source: IpAddr, facts: &Facts) -> Verdict {
        self.current.read().unwrap_or_else(PoisonError::into_inner).explain(source, facts)
    }

    pub(super) fn protect(&self, networks: &[IpNet]) -> Result<(), Error> {
        self.with(|engine| engine.protect(networks))
    }

    pub(super) fn stand(&self, standings: &[Standing]) -> Result<(), Error> {
        self.with(|engine| engine.stand(standings))
    }

    pub(super) fn set_rules(&self, rules: RuleSet, within: Option<Duration>) -> Result<(), Error> {
        self.with(|engine| engine.set_rules(rules, within))
    }

    pub(super) fn confirm(&self) -> Result<bool, Error> {
        self.with(Engine::confirm)
    }

    pub(super) fn roll_back(&self) -> Result<bool, Error> {
        self.with(Engine::roll_back)
    }

    #[cfg_attr(not(feature = "ebpf"), expect(dead_code, reason = "nothing else counts interfaces"))]
    pub(super) fn renumber(&self) -> Result<(), Error> {
        self.with(Engine::renumber)
    }

    pub(super) fn tick(&self) -> Result<bool, Error> {
        self.with(Engine::tick)
    }

    pub(super) fn unconfirmed(&self) -> Option<Timestamp> {
        self.engine().unconfirmed()
    }

    pub(super) fn rule_set(&self) -> RuleSet {
        self.engine().rule_set().clone()
    }

    /// The rules in force; `hits` gives packets and bytes of a rule.
    pub(super) fn rules(&self, hits: impl Fn(u32) -> (u64, u64)) -> Vec<RuleRow> {
        let current = self.current();
        let row = |(number, one): (u32, &crate::firewall::Effective)| {
            let (packets, bytes) = hits(number);
            RuleRow { number, effective: one.clone(), packets, bytes }
        };
        (0..).zip(&*current.effective).map(row).collect()
    }
}
