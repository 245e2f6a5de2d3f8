//! The daemon as receiver.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::peers::Feeder;
use super::{CHANGES, CLIENT, FEEDER, MX, PATIENCE};
use crate::{Daemon, Memory, Namespace, until};

/// A daemon with its folder.
pub(super) struct Ours<'n> {
    daemon: Daemon<'n>,
    folder: PathBuf,
    /// Prefixes of its own: whom it protects.
    own: u64,
}

impl<'n> Ours<'n> {
    pub(super) fn start(folder: &Path, count: u32, node: &'n Namespace) -> Result<Self> {
        let daemon = Daemon::start(folder, &configuration(count), Some(node))?;
        let acts = ask(folder, "status")?.pointer("/filter/acts").and_then(Value::as_str).map(str::to_owned);
        ensure!(acts.is_some(), "the daemon has no filter: {}", daemon.log());
        let mut ours = Self { daemon, folder: folder.to_path_buf(), own: 0 };
        ours.own = ours.entries()?;
        Ok(ours)
    }

    /// Where it greets.
    pub(super) fn reception(&self) -> SocketAddr {
        SocketAddr::new(super::v4(MX), 25)
    }

    pub(super) fn memory(&self) -> Result<Memory> {
        self.daemon.memory()
    }

    pub(super) fn log(&self) -> String {
        self.daemon.log()
    }

    /// From the session being up, as far as that can be seen from outside, to the last prefix being in the kernel.
    pub(super) fn receive(&self, feeder: &Feeder, count: u32) -> Result<Duration> {
        feeder.enable("mailgate")?;
        let began = self.established()?;
        let waited = until("the last prefix in the kernel", PATIENCE, || {
            feeder.nudge();
            (self.entries().ok()? == u64::from(count)).then(|| began.elapsed())
        });
        Ok(waited.with_context(|| self.found(u64::from(count)))?.0)
    }

    /// How long one more prefix takes from BIRD's being told to the kernel, and its withdrawal.
    pub(super) fn changes(&self, feeder: &Feeder, count: u32) -> Result<Vec<Duration>> {
        let mut took = Vec::new();
        for _ in 0..CHANGES {
            for (more, want) in [(true, u64::from(count) + 1), (false, u64::from(count))] {
                let began = Instant::now();
                if more {
                    feeder.enable("extra")?
                } else {
                    feeder.disable("extra")?
                }
                self.in_kernel(want)?;
                took.push(began.elapsed());
            }
        }
        Ok(took)
    }

    /// IPv4 prefixes of the feed that the kernel judges by.
    fn entries(&self) -> Result<u64> {
        let status = ask(&self.folder, "status")?;
        let entries = status.pointer("/filter/entries4").and_then(Value::as_u64);
        Ok(entries.context("no entries4 in the status")?.saturating_sub(self.own))
    }

    /// Waits for so many prefixes in the kernel.
    pub(super) fn in_kernel(&self, want: u64) -> Result<()> {
        let waited =
            until("the last prefix in the kernel", PATIENCE, || (self.entries().ok()? == want).then_some(()));
        waited.map(drop).with_context(|| self.found(want))
    }

    fn found(&self, want: u64) -> String {
        let rows = ask(&self.folder, "bgp_summary").unwrap_or_default();
        format!("{} of {want}; {rows}", self.entries().unwrap_or_default())
    }

    fn established(&self) -> Result<Instant> {
        let (at, _) = until("the session", PATIENCE, || {
            let rows = ask(&self.folder, "bgp_summary").ok()?;
            let is_up = rows
                .as_array()?
                .iter()
                .any(|row| row.get("state").and_then(Value::as_str) == Some("Established"));
            is_up.then(Instant::now)
        })?;
        Ok(at)
    }
}

/// The daemon with two feeds: BIRD, and our generator. Growth is not judged: it would freeze both.
fn configuration(count: u32) -> String {
    let (feeder, limit) = (FEEDER.v4, count.saturating_mul(2).max(100_000));
    // Greeted at once: a stranger waits for its name to be looked up.
    let client = CLIENT.v4;
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
[[lists.table]]
name = "bypass"
action = "bypass"
entries = ["{client}"]
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
