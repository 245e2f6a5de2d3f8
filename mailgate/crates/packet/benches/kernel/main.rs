//! The kernel filter measured beside what one would use instead, all in one run.
//!
//! Run by `cargo xtask bench kernel` (lookups, whole packets, loading, memory) and by `cargo xtask bench flood` (what a
//! flood leaves of the mail service), each with its goals. Works in network and mount namespaces of its own, which end
//! with it.
#![expect(clippy::print_stdout, reason = "a measurement speaks on standard output")]

mod addresses;
mod flood;
mod gear;
mod generator;
mod goals;
mod loading;
mod lookups;
mod packets;
mod peers;
mod place;
mod report;
mod smtp;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mailgate_lists::Action;
use mailgate_packet::PacketFilter as _;

use crate::addresses::{Family, Random, Shape, Sources, reload};
use crate::gear::{Fill, Gear};
use crate::lookups::Ours;
use crate::packets::{Effort, Lanes};
use crate::place::Home;
use crate::report::{Listing, Report, circumstances, progress};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Sources in turn from which unlisted packets come.
const STRANGERS: usize = 1_000_000;
/// Entries that nftables and ipset are asked to hold at most.
const PEERS_UP_TO: usize = 1_000_000;

/// What the command line asks for.
#[derive(Default)]
struct Wanted {
    flood: bool,
    quick: bool,
    /// Loading and swaps only.
    loading: bool,
    /// Instead of the usual numbers of entries.
    sizes: Option<Vec<usize>>,
    json: Option<PathBuf>,
}

impl Wanted {
    fn read() -> Result<Self> {
        let mut wanted = Self::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => wanted.quick = true,
                "--loading" => wanted.loading = true,
                "--sizes" => {
                    let text = arguments.next().ok_or("--sizes needs numbers with commas between them")?;
                    wanted.sizes =
                        Some(text.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?);
                }
                "--json" => wanted.json = Some(arguments.next().ok_or("--json needs a file")?.into()),
                "flood" => wanted.flood = true,
                "--bench" | "kernel" => {}
                other => {
                    return Err(format!(
                        "found {other:?}, expected --quick, --loading, --sizes N,N or --json FILE"
                    )
                    .into());
                }
            }
        }
        Ok(wanted)
    }

    fn sizes(&self) -> Vec<usize> {
        let usual: &[usize] =
            if self.quick { &[0, 30_000, 200_000] } else { &[0, 30_000, 200_000, 1_000_000, 5_000_000] };
        self.sizes.clone().unwrap_or_else(|| usual.to_vec())
    }

    fn sizes6(&self) -> Vec<usize> {
        let usual: &[usize] = if self.quick { &[0, 30_000] } else { &[0, 30_000, 200_000, 1_000_000] };
        self.sizes.clone().unwrap_or_else(|| usual.to_vec())
    }

    fn effort(&self) -> Effort {
        let (rounds, packets) = if self.quick { (3, 100_000) } else { (9, 250_000) };
        Effort { rounds, packets, cpu: last_processor() }
    }

    fn flood(&self) -> flood::Effort {
        let cpu = last_processor();
        let usual = if self.quick { 30_000 } else { 1_000_000 };
        let entries = self.sizes.as_ref().and_then(|sizes| sizes.first().copied()).unwrap_or(usual);
        let (rounds, length) =
            if self.quick { (1, Duration::from_secs(1)) } else { (5, Duration::from_secs(3)) };
        flood::Effort { entries, rounds, length, cpu }
    }
}

/// Interrupts of devices go to the first one.
fn last_processor() -> usize {
    std::thread::available_parallelism().map_or(0, |all| all.get() - 1)
}

fn main() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: not root, so no kernel filter");
        return Ok(());
    }
    let wanted = Wanted::read()?;
    circumstances();
    let home = Home::enter()?;
    for peer in peers::Peer::ALL {
        let versions = peer.versions();
        println!("{:18} {}", peer.name(), versions.as_deref().unwrap_or("is not here (`cargo xtask setup`)"));
    }
    let mut report = Report::default();
    if wanted.flood {
        flood::run(&mut report, &home, wanted.flood())?;
    } else {
        kernel(&mut report, &home, &wanted)?;
    }
    report.print_goals();
    wanted.json.map_or(Ok(()), |file| report.write(&file))
}

/// Everything but the flood.
fn kernel(report: &mut Report, home: &Home, wanted: &Wanted) -> Result<()> {
    let mut lanes = Lanes::new(home)?;
    let mut random = Random(0x6d61_696c);
    if !wanted.loading {
        sets(report, &mut lanes, &mut random, (Family::V4, wanted.sizes()), wanted.effort())?;
        sets(report, &mut lanes, &mut random, (Family::V6, wanted.sizes6()), wanted.effort())?;
    }
    let (entries, rounds) = if wanted.quick { (200_000, 1) } else { (1_000_000, 3) };
    loading::measure(report, &lanes, &mut random, entries, rounds)?;
    lanes.proof();
    goals::judge(report, entries);
    lanes.close()
}

/// Shapes and sizes; nothing has no shape.
fn shapes(sizes: Vec<usize>) -> impl Iterator<Item = (usize, Shape)> {
    let all = [Shape::Uniform, Shape::Clustered].into_iter();
    all.flat_map(move |shape| sizes.clone().into_iter().map(move |size| (size, shape)))
        .filter(|(size, shape)| *size > 0 || *shape == Shape::Uniform)
}

/// Lookups, then whole packets, of each set of a family.
fn sets(
    report: &mut Report,
    lanes: &mut Lanes,
    random: &mut Random,
    (family, sizes): (Family, Vec<usize>),
    effort: Effort,
) -> Result<()> {
    let (mut lookups, mut packets) = (lookups::listing(family), packets::listing(family, effort));
    for (size, shape) in shapes(sizes) {
        match family {
            Family::V4 => {
                let listed = random.addresses(size, shape);
                let strangers = random.strangers(STRANGERS, &listed);
                let sources = (Sources::V4(&listed), Sources::V4(&strangers), shape);
                set(report, lanes, (&mut lookups, &mut packets), sources, effort)?;
            }
            Family::V6 => {
                let listed = random.addresses6(size, shape);
                let strangers = random.strangers6(STRANGERS, &listed);
                let sources = (Sources::V6(&listed), Sources::V6(&strangers), shape);
                set(report, lanes, (&mut lookups, &mut packets), sources, effort)?;
            }
        }
    }
    lookups.print();
    packets.print();
    Ok(())
}

/// One set.
fn set(
    report: &mut Report,
    lanes: &mut Lanes,
    (lookups, packets): (&mut Listing, &mut Listing),
    (listed, strangers, shape): (Sources<'_>, Sources<'_>, Shape),
    effort: Effort,
) -> Result<()> {
    let (size, name) = (listed.len(), shape.name());
    let said = |what: &str| progress(&format!("{size} {} hosts, {name}: {what}", listed.family().name()));
    said("filling ours and the kernel's own structures");
    lanes.bypass.filter.apply(vec![reload(Action::Bypass, listed.hosts())?])?;
    let change = reload(Action::Drop, listed.hosts())?;
    let begun = Instant::now();
    lanes.ours.filter.apply(vec![change])?;
    let ours =
        Ours { seconds: begun.elapsed().as_secs_f64(), bytes: lanes.ours.filter.status().bytes as f64 };
    let mut gear = Gear::filled(&lanes.ours.pins, listed, Fill::Batch)?;
    said("lookups");
    lookups::measure(report, lookups, &mut gear, listed.family(), (size, name), ours)?;
    // Five million intervals take nft minutes and gigabytes.
    let with_peers = size <= PEERS_UP_TO;
    lanes.measure(report, packets, &mut gear, (listed, strangers, name), with_peers, effort)
}
