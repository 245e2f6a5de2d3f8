//! How the packet filter stands, as the control socket shows it.

use serde::Serialize;

/// Where verdicts take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Where {
    /// At accept, in user space.
    Memory,
    /// In the kernel.
    Kernel,
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

/// How the packet filter stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Where verdicts take effect.
    pub acts: Where,
    /// Why they do not take effect in the kernel.
    pub reason: Option<String>,
    /// Interfaces with how the filter is attached there: `native`, `generic`.
    pub interfaces: Vec<(String, &'static str)>,
    /// Folder of the pins.
    pub pins: Option<String>,
    /// Number of the newest generation; rises with every rebuild.
    pub generation: u64,
    /// IPv4 prefixes, each counted once however many tables hold it.
    pub entries4: u64,
    /// IPv6 prefixes.
    pub entries6: u64,
    /// Bytes of the compiled tables, both families.
    pub bytes: u64,
    /// Names of the tables, in the order of configuration.
    pub tables: Vec<String>,
    /// Counters; empty outside the kernel.
    pub counters: Vec<Counted>,
}
