//! What stays in nftables when the daemon ends, and what can be done to it then.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::super::lock::Lock;
use super::super::{Config, Error};
use super::worker::Worker;
use super::{HEARTBEAT, script};

/// What an earlier start of this instance left.
pub(in super::super) struct Leftover {
    table: String,
    marker: PathBuf,
    _lock: Lock,
}

impl Leftover {
    /// `None` when there is none.
    ///
    /// # Errors
    /// [`Error::Held`] when a process uses it.
    pub(in super::super) fn find(config: &Config) -> Result<Option<Self>, Error> {
        let Some(marker) = marker(config).ok().filter(|marker| marker.exists()) else { return Ok(None) };
        let lock = lock(&marker, config)?;
        Ok(Some(Self { table: script::table(&config.instance), marker, _lock: lock }))
    }

    /// Removes it, in the network namespace of this thread.
    pub(in super::super) fn remove(&self) -> Result<(), Error> {
        Worker::begin(HEARTBEAT)?.run(script::removal(&self.table))?;
        let _ = fs::remove_file(&self.marker);
        Ok(())
    }
}

/// Lets an address in while no daemon runs: a rule before all others, until the next start of a daemon writes them anew.
///
/// # Errors
/// [`Error::Missing`] when there is no table of this instance, [`Error::Held`] when a daemon has it; when nft refuses.
pub fn unblock(config: &Config, address: IpAddr) -> Result<(), Error> {
    let left = Leftover::find(config)?.ok_or_else(|| {
        Error::Missing(format!("no table of nftables is there for instance {:?}", config.instance))
    })?;
    Worker::begin(HEARTBEAT)?.run(script::exception(&left.table, address)).map(drop)
}

/// The file that is locked while a daemon has the table, and there as long as the table is. Tables belong to a network
/// namespace, the folder may not.
pub(super) fn marker(config: &Config) -> std::io::Result<PathBuf> {
    let namespace = fs::metadata("/proc/thread-self/ns/net")?.ino();
    Ok(config.run_dir.join(format!("{}-{namespace}.nft", config.instance)))
}

pub(super) fn lock(marker: &Path, config: &Config) -> Result<Lock, Error> {
    let folder = config.run_dir.as_path();
    let failed = |source| Error::kernel(format!("folder {}", folder.display()), source);
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(failed)?;
    Lock::take(marker, &config.instance)
}
