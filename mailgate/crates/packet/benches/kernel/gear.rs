//! The bench programs, over maps that hold a set of addresses.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::time::{Duration, Instant};

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, Map};
use aya::programs::Xdp as XdpProgram;
use aya::programs::xdp::XdpMode;
use aya::{Ebpf, EbpfLoader, Pod};
use mailgate_common::names;
use mailgate_packet::xdp::{OBJECT, sys};

use crate::Result;
use crate::addresses::{Sources, halves};
use crate::place::Place;

/// How long filling took and what memory it cost.
#[derive(Clone, Copy, Default)]
pub(crate) struct Filled {
    pub(crate) took: Duration,
    pub(crate) bytes: f64,
}

/// How the kernel's own structures are filled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    /// All by one call (`BPF_MAP_UPDATE_BATCH`).
    Batch,
    /// A call for each entry, as most programs do it.
    Single,
}

/// The programs; those that ask our tables use the ones that are pinned in a folder.
pub(crate) struct Gear {
    loaded: Ebpf,
    pub(crate) hash: Filled,
    pub(crate) trie: Filled,
}

impl Gear {
    /// The programs, without anything in their maps.
    pub(crate) fn plain() -> Result<Self> {
        Ok(Self { loaded: EbpfLoader::new().load(OBJECT)?, hash: Filled::default(), trie: Filled::default() })
    }

    /// Loads the programs and fills the kernel's own structures.
    pub(crate) fn filled(pins: &Path, listed: Sources<'_>, how: Fill) -> Result<Self> {
        match listed {
            Sources::V4(addresses) => {
                let names = ["BENCH_TRIE", "BENCH_HASH", "BENCH_KEYS"];
                let keys: Vec<u32> = addresses.iter().map(|address| address.to_be()).collect();
                Self::with(pins, names, addresses, &keys, 32, how)
            }
            Sources::V6(addresses) => {
                let names = ["BENCH_TRIE6", "BENCH_HASH6", "BENCH_KEYS6"];
                let keys: Vec<[u64; 2]> = addresses.iter().map(|address| halves(*address)).collect();
                Self::with(pins, names, &keys, &keys, 128, how)
            }
        }
    }

    /// `probes` are the listed addresses as the programs read them, `keys` as the structures hold them.
    fn with<P: Pod, K: Pod>(
        pins: &Path,
        names: [&str; 3],
        probes: &[P],
        keys: &[K],
        bits: u32,
        how: Fill,
    ) -> Result<Self> {
        let mut gear = Self::load(pins, keys.len(), names)?;
        let [trie, hash, probed] = names;
        let places: Vec<u32> = (0..).take(probes.len()).collect();
        gear.fill(probed, &places, probes, Fill::Batch)?;
        let mut count: Array<_, u32> = gear.map("BENCH_COUNT")?.try_into()?;
        count.set(0, u32::try_from(probes.len())?, 0)?;
        let ones = vec![1_u32; keys.len()];
        let begun = Instant::now();
        gear.fill(hash, keys, &ones, how)?;
        gear.hash = Filled { took: begun.elapsed(), bytes: gear.reported(hash)? };
        let keys: Vec<Key<K>> = keys.iter().map(|key| Key::new(bits, *key)).collect();
        let (begun, before) = (Instant::now(), kernel_memory()?);
        gear.fill(trie, &keys, &ones, how)?;
        gear.trie = Filled { took: begun.elapsed(), bytes: kernel_memory()? - before };
        Ok(gear)
    }

    fn fill<K: Pod, V: Pod>(&mut self, name: &str, keys: &[K], values: &[V], how: Fill) -> Result<()> {
        let (Map::Array(map) | Map::HashMap(map) | Map::LpmTrie(map)) = self.map(name)? else {
            return Err(format!("{name} is no such map").into());
        };
        let fd = map.fd().as_fd();
        match how {
            Fill::Batch => sys::map_update_batch(fd, keys, values)?,
            Fill::Single => {
                for (key, value) in keys.iter().zip(values) {
                    sys::map_set(fd, key, value)?;
                }
            }
        }
        Ok(())
    }

    fn load(pins: &Path, entries: usize, sized: [&str; 3]) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        for name in names::MAPS {
            loader.map_pin_path(name, pins.join(name));
        }
        for name in sized {
            loader.map_max_entries(name, u32::try_from(entries.max(1))?);
        }
        Ok(Self { loaded: loader.load(OBJECT)?, hash: Filled::default(), trie: Filled::default() })
    }

    fn map(&mut self, name: &str) -> Result<&mut Map> {
        self.loaded.map_mut(name).ok_or_else(|| format!("the object has no {name}").into())
    }

    /// What the kernel says that a hash map takes (`memlock` in its fdinfo). Of tries it counts only part.
    fn reported(&self, name: &str) -> Result<f64> {
        let Some(Map::HashMap(map)) = self.loaded.map(name) else { return Err("no such hash map".into()) };
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd()))?;
        let bytes = text.lines().find_map(|line| line.strip_prefix("memlock:")).ok_or("no memlock")?;
        Ok(bytes.trim().parse()?)
    }

    fn program(&mut self, name: &str) -> Result<&mut XdpProgram> {
        let program = self.loaded.program_mut(name).ok_or_else(|| format!("the object has no {name}"))?;
        let program: &mut XdpProgram = program.try_into()?;
        if program.fd().is_err() {
            program.load()?;
        }
        Ok(program)
    }

    /// Nanoseconds of one run, the mean of `repeat`.
    pub(crate) fn time(&mut self, name: &str, repeat: u32) -> Result<u32> {
        let program = self.program(name)?;
        Ok(sys::test_run(program.fd()?.as_fd(), &[0; 64], &mut [], repeat)?.1)
    }

    /// Puts a program onto a device inside, in the driver, as long as this value lives.
    pub(crate) fn attach(&mut self, name: &str, place: &Place, device: &str) -> Result<()> {
        let program = self.program(name)?;
        place.within(|| Ok(program.attach(device, XdpMode::Driver).map(drop)?))
    }

    /// What the LPM_TRIE filter does with unlisted and with listed sources.
    pub(crate) fn verdicts(&mut self, unlisted: u32, listed: u32) -> Result<()> {
        let mut words: Array<_, u32> = self.map("BENCH_VERDICTS")?.try_into()?;
        words.set(0, unlisted, 0)?;
        Ok(words.set(1, listed, 0)?)
    }
}

/// Memory of the kernel that structures grow in: slabs, virtually mapped, per processor. In bytes. Everything else that
/// runs is in it too, so differences tell something on an idle machine only.
pub(crate) fn kernel_memory() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let of = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0)
    };
    Ok((of("Slab:") + of("VmallocUsed:") + of("Percpu:")) * 1024.0)
}
