//! The accounting of connections in the kernel: attaches `track`, reads and corrects its counts, takes its reports.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use aya::programs::SockOps;
use mailgate_common::limit::{Counted, Counts, Overrun, SOURCES, SourceKey};
use mailgate_common::{names, setting};

use super::super::Error;
use super::maps::{Maps, monotonic};
use super::{chain, pins, program, refused, sys, taken};
use crate::overload::{Accounting, Diag, Ends, Storage};

/// Name of the pin of the link.
const LINK: &str = "track";

/// The accounting of connections in the kernel.
pub(super) struct Tracker {
    connections: OwnedFd,
    counted: OwnedFd,
    counted_id: u32,
    ring: Mutex<RingBuf<MapData>>,
    ring_fd: OwnedFd,
    diag: Mutex<Diag>,
}

impl Tracker {
    /// Attaches the program to the control group at `group`, or to the root of the hierarchy, for the sockets of the
    /// calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error`]: no control groups of version 2, no right, or a kernel before 5.14.
    pub(super) fn open(
        loaded: &mut Ebpf,
        backing: &Maps,
        folder: &Path,
        group: Option<&Path>,
    ) -> Result<Self, Error> {
        let program: &mut SockOps = program(loaded, names::TRACK)?;
        program.load().map_err(chain)?;
        let cookie = sys::namespace_cookie()
            .map_err(|source| Error::kernel("number of the network namespace (kernel 5.14)", source))?;
        backing.set(setting::NAMESPACE, cookie)?;
        attach(program.fd().map_err(refused)?.as_fd(), folder, group)?;
        let [connections, counted] =
            [names::CONNECTIONS, names::COUNTED].map(|name| pins::open(&folder.join(name)));
        let (connections, counted) = (connections?, counted?);
        let ring = RingBuf::try_from(taken(loaded, names::EVENTS)?).map_err(refused)?;
        let failed = |step: &'static str| move |source| Error::kernel(step, source);
        Ok(Self {
            counted_id: sys::map_id(counted.as_fd()).map_err(failed("storage of sockets"))?,
            ring_fd: ring.as_fd().try_clone_to_owned().map_err(failed("ring of events"))?,
            diag: Mutex::new(Diag::open().map_err(failed("sock_diag"))?),
            ring: Mutex::new(ring),
            connections,
            counted,
        })
    }
}

impl Tracker {
    fn storage(&self) -> Storage<'_> {
        Storage { map: self.counted.as_fd(), id: self.counted_id }
    }
}

fn attach(program: BorrowedFd<'_>, folder: &Path, group: Option<&Path>) -> Result<(), Error> {
    let group = match group {
        Some(group) => group.to_owned(),
        None => hierarchy().map_err(|source| Error::kernel("control groups of version 2", source))?,
    };
    let failed =
        |source| Error::kernel(format!("attaching to the control group {}", group.display()), source);
    let opened = File::open(&group).map_err(failed)?;
    let number = opened.metadata().map_err(failed)?.ino();
    let pin = folder.join(LINK);
    let is_there = sys::pinned_link(&pin).is_ok_and(|link| link.on == Some(sys::LinkOn::Group(number)));
    if is_there && sys::update_link(&pin, program).is_ok() {
        return Ok(());
    }
    sys::detach(&pin);
    let _ = fs::remove_file(&pin);
    let link = sys::attach_sock_ops(program, opened.as_fd()).map_err(failed)?;
    sys::pin(link.as_fd(), &pin).map_err(|source| Error::kernel(format!("pin {}", pin.display()), source))
}

/// Where the control groups of version 2 are mounted; beside those of version 1 it is another place (cgroups(7)).
fn hierarchy() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let found = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    });
    found.ok_or_else(|| io::Error::other("none is mounted"))
}

impl Accounting for Tracker {
    fn sources(&self) -> io::Result<Vec<(SourceKey, Counts)>> {
        let mut found = Vec::new();
        let mut key: Option<[u8; SourceKey::SIZE]> = None;
        // A key that goes while we stand on it leads back to the first one: the number of steps is bounded.
        for _ in 0..2 * SOURCES {
            let mut next = [0; SourceKey::SIZE];
            let at = key.as_ref().map(<[u8; SourceKey::SIZE]>::as_slice);
            if !sys::map_next_key(self.connections.as_fd(), at, &mut next)? {
                break;
            }
            if let Some(source) = SourceKey::from_bytes(&next)
                && let Some(counts) = self.counts(&source)?
            {
                found.push((source, counts));
            }
            key = Some(next);
        }
        found.sort_unstable_by_key(|(source, _)| *source);
        found.dedup_by_key(|(source, _)| *source);
        Ok(found)
    }

    fn counts(&self, source: &SourceKey) -> io::Result<Option<Counts>> {
        let mut value = [0; Counts::SIZE];
        let found = sys::map_lookup(self.connections.as_fd(), &source.to_bytes(), &mut value)?;
        Ok(if found { Counts::from_bytes(&value) } else { None })
    }

    fn correct(&self, source: &SourceKey, counts: Counts) -> io::Result<()> {
        sys::map_update(self.connections.as_fd(), &source.to_bytes(), &counts.to_bytes())
    }

    fn overruns(&self, most: usize) -> Vec<Overrun> {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        while found.len() < most
            && let Some(item) = ring.next()
        {
            found.extend(Overrun::from_bytes(&item));
        }
        found
    }

    fn ring(&self) -> BorrowedFd<'_> {
        self.ring_fd.as_fd()
    }

    fn now_ns(&self) -> u64 {
        monotonic()
    }

    fn counted(&self) -> io::Result<Vec<Counted>> {
        let mut found = Vec::new();
        let mut diag = self.diag.lock().unwrap_or_else(PoisonError::into_inner);
        diag.counted(self.storage(), |counted| found.push(counted))?;
        Ok(found)
    }

    fn end(&self, which: &mut dyn FnMut(&Ends) -> bool) -> io::Result<usize> {
        self.diag.lock().unwrap_or_else(PoisonError::into_inner).destroy_where(self.storage(), which)
    }

    fn end_one(&self, ends: &Ends) -> io::Result<bool> {
        self.diag.lock().unwrap_or_else(PoisonError::into_inner).destroy(ends)
    }
}
