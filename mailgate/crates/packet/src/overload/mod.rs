//! Sources with more connections than they may have: listed, disconnected, remembered.
//!
//! The kernel counts (`mailgate-ebpf/src/limits.rs`) and reports; here a report becomes an entry in the limit's table,
//! as `max-src-conn … overload <table> flush global` of pf.conf(5) says, with an end that moves out with each offence.
//! A connection over the limit is ended whether there is a table or not, as in PF. Protected networks are spared.

mod diag;
pub mod guard;
mod offenders;
mod policy;
mod source;
mod sweep;

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnet::IpNet;
use mailgate_common::limit::{Counted, Counts, LimitSpec, Overrun, SourceKey};
use mailgate_lists::TableName;
use mailgate_model::{Clock, Span, Timestamp};
use serde::Deserialize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

pub use diag::{Diag, Ends, Storage};
pub use policy::InForce;
pub(crate) use policy::spec;
pub use source::SourceRow;

use offenders::{Escalation, Offenders};

/// Reports taken at once; what one round lists and ends.
const BATCH: usize = 1024;
/// Between two rounds of [`guard`].
const GUARD_INTERVAL: Duration = Duration::from_secs(60);
/// The ring is looked at so often even when nothing wakes us.
const RING_INTERVAL: Duration = Duration::from_secs(5);

/// `[edge.overload]`: what becomes of sources that a limit puts into a table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a source stays in the table the first time, the second time, and so on; the last one also for all
    /// later ones. Default `["10m", "1h", "24h"]`.
    pub stays: Vec<Span>,
    /// After so much time without an offence one earlier stay is forgotten. Default `"7d"`.
    pub forget_after: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            stays: [600, 3600, 86_400].map(Span::from_secs).to_vec(),
            forget_after: Span::from_secs(7 * 86_400),
        }
    }
}

impl Config {
    /// Everything that is wrong with the values, each with its key, what was found and what is expected.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.stays.is_empty() || self.stays.iter().any(|stay| stay.duration().is_zero()) {
            let found = if self.stays.is_empty() { "nothing" } else { "a stay of no length" };
            problems.push(format!(
                "edge.overload.stays: found {found}, expected spans, for example [\"10m\", \"1h\"]"
            ));
        }
        if self.forget_after.duration().is_zero() {
            problems.push("edge.overload.forget_after: found 0, expected a span like \"7d\"".to_owned());
        }
        problems
    }
}

/// The counts of connections in the kernel.
pub trait Accounting: Send + Sync + 'static {
    /// All sources that are remembered, sorted.
    ///
    /// # Errors
    /// Those of the kernel.
    fn sources(&self) -> io::Result<Vec<(SourceKey, Counts)>>;

    /// One source.
    ///
    /// # Errors
    /// Those of the kernel.
    fn counts(&self, source: &SourceKey) -> io::Result<Option<Counts>>;

    /// Replaces the counts of a source. A connection that comes or goes in the same microsecond may be missed; the next
    /// round of the [`guard`] sees that.
    ///
    /// # Errors
    /// Those of the kernel.
    fn correct(&self, source: &SourceKey, counts: Counts) -> io::Result<()>;

    /// Takes reports of connections over a limit, oldest first.
    fn overruns(&self, most: usize) -> Vec<Overrun>;

    /// Readable when there are reports.
    fn ring(&self) -> BorrowedFd<'_>;

    /// The clock of the counts: nanoseconds.
    fn now_ns(&self) -> u64;

    /// For each connection that was counted, where.
    ///
    /// # Errors
    /// Those of the kernel.
    fn counted(&self) -> io::Result<Vec<Counted>>;

    /// Ends the connections to us that `which` chooses; how many there were.
    ///
    /// # Errors
    /// Those of the kernel.
    fn end(&self, which: &mut dyn FnMut(&Ends) -> bool) -> io::Result<usize>;

    /// Ends one connection; `false` when it is not there any more.
    ///
    /// # Errors
    /// Those of the kernel.
    fn end_one(&self, ends: &Ends) -> io::Result<bool>;
}

/// A limit as the rules in force have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// Name of the rule.
    pub rule: String,
    /// What it allows.
    pub spec: LimitSpec,
    /// The table that takes offenders.
    pub table: Option<TableName>,
}

/// What rules and tables have to do with it; see [`InForce`].
pub trait Policy: Send + Sync + 'static {
    /// The limit with this [`LimitSpec::id`]; `None` when the rules changed meanwhile.
    fn limit(&self, id: u32) -> Option<Limited>;

    /// Whether an address must never be kept out.
    fn is_protected(&self, address: IpAddr) -> bool;

    /// Puts a network into a table until then, with a note for people; in force when it returns. An error is a sentence.
    fn list<'a>(
        &'a self,
        table: &'a TableName,
        network: IpNet,
        until: Timestamp,
        note: &'a str,
    ) -> Listing<'a>;
}

/// What [`Policy::list`] gives.
pub type Listing<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// What [`Overload::start`] needs.
pub struct Parts {
    /// `[edge.overload]`.
    pub config: Config,
    /// The counts.
    pub accounting: Arc<dyn Accounting>,
    /// Rules and tables.
    pub policy: Arc<dyn Policy>,
    /// Where offenders are remembered: a file `overload.txt` in it.
    pub state_dir: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Ends everything.
    pub shutdown: CancellationToken,
}

/// The station; see the module.
pub struct Overload {
    accounting: Arc<dyn Accounting>,
    policy: Arc<dyn Policy>,
    offenders: Mutex<Offenders>,
    file: PathBuf,
    clock: Arc<dyn Clock>,
}

impl Overload {
    /// Reads who is remembered and begins; needs a running tokio runtime.
    ///
    /// # Errors
    /// When the file of offenders is there and cannot be read, or the ring cannot be waited for.
    pub fn start(parts: Parts) -> io::Result<Arc<Self>> {
        let Parts { config, accounting, policy, state_dir, clock, shutdown } = parts;
        let file = state_dir.join("overload.txt");
        let steps = config.stays.iter().map(|stay| stay.duration()).collect();
        let mut offenders = Offenders::new(Escalation { steps, decay: config.forget_after.duration() });
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                for line in offenders.read(&text) {
                    tracing::warn!(target: "edge", event = "skip", at = %format_args!("{}:{line}", file.display()),
                        "found no offender, expected: table network level=N until=SECONDS");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let ring = ring(&*accounting)?;
        let offenders = Mutex::new(offenders);
        let overload = Arc::new(Self { accounting, policy, offenders, file, clock });
        tokio::spawn(Arc::clone(&overload).watch(ring, shutdown.clone()));
        tokio::spawn(Arc::clone(&overload).keep_true(shutdown));
        Ok(overload)
    }

    /// The sources with most connections, of rules that are in force.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn sources(&self, most: usize) -> io::Result<Vec<SourceRow>> {
        source::rows(&*self.accounting, &*self.policy, most)
    }

    /// Takes reports as they come.
    async fn watch(self: Arc<Self>, ring: AsyncFd<OwnedFd>, shutdown: CancellationToken) {
        loop {
            let overruns = self.accounting.overruns(BATCH);
            if !overruns.is_empty() {
                self.sweep(overruns).await;
                continue;
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RING_INTERVAL) => {}
                ready = ring.readable() => match ready {
                    Ok(mut ready) => ready.clear_ready(),
                    Err(error) => {
                        tracing::error!(target: "edge", event = "overload", %error, "limits are not watched any more");
                        return;
                    }
                },
            }
        }
    }

    async fn keep_true(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.clock.sleep(GUARD_INTERVAL) => {}
            }
            let accounting = Arc::clone(&self.accounting);
            match tokio::task::spawn_blocking(move || guard::correct(&*accounting)).await {
                Ok(Ok(guard::Corrected { wrong: 0, .. })) => {}
                Ok(Ok(done)) => tracing::info!(target: "edge", event = "limits",
                    sources = done.sources, corrected = done.wrong, "counts of connections corrected"),
                Ok(Err(error)) => tracing::warn!(target: "edge", event = "limits", %error,
                    "counts of connections cannot be compared with the sockets"),
                Err(_) => return,
            }
        }
    }
}

/// The ring, to be waited for.
#[expect(
    deprecated,
    reason = "its successor is unsafe for the sake of types that lend a descriptor; this one owns it"
)]
fn ring(accounting: &dyn Accounting) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(accounting.ring().try_clone_to_owned()?, Interest::READABLE)
}

#[cfg(test)]
mod tests;
