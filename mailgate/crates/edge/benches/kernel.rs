//! Nanoseconds per lookup in the kernel, beside the kernel's own structures; time and memory of a million prefixes.
//!
//! Run by `cargo xtask bench kernel`. Works in a network and mount namespace of its own, which ends with it.
#![expect(clippy::print_stdout, reason = "a measurement speaks on standard output")]

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap};
use aya::programs::Xdp as XdpProgram;
use aya::{Ebpf, EbpfLoader};
use mailgate_common::names;
use mailgate_edge::packet::xdp::{OBJECT, Xdp, sys};
use mailgate_edge::packet::{Config, Mode, PacketFilter as _};
use mailgate_lists::{Action, Change, Entry, Snapshot, Table, TableName};
use mailgate_model::ManualClock;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Numbers of entries to measure lookups at.
const SIZES: [usize; 3] = [30_000, 200_000, 1_000_000];
/// Interleaved rounds; the least of them counts, because other tenants of the machine only ever add.
const ROUNDS: usize = 11;
/// Lookups in one round.
const REPEAT: u32 = 100_000;
const PROGRAMS: [&str; 8] = [
    "empty",
    "ours_random",
    "hash_random",
    "trie_random",
    "empty_listed",
    "ours_listed",
    "hash_listed",
    "trie_listed",
];

fn main() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: not root, so no kernel filter");
        return Ok(());
    }
    enter()?;
    let config = Config { interfaces: vec!["v0".into()], mode: Mode::Native, ..Config::default() };
    let filter = Xdp::open(&config, Arc::new(ManualClock::default()))?;
    let mut random = Random(0x6d61_696c);
    lookups(&filter, &config, &mut random)?;
    loading(&filter, &mut random)?;
    filter.detach()?;
    Ok(())
}

/// Namespaces of our own with a veth pair and a bpf file system.
fn enter() -> Result<()> {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), NOTHING)?;
    let made =
        Command::new("ip").args(["link", "add", "v0", "type", "veth", "peer", "name", "v1"]).status()?;
    if made.success() { Ok(()) } else { Err("`ip link add` failed".into()) }
}

fn lookups(filter: &Xdp, config: &Config, random: &mut Random) -> Result<()> {
    println!(
        "ns per IPv4 lookup in the kernel (least of {ROUNDS} interleaved runs of {REPEAT}, net of the empty program)"
    );
    println!(
        "{:>9}  {:22} {:>9} {:>9} {:>12} {:>12}",
        "entries", "structure", "unlisted", "listed", "load", "memory"
    );
    for size in SIZES {
        let addresses = random.addresses(size);
        let begun = Instant::now();
        filter.apply(vec![reload(addresses.iter().map(|ip| host(*ip)).collect())])?;
        let ours = begun.elapsed();
        let mut bench = load(config, size as u32)?;
        let (hash, trie) = fill(&mut bench, &addresses)?;
        let least = measure(&bench)?;
        let [
            empty,
            ours_random,
            hash_random,
            trie_random,
            empty_listed,
            ours_listed,
            hash_listed,
            trie_listed,
        ] = least;
        let rows = [
            ("ours", ours_random, ours_listed, ours, Some(filter.status().bytes)),
            ("HASH (hosts only)", hash_random, hash_listed, hash, memory(&bench, "BENCH_HASH")?),
            ("LPM_TRIE", trie_random, trie_listed, trie, memory(&bench, "BENCH_TRIE")?),
        ];
        for (name, unlisted, listed, took, bytes) in rows {
            let bytes =
                bytes.map_or("?".to_owned(), |bytes| format!("{:.1} MiB", bytes as f64 / 1_048_576.0));
            println!(
                "{size:>9}  {name:22} {:>9} {:>9} {:>9.3} s  {bytes:>12}",
                unlisted.saturating_sub(empty),
                listed.saturating_sub(empty_listed),
                took.as_secs_f64(),
            );
        }
    }
    Ok(())
}

/// The bench programs, on the filter's tables and on maps of `size` entries.
fn load(config: &Config, size: u32) -> Result<Ebpf> {
    let pins = config.folder().join("v1");
    let mut loader = EbpfLoader::new();
    for name in names::MAPS {
        loader.map_pin_path(name, pins.join(name));
    }
    for name in ["BENCH_TRIE", "BENCH_HASH", "BENCH_KEYS"] {
        loader.map_max_entries(name, size);
    }
    let mut bench = loader.load(OBJECT)?;
    for name in PROGRAMS {
        let program: &mut XdpProgram =
            bench.program_mut(name).ok_or("the object has no bench programs")?.try_into()?;
        program.load()?;
    }
    Ok(bench)
}

/// Fills the kernel's own structures, one call per entry; how long hash and trie took.
fn fill(bench: &mut Ebpf, addresses: &[u32]) -> Result<(Duration, Duration)> {
    let mut keys: Array<_, u32> = bench.map_mut("BENCH_KEYS").ok_or("no keys")?.try_into()?;
    for (n, address) in (0..).zip(addresses) {
        keys.set(n, address, 0)?;
    }
    let mut count: Array<_, u32> = bench.map_mut("BENCH_COUNT").ok_or("no count")?.try_into()?;
    count.set(0, addresses.len() as u32, 0)?;
    let begun = Instant::now();
    let mut hash: HashMap<_, u32, u32> = bench.map_mut("BENCH_HASH").ok_or("no hash")?.try_into()?;
    for address in addresses {
        hash.insert(address.to_be(), 1, 0)?;
    }
    let hash = begun.elapsed();
    let begun = Instant::now();
    let mut trie: LpmTrie<_, u32, u32> = bench.map_mut("BENCH_TRIE").ok_or("no trie")?.try_into()?;
    for address in addresses {
        trie.insert(&Key::new(32, address.to_be()), 1, 0)?;
    }
    Ok((hash, begun.elapsed()))
}

/// Least nanoseconds of each program.
fn measure(bench: &Ebpf) -> Result<[u64; 8]> {
    let mut least = [u64::MAX; 8];
    let packet = [0_u8; 64];
    for _ in 0..ROUNDS {
        for (best, name) in least.iter_mut().zip(PROGRAMS) {
            let program = bench.program(name).ok_or("no such program")?;
            let (_, nanoseconds) = sys::test_run(program.fd()?.as_fd(), &packet, &mut [], REPEAT)?;
            *best = (*best).min(nanoseconds.into());
        }
    }
    Ok(least)
}

/// What the kernel says a map takes (`memlock` of its fdinfo; of tries it counts only part).
fn memory(bench: &Ebpf, name: &str) -> Result<Option<u64>> {
    use std::os::fd::AsRawFd as _;
    let (aya::maps::Map::HashMap(map) | aya::maps::Map::LpmTrie(map)) =
        bench.map(name).ok_or("no such map")?
    else {
        return Ok(None);
    };
    let fd: BorrowedFd<'_> = map.fd().as_fd();
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    Ok(text
        .lines()
        .find_map(|line| line.strip_prefix("memlock:"))
        .and_then(|bytes| bytes.trim().parse().ok()))
}

fn loading(filter: &Xdp, random: &mut Random) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let hosts: Vec<String> =
        random.addresses(1_000_000).iter().map(|ip| Ipv4Addr::from(*ip).to_string()).collect();
    // As feeds are: mostly hosts, some /24, few shorter ones.
    let mixed: Vec<String> = random
        .addresses(1_000_000)
        .iter()
        .map(|ip| match random_length(*ip) {
            32 => Ipv4Addr::from(*ip).to_string(),
            length => format!("{}/{length}", Ipv4Addr::from(ip & !(u32::MAX >> length))),
        })
        .collect();
    println!("\n1,000,000 IPv4 prefixes from a file");
    println!(
        "{:24} {:>9} {:>9} {:>16} {:>10} {:>10}",
        "prefixes", "entries", "parse", "parsed to kernel", "tables", "RSS after"
    );
    for (what, lines) in [("random hosts", hosts), ("85% /32, 10% /24, 5% /16-/23", mixed)] {
        let file = folder.path().join("list.txt");
        let mut writer = std::io::BufWriter::new(std::fs::File::create(&file)?);
        for line in &lines {
            writeln!(writer, "{line}")?;
        }
        writer.into_inner()?.sync_all()?;
        let begun = Instant::now();
        let entries = parse(&file)?;
        let parsed = begun.elapsed();
        let count = entries.len();
        let change = reload(entries);
        let begun = Instant::now();
        filter.apply(vec![change])?;
        let compiled = begun.elapsed();
        println!(
            "{what:24} {count:>9} {:>7.3} s {:>14.3} s {:>6.1} MiB {:>6.0} MiB",
            parsed.as_secs_f64(),
            compiled.as_secs_f64(),
            filter.status().bytes as f64 / 1_048_576.0,
            resident()? as f64 / 1024.0,
        );
    }
    changes(filter, random)
}

/// Single changes beside a million entries, each visible to the next packet.
fn changes(filter: &Xdp, random: &mut Random) -> Result<()> {
    let addresses = random.addresses(10_000);
    let table = table_name();
    let begun = Instant::now();
    for address in &addresses {
        filter.apply(vec![Change::Add(table.clone(), host(*address))])?;
    }
    let added = begun.elapsed();
    let begun = Instant::now();
    for address in &addresses {
        filter.apply(vec![Change::Delete(table.clone(), host(*address).prefix)])?;
    }
    let deleted = begun.elapsed();
    let each = |took: Duration| took.as_nanos() as f64 / addresses.len() as f64 / 1000.0;
    println!(
        "single changes beside them: {:.1} µs per addition, {:.1} µs per deletion",
        each(added),
        each(deleted)
    );
    Ok(())
}

/// The file as `lists` reads one: a prefix per line, sorted, without duplicates.
fn parse(file: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for line in BufReader::new(std::fs::File::open(file)?).lines() {
        entries.push(mailgate_lists::parse_entry(&line?)?);
    }
    entries.sort_unstable_by_key(|entry| entry.prefix);
    entries.dedup_by_key(|entry| entry.prefix);
    Ok(entries)
}

fn table_name() -> TableName {
    TableName::try_from("drop".to_owned()).unwrap_or_else(|sentence| unreachable!("{sentence}"))
}

fn reload(mut entries: Vec<Entry>) -> Change {
    entries.sort_unstable_by_key(|entry| entry.prefix);
    let table = Table { name: table_name(), action: Action::Drop, entries: Arc::new(entries) };
    Change::Reload(Snapshot { tables: vec![table] })
}

fn host(address: u32) -> Entry {
    Entry { prefix: ipnet::IpNet::from(std::net::IpAddr::V4(address.into())), negated: false, expires: None }
}

fn random_length(seed: u32) -> u32 {
    match seed.wrapping_mul(0x9e37_79b9) % 100 {
        0..85 => 32,
        85..95 => 24,
        rest => 16 + (rest + seed) % 8,
    }
}

/// Resident memory in KiB.
fn resident() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// The same addresses at every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) as u32
    }

    /// Different ones.
    fn addresses(&mut self, count: usize) -> Vec<u32> {
        let mut seen = HashSet::with_capacity(count);
        std::iter::repeat_with(|| self.next()).filter(|ip| seen.insert(*ip)).take(count).collect()
    }
}
