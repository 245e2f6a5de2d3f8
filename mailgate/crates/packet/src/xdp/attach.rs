//! Links: a program on every interface that is meant, one on the network namespace; pinned, and replaced in place.
//!
//! An interface takes one filter only. What an earlier start attached is replaced without a moment in which neither
//! program runs; a program that reads other maps than ours stays until the tables are in ours.

mod way;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::super::nft::Leftover;
use super::super::status::{How, Interface};
use super::super::{Error, Mode};
use super::owner::Owner;
use super::{device, pins, probe, sys};
use way::{Attached, Way, driver_refuses, say_attached};

/// Pin of the program on the network namespace.
const STEER: &str = "steer";
/// Beginning of the pins of programs on interfaces; the way and the name follow.
pub(super) const ON_INTERFACE: &str = "xdp-";

/// The programs that are put into links, and on what.
pub(super) struct Programs {
    pub(super) ingress: OwnedFd,
    pub(super) steer: OwnedFd,
}

/// The links of one instance.
pub(super) struct Links {
    /// Pins of our maps and links; beside it may be those of other versions.
    folder: PathBuf,
    /// Names of the configuration.
    wanted: Vec<String>,
    mode: Mode,
    programs: Programs,
    /// A table of nftables of an earlier start.
    leftover: Option<Leftover>,
    attached: BTreeMap<u32, Attached>,
    /// Interfaces where our program cannot be: name and reason.
    refused: BTreeMap<u32, (String, Error)>,
    /// The program on the network namespace is ours.
    steers: bool,
    /// Our maps hold tables, so that programs of earlier starts may go.
    in_force: bool,
    /// Detached: nothing is attached any more.
    ended: bool,
}

impl Links {
    /// Attaches to what is there.
    ///
    /// # Errors
    /// When interfaces are there and none takes the program; what this call attached is gone then.
    pub(super) fn open(
        folder: &Path,
        wanted: &[String],
        mode: Mode,
        programs: Programs,
        leftover: Option<Leftover>,
    ) -> Result<Self, Error> {
        let mut links = Self {
            folder: folder.to_owned(),
            wanted: wanted.to_vec(),
            mode,
            programs,
            leftover,
            attached: BTreeMap::new(),
            refused: BTreeMap::new(),
            steers: false,
            in_force: false,
            ended: false,
        };
        links.refresh();
        if links.attached.is_empty()
            && let Some((_, (_, error))) = links.refused.pop_first()
        {
            return Err(error);
        }
        if let Err(error) = links.steer() {
            links.take_off();
            return Err(error);
        }
        links.tidy();
        for pattern in links.absent() {
            tracing::warn!(target: "edge", event = "packet", interface = %pattern,
                "there is no such interface yet; the filter is attached when it comes");
        }
        Ok(links)
    }

    /// Attaches where an interface came, lets go where one went or is not meant any more; whether anything changed.
    pub(super) fn refresh(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let there = match device::all() {
            Ok(there) => there,
            Err(error) => {
                tracing::warn!(target: "edge", event = "packet", %error, "the interfaces cannot be listed");
                return false;
            }
        };
        let names: Vec<(u32, String)> = self.names();
        let mut before = std::mem::take(&mut self.attached);
        let mut refused = std::mem::take(&mut self.refused);
        for (name, index) in there {
            if !self.wanted.iter().any(|pattern| device::means(pattern, &name)) {
                continue;
            }
            let earlier = before.remove(&index);
            if let Some(kept) = earlier.and_then(|earlier| self.keep(earlier, &name, index)) {
                self.attached.insert(index, kept);
                continue;
            }
            match self.attach(&name, index) {
                Ok(attached) => {
                    say_attached(&attached);
                    self.attached.insert(index, attached);
                }
                Err(error) => {
                    let said = refused.remove(&index).map(|(_, error)| error.to_string());
                    if said.as_ref() != Some(&error.to_string()) {
                        tracing::warn!(target: "edge", event = "packet", interface = %name, %error,
                            "this interface is not filtered in the kernel");
                    }
                    self.refused.insert(index, (name, error));
                }
            }
        }
        for gone in before.into_values() {
            tracing::info!(target: "edge", event = "packet", interface = %gone.name, "the filter is off");
            remove(&gone.pin);
        }
        names != self.names()
    }

    /// Which interfaces are attached, under which names.
    fn names(&self) -> Vec<(u32, String)> {
        self.attached.iter().map(|(index, attached)| (*index, attached.name.clone())).collect()
    }

    /// Our maps hold tables now: programs of earlier starts are replaced, and their maps go.
    pub(super) fn in_force(&mut self) {
        if self.in_force || self.ended {
            return;
        }
        self.in_force = true;
        self.refresh();
        if let Err(error) = self.steer() {
            tracing::warn!(target: "edge", event = "packet", %error,
                "connections are given to listeners as an earlier version did");
        }
        self.tidy();
        if let Some(leftover) = self.leftover.take()
            && let Err(error) = leftover.remove()
        {
            tracing::warn!(target: "edge", event = "packet", %error, "the table in nftables stays");
        }
    }

    /// Whether no program of an earlier start, with maps of its own, is left to be replaced.
    pub(super) fn are_ours(&self) -> bool {
        self.in_force
    }

    /// Nothing is attached from now on; the pins are the caller's to remove.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.attached.clear();
        self.refused.clear();
    }

    /// How every interface stands, and every name that means none.
    pub(super) fn status(&self) -> Vec<Interface> {
        let attached = self.attached.values().map(|attached| Interface {
            name: attached.name.clone(),
            how: attached.way.how(),
            reason: attached.reason.clone(),
        });
        let refused = self.refused.values().map(|(name, error)| Interface {
            name: name.clone(),
            how: How::Refused,
            reason: Some(error.to_string()),
        });
        let absent = self.absent().into_iter().map(|name| Interface {
            name,
            how: How::Waiting,
            reason: Some("there is no such interface yet".to_owned()),
        });
        let mut all: Vec<Interface> = attached.chain(refused).chain(absent).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Names of the configuration that mean no interface which is there.
    fn absent(&self) -> Vec<String> {
        if self.ended {
            return Vec::new();
        }
        let names: Vec<&str> = self
            .attached
            .values()
            .map(|attached| attached.name.as_str())
            .chain(self.refused.values().map(|(name, _)| name.as_str()))
            .collect();
        let is_absent = |pattern: &&String| !names.iter().any(|name| device::means(pattern, name));
        self.wanted.iter().filter(is_absent).cloned().collect()
    }

    /// What is attached stays so if it is in force there and ours; a new name of the interface becomes the pin's.
    fn keep(&self, mut attached: Attached, name: &str, index: u32) -> Option<Attached> {
        let link = sys::pinned_link(&attached.pin).ok()?;
        let is_done = attached.is_ours || !self.in_force;
        if link.on != Some(sys::LinkOn::Interface(index)) || !is_done {
            return None;
        }
        if attached.name != name {
            tracing::info!(target: "edge", event = "packet", interface = %name, before = %attached.name, "renamed");
            name.clone_into(&mut attached.name);
            if attached.is_ours {
                attached.pin = self.move_pin(attached.pin, attached.way, name);
            }
        }
        Some(attached)
    }

    /// Puts the program on an interface: into the link of an earlier start if there is one, else into a new one.
    fn attach(&self, name: &str, index: u32) -> Result<Attached, Error> {
        let Some((pin, way)) = self.earlier(index) else { return self.attach_anew(name, index) };
        if pin.parent() != Some(&self.folder) && !self.in_force {
            let reason = "the program of another version stays until the tables are loaded".to_owned();
            return Ok(Attached { name: name.to_owned(), way, pin, reason: Some(reason), is_ours: false });
        }
        if way.is_allowed(self.mode) && sys::update_link(&pin, self.programs.ingress.as_fd()).is_ok() {
            let kept = way == Way::Generic && self.mode == Mode::Auto;
            let reason = kept.then(|| {
                "kept as an earlier start attached it; mode = \"native\" tries the driver again".to_owned()
            });
            let pin = self.move_pin(pin, way, name);
            return Ok(Attached { name: name.to_owned(), way, pin, reason, is_ours: true });
        }
        // The kernel takes no second program beside one of the other mode, and none in its place.
        let shut = sys::shut(index);
        if let Err(error) = &shut {
            tracing::warn!(target: "edge", event = "packet", interface = %name, %error,
                "while the mode changes, for some milliseconds, packets pass unfiltered");
        }
        remove(&pin);
        self.attach_anew(name, index)
    }

    fn attach_anew(&self, name: &str, index: u32) -> Result<Attached, Error> {
        let mut reason = None;
        let mut last = io::Error::other("no mode");
        for way in Way::ALL.into_iter().filter(|way| way.is_allowed(self.mode)) {
            match sys::attach_xdp(self.programs.ingress.as_fd(), index, way.flags()) {
                Ok(link) => {
                    let pin = self.pin_of(way, name);
                    // Of an interface that had this name before.
                    remove(&pin);
                    pin_at(link.as_fd(), &pin)?;
                    return Ok(Attached { name: name.to_owned(), way, pin, reason, is_ours: true });
                }
                Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)) => {
                    let owner = Owner::on(index)
                        .map_or_else(|| "it cannot be named".to_owned(), |owner| owner.to_string());
                    return Err(Error::Foreign { interface: name.to_owned(), owner });
                }
                Err(error) => {
                    reason = (way == Way::Native).then(|| driver_refuses(&error));
                    last = error;
                }
            }
        }
        match (self.mode, reason) {
            (Mode::Native, Some(text)) if last.raw_os_error() != Some(libc::EPERM) => {
                let text =
                    format!("attaching to {name}: {text}; mode = \"auto\" or \"generic\" attaches behind it");
                Err(Error::Missing(text))
            }
            _ => Err(probe::explain(format!("attaching to {name}"), last)),
        }
    }

    /// The link of an earlier start on this interface, in whatever version's folder.
    fn earlier(&self, index: u32) -> Option<(PathBuf, Way)> {
        pins::links(&self.folder).into_iter().find_map(|pin| {
            let name = pin.file_name()?.to_str()?.strip_prefix(ON_INTERFACE)?;
            let way = Way::ALL.into_iter().find(|way| name.starts_with(way.name()))?;
            let link = sys::pinned_link(&pin).ok()?;
            (link.on == Some(sys::LinkOn::Interface(index))).then_some((pin, way))
        })
    }

    /// Puts the program on the network namespace of this thread, in the same manner.
    fn steer(&mut self) -> Result<(), Error> {
        if self.steers {
            return Ok(());
        }
        let failed = |source| probe::explain("attaching to the network namespace", source);
        let namespace = File::open("/proc/thread-self/ns/net").map_err(failed)?;
        let inode = namespace.metadata().map_err(failed)?.ino() as u32;
        let program = self.programs.steer.as_fd();
        let here = self.folder.join(STEER);
        let earlier = pins::links(&self.folder).into_iter().find(|pin| {
            pin.file_name().is_some_and(|name| name == STEER)
                && sys::pinned_link(pin).is_ok_and(|link| link.on == Some(sys::LinkOn::Namespace(inode)))
        });
        if let Some(pin) = earlier {
            if pin != here && !self.in_force {
                return Ok(());
            }
            if sys::update_link(&pin, program).is_ok() {
                if pin != here {
                    fs::rename(&pin, &here).map_err(failed)?;
                }
                self.steers = true;
                return Ok(());
            }
        }
        remove(&here);
        let link = sys::attach_sk_lookup(program, namespace.as_fd()).map_err(failed)?;
        pin_at(link.as_fd(), &here)?;
        self.steers = true;
        Ok(())
    }

    /// Pins that nothing needs go: links of interfaces that are not meant any more, everything of other versions once
    /// none of their programs is left.
    fn tidy(&self) {
        for pin in pins::links(&self.folder) {
            let is_interface = pin
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(ON_INTERFACE));
            if is_interface && !self.attached.values().any(|attached| attached.pin == pin) {
                remove(&pin);
            }
        }
        if self.steers
            && self.attached.values().all(|attached| attached.is_ours)
            && let Err(error) = pins::remove_others(&self.folder)
        {
            tracing::warn!(target: "edge", event = "packet", %error, "pins of another version stay");
        }
    }

    /// What a failed start attached goes.
    fn take_off(&mut self) {
        for attached in std::mem::take(&mut self.attached).into_values().filter(|attached| attached.is_ours) {
            remove(&attached.pin);
        }
    }

    fn pin_of(&self, way: Way, interface: &str) -> PathBuf {
        // No file on a bpf file system may have a dot in its name; interfaces of VLANs do.
        self.folder.join(format!("{ON_INTERFACE}{}-{}", way.name(), interface.replace('.', "~")))
    }

    /// Gives a pin the name of its interface; where it is then.
    fn move_pin(&self, pin: PathBuf, way: Way, interface: &str) -> PathBuf {
        let named = self.pin_of(way, interface);
        if named == pin {
            return pin;
        }
        // Two interfaces may have changed names: the other one's pin must not be lost.
        if sys::pinned_link(&named).is_ok_and(|link| link.on.is_some()) {
            return pin;
        }
        let _ = fs::remove_file(&named);
        match fs::rename(&pin, &named) {
            Ok(()) => named,
            Err(error) => {
                tracing::warn!(target: "edge", event = "packet", pin = %pin.display(), %error, "keeps its name");
                pin
            }
        }
    }
}

fn pin_at(link: BorrowedFd<'_>, pin: &Path) -> Result<(), Error> {
    sys::pin(link, pin).map_err(|source| Error::kernel(format!("pin {}", pin.display()), source))
}

/// Detaches a link and removes its pin, if it is there.
fn remove(pin: &Path) {
    sys::detach(pin);
    let _ = fs::remove_file(pin);
}
