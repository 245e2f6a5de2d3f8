//! The folder of pins: what keeps programs, maps and links alive when the daemon is not.

use std::collections::BTreeMap;
use std::fs;
use std::hash::Hasher as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::super::Error;
use super::super::lock::Lock;
use super::{syncookies, sys};

/// Meaning of what the maps hold, where their shape does not show it.
const VERSION: u32 = 2;
/// Where the kernel offers a mount point for the bpf file system.
const BPFFS: &str = "/sys/fs/bpf";

/// Name of the folder for the maps of this object: a daemon never meets maps of another shape. The library would take
/// any pinned map by its name, whatever its size. `size` is that of the map whose size the configuration says.
pub(super) fn version(object: &[u8], size: u32) -> Result<String, Error> {
    let refused = |error: aya_obj::ParseError| Error::Program(error.to_string());
    let maps = aya_obj::Object::parse(object).map_err(refused)?.maps;
    let shapes: BTreeMap<String, [u32; 5]> = maps
        .into_iter()
        .map(|(name, map)| {
            let shape =
                [map.map_type(), map.key_size(), map.value_size(), map.max_entries(), map.map_flags()];
            (name, shape)
        })
        .collect();
    let mut sum = Sum(Sum::BASIS);
    sum.write_u32(size);
    for (name, shape) in shapes {
        sum.write(name.as_bytes());
        shape.into_iter().for_each(|number| sum.write_u32(number));
    }
    Ok(format!("v{VERSION}-{:08x}", sum.finish() >> 32))
}

/// FNV-1a of 64 bits: the standard library's hasher may change, and pins outlive the program.
struct Sum(u64);

impl Sum {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
}

impl std::hash::Hasher for Sum {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(Self::PRIME);
        }
    }
}

/// Makes sure that `instance` is there, on a bpf file system, and that nobody else uses it; the folder for pins of this
/// version, and the lock.
pub(super) fn prepare(pin_dir: &Path, instance: &Path, version: &str) -> Result<(PathBuf, Lock), Error> {
    let failed = |step: String| move |source| Error::kernel(step, source);
    if !on_bpffs(pin_dir) && pin_dir.starts_with(BPFFS) {
        const NOTHING: Option<&str> = None;
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), NOTHING).map_err(|errno| {
            Error::Missing(format!(
                "no bpf file system is at {BPFFS}, and mounting it fails ({errno}): mount it as root with \
                 `mount -t bpf bpf {BPFFS}`"
            ))
        })?;
    }
    if !on_bpffs(pin_dir) {
        return Err(Error::Missing(format!(
            "edge.packet.pin_dir = {:?} is not on a bpf file system: choose a folder below {BPFFS}, or mount one there",
            pin_dir.display().to_string()
        )));
    }
    let make = |folder: &Path| {
        let failed = failed(format!("folder {}", folder.display()));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)
    };
    make(instance)?;
    let lock = Lock::take(instance, &name(instance))?;
    let folder = instance.join(version);
    make(&folder)?;
    Ok((folder, lock))
}

fn name(instance: &Path) -> String {
    instance.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Pins of links of this instance, of whatever version; those of `folder` first.
pub(super) fn links(folder: &Path) -> Vec<PathBuf> {
    let versions = folder.parent().into_iter().flat_map(fs::read_dir).flatten().flatten();
    let others = versions.map(|version| version.path()).filter(|version| version != folder);
    let folders = std::iter::once(folder.to_owned()).chain(others);
    folders
        .flat_map(fs::read_dir)
        .flatten()
        .flatten()
        .map(|pin| pin.path())
        .filter(|pin| is_link(pin))
        .collect()
}

/// Programs and links have lower case names, maps upper case.
fn is_link(pin: &Path) -> bool {
    pin.file_name().is_some_and(|name| name.as_encoded_bytes().iter().any(u8::is_ascii_lowercase))
}

/// Removes the pins of all versions of this instance but this one.
pub(super) fn remove_others(folder: &Path) -> Result<(), Error> {
    let Some(instance) = folder.parent() else { return Ok(()) };
    for version in read(instance)? {
        if version != folder {
            tracing::info!(target: "edge", event = "packet", pins = %version.display(), "another version's, removed");
            remove_pins(&version)?;
        }
    }
    Ok(())
}

fn read(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::kernel(format!("folder {}", folder.display()), source);
    Ok(fs::read_dir(folder).map_err(failed)?.flatten().map(|entry| entry.path()).collect())
}

/// Is the path, or what exists of it, on a bpf file system?
fn on_bpffs(path: &Path) -> bool {
    let existing = path.ancestors().find(|path| path.exists());
    existing.and_then(|path| statfs(path).ok()).is_some_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

/// Opens a pinned map or link.
pub(super) fn open(path: &Path) -> Result<OwnedFd, Error> {
    sys::open_pin(path).map_err(|source| Error::kernel(format!("pin {}", path.display()), source))
}

/// Removes everything under the folder of an instance that nobody uses, and the folder; whether there was anything.
///
/// # Errors
/// [`Error::Held`] when a process uses it; when a pin cannot be removed.
pub(super) fn remove(instance: &Path) -> Result<bool, Error> {
    if !instance.exists() || !on_bpffs(instance) {
        return Ok(false);
    }
    let _lock = Lock::take(instance, &name(instance))?;
    remove_locked(instance)?;
    Ok(true)
}

/// The same for who has the lock.
pub(super) fn remove_locked(instance: &Path) -> Result<(), Error> {
    for version in read(instance)? {
        syncookies::undo(&version);
        remove_pins(&version)?;
    }
    // Other instances may be there; then the outer folder stays.
    for folder in instance.ancestors().take(2) {
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}

/// Removes the pins of one version, links first, and its folder.
fn remove_pins(folder: &Path) -> Result<(), Error> {
    let failed = |path: &Path| {
        let step = format!("removing {}", path.display());
        move |source| Error::kernel(step, source)
    };
    let mut pins = read(folder)?;
    // In the order of bytes lower case comes last: links go first.
    pins.sort_by_key(|pin| std::cmp::Reverse(pin.file_name().map(std::ffi::OsStr::to_owned)));
    for pin in pins {
        if is_link(&pin) {
            sys::detach(&pin);
        }
        fs::remove_file(&pin).map_err(failed(&pin))?;
    }
    fs::remove_dir(folder).map_err(failed(folder))
}
