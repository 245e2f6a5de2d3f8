//! The filter in the kernel: loads and attaches the programs, fills their maps, leaves them in force when we end.

mod attach;
mod pins;
pub mod sys;

use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aya::maps::{MapData, PerCpuArray};
use aya::programs::{SkLookup, Xdp as XdpProgram};
use aya::{Ebpf, EbpfLoader};
use mailgate_common::{
    Counter, LINE_WORDS, LISTENER_EDGE, LISTENER_RECEPTION, PAGE_WORDS, PORT_WORDS, SETTING_STEER_LOOPBACK,
    header, names, port_place,
};
use mailgate_lists::Change;
use mailgate_model::Clock;

use super::area::Area;
use super::engine::{Backing, Current, Engine, Family};
use super::{Applied, Config, Counted, Error, Listeners, PacketFilter, Status, Verdict, Where};

/// The compiled programs.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/filter.o"));

/// The packet filter in the kernel. Dropping it leaves the filter in force; see [`PacketFilter::detach`].
pub struct Xdp {
    folder: PathBuf,
    interfaces: Vec<(String, &'static str)>,
    engine: Mutex<Engine>,
    current: RwLock<Current>,
    listeners: OwnedFd,
    counters: PerCpuArray<MapData, u64>,
    /// Keeps programs and maps; the pins do so too.
    loaded: Mutex<Ebpf>,
}

impl Xdp {
    /// Loads the programs, reuses what an earlier daemon pinned, attaches or replaces without an unfiltered moment.
    ///
    /// # Errors
    /// [`Error`]; nothing that this call attached stays behind.
    pub fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let folder = pins::prepare(&config.pin_dir, &config.folder())?;
        let mut loaded = load(&folder)?;
        pins::adopt(&folder)?;
        let [tables4, tables6, ports, settings, listeners] =
            [names::TABLES4, names::TABLES6, names::PORTS, names::SETTINGS, names::LISTENERS]
                .map(|name| pins::open(&folder.join(name)));
        set_up(config, ports?.as_fd(), settings?.as_fd())?;
        let counters = loaded
            .take_map(names::COUNTERS)
            .ok_or_else(|| Error::Program("it has no counters".to_owned()))
            .and_then(|map| PerCpuArray::try_from(map).map_err(|error| Error::Program(error.to_string())))?;
        let (tables4, tables6) = (tables4?, tables6?);
        let earlier = generation_number(tables4.as_fd()).max(generation_number(tables6.as_fd()));
        let interfaces = attach_all(&mut loaded, config, &folder)?;
        let mut engine = Engine::new(Box::new(Maps { tables4, tables6 }), clock);
        engine.continue_from(earlier);
        engine.spare(&config.local);
        Ok(Self {
            folder,
            interfaces,
            engine: Mutex::new(engine),
            current: RwLock::default(),
            listeners: listeners?,
            counters,
            loaded: Mutex::new(loaded),
        })
    }

    /// Duplicate of the descriptor of a program (`ingress` or `steer`), for tests and measurements.
    ///
    /// # Errors
    /// When there is no such program, or no descriptor is free.
    pub fn program(&self, name: &str) -> Result<OwnedFd, Error> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let program = loaded.program(name).ok_or_else(|| Error::Program(format!("it has no {name}")))?;
        let fd = program.fd().map_err(refused)?;
        fd.as_fd().try_clone_to_owned().map_err(|source| Error::kernel("descriptor", source))
    }

    /// One counter, over all processors.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.get(&(counter as u32), 0).map_or(0, |each| each.iter().sum())
    }
}

/// Removes what an instance left in the kernel, without opening it.
///
/// # Errors
/// When a pin cannot be removed.
pub fn remove(config: &Config) -> Result<(), Error> {
    pins::remove(&config.folder())
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::Program(error.to_string())
}

fn load(folder: &std::path::Path) -> Result<Ebpf, Error> {
    let mut loader = EbpfLoader::new();
    for name in names::MAPS {
        loader.map_pin_path(name, folder.join(name));
    }
    let mut loaded = loader.load(OBJECT).map_err(chain)?;
    let ingress: &mut XdpProgram = program(&mut loaded, names::INGRESS)?;
    ingress.load().map_err(chain)?;
    let steer: &mut SkLookup = program(&mut loaded, names::STEER)?;
    steer.load().map_err(chain)?;
    Ok(loaded)
}

/// Lines of the verifier's log that are told.
const VERIFIER_LINES: usize = 6;

/// An error with its causes, in one line; of the verifier's log, if any, the last lines.
fn chain(error: impl std::error::Error) -> Error {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    // The verifier tells its whole way; only where it ended helps.
    match text.split_once("Verifier output:") {
        Some((said, log)) => {
            let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
            let end = lines.get(lines.len().saturating_sub(VERIFIER_LINES)..).unwrap_or_default();
            Error::Program(format!("{said}{}", end.join("; ")))
        }
        None => Error::Program(text),
    }
}

fn program<'a, P>(loaded: &'a mut Ebpf, name: &str) -> Result<&'a mut P, Error>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let program = loaded.program_mut(name).ok_or_else(|| Error::Program(format!("it has no {name}")))?;
    program.try_into().map_err(refused)
}

fn set_up(config: &Config, ports: BorrowedFd<'_>, settings: BorrowedFd<'_>) -> Result<(), Error> {
    let mut words = vec![0_u64; PORT_WORDS as usize];
    for port in &config.reception_ports {
        let (word, bit) = port_place(*port);
        if let Some(word) = words.get_mut(word as usize) {
            *word |= bit;
        }
    }
    let write = |map, key: u32, value: u64| {
        sys::map_update(map, &key.to_ne_bytes(), &value.to_ne_bytes())
            .map_err(|source| Error::kernel("settings", source))
    };
    for (key, word) in (0..).zip(words) {
        write(ports, key, word)?;
    }
    write(settings, SETTING_STEER_LOOPBACK, config.steer_loopback.into())
}

fn attach_all(
    loaded: &mut Ebpf,
    config: &Config,
    folder: &std::path::Path,
) -> Result<Vec<(String, &'static str)>, Error> {
    let mut links = attach::Links::new(folder);
    let ingress: &mut XdpProgram = program(loaded, names::INGRESS)?;
    let fd = ingress.fd().map_err(refused)?.as_fd();
    let mut interfaces = Vec::new();
    for interface in &config.interfaces {
        let mode = links.interface(fd, interface, config.mode)?;
        interfaces.push((interface.clone(), mode));
    }
    let steer: &mut SkLookup = program(loaded, names::STEER)?;
    links.steer(steer.fd().map_err(refused)?.as_fd())?;
    links.keep()?;
    Ok(interfaces)
}

/// Number of the generation in an array of maps; 0 when there is none.
fn generation_number(tables: BorrowedFd<'_>) -> u64 {
    let Ok(Some(id)) = sys::map_lookup_u32(tables, 0) else { return 0 };
    let Ok(map) = sys::map_by_id(id) else { return 0 };
    Area::of_map(header::WORDS as usize, map).map_or(0, |area| area.load(header::GENERATION as usize))
}

/// Generations in maps of the kernel.
struct Maps {
    tables4: OwnedFd,
    tables6: OwnedFd,
}

impl Backing for Maps {
    fn area(&self, family: Family, words: usize) -> Result<Area, Error> {
        let (name, line) = match family {
            Family::V4 => ("generation4", LINE_WORDS),
            Family::V6 => ("generation6", PAGE_WORDS),
        };
        let lines = u32::try_from(words / line as usize).unwrap_or(u32::MAX);
        sys::generation_map(name, line * 8, lines)
            .and_then(|map| Area::of_map(words, map))
            .map_err(|source| Error::kernel("memory for the tables", source))
    }

    fn publish(&self, family: Family, area: Option<&Area>) -> Result<(), Error> {
        let tables = match family {
            Family::V4 => &self.tables4,
            Family::V6 => &self.tables6,
        };
        let done = match area.and_then(Area::map_fd) {
            Some(map) => sys::map_update_fd(tables.as_fd(), 0, map),
            None => sys::map_delete(tables.as_fd(), 0),
        };
        done.map_err(|source| Error::kernel("switching to the new tables", source))
    }
}

impl PacketFilter for Xdp {
    fn apply(&self, changes: Vec<Change>) -> Result<Applied, Error> {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let applied = engine.apply(changes);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = engine.current();
        applied
    }

    fn verdict(&self, source: IpAddr) -> Verdict {
        self.current.read().unwrap_or_else(PoisonError::into_inner).verdict(source)
    }

    fn set_listeners(&self, reception: Listeners, edge: Listeners) -> Result<(), Error> {
        for (slot, listener) in [
            (LISTENER_RECEPTION, reception.v4),
            (LISTENER_RECEPTION + 1, reception.v6),
            (LISTENER_EDGE, edge.v4),
            (LISTENER_EDGE + 1, edge.v6),
        ] {
            let map = self.listeners.as_fd();
            let done = match listener {
                Some(fd) => sys::map_update(map, &slot.to_ne_bytes(), &fd.to_ne_bytes()),
                None => sys::map_delete(map, slot),
            };
            done.map_err(|source| Error::kernel("handing a listener to the kernel", source))?;
        }
        Ok(())
    }

    fn status(&self) -> Status {
        let (generation, entries4, entries6) =
            self.engine.lock().unwrap_or_else(PoisonError::into_inner).figures();
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let counters =
            Counter::ALL.iter().map(|(counter, name)| Counted { name, count: self.counter(*counter) });
        Status {
            acts: Where::Kernel,
            reason: None,
            interfaces: self.interfaces.clone(),
            pins: Some(self.folder.display().to_string()),
            generation,
            entries4,
            entries6,
            bytes: current.bytes(),
            tables: current.names(),
            counters: counters.collect(),
        }
    }

    fn detach(&self) -> Result<(), Error> {
        pins::remove_pins(&self.folder)
    }
}
