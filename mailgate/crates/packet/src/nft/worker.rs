//! The one thread that runs `nft`: in the network namespace where the filter was opened, whoever asks later.

use std::io::{self, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::super::Error;

/// Longest run of `nft`; a million ranges take half a minute.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often it is looked whether it ended.
const LOOK: Duration = Duration::from_millis(5);
/// What it says on errors that is kept; it repeats what it was given.
const SAID: u64 = 4096;
/// What it prints that is kept: a hundred bytes for each of [`mailgate_common::RULES`] counters, and to spare.
const PRINTED: u64 = 65_536;

/// What is run, and where the result goes; without one it is run again and again.
enum Job {
    Once(Vec<String>, String, mpsc::Sender<Result<String, Error>>),
    Repeat(Option<String>),
}

/// The thread; ends with this value.
pub(super) struct Worker {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread; `every` is the time between two runs of what is repeated.
    pub(super) fn begin(every: Duration) -> Result<Self, Error> {
        let (jobs, work) = mpsc::channel();
        let thread = std::thread::Builder::new().name("nft".to_owned()).spawn(move || {
            let mut repeated: Option<String> = None;
            let mut last = Instant::now();
            loop {
                match work.recv_timeout(every.saturating_sub(last.elapsed())) {
                    Ok(Job::Once(arguments, script, done)) => {
                        // Who asked may have given up.
                        let _ = done.send(run(&arguments, &script));
                    }
                    Ok(Job::Repeat(script)) => repeated = script,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                }
                if last.elapsed() < every {
                    continue;
                }
                last = Instant::now();
                if let Some(script) = &repeated
                    && let Err(error) = run(&[], script)
                {
                    tracing::warn!(target: "edge", event = "nft", %error, "the sign of life fails");
                }
            }
        });
        let thread = thread.map_err(|source| Error::kernel("a thread for nft", source))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Gives `nft` a script; all of it is taken, or nothing.
    pub(super) fn run(&self, script: String) -> Result<(), Error> {
        self.ask(script).map(drop)
    }

    /// The same; what it said.
    pub(super) fn ask(&self, script: String) -> Result<String, Error> {
        self.order(Vec::new(), script)
    }

    /// Whether `nft` would take it.
    pub(super) fn check(&self, script: String) -> Result<(), Error> {
        self.order(vec!["--check".to_owned()], script).map(drop)
    }

    /// From now on this is run again and again; `None`: nothing.
    pub(super) fn repeat(&self, script: Option<String>) {
        if let Some(jobs) = &self.jobs {
            // Without a thread, nothing is repeated; asking it for something will say so.
            let _ = jobs.send(Job::Repeat(script));
        }
    }

    fn order(&self, arguments: Vec<String>, script: String) -> Result<String, Error> {
        let (done, is_done) = mpsc::channel();
        let gone = || Error::kernel("nft", io::Error::other("its thread is gone"));
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(Job::Once(arguments, script, done)).map_err(|_| gone())?;
        is_done.recv().map_err(|_| gone())?
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It ended by a panic at worst; there is nothing left to do then.
            let _ = thread.join();
        }
    }
}

/// Runs nft to its end; what it printed.
fn run(arguments: &[String], script: &str) -> Result<String, Error> {
    let failed = |source| Error::kernel("nft", source);
    let started = Command::new("nft")
        .args(arguments)
        .args(["-f", "-"])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Missing("nft is not installed: install the package nftables".to_owned()));
        }
        Err(error) => return Err(failed(error)),
    };
    let said = child.stderr.take().map(|pipe| std::thread::spawn(move || beginning(pipe, SAID)));
    let printed = child.stdout.take().map(|pipe| std::thread::spawn(move || beginning(pipe, PRINTED)));
    if let Some(mut input) = child.stdin.take() {
        // One that does not read it all has a reason, and says it.
        let _ = input.write_all(script.as_bytes());
    }
    let succeeded = ended(&mut child).map_err(failed)?;
    let [said, printed] =
        [said, printed].map(|reader| reader.and_then(|reader| reader.join().ok()).unwrap_or_default());
    if succeeded { Ok(printed) } else { Err(refusal(&said)) }
}

/// So many bytes at most of what comes; the rest is read too, or nft would wait for ever.
fn beginning(pipe: impl io::Read, most: u64) -> String {
    let mut bytes = Vec::new();
    let mut pipe = pipe.take(most);
    let _ = pipe.read_to_end(&mut bytes);
    let _ = io::copy(&mut pipe.into_inner(), &mut io::sink());
    String::from_utf8_lossy(&bytes).into_owned()
}

fn ended(child: &mut Child) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if begun.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not end in time"));
        }
        std::thread::sleep(LOOK);
    }
}

/// What nft said, in one line: its first complaint.
fn refusal(said: &str) -> Error {
    let first = said.lines().find(|line| line.contains("rror")).or_else(|| said.lines().next());
    let text = first.unwrap_or("it does not say why").trim();
    if text.contains("Operation not permitted") {
        return Error::Missing(format!(
            "nft is refused ({text}): the process needs CAP_NET_ADMIN, under systemd with \
             AmbientCapabilities=CAP_NET_ADMIN"
        ));
    }
    Error::kernel("nft", io::Error::other(text.to_owned()))
}
