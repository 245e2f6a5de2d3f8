//! `cargo xtask bench bgp`: a feed of a million prefixes, and one that flaps.
//!
//! The feeder is BIRD in a namespace of its own; receivers are the daemon with its kernel filter, BIRD and GoBGP, one after
//! the other in the same run. What counts is the time from the session being up to the last prefix being in force: for the
//! daemon in the kernel's tables, for the others in their RIB, which is as far as they go. Beside it a client greets the
//! daemon over and over, idle and while the feed comes in.

#![allow(clippy::print_stdout, reason = "a measurement")]

mod flap;
mod latency;
mod peers;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::netns::{Network, Node};
use crate::{Daemon, until};
use latency::Latency;
use peers::{Feeder, receive_bird, receive_gobgp};

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

/// Longest time for one receiver to have everything.
const PATIENCE: Duration = Duration::from_secs(300);

const fn node(label: &'static str, host: u8) -> Node {
    let v6 = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host as u16);
    Node { label, v4: Ipv4Addr::new(198, 18, 0, host), v6 }
}

/// The n-th host of the feed: an odd factor spreads them over 16.0.0.0/4, clear of everything that is protected.
fn host(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x1000_0000 | n.wrapping_mul(2_654_435_761) >> 4)
}

/// Runs it all; `arguments` are a number of prefixes, `--quick`, `--flap-seconds N`.
///
/// # Errors
/// When something is missing, or does not come to what it should.
pub fn measure(arguments: &[String]) -> Result<()> {
    let is_quick = arguments.iter().any(|word| word == "--quick");
    let count = arguments.iter().find_map(|word| word.parse().ok());
    let count = count.unwrap_or(if is_quick { 50_000 } else { PREFIXES });
    let seconds = if is_quick { 5 } else { 60 };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{count} prefixes; load of the machine before: {}", load.trim());
    let folder = tempfile::tempdir()?;
    let network = Network::new(HUB, &[MX, FEEDER, OTHER, CLIENT])?;
    let feeder = Feeder::start(&network, folder.path(), count)?;

    let bird = receive_bird(&network, folder.path(), &feeder, count)?;
    println!("BIRD, in its RIB after      {:8.2} s", bird.as_secs_f64());
    match receive_gobgp(&network, folder.path(), &feeder, count) {
        Ok(took) => println!("GoBGP, in its RIB after     {:8.2} s", took.as_secs_f64()),
        Err(error) => println!("GoBGP: skipped: {error:#}"),
    }

    let daemon = Daemon::start(folder.path(), &configuration(count), Some(network.node(MX.label)?))?;
    let to = SocketAddr::from((MX.v4, 25));
    let idle = Latency::during(network.node(CLIENT.label)?, to, || {
        let calm = Instant::now();
        until("some calm", Duration::from_secs(20), || {
            (calm.elapsed() > Duration::from_secs(5)).then_some(())
        })
        .map(drop)
    })?;
    let before = daemon.memory()?;
    let mut took = Duration::ZERO;
    let busy = Latency::during(network.node(CLIENT.label)?, to, || {
        feeder.enable("mailgate")?;
        let began = established(folder.path())?;
        in_kernel(folder.path(), u64::from(count))?;
        took = began.elapsed();
        Ok(())
    })?;
    let memory = daemon.memory()?;
    println!(
        "mailgate, in the kernel after {:6.2} s ({:.2} of BIRD's time)",
        took.as_secs_f64(),
        took.as_secs_f64() / bird.as_secs_f64()
    );
    println!("SMTP greeting, idle:   {idle}");
    println!("SMTP greeting, loading: {busy}");
    println!("memory: {} MiB before, {} MiB with all, {} MiB at most", before.now, memory.now, memory.peak);
    feeder.disable("mailgate")?;
    drop(feeder);
    drop(daemon);
    flap::measure(&network, folder.path(), seconds)
}

/// The daemon with two feeds: BIRD, and our generator.
fn configuration(count: u32) -> String {
    let (feeder, limit) = (FEEDER.v4, count.saturating_mul(2).max(100_000));
    let source = |name: &str, port: u16, asn: u32| {
        format!(
            r#"
[[lists.source]]
kind = "bgp"
name = "{name}"
peer = "{feeder}"
port = {port}
local_as = 65025
peer_as = {asn}
retry_min = "100ms"
retry_max = "200ms"
damping_min = "100ms"
damping_max = "200ms"
max_prefix = {limit}
communities = {{ "65066:666" = "block" }}
[lists.source.admission]
max_entries = {limit}
freeze_rate = 0
freeze_share = 0
jump = 0
"#
        )
    };
    format!(
        r#"hostname = "mx.example.org"
[edge.packet]
interfaces = ["eth0"]
mode = "native"
instance = "bench-bgp"
{}{}"#,
        source("bird", 179, 65066),
        source("flap", 1790, 65066)
    )
}

/// One question on the control socket, without the cost of a process.
fn ask(folder: &Path, call: &str) -> Result<Value> {
    let mut socket = UnixStream::connect(folder.join("control"))?;
    writeln!(socket, "{{\"call\":\"{call}\"}}")?;
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line)?;
    let mut answer: Value = serde_json::from_str(&line)?;
    match answer.get_mut("done") {
        Some(done) => Ok(done.take()),
        None => bail!("{call}: {line}"),
    }
}

/// Waits for the session of the feed and says when it was up, as far as can be seen from outside.
fn established(folder: &Path) -> Result<Instant> {
    let (at, _) = until("the session", PATIENCE, || {
        let rows = ask(folder, "bgp_summary").ok()?;
        let is_up = rows
            .as_array()?
            .iter()
            .any(|row| row.get("state").and_then(Value::as_str) == Some("Established"));
        is_up.then(Instant::now)
    })?;
    Ok(at)
}

/// IPv4 prefixes that the kernel judges by.
fn entries(folder: &Path) -> Result<u64> {
    let status = ask(folder, "status")?;
    status.pointer("/filter/entries4").and_then(Value::as_u64).context("no entries4 in the status")
}

fn in_kernel(folder: &Path, want: u64) -> Result<()> {
    let waited =
        until("the last prefix in the kernel", PATIENCE, || (entries(folder).ok()? == want).then_some(()));
    let rows = ask(folder, "bgp_summary")?;
    waited.with_context(|| format!("{} of {want}; {rows}", entries(folder).unwrap_or_default()))?;
    let acts = ask(folder, "status")?.pointer("/filter/acts").cloned();
    ensure!(acts.is_some(), "no filter");
    Ok(())
}

/// Where an address of ours is.
fn v4(node: Node) -> IpAddr {
    IpAddr::V4(node.v4)
}
