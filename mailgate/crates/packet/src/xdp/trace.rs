//! What the filter does with single packets, read from its ring buffer through the pins: no daemon is needed.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use mailgate_common::event::{EVENT_BYTES, Event, trace};
use mailgate_common::{Act, Reason, names, setting};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::super::{Config, Error};
use super::{Labels, maps, pins, sys};

/// What is traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Also packets that pass without a rule that logs.
    pub all: bool,
    /// Of those, one in so many; 1 for each.
    pub sample: u32,
    /// Events per second and processor at most; what is more is counted as lost.
    pub rate: u32,
}

/// One packet.
#[derive(Debug, Clone)]
pub struct Traced {
    /// Time since the event.
    pub ago: Duration,
    /// The tables that held the source, as bits.
    pub set: u64,
    /// Number of the interface.
    pub interface: u32,
    /// What was done.
    pub act: Act,
    /// Why.
    pub reason: Reason,
    /// The rule, if one decided.
    pub rule: Option<u32>,
    /// Bytes of the frame.
    pub length: u32,
    /// The beginning of the frame.
    pub snap: Vec<u8>,
}

/// Reads events while it lives; afterwards the filter tells nobody.
pub struct Tracer {
    ring: RingBuf<MapData>,
    settings: OwnedFd,
    folder: PathBuf,
    /// Only one can read a ring.
    _lock: Flock<File>,
}

impl Tracer {
    /// Begins to trace what the pinned filter of an instance does.
    ///
    /// # Errors
    /// When no filter is pinned, or another trace runs.
    pub fn open(config: &Config, wanted: Wanted) -> Result<Self, Error> {
        let folder = newest(&config.folder())?;
        let lock = lock(&folder)?;
        let failed = |step: &str| {
            let step = format!("{step} under {}", folder.display());
            move |error: aya::maps::MapError| Error::Kernel { step, source: std::io::Error::other(error) }
        };
        let data = MapData::from_pin(folder.join(names::TRACE)).map_err(failed("opening the trace"))?;
        let ring = RingBuf::try_from(aya::maps::Map::RingBuf(data)).map_err(failed("opening the trace"))?;
        let settings = pins::open(&folder.join(names::SETTINGS))?;
        let tracer = Self { ring, settings, folder, _lock: lock };
        tracer.set(setting::TRACE_SAMPLE, wanted.sample.max(1).into())?;
        tracer.set(setting::TRACE_RATE, wanted.rate.into())?;
        tracer.set(setting::TRACE, if wanted.all { trace::ALL } else { trace::LOGGED })?;
        Ok(tracer)
    }

    /// What the numbers of tables and rules stand for, as the last daemon left it.
    #[must_use]
    pub fn labels(&self) -> Labels {
        Labels::read(&self.folder)
    }

    fn set(&self, index: u32, value: u64) -> Result<(), Error> {
        sys::map_update(self.settings.as_fd(), &index.to_ne_bytes(), &value.to_ne_bytes())
            .map_err(|source| Error::kernel("settings", source))
    }

    /// The next event; `None` when none came within `patience`, or a signal did.
    ///
    /// # Errors
    /// When the kernel refuses to wait.
    pub fn next(&mut self, patience: Duration) -> Result<Option<Traced>, Error> {
        if let Some(item) = self.ring.next() {
            return Ok(read(&item));
        }
        let milliseconds = u16::try_from(patience.as_millis()).unwrap_or(u16::MAX);
        let mut wait = [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wait, PollTimeout::from(milliseconds)) {
            Ok(_) | Err(Errno::EINTR) => Ok(self.ring.next().and_then(|item| read(&item))),
            Err(errno) => Err(Error::kernel("waiting for events", errno.into())),
        }
    }

    /// Events that were lost since the filter was attached, because the ring was full or they came too often.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let Ok(data) = MapData::from_pin(self.folder.join(names::REASONS)) else { return 0 };
        let map = aya::maps::Map::PerCpuArray(data);
        let Ok(counts) = aya::maps::PerCpuArray::<_, [u64; 2]>::try_from(map) else { return 0 };
        let lost = counts.get(&(Reason::EventLost as u32), 0);
        lost.map_or(0, |each| each.iter().map(|[packets, _]| packets).sum())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Nothing more can be done; the ring fills once and then costs one failed reservation per event.
        let _ = self.set(setting::TRACE, 0);
    }
}

/// The folder of pins that is in force: the newest version that has a trace.
fn newest(instance: &Path) -> Result<PathBuf, Error> {
    let found = std::fs::read_dir(instance).into_iter().flatten().flatten().map(|entry| entry.path());
    let with_trace = found.filter(|folder| folder.join(names::TRACE).exists());
    let age = |folder: &PathBuf| folder.metadata().and_then(|meta| meta.modified()).ok();
    with_trace.max_by_key(age).ok_or_else(|| Error::NoFilter { folder: instance.to_owned() })
}

/// Held by the one who traces: the folder of the version, which belongs to root. The daemon locks that of the instance.
fn lock(folder: &Path) -> Result<Flock<File>, Error> {
    let failed = |source| Error::kernel(format!("lock {}", folder.display()), source);
    let file = File::open(folder).map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => {
            Error::kernel("tracing", std::io::Error::other("another trace runs; end it first"))
        }
        errno => failed(errno.into()),
    })
}

/// An event of the ring; `None` when it is no such thing.
fn read(bytes: &[u8]) -> Option<Traced> {
    let bytes: &[u8; EVENT_BYTES] = bytes.try_into().ok()?;
    let event = Event::from_bytes(bytes);
    let ago = maps::monotonic().saturating_sub(event.time);
    Some(Traced {
        ago: Duration::from_nanos(ago),
        set: event.set,
        interface: event.interface,
        act: Act::from_number(event.act)?,
        reason: Reason::from_number(event.reason)?,
        rule: (event.rule < mailgate_common::NO_RULE).then_some(event.rule),
        length: event.length,
        snap: event.snap.get(..event.snapped as usize)?.to_vec(),
    })
}
