//! What can be done to a pinned filter while no daemon runs.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use mailgate_common::{
    CHUNK_WORDS, CHUNKS, Kind4, LINE_WORDS, PAGE_WORDS, header, lookup4, lookup6, names, setting,
};

use super::super::area::Area;
use super::super::engine::LOCAL;
use super::super::generation6::Generation6;
use super::super::lock::Lock;
use super::super::slots4::Slots4;
use super::super::{Config, Error};
use super::{pins, sys};

/// What the tables in force said of an address, before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unblocked {
    /// The tables that held it: bit n is table n of the configuration.
    pub set: u64,
    /// Whether it was protected, and hence left alone.
    pub is_protected: bool,
}

/// Takes an address out of all tables in force, in memory that the next packet sees. Sources and files are not touched:
/// the next start of a daemon reads them again.
///
/// # Errors
/// When nothing is pinned, a daemon runs, the tables are of another version, or there is no room for one more entry.
pub fn unblock(config: &Config, address: IpAddr) -> Result<Unblocked, Error> {
    let folder = pinned(config)?;
    // A daemon would not know of the exception.
    let _lock = Lock::take(&config.folder(), &config.instance)?;
    let name = if address.is_ipv4() { names::TABLES4 } else { names::TABLES6 };
    let tables = pins::open(&folder.join(name))?;
    let mut done = Unblocked { set: 0, is_protected: false };
    let mut seen = Vec::new();
    for slot in 0..setting::SLOTS {
        let failed = |source| Error::kernel("the tables in force", source);
        let mut ids = Vec::new();
        for place in (slot * CHUNKS..).take(CHUNKS as usize) {
            let Some(id) = sys::map_lookup_u32(tables.as_fd(), place).map_err(failed)? else { break };
            ids.push(id);
        }
        // Most of the time both slots have the same tables.
        if ids.is_empty() || seen.contains(&ids) {
            continue;
        }
        let maps = ids.iter().map(|id| sys::map_by_id(*id)).collect::<Result<_, _>>().map_err(failed)?;
        seen.push(ids);
        let set = spare(area(maps)?, address)?;
        done.is_protected |= set & PROTECTED != 0;
        done.set |= set & !PROTECTED;
    }
    Ok(done)
}

/// The bit of the protected networks.
const PROTECTED: u64 = 1 << LOCAL;
/// The class of no table.
const NO_TABLE: u32 = 0;

/// The folder of pins of this version.
fn pinned(config: &Config) -> Result<PathBuf, Error> {
    let folder = config.folder();
    let versions = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|version| version.path());
    // During an upgrade there are two for a moment; that with the links is in force.
    let links = pins::links(&folder.join("none"));
    let is_in_force = |version: &PathBuf| {
        version.join(names::TABLES4).exists() && links.iter().any(|link| link.starts_with(version))
    };
    versions.into_iter().find(is_in_force).ok_or_else(|| nothing(&folder))
}

fn nothing(folder: &Path) -> Error {
    Error::Missing(format!("no filter is pinned in {}", folder.display()))
}

/// The memory of a generation, if it is one of the layout that this program writes.
fn area(chunks: Vec<OwnedFd>) -> Result<Area, Error> {
    let area = Area::of_maps(CHUNK_WORDS as usize, chunks)
        .map_err(|source| Error::kernel("the tables in force", source))?;
    if area.load(header::MAGIC_WORD as usize) != header::MAGIC {
        return Err(Error::Missing("the pinned tables are of another version of mailgate".to_owned()));
    }
    Ok(area)
}

/// Makes a hole of one address; the set of tables that held it.
fn spare(area: Area, address: IpAddr) -> Result<u64, Error> {
    let full = |_| Error::Missing("no room for an exception is left in the pinned tables".to_owned());
    match address {
        IpAddr::V4(ip) => {
            let set = lookup4(&area.view::<{ LINE_WORDS as usize }>(), ip.into());
            if set != 0 && set & PROTECTED == 0 {
                Slots4::of(&area).put(&area, ip.into(), Kind4::Host, NO_TABLE).map_err(full)?;
            }
            Ok(set)
        }
        IpAddr::V6(ip) => {
            let address = u128::from(ip);
            let (high, low) = ((address >> 64) as u64, address as u64);
            let set = lookup6(&area.view::<{ PAGE_WORDS as usize }>(), high, low);
            if set != 0 && set & PROTECTED == 0 {
                Generation6::of(area).put((address, 128), NO_TABLE).map_err(full)?;
            }
            Ok(set)
        }
    }
}
