//! The daemon under test: the real binary with a configuration of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;

use crate::{Finished, Namespace, Running, process, until};

/// Longest time from start to a control socket that answers; a debug build on a busy machine is slow.
const START: Duration = Duration::from_secs(30);

/// Longest time of one command of the command line.
const COMMAND: Duration = Duration::from_secs(30);

/// A daemon that runs, or has been killed and may be started again.
#[derive(Debug)]
pub struct Daemon<'n> {
    binary: PathBuf,
    folder: PathBuf,
    inside: Option<&'n Namespace>,
    running: Option<Running>,
}

/// What the kernel says of a process's memory.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident now, in MiB.
    pub now: u64,
    /// The most that was ever resident, in MiB.
    pub peak: u64,
}

impl<'n> Daemon<'n> {
    /// The binary: `MAILGATE_BIN`, else the one that cargo built beside this test.
    ///
    /// # Errors
    /// When it was not built.
    pub fn binary() -> Result<PathBuf> {
        if let Some(binary) = std::env::var_os("MAILGATE_BIN") {
            return Ok(PathBuf::from(binary));
        }
        let test = std::env::current_exe()?;
        let beside =
            test.ancestors().take(4).map(|folder| folder.join("mailgate")).find(|file| file.is_file());
        beside.ok_or_else(|| {
            anyhow!("no mailgate beside {}; build it first: cargo build -p mailgate", test.display())
        })
    }

    /// Writes `mailgate.toml` into `folder` and starts, in a namespace or here.
    ///
    /// State is below `folder/state`, the control socket is `folder/control`; `text` says the rest.
    ///
    /// # Errors
    /// When the configuration is wrong or the daemon does not come up; the message holds its log.
    pub fn start(folder: &Path, text: &str, inside: Option<&'n Namespace>) -> Result<Daemon<'n>> {
        let mut daemon =
            Daemon { binary: Daemon::binary()?, folder: folder.to_path_buf(), inside, running: None };
        let written = format!(
            "state_dir = {:?}\n{text}\n[admin]\ncontrol = {:?}\n",
            folder.join("state"),
            daemon.control()
        );
        fs::write(daemon.config(), written)?;
        daemon.command(&["check"])?;
        daemon.begin()?;
        Ok(daemon)
    }

    /// Starts again with the same files.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn begin(&mut self) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.arg("run").arg("--config").arg(self.config());
        let log = self.folder.join("mailgate.log");
        let mut running = match self.inside {
            Some(namespace) => namespace.start(command, &log)?,
            None => process::start(&command, &log)?,
        };
        let answered = until("the daemon to answer", START, || {
            if running.ended().is_some() {
                return Some(false);
            }
            std::os::unix::net::UnixStream::connect(self.control()).is_ok().then_some(true)
        });
        let up = answered.with_context(|| running.log())?.0;
        ensure!(up, "the daemon ended at once: {}", running.log());
        self.running = Some(running);
        self.command(&["status"])?;
        Ok(())
    }

    /// The program, for running it elsewhere.
    #[must_use]
    pub fn binary_path(&self) -> &Path {
        &self.binary
    }

    fn config(&self) -> PathBuf {
        self.folder.join("mailgate.toml")
    }

    fn control(&self) -> PathBuf {
        self.folder.join("control")
    }

    /// Where its state is.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// `mailgate WORDS`, asked of this daemon; what it printed.
    ///
    /// # Errors
    /// When it fails; the message holds what it printed.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        self.command_with(words, "")
    }

    /// As [`Self::command`] with this on standard input.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn command_with(&self, words: &[&str], input: &str) -> Result<String> {
        let done = self.attempt(words, input)?;
        done.success().with_context(|| format!("mailgate {}", words.join(" ")))
    }

    /// As [`Self::command_with`], success or not.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn attempt(&self, words: &[&str], input: &str) -> Result<Finished> {
        let mut command = Command::new(&self.binary);
        command.args(words).arg("--config").arg(self.config()).env("MAILGATE_CONTROL", self.control());
        process::run_with(command, input, COMMAND)
    }

    /// `mailgate WORDS --json`, read.
    ///
    /// # Errors
    /// When it fails or prints no JSON.
    pub fn json(&self, words: &[&str]) -> Result<Value> {
        let mut all = words.to_vec();
        all.push("--json");
        let text = self.command(&all)?;
        serde_json::from_str(&text).with_context(|| format!("mailgate {}: {text}", all.join(" ")))
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.running.as_ref().map(Running::id)
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        self.running.as_mut().is_some_and(|running| running.ended().is_none())
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
        // What a power cut leaves: the socket's file, which the next start must cope with.
    }

    /// SIGTERM; whether it ended by itself in time.
    pub fn stop(&mut self) -> bool {
        self.running.take().is_none_or(|mut running| running.stop())
    }

    /// Its log, over all starts.
    #[must_use]
    pub fn log(&self) -> String {
        let text = fs::read(self.folder.join("mailgate.log")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Its memory.
    ///
    /// # Errors
    /// When it does not run.
    pub fn memory(&self) -> Result<Memory> {
        let running = self.running.as_ref().ok_or_else(|| anyhow!("the daemon does not run"))?;
        let status = fs::read_to_string(format!("/proc/{}/status", running.id()))?;
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
        };
        let read = |name| field(name).map(|kib| kib / 1024).ok_or_else(|| anyhow!("no {name} in /proc"));
        Ok(Memory { now: read("VmRSS")?, peak: read("VmHWM")? })
    }

    /// Every message in every Maildir below its state (`new` and `cur`).
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn mailboxes(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut folders = vec![self.state()];
        while let Some(folder) = folders.pop() {
            let is_mail = folder.ends_with("new") || folder.ends_with("cur");
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if is_mail {
                    found.push(String::from_utf8_lossy(&fs::read(&path)?).into_owned());
                }
            }
        }
        Ok(found)
    }
}
