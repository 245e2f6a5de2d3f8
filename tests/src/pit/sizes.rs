//! What processes and the kernel use.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Ticks of `/proc/PID/stat` in a second (USER_HZ, the same on every architecture we build for).
const TICKS: u64 = 100;
/// Octets of a page.
const PAGE: u64 = 4096;

/// Memory and processor time of some processes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Use {
    /// Octets resident.
    pub(super) memory: u64,
    user: u64,
    system: u64,
}

impl Use {
    pub(super) fn of(processes: &[u32]) -> Result<Self> {
        let mut all = Self::default();
        for process in processes {
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
            // The name in parentheses may hold spaces.
            let rest = stat.rsplit_once(')').context("no name in stat")?.1;
            let fields: Vec<&str> = rest.split_whitespace().collect();
            let field = |n: usize| -> Result<u64> { Ok(fields.get(n).context("short stat")?.parse()?) };
            all.user += field(11)?;
            all.system += field(12)?;
            all.memory += field(21)? * PAGE;
        }
        Ok(all)
    }

    pub(super) fn mebibytes(&self) -> f64 {
        self.memory as f64 / f64::from(1 << 20)
    }

    pub(super) fn time_since(&self, before: &Self) -> Duration {
        ticks((self.user + self.system).saturating_sub(before.user + before.system))
    }

    pub(super) fn system_since(&self, before: &Self) -> Duration {
        ticks(self.system.saturating_sub(before.system))
    }
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1000 / TICKS)
}

/// Processes with this name that run now.
pub(super) fn named(name: &str) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|id| id.parse::<u32>().ok()) else { continue };
        let comm = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        if comm.trim() == name {
            found.push(id);
        }
    }
    Ok(found)
}

/// Memory of the kernel, of the whole machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    /// TCP buffers, in octets.
    pub(super) buffers: u64,
    /// Slabs, among them the sockets themselves, in octets.
    pub(super) slabs: u64,
}

impl Kernel {
    pub(super) fn now() -> Result<Self> {
        let stat = std::fs::read_to_string("/proc/net/sockstat")?;
        let line = stat.lines().find(|line| line.starts_with("TCP:")).context("no TCP")?;
        let pages: u64 = line.split_whitespace().last().context("short line")?.parse()?;
        let meminfo = std::fs::read_to_string("/proc/meminfo")?;
        let line = meminfo.lines().find(|line| line.starts_with("Slab:")).context("no Slab")?;
        let kibibytes: u64 = line.split_whitespace().nth(1).context("short line")?.parse()?;
        Ok(Self { buffers: pages * PAGE, slabs: kibibytes * 1024 })
    }

    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            buffers: self.buffers.saturating_sub(before.buffers),
            slabs: self.slabs.saturating_sub(before.slabs),
        }
    }
}
