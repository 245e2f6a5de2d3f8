//! The packet filter: the tables of `lists`, compiled for the kernel or for the same lookup in user space.
//!
//! [`open`] tries the kernel (an XDP program per interface, one `sk_lookup` program) and falls back to memory, saying
//! why. Both sides run the same lookup and `mailgate_common::decide` over the same words.

mod area;
mod classes;
mod config;
mod engine;
mod error;
mod generation4;
mod generation6;
mod memory;
mod plan4;
mod shadow;
mod slots4;
mod status;
#[cfg(feature = "ebpf")]
pub mod xdp;

use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

use mailgate_lists::{Action, Change, TableName};
use mailgate_model::Clock;

pub use config::{Config, Mode};
pub use error::Error;
pub use memory::Memory;
pub use status::{Counted, Status, Where};

/// What the tables say of a source that connects to reception.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What is done; `None` when no table says anything.
    pub action: Option<Action>,
    /// The tables that hold the source, in the order of configuration.
    pub tables: Vec<TableName>,
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

    /// How the filter stands.
    fn status(&self) -> Status;

    /// Takes the filter out of the kernel and removes its pins. Without this it stays in force after our end.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    fn detach(&self) -> Result<(), Error>;
}

/// Opens the filter: in the kernel if that can be had, else in memory; logs which, and why.
#[must_use]
pub fn open(config: &Config, clock: Arc<dyn Clock>) -> Arc<dyn PacketFilter> {
    match in_kernel(config, &clock) {
        Ok(filter) => filter,
        Err(reason) => {
            tracing::warn!(target: "edge", event = "packet", mode = "memory", %reason,
                "the kernel filter is not in use; tables act at accept");
            Arc::new(Memory::new(clock, reason))
        }
    }
}

#[cfg(feature = "ebpf")]
fn in_kernel(config: &Config, clock: &Arc<dyn Clock>) -> Result<Arc<dyn PacketFilter>, String> {
    let opened = config
        .refuses_kernel()
        .and_then(|()| xdp::Xdp::open(config, Arc::clone(clock)).map_err(|error| error.to_string()));
    match opened {
        Ok(filter) => Ok(Arc::new(filter)),
        Err(reason) => {
            // What an earlier start left in the kernel would go on with tables of yesterday.
            if let Err(error) = xdp::remove(config) {
                tracing::warn!(target: "edge", event = "packet", %error, "pins of an earlier start stay");
            }
            Err(reason)
        }
    }
}

#[cfg(not(feature = "ebpf"))]
fn in_kernel(config: &Config, _: &Arc<dyn Clock>) -> Result<Arc<dyn PacketFilter>, String> {
    config.refuses_kernel()?;
    Err("this program was built without the kernel filter".to_owned())
}

#[cfg(test)]
mod tests;
