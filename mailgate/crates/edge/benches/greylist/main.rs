//! Greylisting policies beside each other on one synthetic world of senders.
//!
//! Run by `cargo xtask bench greylist`. Everything is simulated: a month of mail from populations that are known to be
//! hard on greylisting, and bots; each policy sees the same attempts as long as it answers the same. No clock, no socket.
#![expect(clippy::print_stdout, reason = "a measurement speaks on standard output")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "shares of counts far below 2^52"
)]

mod models;
mod ours;
mod replay;
mod report;
mod schedule;
mod world;

use std::path::PathBuf;
use std::time::Instant;

use crate::replay::{Policy, replay};
use crate::report::Played;
use crate::world::World;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

struct Wanted {
    seed: u64,
    /// Divides the number of senders.
    part: usize,
    json: Option<PathBuf>,
}

impl Wanted {
    fn read() -> Result<Self> {
        let mut wanted = Self { seed: 0x6d61_696c, part: 1, json: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => wanted.part = 10,
                "--seed" => wanted.seed = arguments.next().ok_or("--seed needs a number")?.parse()?,
                "--json" => wanted.json = Some(arguments.next().ok_or("--json needs a file")?.into()),
                "--bench" => {}
                other => {
                    return Err(format!("found {other:?}, expected --quick, --seed N or --json FILE").into());
                }
            }
        }
        Ok(wanted)
    }
}

fn main() -> Result<()> {
    let wanted = Wanted::read()?;
    let world = World::new(wanted.seed, wanted.part);
    println!(
        "{} senders, {} messages within 30 days, seed {}; the shares are assumptions (world.rs)",
        world.senders.len(),
        world.messages.len(),
        wanted.seed
    );
    let mut policies: Vec<Box<dyn Policy>> = ours::policies(&"mx.example.net".parse()?);
    policies.push(Box::new(models::Spamd::default()));
    policies.push(Box::new(models::Postgrey::default()));
    policies.push(Box::new(models::Sqlgrey::default()));
    policies.push(Box::new(models::Rspamd::default()));
    let mut all = Vec::new();
    for mut policy in policies {
        let start = Instant::now();
        let fates = replay(&world, &mut *policy);
        let attempts: u64 = fates.iter().map(|fate| fate.messages + fate.delays.len() as u64).sum();
        let speed = attempts as f64 / start.elapsed().as_secs_f64() / 1000.0;
        let played = Played { policy: policy.name(), fates, speed };
        report::print(&played);
        all.push(played);
    }
    report::goals(&all);
    if let Some(file) = wanted.json {
        std::fs::write(file, serde_json::to_vec_pretty(&report::to_json(&all))?)?;
    }
    Ok(())
}
