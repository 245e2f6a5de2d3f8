//! How the packet filter stands, as the control socket shows it.

use std::fmt;

use serde::Serialize;

/// Where verdicts take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Where {
    /// At accept, in user space.
    Memory,
    /// In the kernel, by our programs.
    Kernel,
    /// In the kernel, by a table of nftables.
    Nft,
}

/// One counter of the kernel filter, over all processors since the maps were made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Its name.
    pub name: &'static str,
    /// Packets or connections.
    pub count: u64,
    /// Bytes of the packets.
    pub bytes: u64,
}

/// How the filter stands on one interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// In the driver.
    Native,
    /// Behind the driver: slower.
    Generic,
    /// By a table of nftables.
    Nft,
    /// Not attached: the interface is not there yet.
    Waiting,
    /// Not attached, and not for lack of the interface.
    Refused,
}

impl How {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Nft => "nft",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
        }
    }
}

/// One interface, or one name of the configuration that means none yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// How the filter stands there.
    pub how: How,
    /// Why it is no better; what the driver or the kernel said.
    pub reason: Option<String>,
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.name, self.how.name())?;
        self.reason.iter().try_for_each(|reason| write!(f, ": {reason}"))?;
        f.write_str(")")
    }
}

/// How the packet filter stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Where verdicts take effect.
    pub acts: Where,
    /// Why they do not take effect in the kernel.
    pub reason: Option<String>,
    /// The interfaces that are meant, by name, and how each stands.
    pub interfaces: Vec<Interface>,
    /// The programs that answer; empty outside the kernel.
    pub answers: Vec<super::Answerer>,
    /// Folder of the pins, or name of the table in nftables: what stays when the daemon ends.
    pub pins: Option<String>,
    /// Number of the newest generation; rises with every rebuild.
    pub generation: u64,
    /// IPv4 prefixes, each counted once however many tables hold it.
    pub entries4: u64,
    /// IPv6 prefixes.
    pub entries6: u64,
    /// Bytes of the compiled tables, both families: kernel memory when they act there.
    pub bytes: u64,
    /// Bytes of the prefixes as the daemon keeps them for changes, both families, about.
    pub bytes_kept: u64,
    /// Bytes that both may come to together (`edge.packet.memory_limit`).
    pub bytes_limit: u64,
    /// Names of the tables, in the order of configuration.
    pub tables: Vec<String>,
    /// Counters; empty outside the kernel.
    pub counters: Vec<Counted>,
    /// What this backend does not do, one sentence each.
    pub cannot: Vec<&'static str>,
}
