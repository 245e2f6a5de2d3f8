//! The folder of pins: what keeps programs, maps and links alive when the daemon is not.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::super::Error;
use super::sys;

/// Version of maps and layout, part of the path: a daemon never meets maps of another shape.
const VERSION: &str = "v1";
/// Where the kernel offers a mount point for the bpf file system.
const BPFFS: &str = "/sys/fs/bpf";

/// Makes sure that `folder` is there, on a bpf file system; the folder for pins of this version.
pub(super) fn prepare(pin_dir: &Path, folder: &Path) -> Result<PathBuf, Error> {
    let failed = |step: String| move |source| Error::kernel(step, source);
    if !on_bpffs(pin_dir) && pin_dir.starts_with(BPFFS) {
        const NOTHING: Option<&str> = None;
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), NOTHING)
            .map_err(|errno| failed(format!("mounting the bpf file system at {BPFFS}"))(errno.into()))?;
    }
    let folder = folder.join(VERSION);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(failed(format!("folder {}", folder.display())))?;
    if !on_bpffs(&folder) {
        let text = format!("{} is not on a bpf file system", folder.display());
        return Err(failed("pins".to_owned())(io::Error::other(text)));
    }
    Ok(folder)
}

/// Takes over the links that a daemon of another layout left, so that they are replaced in place: an interface takes one
/// filter only. Its maps go; the old program keeps them until it is replaced.
pub(super) fn adopt(folder: &Path) -> Result<(), Error> {
    let Some(instance) = folder.parent() else { return Ok(()) };
    let failed = |path: &Path| {
        let step = format!("taking over {}", path.display());
        move |source| Error::kernel(step, source)
    };
    for version in fs::read_dir(instance).map_err(failed(instance))?.flatten().map(|entry| entry.path()) {
        if version == folder {
            continue;
        }
        for pin in fs::read_dir(&version).map_err(failed(&version))?.flatten() {
            let name = pin.file_name();
            let is_link = name.to_str().is_some_and(|name| name == "steer" || name.starts_with("xdp-"));
            let here = folder.join(&name);
            if is_link && !here.exists() {
                fs::rename(pin.path(), &here).map_err(failed(&here))?;
            }
        }
        tracing::info!(target: "edge", event = "packet", pins = %version.display(), "taken over from another version");
        remove_pins(&version)?;
    }
    Ok(())
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

/// Removes everything under the folder of an instance, and the folder.
pub(super) fn remove(instance: &Path) -> Result<(), Error> {
    if !instance.exists() || !on_bpffs(instance) {
        return Ok(());
    }
    let inside = fs::read_dir(instance)
        .map_err(|source| Error::kernel(format!("folder {}", instance.display()), source))?;
    for version in inside.flatten() {
        remove_pins(&version.path())?;
    }
    Ok(())
}

/// Removes the pins of one version, links first, and the folders that become empty.
pub(super) fn remove_pins(folder: &Path) -> Result<(), Error> {
    let failed = |path: &Path| {
        let step = format!("removing {}", path.display());
        move |source| Error::kernel(step, source)
    };
    let mut pins: Vec<PathBuf> =
        fs::read_dir(folder).map_err(failed(folder))?.flatten().map(|pin| pin.path()).collect();
    // Programs and links have lower case names, maps upper case: links go first.
    pins.sort_by_key(|pin| std::cmp::Reverse(pin.file_name().map(std::ffi::OsStr::to_owned)));
    for pin in pins {
        if pin.file_name().is_some_and(|name| name.as_encoded_bytes().iter().any(u8::is_ascii_lowercase)) {
            sys::detach(&pin);
        }
        fs::remove_file(&pin).map_err(failed(&pin))?;
    }
    fs::remove_dir(folder).map_err(failed(folder))?;
    // Other versions or instances may be there; then these folders stay.
    for outer in folder.ancestors().skip(1).take(2) {
        let _ = fs::remove_dir(outer);
    }
    Ok(())
}
