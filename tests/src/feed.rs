//! `cargo xtask bench bgp`: a feed of a million prefixes, and one that flaps.
//!
//! The feeder is BIRD in a namespace of its own; receivers are the daemon with its kernel filter, BIRD and GoBGP, one after
//! the other in the same run, the first two in several rounds. What counts is the time from the session being up to the last
//! prefix being in force: for the daemon in the kernel's tables, for the others in their RIB, which is as far as they go.
//! Beside it a client greets the daemon over and over: idle, while BIRD takes the feed (what sharing the machine with a
//! feeder costs, whoever receives) and while the daemon takes it itself.

#![allow(clippy::print_stdout, reason = "a measurement")]

mod flap;
mod latency;
mod ours;
mod peers;
mod report;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::netns::{Network, Node};
use crate::until;
use latency::Latency;
use ours::Ours;
use peers::{Feeder, receive_bird, receive_gobgp};
use report::{Report, median, millis, seconds};

/// The bridge.
const HUB: Node = node("net", 1);
/// The daemon.
const MX: Node = node("mx", 25);
/// BIRD, who announces; and our own generator.
const FEEDER: Node = node("feeder", 179);
/// The other receivers.
const OTHER: Node = node("other", 180);
/// Who greets.
const CLIENT: Node = node("client", 90);

/// Prefixes, unless the arguments say otherwise.
const PREFIXES: u32 = 1_000_000;

/// How often BIRD and the daemon receive.
const ROUNDS: usize = 3;

/// How often one prefix comes and goes when all are there.
const CHANGES: usize = 10;

/// How long an idle daemon is greeted in each round.
const CALM: Duration = Duration::from_secs(3);

/// Longest time for one receiver to have everything.
const PATIENCE: Duration = Duration::from_secs(120);

/// What counts as noise of the greeting's p99: half as long again as beside another receiver, or this much more.
const NOISE: Duration = Duration::from_millis(5);

const fn node(label: &'static str, host: u8) -> Node {
    let v6 = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host as u16);
    Node { label, v4: Ipv4Addr::new(198, 18, 0, host), v6 }
}

/// The n-th host of the feed: an odd factor spreads them over 16.0.0.0/4, clear of everything that is protected.
fn host(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x1000_0000 | n.wrapping_mul(2_654_435_761) >> 4)
}

/// The prefix that comes and goes when all others are there; none of [`host`].
const EXTRA: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);

/// What the rounds showed.
#[derive(Default)]
struct Seen {
    bird: Vec<Duration>,
    ours: Vec<Duration>,
    /// One change when all are there.
    bird_changes: Vec<Duration>,
    our_changes: Vec<Duration>,
    idle: Latency,
    beside: Latency,
    loading: Latency,
    /// MiB with all prefixes: BIRD, and the daemon before, with all, and at most.
    bird_memory: u64,
    memory: (u64, u64, u64),
}

/// Runs it all; `arguments` are a number of prefixes, `--quick`.
///
/// # Errors
/// When something is missing, or does not come to what it should.
pub fn measure(arguments: &[String]) -> Result<()> {
    let is_quick = arguments.iter().any(|word| word == "--quick");
    let count = arguments.iter().find_map(|word| word.parse().ok());
    let count = count.unwrap_or(if is_quick { 50_000 } else { PREFIXES });
    let (rounds, flapping) = if is_quick { (1, 5) } else { (ROUNDS, 60) };
    let mut report = Report::new(&format!("{count} prefixes"));
    let folder = tempfile::tempdir()?;
    let network = Network::new(HUB, &[MX, FEEDER, OTHER, CLIENT])?;
    report.progress("BIRD learns what it will announce");
    let feeder = Feeder::start(&network, folder.path(), count)?;
    let mut seen = Seen::default();
    for round in 1..=rounds {
        report.progress(&format!(
            "round {round} of {rounds}: the daemon idle, BIRD receives, the daemon receives"
        ));
        let folder = folder.path().join(format!("round-{round}"));
        std::fs::create_dir(&folder)?;
        seen.round(&network, &folder, &feeder, count)?;
        let last = |times: &[Duration]| times.last().map_or_else(String::new, |time| seconds(*time));
        report.progress(&format!("BIRD {}, the daemon {}", last(&seen.bird), last(&seen.ours)));
    }
    report.progress("GoBGP receives");
    let gobgp = receive_gobgp(&network, folder.path(), &feeder, count);
    drop(feeder);
    seen.tell(&mut report, gobgp);
    report.progress(&format!("a feed flaps for {flapping} s"));
    flap::measure(&network, folder.path(), flapping, &mut report)?;
    report.finish();
    Ok(())
}

impl Seen {
    fn round(&mut self, network: &Network, folder: &Path, feeder: &Feeder, count: u32) -> Result<()> {
        let client = network.node(CLIENT.label)?;
        let ours = Ours::start(folder, count, network.node(MX.label)?)?;
        self.idle.during(client, ours.reception(), calm)?;
        let bird =
            self.beside.during(client, ours.reception(), || receive_bird(network, folder, feeder, count))?;
        self.bird.push(bird.took);
        self.bird_changes.extend(bird.changes);
        self.bird_memory = bird.memory;
        let before = ours.memory()?.now;
        let took = self.loading.during(client, ours.reception(), || ours.receive(feeder, count));
        self.ours.push(took.with_context(|| ours.log())?);
        let memory = ours.memory()?;
        self.memory = (before, memory.now, memory.peak);
        self.our_changes.extend(ours.changes(feeder, count)?);
        feeder.disable("mailgate")
    }

    /// The rows, and what was hoped for.
    fn tell(&self, report: &mut Report, gobgp: Result<peers::Received>) {
        let (bird, ours) = (median(&self.bird), median(&self.ours));
        let all = |times: &[Duration]| times.iter().map(|time| seconds(*time)).collect::<Vec<_>>().join(", ");
        let ratio = ours.as_secs_f64() / bird.as_secs_f64();
        report.row("BIRD, in its RIB", [seconds(bird), all(&self.bird)]);
        match gobgp {
            Ok(gobgp) => {
                report.row("GoBGP, in its RIB", [seconds(gobgp.took), format!("{} MiB", gobgp.memory)])
            }
            Err(error) => report.progress(&format!("GoBGP: skipped: {error:#}")),
        }
        report.row("mailgate, in the kernel", [seconds(ours), all(&self.ours)]);
        let (once, twice) = (median(&self.bird_changes), median(&self.our_changes));
        let most = |times: &[Duration]| times.iter().max().copied().unwrap_or_default();
        let change = |middle: Duration, times: &[Duration]| {
            [millis(middle), format!("at most {}", millis(most(times)))]
        };
        report.row("one change with all there: BIRD has it", change(once, &self.bird_changes));
        report.row("one change with all there: the kernel has it", change(twice, &self.our_changes));
        report.row("greeting, idle", self.idle.figures());
        report.row("greeting, while BIRD receives", self.beside.figures());
        report.row("greeting, while the daemon receives", self.loading.figures());
        let (before, with_all, peak) = self.memory;
        report.row("memory of BIRD with all", [format!("{} MiB", self.bird_memory)]);
        let memory =
            [format!("{with_all} MiB"), format!("{before} MiB before"), format!("{peak} MiB at most")];
        report.row("memory of the daemon with all", memory);
        report.goal(format!("not slower than BIRD: {ratio:.2} of its time"), ratio <= 1.0);
        let (beside, loading) = (self.beside.part(99), self.loading.part(99));
        let is_noise = loading <= beside.mul_f64(1.5).max(beside + NOISE) && self.loading.is_whole();
        report.goal(
            format!("greeting's p99 as beside another receiver: {} and {}", millis(loading), millis(beside)),
            is_noise,
        );
    }
}

/// Lets some time go by.
fn calm() -> Result<()> {
    let calm = Instant::now();
    until("some calm", CALM * 4, || (calm.elapsed() > CALM).then_some(())).map(drop)
}

/// Where an address of ours is.
fn v4(node: Node) -> IpAddr {
    IpAddr::V4(node.v4)
}
