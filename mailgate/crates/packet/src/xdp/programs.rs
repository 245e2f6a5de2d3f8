//! The programs that answer: each by itself, so that an old kernel that refuses one still runs all the others.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use aya::Ebpf;
use aya::maps::Map;
use aya::programs::Xdp as XdpProgram;
use mailgate_common::answer::{Answered, Key, Rate, setting};
use mailgate_common::{PROGRAM_COOKIE, PROGRAM_REJECT, PROGRAM_TARPIT, names};
use nix::sys::socket::SockaddrStorage;

use super::super::{Answerer, Answers, Counted, Error, HeldConnection, State};
use super::{pins, program, refused, syncookies, sys};
use crate::firewall::RuleSet;

/// Seconds' worth of replies that a source may have at once.
const BURST_SECONDS: u32 = 10;

/// The programs that answer, and what they know of the host.
pub(super) struct Answering {
    settings: OwnedFd,
    local: OwnedFd,
    counters: OwnedFd,
    records: OwnedFd,
    /// Of everything above and of the buckets of sources.
    bytes: u64,
    told: Vec<Answerer>,
    known: Mutex<Known>,
}

/// What was told to the programs last.
#[derive(Default)]
struct Known {
    addresses: BTreeSet<[u8; 16]>,
    /// Whether SYN cookies were wanted, and what is amiss with them.
    cookies: Option<(bool, Option<String>)>,
}

impl Answering {
    /// Writes what the programs need, loads them and puts them where `ingress` calls them.
    ///
    /// # Errors
    /// When a map cannot be written. A program that the kernel refuses is none; [`Answering::status`] says so.
    pub(super) fn install(loaded: &mut Ebpf, answers: &Answers, folder: &Path) -> Result<Self, Error> {
        let [settings, places, local, counters] =
            [names::ANSWER, names::PROGRAMS, names::LOCAL, names::ANSWERED]
                .map(|name| pins::open(&folder.join(name)));
        let (settings, places) = (settings?, places?);
        write_settings(settings.as_fd(), &inherited(&settings, folder)?, answers)?;
        let mut told = Vec::new();
        for (name, place) in [
            (names::REJECT, PROGRAM_REJECT),
            (names::TARPIT, PROGRAM_TARPIT),
            (names::COOKIE, PROGRAM_COOKIE),
        ] {
            told.push(put(loaded, places.as_fd(), name, place)?);
        }
        let (local, counters) = (local?, counters?);
        let records = map(loaded, names::TARPITTED)?;
        let sources = map(loaded, names::SOURCES)?;
        let bytes = [&settings, &local, &counters, &records, &sources]
            .map(|map| figure(map, "memlock:"))
            .into_iter()
            .sum();
        let this = Self { settings, local, counters, records, bytes, told, known: Mutex::default() };
        this.tell_addresses()?;
        Ok(this)
    }

    /// Follows the rules in force and the addresses of the host; to be called when either may have changed. What fails is
    /// logged and tried again at the next call; rules and tables do not depend on it.
    pub(super) fn follow(&self, rules: &RuleSet) {
        let told = self.tell_addresses().and_then(|()| self.want_cookies(!rules.cookie_ports.is_empty()));
        if let Err(error) = told {
            tracing::warn!(target: "edge", event = "packet", %error, "the programs that answer know of older addresses or rules");
        }
    }

    fn want_cookies(&self, wanted: bool) -> Result<(), Error> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.cookies.as_ref().is_none_or(|(before, _)| *before != wanted) {
            known.cookies = Some((wanted, syncookies::set(&self.settings, wanted)?));
        }
        Ok(())
    }

    /// Tells the programs which addresses are this host's: what is to others they leave alone.
    fn tell_addresses(&self) -> Result<(), Error> {
        let failed = |source| Error::kernel("local addresses", source);
        let found = nix::ifaddrs::getifaddrs().map_err(|errno| failed(errno.into()))?;
        let current: BTreeSet<[u8; 16]> = found.filter_map(|each| key(&each.address?)).collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.addresses.is_empty() && known.addresses == current {
            return Ok(());
        }
        for address in &current {
            sys::map_update(self.local.as_fd(), address, &1_u32.to_ne_bytes()).map_err(failed)?;
        }
        // What the map has and the host has not: from before, or from an earlier daemon.
        for gone in sys::map_keys::<16>(self.local.as_fd()).map_err(failed)? {
            if !current.contains(&gone) {
                sys::map_delete_key(self.local.as_fd(), &gone).map_err(failed)?;
            }
        }
        known.addresses = current;
        Ok(())
    }

    /// How the programs stand.
    pub(super) fn status(&self) -> Vec<Answerer> {
        let mut told = self.told.clone();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(cookie), Some((_, amiss))) =
            (told.iter_mut().find(|each| each.name == names::COOKIE), &known.cookies)
        {
            cookie.reason = cookie.reason.take().or_else(|| amiss.clone());
        }
        drop(known);
        let [offered, greeted] = [Answered::Offered, Answered::Greeted].map(|what| self.answered(what));
        if let Some(tarpit) = told.iter_mut().find(|each| each.name == names::TARPIT) {
            tarpit.reason = tarpit.reason.take().or_else(|| unheard(offered, greeted));
        }
        told
    }

    /// All counters, for people.
    pub(super) fn counters(&self) -> impl Iterator<Item = Counted> {
        Answered::ALL.iter().map(|(what, name)| Counted { name, count: self.answered(*what), bytes: 0 })
    }

    /// Bytes of kernel memory for the answers; they do not grow.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The connections that are written down: see [`Answers::recorded`].
    ///
    /// # Errors
    /// When the map cannot be read.
    pub(super) fn held(&self) -> Result<Vec<HeldConnection>, Error> {
        const KEY: usize = 40;
        let failed = |source| Error::kernel("held connections", source);
        let mut held = Vec::new();
        for key in sys::map_keys::<KEY>(self.records.as_fd()).map_err(failed)? {
            let mut value = [0; 32];
            // One that went in the meantime is none.
            if sys::map_lookup(self.records.as_fd(), &key, &mut value).is_ok_and(|found| found) {
                held.extend(connection(&key, &value));
            }
        }
        Ok(held)
    }

    /// How often an answer program did this, over all processors since the maps were made; 0 when that cannot be read.
    pub(super) fn answered(&self, what: Answered) -> u64 {
        let Ok(processors) = aya::util::nr_cpus() else { return 0 };
        let mut each = vec![0; processors * size_of::<u64>()];
        match sys::map_lookup(self.counters.as_fd(), &(what as u32).to_ne_bytes(), &mut each) {
            Ok(true) => each.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).sum(),
            Ok(false) | Err(_) => 0,
        }
    }
}

/// SYNs answered, and not one of them acknowledged, from which on something is amiss.
const UNHEARD: u64 = 1000;

/// What is to be said when many SYNs were answered and nobody ever acknowledged: a driver may take what XDP sends and not
/// send it.
fn unheard(offered: u64, greeted: u64) -> Option<String> {
    (offered >= UNHEARD && greeted == 0).then(|| {
        format!(
            "{offered} SYNs were answered and no peer acknowledged: they are forged, or the driver does not send what XDP \
             answers (a veth device does only when its peer has an XDP program or GRO; some cards need more transmit queues)"
        )
    })
}

fn put(loaded: &mut Ebpf, places: BorrowedFd<'_>, name: &'static str, place: u32) -> Result<Answerer, Error> {
    let failed = |source| Error::kernel(format!("program {name}"), source);
    match load(loaded, name) {
        Ok(program) => {
            sys::map_update_fd(places, place, program.as_fd()).map_err(failed)?;
            Ok(Answerer { name, state: State::Ready, reason: None })
        }
        Err(error) => {
            sys::map_delete(places, place).map_err(failed)?;
            tracing::warn!(target: "edge", event = "packet", program = name, %error,
                "the kernel does not take a program that answers; the rest of the filter works");
            Ok(Answerer { name, state: State::Missing, reason: Some(error.to_string()) })
        }
    }
}

fn load(loaded: &mut Ebpf, name: &str) -> Result<OwnedFd, Error> {
    let program: &mut XdpProgram = program(loaded, name)?;
    program.load().map_err(super::chain)?;
    let fd = program.fd().map_err(refused)?;
    fd.as_fd().try_clone_to_owned().map_err(|source| Error::kernel("descriptor", source))
}

/// The settings of before: of the map itself, or of the map that a daemon of another version left beside it.
fn inherited(map: &OwnedFd, folder: &Path) -> Result<setting::Words, Error> {
    let own = words(map)?;
    if own.iter().any(|word| *word != 0) {
        return Ok(own);
    }
    let versions = folder.parent().into_iter().flat_map(std::fs::read_dir).flatten().flatten();
    let others = versions.filter_map(|version| sys::open_pin(&version.path().join(names::ANSWER)).ok());
    Ok(others
        .filter_map(|map| words(&map).ok())
        .find(|words| words.iter().any(|word| *word != 0))
        .unwrap_or(own))
}

/// Writes caps and banner; the key stays, since peers that are held know sequence numbers made with it.
fn write_settings(map: BorrowedFd<'_>, before: &setting::Words, answers: &Answers) -> Result<(), Error> {
    let word = |at: u32| before.get(at as usize).copied().unwrap_or(0);
    let key = match [word(setting::KEY), word(setting::KEY + 1)] {
        [0, 0] => random()?,
        key => key,
    };
    let burst = answers.replies_per_source.saturating_mul(BURST_SECONDS);
    let setting = setting::Setting {
        key: Key(key),
        source: Rate::per_second(answers.replies_per_source, burst),
        tarpit: Rate::per_second(answers.replies, answers.replies),
        reset: Rate::per_second(answers.resets, answers.resets),
        record: answers.recorded != 0,
        syncookies_before: word(setting::SYNCOOKIES_BEFORE),
        banner: answers.banner.as_bytes(),
    };
    write(map, &setting.words())
}

/// The settings as they stand in the kernel.
///
/// # Errors
/// When they cannot be read, or the map is one of another version.
pub(super) fn words(map: &OwnedFd) -> Result<setting::Words, Error> {
    let mut bytes = [0; size_of::<setting::Words>()];
    let failed = |source| Error::kernel("settings of the answers", source);
    // The kernel writes as much as the map's values have.
    if figure(map, "value_size:") != bytes.len() as u64 {
        return Err(failed(std::io::Error::other("they are those of another version")));
    }
    sys::map_lookup(map.as_fd(), &0_u32.to_ne_bytes(), &mut bytes).map_err(failed)?;
    let mut words = [0; setting::WORDS as usize];
    for (word, part) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*part);
    }
    Ok(words)
}

pub(super) fn write(map: BorrowedFd<'_>, words: &setting::Words) -> Result<(), Error> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    sys::map_update(map, &0_u32.to_ne_bytes(), &bytes)
        .map_err(|source| Error::kernel("settings of the answers", source))
}

fn random() -> Result<[u64; 2], Error> {
    let mut bytes = [[0; 8]; 2];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(bytes.as_flattened_mut()))
        .map_err(|source| Error::kernel("/dev/urandom", source))?;
    Ok(bytes.map(u64::from_ne_bytes))
}

/// The key of an address: two halves as the programs have them, IPv4 mapped.
fn key(address: &SockaddrStorage) -> Option<[u8; 16]> {
    let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => IpAddr::from(v4.ip()),
        (_, Some(v6)) => IpAddr::from(v6.ip()),
        (None, None) => return None,
    };
    let bits = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let mut key = [0; 16];
    let halves = [(bits >> 64) as u64, bits as u64];
    key.iter_mut().zip(halves.iter().flat_map(|half| half.to_ne_bytes())).for_each(|(to, from)| *to = from);
    Some(key)
}

fn map(loaded: &Ebpf, name: &str) -> Result<OwnedFd, Error> {
    let missing = || Error::Program(format!("it has no {name}"));
    let data = match loaded.map(name).ok_or_else(missing)? {
        Map::Array(data) | Map::LruHashMap(data) => data,
        _ => return Err(missing()),
    };
    data.fd().as_fd().try_clone_to_owned().map_err(|source| Error::kernel("descriptor", source))
}

/// A figure that the kernel tells of a map (`memlock:`, its bytes; `value_size:`); 0 when it does not.
fn figure(map: &OwnedFd, name: &str) -> u64 {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd())).unwrap_or_default();
    let figure = info.lines().find_map(|line| line.strip_prefix(name));
    figure.and_then(|figure| figure.trim().parse().ok()).unwrap_or(0)
}

/// A connection from its key (addresses in halves, ports) and value (first, last, replies, bytes).
fn connection(key: &[u8], value: &[u8]) -> Option<HeldConnection> {
    let words = |bytes: &[u8]| -> Vec<u64> {
        bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect()
    };
    let [from_high, from_low, to_high, to_low, ports] = *words(key) else { return None };
    let [first, last, replies, bytes] = *words(value) else { return None };
    let address = |high: u64, low: u64, port| {
        let bits = u128::from(high) << 64 | u128::from(low);
        SocketAddr::new(IpAddr::from(std::net::Ipv6Addr::from_bits(bits)).to_canonical(), port)
    };
    let peer = address(from_high, from_low, (ports >> 16) as u16);
    let here = address(to_high, to_low, ports as u16);
    Some(HeldConnection { peer, here, first, last, replies, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_nobody_hears_are_said() {
        assert_eq!(unheard(999, 0), None);
        assert_eq!(unheard(1_000_000, 1), None);
        assert!(unheard(1000, 0).unwrap().starts_with("1000 SYNs were answered and no peer acknowledged"));
    }

    #[test]
    fn a_written_down_connection_is_read_back() {
        let bytes = |words: &[u64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        let v4 = |last: u64| 0xffff_c000_0200 | last;
        let key = bytes(&[0, v4(7), 0, v4(1), 4000 << 16 | 25]);
        let read = connection(&key, &bytes(&[1, 2, 3, 4])).unwrap();
        assert_eq!(read.peer, "192.0.2.7:4000".parse().unwrap());
        assert_eq!(read.here, "192.0.2.1:25".parse().unwrap());
        assert_eq!((read.first, read.last, read.replies, read.bytes), (1, 2, 3, 4));
        assert_eq!(connection(&key, &[0; 31]), None);
    }
}
