//! What the interoperability tests share: our side, theirs as a child process, and waiting.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "only tests use this")]

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailgate_lists::rows::BgpRow;
use mailgate_lists::{Change, Config, Lists};
use mailgate_net::SystemClock;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(90);

/// How soon a change of a feed has to be at the edge, on a machine that does other things too; alone it is milliseconds.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Whether a program is there; says so when it is not.
pub(crate) fn is_installed(program: &str, package: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|d| d.join(program).is_file())
    });
    if !found {
        println!("skipped: {package} is not installed");
    }
    found
}

/// Addresses for sessions over IPv6, which a namespace of the test has on its loopback.
pub(crate) const V6: [&str; 2] = ["2001:db8:179::1", "2001:db8:179::2"];

/// Moves this thread, and with it all that it starts, to a network of its own, so that no two tests and no speaker of
/// this host meet. Without the right to do so the test stays on the loopback of the host, and there is no [`V6`].
pub(crate) fn alone() -> bool {
    if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_err() {
        return false;
    }
    run("ip", &["link", "set", "lo", "up"]);
    for address in V6 {
        run("ip", &["address", "add", &format!("{address}/128"), "dev", "lo", "nodad"]);
    }
    true
}

/// A port that was free a moment ago.
pub(crate) fn free_port(address: IpAddr) -> u16 {
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port()
}

/// A program that ends with the test.
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let command = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap())
    }

    /// Sends a signal by name, `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        run("kill", &["-s", name, &self.0.id().to_string()]);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command that has to succeed and returns what it prints.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}{error}");
    text
}

/// Our side.
pub(crate) struct Station {
    pub(crate) lists: Lists,
    changes: mpsc::Receiver<Vec<Change>>,
    /// What the edge holds, as `table prefix`.
    told: BTreeSet<String>,
    _state: Option<tempfile::TempDir>,
    _stop: DropGuard,
}

impl Station {
    pub(crate) fn start(config: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        let station = Self::start_in(config, state.path());
        Self { _state: Some(state), ..station }
    }

    /// With a folder for the state that is there before and after.
    pub(crate) fn start_in(config: &str, state: &Path) -> Self {
        let config: Config = toml::from_str(config).unwrap();
        let shutdown = CancellationToken::new();
        let (lists, changes) = Lists::start(config, state, Arc::new(SystemClock), shutdown.clone()).unwrap();
        Self { lists, changes, told: BTreeSet::new(), _state: None, _stop: shutdown.drop_guard() }
    }

    /// Waits until the edge holds exactly these, and says how long that took.
    pub(crate) async fn told(&mut self, want: &[&str]) -> Duration {
        let began = Instant::now();
        let want: BTreeSet<String> = want.iter().map(|text| (*text).to_owned()).collect();
        while self.told != want {
            let batch = tokio::time::timeout(PATIENCE, self.changes.recv()).await;
            let Ok(Some(batch)) = batch else {
                let row = self.lists.bgp().await;
                panic!("expected {want:?}, found {:?}; {row:?}", self.told)
            };
            batch.into_iter().for_each(|change| self.apply(change));
        }
        began.elapsed()
    }

    /// The next batch for the edge.
    pub(crate) async fn batch(&mut self) -> Option<Vec<Change>> {
        bounded("a batch", self.changes.recv()).await
    }

    /// How many entries the edge holds.
    pub(crate) async fn told_count(&mut self, want: usize) -> Duration {
        let began = Instant::now();
        while self.told.len() != want {
            let batch = tokio::time::timeout(PATIENCE, self.changes.recv()).await;
            let Ok(Some(batch)) = batch else { panic!("expected {want}, found {}", self.told.len()) };
            batch.into_iter().for_each(|change| self.apply(change));
        }
        began.elapsed()
    }

    /// The edge has been told nothing new since it was last looked at.
    pub(crate) fn calm(&mut self) {
        if let Ok(batch) = self.changes.try_recv() {
            panic!("expected nothing, found {batch:?}");
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Add(table, entry) => {
                self.told.insert(format!("{table} {}", entry.prefix));
            }
            Change::Delete(table, prefix) => {
                self.told.remove(&format!("{table} {prefix}"));
            }
            Change::Reload(snapshot) => {
                let each = snapshot.tables.iter().flat_map(|table| {
                    table.entries.iter().map(|entry| format!("{} {}", table.name, entry.prefix))
                });
                self.told = each.collect();
            }
        }
    }

    /// Waits until the summary is as wanted.
    pub(crate) async fn sees(&self, what: &str, want: impl Fn(&BgpRow) -> bool) -> BgpRow {
        let mut last = None;
        let look = async {
            loop {
                let row = self.lists.bgp().await.unwrap().remove(0);
                if want(&row) {
                    return row;
                }
                last = Some(row);
                tokio::task::yield_now().await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, look).await;
        found.unwrap_or_else(|_| panic!("{what} does not happen: {last:?}"))
    }
}

/// Tries until something works.
pub(crate) async fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let trying = async {
        loop {
            if let Some(done) = attempt() {
                return done;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    bounded(what, trying).await
}

async fn bounded<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} does not happen"))
}
