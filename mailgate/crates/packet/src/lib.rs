//! The packet filter: the tables of `lists` and the rules of `[firewall]`, compiled for the kernel or for the same
//! lookup in user space.
//!
//! **Purpose**: decide by address, port and flags what becomes of a packet, before anything of the mail service sees it.
//! **In**: tables from `lists`, rules, connection counts, routes. **Out**: verdicts in the kernel, counters, events.
//! **Trust**: every packet is a stranger's. Loading BPF programs needs CAP_BPF and CAP_NET_ADMIN.
//! **Standards**: pf.conf(5); RFC 791, 8200, 9293 (what is read of a packet), RFC 1812 §5.3.7 (martians), RFC 3704 (uRPF).
//! **Failure**: fails open. [`open`] tries the kernel (an XDP program per interface, one `sk_lookup` program), then
//! nftables, and falls back to memory, saying why; all run the same lookup and `mailgate_common::decide`.
//! **Start reading at**: [`open`], then `engine.rs`, then `firewall/mod.rs`.
//!
//! A crate of its own because it alone links aya, maps memory that the kernel reads, and needs `unsafe` for it.

mod answers;
mod area;
mod classes;
mod compile;
mod config;
mod current;
mod engine;
mod error;
pub mod firewall;
mod generation4;
mod generation6;
mod lock;
mod memory;
mod network;
pub mod nft;
pub mod overload;
mod plan4;
mod ruleset;
mod shadow;
mod shared;
mod slots4;
mod status;
#[cfg(feature = "ebpf")]
pub mod xdp;

use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use mailgate_common::{Facts, hidden};
use mailgate_lists::{Action, Change, TableName};
use mailgate_model::{Clock, Timestamp};

use crate::firewall::{Effective, RuleSet};

pub use answers::{Answerer, Answers, HeldConnection, State};
pub use config::{Backend, Config, Mode};
pub use error::Error;
pub use memory::Memory;
pub use network::{network, networks};
pub use status::{Counted, How, Interface, Status, Where};

/// What the tables say of a source that connects to reception.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What is done; `None` when no table says anything. Grey and score only when nothing stronger applies.
    pub action: Option<Action>,
    /// The tables that hold the source, in the order of configuration.
    pub tables: Vec<TableName>,
    /// What each of `tables` is for, in the same order.
    pub meanings: Vec<Action>,
    /// The rule that decides; `None` when none concerns it.
    pub rule: Option<String>,
    /// The number of that rule among [`PacketFilter::rules`].
    pub number: Option<u32>,
    /// What that rule does.
    pub done: Option<mailgate_common::Action>,
}

/// A rule in force, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRow {
    /// Its place in the order, from 0.
    pub number: u32,
    /// The rule and where it comes from.
    pub effective: Effective,
    /// Packets it decided.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// What a source of a table that counts has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// The source.
    pub source: IpAddr,
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// When the last one came.
    pub last: Timestamp,
}

/// The listening sockets of one station, one per family: a socket bound to an IPv6 address takes no IPv4, whatever its
/// options say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listeners {
    /// Takes IPv4.
    pub v4: Option<RawFd>,
    /// Takes IPv6.
    pub v6: Option<RawFd>,
}

/// What behaviour, or a command about it, says of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The network.
    pub network: IpNet,
    /// What is said; `None` takes back what was said before.
    pub kind: Option<StandingKind>,
}

/// What is said of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandingKind {
    /// The administrator let it pass: before every table that tarpits, and of trapped networks only before wider ones.
    Admitted,
    /// It passed the greylist.
    Passed,
    /// It stepped into a trap.
    Trapped,
}

impl Standing {
    /// The entries that say so: of two that hold an address, admitted and trapped, the more specific one counts.
    pub(crate) fn marks(&self) -> [(u8, Option<bool>); 3] {
        let (admitted, trapped, passed) = match self.kind {
            Some(StandingKind::Admitted) => (Some(false), Some(true), None),
            Some(StandingKind::Trapped) => (Some(true), Some(false), None),
            Some(StandingKind::Passed) => (None, None, Some(false)),
            None => (None, None, None),
        };
        [(hidden::ADMITTED, admitted), (hidden::TRAPPED, trapped), (hidden::PASSED, passed)]
    }
}

/// What a call of [`PacketFilter::apply`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Entries added or replaced one by one.
    pub added: u64,
    /// Entries deleted one by one.
    pub deleted: u64,
    /// Changes of tables that do not exist, and deletions of entries that are not there.
    pub ignored: u64,
    /// Generations built anew (of IPv4, of IPv6).
    pub rebuilt: u64,
    /// Entries now, over all tables and both families.
    pub entries: u64,
}

/// The filter in the kernel, or its stand-in at accept.
pub trait PacketFilter: Send + Sync + 'static {
    /// Takes changes, in order; the next packet sees them. A failed call leaves the verdicts of before in force.
    ///
    /// Blocks for microseconds per change, up to a second for a reload of a million entries.
    ///
    /// # Errors
    /// [`Error`]; [`Error::permanence`] says whether trying again can help.
    fn apply(&self, changes: Vec<Change>) -> Result<Applied, Error>;

    /// What the tables say of this source at reception. IPv4-mapped addresses are taken as IPv4.
    fn verdict(&self, source: IpAddr) -> Verdict;

    /// Tells the kernel which listening sockets take the connections to the reception ports: bypassed sources go to
    /// `reception`, all others to `edge`. Without a socket such connections reach whoever is bound (fail open).
    ///
    /// # Errors
    /// When the kernel refuses a socket, usually because it does not listen yet.
    fn set_listeners(&self, reception: Listeners, edge: Listeners) -> Result<(), Error>;

    /// What would be done with a packet, or with a connection, of this source: for explanations.
    fn explain(&self, source: IpAddr, facts: &Facts) -> Verdict {
        let _ = facts;
        self.verdict(source)
    }

    /// Takes what behaviour says of networks; the next connection sees it. Only where [`Config::behaviour`] asks for it.
    ///
    /// # Errors
    /// As [`PacketFilter::apply`]; also when this backend cannot act on behaviour.
    fn stand(&self, standings: &[Standing]) -> Result<(), Error> {
        let _ = standings;
        Err(Error::NoBehaviour)
    }

    /// Sources that passed and have connected since the last call.
    fn seen(&self) -> Vec<IpAddr> {
        Vec::new()
    }

    /// Networks whose packets pass whatever tables and rules say: our own, the gateway, administrators. Those of loopback
    /// are left out. Replaces those of the call before; the next packet sees it.
    ///
    /// # Errors
    /// As [`PacketFilter::apply`].
    fn protect(&self, networks: &[IpNet]) -> Result<(), Error> {
        let _ = networks;
        Ok(())
    }

    /// Puts rules into force, all at once; before the first reload they wait for it. With `within` they are taken back
    /// after that time unless [`PacketFilter::confirm`] is called: by the kernel itself, should the daemon end before.
    ///
    /// # Errors
    /// A table or interface that is not there, too many rules, an earlier change that waits for its confirmation; the
    /// rules of before stay in force.
    fn set_rules(&self, rules: RuleSet, within: Option<Duration>) -> Result<(), Error> {
        let _ = (rules, within);
        Ok(())
    }

    /// Keeps the rules that wait for it; whether there were any.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn confirm(&self) -> Result<bool, Error> {
        Ok(false)
    }

    /// Takes the rules back that wait for a confirmation; whether there were any.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn roll_back(&self) -> Result<bool, Error> {
        Ok(false)
    }

    /// Until when the rules in force wait for a confirmation.
    fn unconfirmed(&self) -> Option<Timestamp> {
        None
    }

    /// To be called every second or so: takes back what was not confirmed in time (then `true`), looks for interfaces
    /// that came.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn tick(&self) -> Result<bool, Error> {
        Ok(false)
    }

    /// The rules in force, in their order.
    fn rules(&self) -> Vec<RuleRow> {
        Vec::new()
    }

    /// The rules as meant, as they were given.
    fn rule_set(&self) -> RuleSet {
        RuleSet::default()
    }

    /// What the sources of tables that count have sent, in no order; of very many sources only the last ones.
    fn hits(&self) -> Vec<Hit> {
        Vec::new()
    }

    /// Forgets what these sources have sent.
    fn forget_hits(&self, sources: &[IpAddr]) {
        let _ = sources;
    }

    /// How the filter stands.
    fn status(&self) -> Status;

    /// The counts of connections; `None` where the kernel does not count them.
    fn accounting(&self) -> Option<Arc<dyn crate::overload::Accounting>> {
        None
    }

    /// Takes the filter out of the kernel and removes its pins. Without this it stays in force after our end.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    fn detach(&self) -> Result<(), Error>;
}

/// Opens the filter: our programs in the kernel if that can be had, else a table of nftables, else memory; logs which,
/// and why.
///
/// # Errors
/// [`Error::Held`] when another process has this instance: what it holds is not touched.
pub fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Arc<dyn PacketFilter>, Error> {
    let refused = config.refuses_kernel().err();
    let mut reasons: Vec<String> = refused.iter().cloned().collect();
    if refused.is_none() && config.backend != Backend::Nft {
        match in_kernel(config, &clock) {
            Ok(filter) => return Ok(filter),
            Err(error @ Error::Held { .. }) => return Err(error),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    if refused.is_none() && matches!(config.backend, Backend::Auto | Backend::Nft) {
        let why = reasons.first().cloned();
        match in_nft(config, &clock, why) {
            Ok(filter) => return Ok(filter),
            Err(error @ Error::Held { .. }) => return Err(error),
            Err(error) => reasons.push(format!("nor is nftables: {error}")),
        }
    }
    // What an earlier start left in the kernel would go on with tables of yesterday.
    match remove(config) {
        Ok(_) => {}
        Err(error @ Error::Held { .. }) => return Err(error),
        Err(error) => {
            tracing::warn!(target: "edge", event = "packet", %error, "something of an earlier start stays")
        }
    }
    let reason = reasons.join("; ");
    tracing::warn!(target: "edge", event = "packet", mode = "memory", %reason,
        "the kernel filter is not in use; tables act at accept");
    Ok(Arc::new(Memory::new(clock, reason).limited(config.memory_limit)))
}

/// Removes what an instance left in the kernel, without opening it: programs, pins, the table of nftables. Whether there
/// was anything.
///
/// # Errors
/// [`Error::Held`] when a process uses it; when something cannot be removed.
pub fn remove(config: &Config) -> Result<bool, Error> {
    let table = nft::Leftover::find(config)?;
    let pins = remove_pins(config)?;
    if let Some(table) = &table {
        table.remove()?;
    }
    Ok(pins || table.is_some())
}

/// What [`remove`] would remove, by name: pins of programs, links and maps, the table of nftables.
///
/// # Errors
/// When nftables cannot be asked.
pub fn leftovers(config: &Config) -> Result<Vec<String>, Error> {
    let inside = |folder: std::path::PathBuf| {
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|one| one.path())
    };
    let mut found: Vec<String> =
        inside(config.folder()).flat_map(inside).map(|pin| pin.display().to_string()).collect();
    found.sort();
    if nft::Leftover::find(config)?.is_some() {
        found.push(format!("the nftables table of instance {}", config.instance));
    }
    Ok(found)
}

fn in_nft(
    config: &Config,
    clock: &Arc<dyn Clock>,
    reason: Option<String>,
) -> Result<Arc<dyn PacketFilter>, Error> {
    let earlier = config.clone();
    let before = move || {
        if let Err(error) = remove_pins(&earlier) {
            tracing::warn!(target: "edge", event = "packet", %error, "pins of an earlier start stay");
        }
    };
    let filter = nft::Nft::open(config, Arc::clone(clock), reason.clone(), Box::new(before))?;
    tracing::warn!(target: "edge", event = "packet", mode = "nft", reason = reason.as_deref().unwrap_or("as configured"),
        "the filter is a table of nftables: slower, and without limits of connections");
    Ok(Arc::new(filter))
}

#[cfg(feature = "ebpf")]
fn in_kernel(config: &Config, clock: &Arc<dyn Clock>) -> Result<Arc<dyn PacketFilter>, Error> {
    Ok(Arc::new(xdp::Xdp::open(config, Arc::clone(clock))?))
}

#[cfg(not(feature = "ebpf"))]
fn in_kernel(_: &Config, _: &Arc<dyn Clock>) -> Result<Arc<dyn PacketFilter>, Error> {
    Err(Error::Missing("this program was built without the kernel filter".to_owned()))
}

#[cfg(feature = "ebpf")]
fn remove_pins(config: &Config) -> Result<bool, Error> {
    xdp::remove(config)
}

#[cfg(not(feature = "ebpf"))]
fn remove_pins(_: &Config) -> Result<bool, Error> {
    Ok(false)
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
