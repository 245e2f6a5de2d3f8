//! The filter in the kernel: loads and attaches the programs, fills their maps, leaves them in force when we end.

mod attach;
mod device;
mod labels;
mod maps;
pub mod offline;
mod owner;
mod pins;
mod probe;
mod programs;
mod routes;
mod syncookies;
pub mod sys;
pub mod trace;
mod track;
mod watch;

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aya::maps::{HashMap, MapData, PerCpuArray};
use aya::programs::{SkLookup, Xdp as XdpProgram};
use aya::{Ebpf, EbpfLoader};
use ipnet::IpNet;
use mailgate_common::answer::Answered;
use mailgate_common::{Facts, LISTENER_EDGE, LISTENER_RECEPTION, Reason, Ruling, names, setting};
use mailgate_lists::Change;
use mailgate_model::{Clock, Timestamp};

use super::lock::Lock;
use super::shared::Shared;
use super::{
    Applied, Config, Counted, Error, HeldConnection, Hit, Listeners, PacketFilter, RuleRow, Standing, Status,
    Verdict, Where,
};
use crate::firewall::{ReversePath, RuleSet};
use crate::overload::Accounting;
use attach::Links;
pub use labels::Labels;
use maps::Maps;
pub use owner::Owner;
use programs::Answering;
use track::Tracker;
use watch::Watch;

/// The compiled programs.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/filter.o"));

/// Packets and bytes.
type Count = [u64; 2];
/// Packets, bytes and monotonic nanoseconds of the last one.
type Source = [u64; 3];

/// The packet filter in the kernel. Dropping it leaves the filter in force; see [`PacketFilter::detach`].
pub struct Xdp {
    folder: PathBuf,
    links: Arc<Mutex<Links>>,
    /// Ends with us.
    watch: Option<Watch>,
    _lock: Lock,
    shared: Arc<Shared>,
    answering: Answering,
    routes: Mutex<routes::Mirror>,
    clock: Arc<dyn Clock>,
    listeners: OwnedFd,
    reasons: PerCpuArray<MapData, Count>,
    rule_hits: PerCpuArray<MapData, Count>,
    hits: Mutex<HashMap<MapData, [u64; 2], Source>>,
    tracker: Option<Arc<Tracker>>,
    seen: Mutex<HashMap<MapData, [u8; 16], u64>>,
    /// Keeps programs and maps; the pins do so too.
    loaded: Mutex<Ebpf>,
}

impl Xdp {
    /// Loads the programs, reuses what an earlier daemon pinned, attaches or replaces without an unfiltered moment.
    ///
    /// # Errors
    /// [`Error`]; nothing that this call attached stays behind.
    pub fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        probe::check()?;
        let leftover = super::nft::Leftover::find(config)?;
        let version = pins::version(OBJECT, config.counted_sources)?;
        let (folder, lock) = pins::prepare(&config.pin_dir, &config.folder(), &version)?;
        let mut loaded = load(&folder, config)?;
        let backing = Maps::open(&folder)?;
        backing.set(setting::STEER_LOOPBACK, config.steer_loopback.into())?;
        let listeners = pins::open(&folder.join(names::LISTENERS))?;
        let reasons = PerCpuArray::try_from(taken(&mut loaded, names::REASONS)?).map_err(refused)?;
        let rule_hits = PerCpuArray::try_from(taken(&mut loaded, names::RULE_HITS)?).map_err(refused)?;
        let hits = HashMap::try_from(taken(&mut loaded, names::HITS)?).map_err(refused)?;
        let seen = HashMap::try_from(taken(&mut loaded, names::SEEN)?).map_err(refused)?;
        let routes = routes::Mirror::open(taken(&mut loaded, names::ROUTES)?)?;
        let earlier = backing.newest();
        let answering = Answering::install(&mut loaded, &config.answers, &folder)?;
        let programs = attach::Programs {
            ingress: duplicate(&loaded, names::INGRESS)?,
            steer: duplicate(&loaded, names::STEER)?,
        };
        let links = Links::open(&folder, &config.interfaces, config.mode, programs, leftover)?;
        let links = Arc::new(Mutex::new(links));
        let tracker = Tracker::open(&mut loaded, &backing, &folder, config.control_group.as_deref())
            .map(Arc::new)
            .inspect_err(|error| {
                tracing::warn!(target: "edge", event = "packet", %error,
                    "limits count only the connections that we accept ourselves");
            });
        let shared = Arc::new(Shared::new(Box::new(backing), Arc::clone(&clock), config.rules()));
        shared.engine().continue_from(earlier);
        shared.engine().limit(config.memory_limit);
        shared.engine().heed_behaviour(config.behaviour);
        shared.protect(&config.local)?;
        let watch = Watch::begin(&links, &shared).inspect_err(|error| {
            tracing::warn!(target: "edge", event = "packet", %error, "interfaces that come later are not seen");
        });
        Ok(Self {
            folder,
            links,
            watch: watch.ok(),
            _lock: lock,
            shared,
            answering,
            routes: Mutex::new(routes),
            clock,
            listeners,
            reasons,
            rule_hits,
            hits: Mutex::new(hits),
            tracker: tracker.ok(),
            seen: Mutex::new(seen),
            loaded: Mutex::new(loaded),
        })
    }

    /// Duplicate of the descriptor of a program (`ingress` or `steer`), for tests and measurements.
    ///
    /// # Errors
    /// When there is no such program, or no descriptor is free.
    pub fn program(&self, name: &str) -> Result<OwnedFd, Error> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        duplicate(&loaded, name)
    }

    /// After tables or rules changed: for whoever reads the pins without a daemon.
    fn write_labels(&self) {
        let rules = if self.unconfirmed().is_some() { Vec::new() } else { self.shared.rules(|_| (0, 0)) };
        let labels = Labels {
            tables: self.shared.current().names(),
            rules: rules.into_iter().map(|row| row.effective.rule.name).collect(),
        };
        if let Err(error) = labels.write(&self.folder) {
            tracing::debug!(target: "edge", event = "packet", %error, "a trace without a daemon has no names");
        }
    }

    /// Programs of earlier starts, which read maps of their own, may go now.
    fn tables_are_in_force(&self) {
        let links = || self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if !links().are_ours() && !self.watch.as_ref().is_some_and(|watch| watch.run(Links::in_force)) {
            links().in_force();
        }
    }

    /// Mirrors the routes if the rules ask for the way back.
    fn follow_routes(&self, rules: &RuleSet) -> Result<(), Error> {
        if rules.options.reverse_path == ReversePath::Off && !rules.options.own_source {
            return Ok(());
        }
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).refresh()
    }

    /// The verdict on a frame that comes in by this interface, as user space computes it over the same memory: it knows
    /// neither live connections nor routes.
    #[must_use]
    pub fn judge(&self, frame: &[u8], interface: u32) -> Ruling {
        self.shared.current().judge(frame, interface)
    }

    /// Packets that this rule decided, over all processors.
    #[must_use]
    pub fn rule_count(&self, rule: u32) -> u64 {
        sum(&self.rule_hits, rule).0
    }

    /// How often an answer program did this, over all processors.
    #[must_use]
    pub fn answered(&self, what: Answered) -> u64 {
        self.answering.answered(what)
    }

    /// Bytes of kernel memory that the answers take; they do not grow.
    #[must_use]
    pub const fn answers_memory(&self) -> u64 {
        self.answering.bytes()
    }

    /// Connections that the tarpit in the kernel holds or held, as far as they are written down.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn held(&self) -> Result<Vec<HeldConnection>, Error> {
        self.answering.held()
    }

    /// Packets (or connections) that met their end for this reason, over all processors.
    #[must_use]
    pub fn counter(&self, reason: Reason) -> u64 {
        sum(&self.reasons, reason as u32).0
    }
}

/// Packets and bytes over all processors.
fn sum(map: &PerCpuArray<MapData, Count>, index: u32) -> (u64, u64) {
    let Ok(each) = map.get(&index, 0) else { return (0, 0) };
    each.iter().fold((0, 0), |(packets, bytes), [more, of_them]| (packets + more, bytes + of_them))
}

fn taken(loaded: &mut Ebpf, name: &str) -> Result<aya::maps::Map, Error> {
    loaded.take_map(name).ok_or_else(|| Error::Program(format!("it has no {name}")))
}

/// A descriptor of our own of a program.
fn duplicate(loaded: &Ebpf, name: &str) -> Result<OwnedFd, Error> {
    let program = loaded.program(name).ok_or_else(|| Error::Program(format!("it has no {name}")))?;
    let fd = program.fd().map_err(refused)?;
    fd.as_fd().try_clone_to_owned().map_err(|source| Error::kernel("descriptor", source))
}

/// Removes what an instance left in the kernel, without opening it; whether there was anything.
///
/// # Errors
/// [`Error::Held`] when a process uses it; when a pin cannot be removed.
pub fn remove(config: &Config) -> Result<bool, Error> {
    pins::remove(&config.folder())
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::Program(error.to_string())
}

fn load(folder: &std::path::Path, config: &Config) -> Result<Ebpf, Error> {
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(names::TARPITTED, config.answers.recorded.max(1));
    loader.map_max_entries(names::HITS, config.counted_sources.max(1));
    loader.map_max_entries(names::SEEN, if config.behaviour.is_some() { SEEN_SOURCES } else { 1 });
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

/// Sources that passed and connect between two looks at them; each costs the kernel some 100 bytes.
const SEEN_SOURCES: u32 = 65_536;

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

impl PacketFilter for Xdp {
    fn accounting(&self) -> Option<Arc<dyn Accounting>> {
        self.tracker.clone().map(|tracker| tracker as Arc<dyn Accounting>)
    }

    fn apply(&self, changes: Vec<Change>) -> Result<Applied, Error> {
        let is_whole = changes.iter().any(|change| matches!(change, Change::Reload(_)));
        let applied = self.shared.apply(changes);
        if is_whole && applied.is_ok() {
            self.tables_are_in_force();
            self.write_labels();
        }
        applied
    }

    fn verdict(&self, source: IpAddr) -> Verdict {
        self.shared.verdict(source)
    }

    fn explain(&self, source: IpAddr, facts: &Facts) -> Verdict {
        self.shared.explain(source, facts)
    }

    fn protect(&self, networks: &[IpNet]) -> Result<(), Error> {
        self.shared.protect(networks)
    }

    fn stand(&self, standings: &[Standing]) -> Result<(), Error> {
        self.shared.stand(standings)
    }

    fn seen(&self) -> Vec<IpAddr> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let sources: Vec<[u8; 16]> = seen.keys().filter_map(Result::ok).collect();
        for source in &sources {
            // One that the kernel made room of already was told all the same.
            let _ = seen.remove(source);
        }
        sources.into_iter().map(|octets| IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()).collect()
    }

    fn set_rules(&self, rules: RuleSet, within: Option<Duration>) -> Result<(), Error> {
        // Before the rules ask for them.
        self.follow_routes(&rules)?;
        self.shared.set_rules(rules, within)?;
        self.answering.follow(&self.shared.rule_set());
        self.write_labels();
        Ok(())
    }

    fn confirm(&self) -> Result<bool, Error> {
        let confirmed = self.shared.confirm()?;
        self.write_labels();
        Ok(confirmed)
    }

    fn roll_back(&self) -> Result<bool, Error> {
        let back = self.shared.roll_back()?;
        self.answering.follow(&self.shared.rule_set());
        self.write_labels();
        Ok(back)
    }

    fn unconfirmed(&self) -> Option<Timestamp> {
        self.shared.unconfirmed()
    }

    fn tick(&self) -> Result<bool, Error> {
        let back = self.shared.tick()?;
        if back {
            self.write_labels();
        }
        let rules = self.shared.rule_set();
        self.answering.follow(&rules);
        self.follow_routes(&rules)?;
        Ok(back)
    }

    fn rules(&self) -> Vec<RuleRow> {
        self.shared.rules(|number| sum(&self.rule_hits, number))
    }

    fn rule_set(&self) -> RuleSet {
        self.shared.rule_set()
    }

    fn hits(&self) -> Vec<Hit> {
        let (now, uptime) = (self.clock.now(), maps::monotonic());
        let hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |([high, low], [packets, bytes, last]): ([u64; 2], Source)| {
            let ago = Duration::from_nanos(uptime.saturating_sub(last));
            let source = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low));
            Hit {
                source: IpAddr::V6(source).to_canonical(),
                packets,
                bytes,
                last: Timestamp::from_millis(now.millis().saturating_sub(ago.as_millis() as i64)),
            }
        };
        hits.iter().filter_map(Result::ok).map(row).collect()
    }

    fn forget_hits(&self, sources: &[IpAddr]) {
        let mut hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        for source in sources {
            let bits = match source {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
                IpAddr::V6(ip) => ip.to_bits(),
            };
            // One that is not there has nothing to forget.
            let _ = hits.remove(&[(bits >> 64) as u64, bits as u64]);
        }
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
        let figures = self.shared.engine().figures();
        let current = self.shared.current();
        let counters = Reason::ALL.iter().map(|reason| {
            let (count, bytes) = sum(&self.reasons, *reason as u32);
            Counted { name: reason.name(), count, bytes }
        });
        Status {
            acts: Where::Kernel,
            reason: None,
            interfaces: self.links.lock().unwrap_or_else(PoisonError::into_inner).status(),
            answers: self.answering.status(),
            pins: Some(self.folder.display().to_string()),
            generation: figures.generation,
            entries4: figures.entries4,
            entries6: figures.entries6,
            bytes: current.bytes(),
            bytes_kept: figures.kept,
            bytes_limit: figures.limit,
            tables: current.names(),
            counters: counters.chain(self.answering.counters()).collect(),
            cannot: Vec::new(),
        }
    }

    fn detach(&self) -> Result<(), Error> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).end();
        self.folder.parent().map_or(Ok(()), pins::remove_locked)
    }
}
