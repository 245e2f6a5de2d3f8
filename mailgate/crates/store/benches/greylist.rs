//! The greylist with millions of tuples: how fast it answers, how much memory and disk it takes, how long a start takes.
//!
//! `cargo bench -p mailgate-store --bench greylist -- 10000000` (or `cargo xtask bench greylist-store`). The database is
//! made in the folder that `MAILGATE_BENCH_DIR` names, else in a temporary one, and removed.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench stops when something is missing, and reports"
)]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use mailgate_model::{Clock, ManualClock, Timestamp};
use mailgate_store::Greylist;
use mailgate_store::greylist::{Grey, Next, Said, Tuple};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);
/// Tuples recorded before the writer is waited for: fewer than it keeps.
const GULP: u64 = 50_000;
/// Single operations whose time is taken.
const SAMPLES: u64 = 200_000;
/// Between two operations under load: 5000 attempts a second.
const PACE: Duration = Duration::from_micros(200);

/// Texts of usual length: hosts of many networks, some senders and recipients each.
fn tuple(n: u64) -> (Tuple, Said) {
    let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let ip = Ipv4Addr::from_bits((mixed >> 32) as u32);
    let reverse_path = format!("newsletter{}@mail{}.example.com", mixed % 1000, mixed % 50_000);
    let forward_path = format!("recipient{}@example.org", n % 5000);
    let said = Said {
        ip: None,
        helo: format!("host-{}.dyn.example.net", mixed % 100_000),
        reverse_path: reverse_path.clone(),
        forward_path: forward_path.clone(),
    };
    let client = IpNet::V4(Ipv4Net::new_assert(ip, 32));
    (Tuple { client: client.into(), reverse_path, forward_path }, said)
}

fn fresh() -> Grey {
    let minutes = |n: u64| START.plus(Duration::from_secs(60 * n));
    Grey { first: START, pass: minutes(25), expires: minutes(240), blocked: 1, passed: 0 }
}

fn attempt(list: &Greylist, n: u64) -> bool {
    let (tuple, said) = tuple(n);
    let mut known = false;
    list.attempt(&tuple, &said, |state| {
        known = state.is_some();
        Next::Defer(state.unwrap_or_else(fresh))
    });
    known
}

fn main() {
    let count: u64 = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(1_000_000);
    let folder = match std::env::var_os("MAILGATE_BENCH_DIR") {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let folder = folder.expect("a folder");
    let path = folder.path().join("greylist.db");
    println!("load before: {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    // Filled by a runtime of its own, so that nothing of it is left in memory that a start would not have.
    let empty = resident();
    runtime().expect("a runtime").block_on(fill(&path, count));
    println!(
        "on disk: {:.1} MB, {} bytes a tuple",
        size(folder.path()) as f64 / 1e6,
        size(folder.path()) / count
    );
    runtime().expect("a runtime").block_on(measure(&path, count, empty));
}

async fn fill(path: &Path, count: u64) {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(START));
    let list = Greylist::open(path, clock).await.expect("a greylist");
    let begun = Instant::now();
    let mut gulp = Instant::now();
    let mut slowest = Duration::ZERO;
    for n in 0..count {
        attempt(&list, n);
        if n % GULP == GULP - 1 {
            list.flush().await.expect("written");
            slowest = slowest.max(gulp.elapsed());
            gulp = Instant::now();
        }
    }
    list.flush().await.expect("written");
    let took = begun.elapsed();
    println!(
        "recorded {count} in {:.1} s, {:.0} a second; the slowest {GULP}: {:.0} a second; {} not remembered",
        took.as_secs_f64(),
        count as f64 / took.as_secs_f64(),
        GULP as f64 / slowest.as_secs_f64().max(1e-9),
        list.counts().unsaved,
    );
}

async fn measure(path: &Path, count: u64, empty: u64) {
    let before = resident();
    let begun = Instant::now();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(START));
    let list = Greylist::open(path, clock).await.expect("a greylist");
    println!("opened after {:.3} s", begun.elapsed().as_secs_f64());
    let mut random = 1_u64;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 20
    };
    let mut early = Vec::new();
    while list.counts().loading {
        let (tuple, _) = tuple(next() % count);
        let one = Instant::now();
        let known = black_box(list.state(&tuple)).is_some();
        early.push(one.elapsed());
        assert!(known, "a tuple was not found while loading");
        tokio::task::yield_now().await;
    }
    println!(
        "all in memory after {:.1} s; lookups meanwhile: {}",
        begun.elapsed().as_secs_f64(),
        Spread::of(early)
    );
    println!(
        "memory: {:.1} MB more than before, {:.1} bytes a tuple (resident; process without any: {:.1} MB)",
        (resident().saturating_sub(before)) as f64 / 1e6,
        resident().saturating_sub(before) as f64 / count as f64,
        empty as f64 / 1e6,
    );
    let (mut known, mut unknown, mut updates) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..SAMPLES {
        let (one, _) = tuple(next() % count);
        let (other, _) = tuple(count + n);
        let begun = Instant::now();
        black_box(list.state(&one));
        known.push(begun.elapsed());
        let begun = Instant::now();
        black_box(list.state(&other));
        unknown.push(begun.elapsed());
    }
    println!("lookup of a known tuple:    {}", Spread::of(known));
    println!("lookup of an unknown tuple: {}", Spread::of(unknown));
    let begun = Instant::now();
    let mut lag = Duration::ZERO;
    for n in 0..SAMPLES / 10 {
        while begun.elapsed() < PACE * u32::try_from(n).unwrap_or(u32::MAX) {
            tokio::task::yield_now().await;
        }
        let one = Instant::now();
        black_box(attempt(&list, if n % 2 == 0 { next() % count } else { count + n }));
        updates.push(one.elapsed());
        if n % 500 == 0 {
            let one = Instant::now();
            list.flush().await.expect("written");
            lag = lag.max(one.elapsed());
        }
    }
    println!("attempt, half of them new, 5000 a second: {}", Spread::of(updates));
    println!("longest time until an attempt was in the database: {:.1} ms", lag.as_secs_f64() * 1e3);
}

/// Quantiles of some times.
struct Spread([Duration; 4]);

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: usize| times.get((times.len() * share / 1000).min(times.len().saturating_sub(1)));
        Self([500, 990, 999, 1000].map(|share| at(share).copied().unwrap_or_default()))
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p99, p999, most] = self.0.map(|time| time.as_secs_f64() * 1e6);
        write!(f, "p50 {p50:.1} us, p99 {p99:.1} us, p99.9 {p999:.1} us, most {most:.0} us")
    }
}

fn size(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}
