//! BIRD as feeder, BIRD and GoBGP as receivers.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::{CHANGES, EXTRA, FEEDER, MX, OTHER, PATIENCE, host};
use crate::netns::Network;
use crate::{Running, find, run, until};

/// Longest time for a program to come up, or to answer a question about a million routes.
const START: Duration = Duration::from_secs(120);

/// How often GoBGP is asked how much it has.
const GOBGP_LOOK: Duration = Duration::from_millis(250);

/// BIRD with all routes and a session for each receiver, none of them enabled.
pub(super) struct Feeder {
    socket: PathBuf,
    _running: Running,
}

fn bird(
    network: &Network,
    node: &str,
    folder: &Path,
    name: &str,
    config: &str,
) -> Result<(PathBuf, Running)> {
    let program = find("bird").ok_or_else(|| anyhow!("bird is not installed"))?;
    let (file, socket) = (folder.join(format!("{name}.conf")), folder.join(format!("{name}.ctl")));
    fs::write(&file, config)?;
    let mut command = Command::new(program);
    command
        .arg("-f")
        .arg("-c")
        .arg(&file)
        .arg("-s")
        .arg(&socket)
        .arg("-P")
        .arg(folder.join(format!("{name}.pid")));
    let mut running = network.node(node)?.start(command, &folder.join(format!("{name}.log")))?;
    let up = until("BIRD", START, || {
        let is_up = ask(&socket, &["show", "status"]).is_ok();
        (is_up || running.ended().is_some()).then_some(is_up)
    });
    ensure!(up.with_context(|| running.log())?.0, "BIRD ended: {}", running.log());
    Ok((socket, running))
}

fn ask(socket: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new(find("birdc").ok_or_else(|| anyhow!("birdc is not installed"))?);
    command.arg("-s").arg(socket).args(words);
    run(command, START)?.success()
}

impl Feeder {
    pub(super) fn start(network: &Network, folder: &Path, count: u32) -> Result<Self> {
        let mut routes = String::with_capacity(count as usize * 40);
        for n in 0..count {
            writeln!(routes, "route {}/32 blackhole;", host(n))?;
        }
        fs::write(folder.join("routes.conf"), routes)?;
        let session = |name: &str, peer: std::net::Ipv4Addr, asn: u32| {
            format!(
                "protocol bgp {name} {{ disabled; local {} as 65066; neighbor {peer} as {asn}; multihop; hold time 90;
  connect delay time 1; connect retry time 1; error wait time 1, 2;
  ipv4 {{ import none; export filter {{ bgp_community.add((65066,666)); accept; }}; next hop self; }};
}}\n",
                FEEDER.v4
            )
        };
        let config = format!(
            "log stderr all;\nrouter id 198.18.0.179;\nprotocol device {{}}\nprotocol static feed {{ ipv4;
include \"{}\";
}}
protocol static extra {{ disabled; ipv4; route {EXTRA}/32 blackhole; }}\n{}{}{}",
            folder.join("routes.conf").display(),
            session("mailgate", MX.v4, 65025),
            session("second", OTHER.v4, 65180),
            session("third", OTHER.v4, 65181),
        );
        let (socket, running) = bird(network, FEEDER.label, folder, "feeder", &config)?;
        Ok(Self { socket, _running: running })
    }

    pub(super) fn enable(&self, name: &str) -> Result<()> {
        ask(&self.socket, &["enable", name]).map(drop)
    }

    pub(super) fn disable(&self, name: &str) -> Result<()> {
        ask(&self.socket, &["disable", name]).map(drop)
    }

    fn is_up(&self, name: &str) -> bool {
        ask(&self.socket, &["show", "protocols", name]).is_ok_and(|text| text.contains("Established"))
    }

    /// Wakes it. BIRD 2.0.12 may sleep for three seconds before its last UPDATE unless something happens to it, whoever
    /// receives; that says nothing of the receiver.
    pub(super) fn nudge(&self) {
        // What it answers does not matter.
        let _ = ask(&self.socket, &["show", "status"]);
    }

    /// Enables a session and says how long it took from its being up to `has_all`. It stays.
    fn feed(&self, name: &str, mut has_all: impl FnMut() -> bool) -> Result<Duration> {
        self.enable(name)?;
        let (began, _) = until("the session", PATIENCE, || self.is_up(name).then(Instant::now))?;
        let (took, _) = until("all routes", PATIENCE, || {
            self.nudge();
            has_all().then(|| began.elapsed())
        })?;
        Ok(took)
    }
}

/// What a receiver showed.
pub(super) struct Received {
    /// From the session being up to the last route.
    pub(super) took: Duration,
    /// What one more route took, and its withdrawal.
    pub(super) changes: Vec<Duration>,
    /// MiB with all routes.
    pub(super) memory: u64,
}

/// MiB of a process.
fn resident(running: &Running) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", running.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: u64 = line.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(kib / 1024)
}

/// BIRD as receiver.
pub(super) fn receive_bird(
    network: &Network,
    folder: &Path,
    feeder: &Feeder,
    count: u32,
) -> Result<Received> {
    let config = format!(
        "log stderr all;\nrouter id 198.18.0.180;\nprotocol device {{}}\n
protocol bgp feed {{ local {} as 65180; neighbor {} as 65066; multihop; passive; hold time 90;
  ipv4 {{ import all; export none; }};
}}\n",
        OTHER.v4, FEEDER.v4
    );
    let (socket, running) = bird(network, OTHER.label, folder, "receiver", &config)?;
    let has = |want: u32| {
        let want = format!("{want} of {want} routes");
        ask(&socket, &["show", "route", "count"]).is_ok_and(|text| text.contains(&want))
    };
    let took = feeder.feed("second", || has(count)).with_context(|| running.log())?;
    let memory = resident(&running)?;
    let mut changes = Vec::new();
    for _ in 0..CHANGES {
        for (more, want) in [(true, count + 1), (false, count)] {
            let began = Instant::now();
            if more {
                feeder.enable("extra")?
            } else {
                feeder.disable("extra")?
            }
            until("one change", PATIENCE, || has(want).then_some(()))?;
            changes.push(began.elapsed());
        }
    }
    feeder.disable("second")?;
    Ok(Received { took, changes, memory })
}

/// GoBGP as receiver.
pub(super) fn receive_gobgp(
    network: &Network,
    folder: &Path,
    feeder: &Feeder,
    count: u32,
) -> Result<Received> {
    let program = find("gobgpd").ok_or_else(|| anyhow!("gobgpd is not installed"))?;
    let file = folder.join("gobgpd.toml");
    let config = format!(
        "[global.config]\nas = 65181\nrouter-id = \"198.18.0.180\"\n[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = 65066\n[neighbors.transport.config]\npassive-mode = true\n[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 9\n",
        FEEDER.v4
    );
    fs::write(&file, config)?;
    let mut command = Command::new(program);
    command.arg("-f").arg(&file).args(["--pprof-disable", "-l", "warn"]);
    let node = network.node(OTHER.label)?;
    let running = node.start(command, &folder.join("gobgpd.log"))?;
    let want = format!("Destination: {count},");
    // A summary of a million routes is work for it: it is not asked all the time.
    let mut asked = Instant::now();
    let has_all = || {
        if asked.elapsed() < GOBGP_LOOK {
            return false;
        }
        asked = Instant::now();
        let mut command = Command::new("gobgp");
        command.args(["global", "rib", "summary"]);
        let said = node.run(command, START).and_then(crate::Finished::success);
        said.is_ok_and(|text| text.contains(&want))
    };
    let took = feeder.feed("third", has_all).with_context(|| running.log())?;
    let memory = resident(&running)?;
    feeder.disable("third")?;
    Ok(Received { took, changes: Vec::new(), memory })
}
