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

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mailgate_lists::Action;
use mailgate_packet::PacketFilter as _;

use crate::addresses::{Random, Shape, host, reload};
use crate::gear::Gear;
use crate::lookups::{Family, Ours};
use crate::packets::{Effort, Lanes};
use crate::place::Home;
use crate::report::{Report, circumstances, progress};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Sources in turn from which unlisted packets come.
const STRANGERS: usize = 1_000_000;

/// What the command line asks for.
#[derive(Default)]
struct Wanted {
    flood: bool,
    quick: bool,
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
                "--sizes" => {
                    let text = arguments.next().ok_or("--sizes needs numbers with commas between them")?;
                    wanted.sizes =
                        Some(text.split(',').map(str::parse).collect::<std::result::Result<_, _>>()?);
                }
                "--json" => wanted.json = Some(arguments.next().ok_or("--json needs a file")?.into()),
                "flood" => wanted.flood = true,
                "--bench" | "kernel" => {}
                other => {
                    return Err(
                        format!("found {other:?}, expected --quick, --sizes N,N or --json FILE").into()
                    );
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
    sets(report, &mut lanes, &mut random, wanted)?;
    sets6(report, &lanes, &mut random, wanted)?;
    let (entries, rounds) = if wanted.quick { (200_000, 1) } else { (1_000_000, 3) };
    progress(&format!("loading {entries} hosts, {rounds} times each"));
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

/// IPv4: lookups, then whole packets, of each set.
fn sets(report: &mut Report, lanes: &mut Lanes, random: &mut Random, wanted: &Wanted) -> Result<()> {
    let (mut lookups, mut packets) = (lookups::listing(Family::V4), packets::listing(wanted.effort()));
    for (size, shape) in shapes(wanted.sizes()) {
        progress(&format!("{size} IPv4 hosts, {}", shape.name()));
        let listed = random.addresses(size, shape);
        let strangers = random.strangers(STRANGERS, &listed);
        let hosts = || listed.iter().map(|address| host(Ipv4Addr::from(*address))).collect();
        lanes.bypass.filter.apply(vec![reload(Action::Bypass, hosts())?])?;
        let change = reload(Action::Drop, hosts())?;
        let begun = Instant::now();
        lanes.ours.filter.apply(vec![change])?;
        let ours =
            Ours { seconds: begun.elapsed().as_secs_f64(), bytes: lanes.ours.filter.status().bytes as f64 };
        let mut gear = Gear::of4(&lanes.ours.pins, &listed)?;
        let set = shape.name();
        lookups::measure(report, &mut lookups, &mut gear, Family::V4, (size, set), ours)?;
        // Five million intervals take nft minutes and gigabytes; once is enough.
        let with_peers = shape == Shape::Uniform || size <= 1_000_000;
        let effort = wanted.effort();
        lanes.measure(report, &mut packets, &mut gear, (&listed, &strangers, set), with_peers, effort)?;
    }
    lookups.print();
    packets.print();
    Ok(())
}

/// IPv6: lookups.
fn sets6(report: &mut Report, lanes: &Lanes, random: &mut Random, wanted: &Wanted) -> Result<()> {
    let mut lookups = lookups::listing(Family::V6);
    for (size, shape) in shapes(wanted.sizes6()) {
        progress(&format!("{size} IPv6 hosts, {}", shape.name()));
        let listed = random.addresses6(size, shape);
        let hosts = listed.iter().map(|address| host(Ipv6Addr::from(*address))).collect();
        let change = reload(Action::Drop, hosts)?;
        let begun = Instant::now();
        lanes.ours.filter.apply(vec![change])?;
        let ours =
            Ours { seconds: begun.elapsed().as_secs_f64(), bytes: lanes.ours.filter.status().bytes as f64 };
        let mut gear = Gear::of6(&lanes.ours.pins, &listed)?;
        lookups::measure(report, &mut lookups, &mut gear, Family::V6, (size, shape.name()), ours)?;
    }
    lookups.print();
    Ok(())
}
