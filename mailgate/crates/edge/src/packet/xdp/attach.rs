//! Links: a program on an interface, a program on a network namespace, pinned and replaced in place.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::net::if_::if_nametoindex;

use super::super::{Error, Mode};
use super::sys;

/// The links of one instance.
pub(super) struct Links<'a> {
    folder: &'a Path,
    /// Pins that this start made; removed again when it fails.
    made: Vec<PathBuf>,
    /// Pins in use, old and new.
    used: HashSet<PathBuf>,
    complete: bool,
}

impl<'a> Links<'a> {
    pub(super) fn new(folder: &'a Path) -> Self {
        Self { folder, made: Vec::new(), used: HashSet::new(), complete: false }
    }

    /// Puts the program on an interface: into the link of an earlier start if there is one, else into a new one.
    /// How it is attached: `native` or `generic`.
    pub(super) fn interface(
        &mut self,
        program: BorrowedFd<'_>,
        interface: &str,
        mode: Mode,
    ) -> Result<&'static str, Error> {
        let index = if_nametoindex(interface).map_err(|_| Error::Interface(interface.to_owned()))?;
        let ways: &[(&'static str, u32)] = match mode {
            Mode::Native => &[("native", sys::XDP_FLAGS_DRV_MODE)],
            Mode::Generic => &[("generic", sys::XDP_FLAGS_SKB_MODE)],
            Mode::Auto | Mode::Off => {
                &[("native", sys::XDP_FLAGS_DRV_MODE), ("generic", sys::XDP_FLAGS_SKB_MODE)]
            }
        };
        for (way, _) in ways {
            let pin = self.pin(way, interface);
            if sys::replace(&pin, sys::LinkOn::Interface(index), program) {
                self.used.insert(pin);
                return Ok(way);
            }
        }
        // A link of an earlier start in the other mode would be in the way; only here there is a moment without.
        for way in ["native", "generic"] {
            remove(&self.pin(way, interface));
        }
        let mut last = io::Error::other("no mode");
        for (n, (way, flags)) in ways.iter().enumerate() {
            match sys::attach_xdp(program, index, *flags) {
                Ok(link) => {
                    if n > 0 {
                        tracing::warn!(target: "edge", event = "packet", %interface, reason = %last,
                            "the driver does not take the filter: GENERIC mode, slower than native");
                    }
                    let pin = self.pin(way, interface);
                    self.keep_pin(link.as_fd(), pin)?;
                    return Ok(way);
                }
                Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)) => {
                    return Err(Error::Foreign { interface: interface.to_owned() });
                }
                Err(error) => last = error,
            }
        }
        Err(Error::kernel(format!("attaching to {interface}"), last))
    }

    /// Puts the program on the network namespace of this thread.
    pub(super) fn steer(&mut self, program: BorrowedFd<'_>) -> Result<(), Error> {
        let failed = |source| Error::kernel("attaching to the network namespace", source);
        let namespace = File::open("/proc/thread-self/ns/net").map_err(failed)?;
        let inode = namespace.metadata().map_err(failed)?.ino() as u32;
        let pin = self.folder.join("steer");
        if sys::replace(&pin, sys::LinkOn::Namespace(inode), program) {
            self.used.insert(pin);
            return Ok(());
        }
        remove(&pin);
        let link = sys::attach_sk_lookup(program, namespace.as_fd()).map_err(failed)?;
        self.keep_pin(link.as_fd(), pin)
    }

    /// Everything is attached: links of interfaces that are no longer configured go.
    pub(super) fn keep(mut self) -> Result<(), Error> {
        self.complete = true;
        let failed = |source| Error::kernel(format!("folder {}", self.folder.display()), source);
        for pin in fs::read_dir(self.folder).map_err(failed)?.flatten() {
            let is_link = pin.file_name().to_str().is_some_and(|name| name.starts_with("xdp-"));
            if is_link && !self.used.contains(&pin.path()) {
                remove(&pin.path());
            }
        }
        Ok(())
    }

    fn pin(&self, way: &str, interface: &str) -> PathBuf {
        // No file on a bpf file system may have a dot in its name; interfaces of VLANs do.
        self.folder.join(format!("xdp-{way}-{}", interface.replace('.', "~")))
    }

    fn keep_pin(&mut self, link: BorrowedFd<'_>, pin: PathBuf) -> Result<(), Error> {
        sys::pin(link, &pin).map_err(|source| Error::kernel(format!("pin {}", pin.display()), source))?;
        self.made.push(pin.clone());
        self.used.insert(pin);
        Ok(())
    }
}

impl Drop for Links<'_> {
    fn drop(&mut self) {
        if !self.complete {
            for pin in &self.made {
                remove(pin);
            }
        }
    }
}

/// Detaches a link and removes its pin, if it is there.
fn remove(pin: &Path) {
    sys::detach(pin);
    let _ = fs::remove_file(pin);
}
