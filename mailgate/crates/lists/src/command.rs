//! What programs print, as lists.
//!
//! A program is started without a shell, without the daemon's environment, in a group of its own; when its time is over or
//! it has printed too much the whole group is killed.

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use mailgate_model::Clock;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use crate::config::CommandConfig;
use crate::file::off_runtime;
use crate::format::Format;
use crate::source::{Bounds, Failure, Fetched, Look, Reading, Source, Validators};

/// The whole environment of a program.
const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C")];

/// How much of what a program complains about is kept.
const COMPLAINT_LIMIT: u64 = 4096;

/// One program.
pub(crate) struct CommandSource {
    command: Vec<String>,
    timeout: Duration,
    bounds: Bounds,
    format: Format,
    clock: Arc<dyn Clock>,
}

impl CommandSource {
    pub(crate) fn new(config: &CommandConfig, most: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            command: config.command.clone(),
            timeout: config.timeout.duration(),
            bounds: Bounds { bytes: config.size_limit, entries: most },
            format: config.format,
            clock,
        }
    }

    /// One of the lists of a spamd.conf.
    pub(crate) fn of_spamd(
        command: Vec<String>,
        bounds: Bounds,
        timeout: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { command, timeout, bounds, format: Format::Spamd, clock }
    }
}

impl Source for CommandSource {
    fn place(&self) -> String {
        self.command.join(" ")
    }

    async fn look(&self) -> Option<Look> {
        None
    }

    async fn fetch(&mut self, _: &Validators) -> Result<Fetched, Failure> {
        let printed = self.run().await.map_err(Failure::absent)?;
        let (format, bounds) = (self.format, self.bounds);
        let name = self.command.first().cloned().unwrap_or_default();
        let reading = off_runtime(move || Reading::of(format, &name, printed, bounds)).await?;
        Ok(Fetched::New(Box::new(reading)))
    }
}

impl CommandSource {
    async fn run(&self) -> Result<Vec<u8>, String> {
        let (program, arguments) = self.command.split_first().ok_or("found no command, expected one")?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(ENVIRONMENT).current_dir("/").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().map_err(|error| format!("{program} could not be started: {error}"))?;
        let mut running = Running::new(child);
        let done = tokio::select! {
            done = running.finish(self.bounds.bytes) => done,
            () = self.clock.sleep(self.timeout) => {
                Err(format!("not done after {} s; it was killed with all it had started", self.timeout.as_secs()))
            }
        };
        // Does nothing after a good end: the number of the group may be another's by then.
        running.kill();
        done
    }
}

/// A started program, which takes its group with it.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    fn new(child: Child) -> Self {
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Self { child, group }
    }

    /// Takes what it prints until it closes its outputs, and then its exit. The process is not waited for before that,
    /// so that the number of its group cannot be another's by the time it is killed.
    async fn finish(&mut self, limit: u64) -> Result<Vec<u8>, String> {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let (printed, complaint) = tokio::join!(self.printed(stdout, limit), complaint(stderr));
        let printed = printed?;
        let status =
            self.child.wait().await.map_err(|error| format!("it could not be waited for: {error}"))?;
        self.group = None;
        if status.success() {
            return Ok(printed);
        }
        let complaint = crate::notes::clean(complaint.lines().next().unwrap_or_default());
        let said = if complaint.is_empty() { String::new() } else { format!(", saying {complaint:?}") };
        Err(format!("it ended with {status}{said}, expected success"))
    }

    async fn printed(&self, stdout: Option<impl AsyncRead + Unpin>, limit: u64) -> Result<Vec<u8>, String> {
        let mut printed = Vec::new();
        if let Some(stdout) = stdout {
            let read = stdout.take(limit + 1).read_to_end(&mut printed).await;
            read.map_err(|error: io::Error| format!("its output could not be read: {error}"))?;
        }
        if printed.len() as u64 > limit {
            self.kill();
            return Err(format!("it printed more than {limit} bytes, expected at most that"));
        }
        Ok(printed)
    }

    fn kill(&self) {
        if let Some(group) = self.group {
            // It fails when nobody is left, which is what is wanted.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The beginning of what is complained about; the rest is read and forgotten, so that nobody waits for us.
async fn complaint(stderr: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    if let Some(mut stderr) = stderr {
        let _ = (&mut stderr).take(COMPLAINT_LIMIT).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests;
