//! What every kind of service stands on: state, names, certificates, tables and the kernel filter.

use std::sync::Arc;
use std::time::Duration;

use mailgate_edge::config::{Behind, Mode};
use mailgate_lists::Lists;
use mailgate_model::{Clock, Domain};
use mailgate_net::http::Http;
use mailgate_net::{Resolver, SystemClock, Tls};
use mailgate_packet::PacketFilter;
use mailgate_packet::firewall::{Control, Unknown};
use mailgate_store::Greylist;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::standings::Standings;
use super::{firewall, hits, overload, protected, publish, pump, system};
use crate::admin::Failure;
use crate::cli::exit;
use crate::config::Config;

/// How often the start says that it waits for the tables.
const TABLES_WAIT: Duration = Duration::from_secs(20);
/// So often at most; then mail is received without them. Five million entries take a build without optimisation a minute
/// or two; what takes longer than five hangs, and mail must not wait for that.
const TABLES_WAITS: u32 = 15;
/// How often certificate files are looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(2);

/// The stations below all others.
pub(super) struct Ground {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) shutdown: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) hostname: Domain,
    pub(super) tls: Tls,
    pub(super) resolver: Resolver,
    pub(super) greylist: Greylist,
    pub(super) filter: Arc<dyn PacketFilter>,
    pub(super) control: Arc<Control>,
    pub(super) lists: Lists,
    pub(super) tables_ready: Ready,
    /// Where the mail server is another program.
    pub(super) standings: Option<Standings>,
}

/// Tells when the tables are in force.
pub(super) struct Ready {
    tables: oneshot::Receiver<()>,
    control: Arc<Control>,
}

impl Ground {
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let shutdown = CancellationToken::new();
        let tasks = TaskTracker::new();
        let hostname = config.own_name().map_err(|message| Failure { message, exit: exit::CONFIG })?;
        make_state_folder(config)?;

        let tls = Tls::open(&config.net.tls, &config.state_dir, &hostname).map_err(system)?;
        tasks.spawn(watch_certificates(tls.clone(), shutdown.clone()));
        let resolver = Resolver::new(&config.net.resolver).map_err(system)?;
        let greylist =
            Greylist::open(config.state_dir.join("greylist.db"), Arc::clone(&clock)).await.map_err(system)?;

        // 1. Kernel filter, fed by the lists.
        let unknown = match config.edge.mode {
            Mode::Classic | Mode::Selective => Unknown::Edge,
            Mode::Off => Unknown::Pass,
        };
        let behaviour = (config.edge.behind == Behind::Foreign).then_some(unknown);
        let asked = mailgate_packet::Config { behaviour, ..config.edge.packet.clone() };
        let mut packets = hits::with_room(config, asked);
        packets.answers = packets.answers.greeting_as(&hostname);
        let filter = mailgate_packet::open(&packets, Arc::clone(&clock)).map_err(system)?;
        let control = firewall::start(config, &filter, &clock)?;
        tasks.spawn(firewall::watch(Arc::clone(&control), Arc::clone(&clock), shutdown.clone()));
        let standings = behaviour.and_then(|_| Standings::begin(&greylist, &filter, &clock));
        let (lists, changes) = Lists::start_fetching(
            config.lists.clone(),
            protected::protected(config, &control),
            &config.state_dir,
            Http::new(Some(resolver.clone())),
            Arc::clone(&clock),
            shutdown.clone(),
        )
        .map_err(system)?;
        tasks.spawn(protected::follow(
            config.clone(),
            Arc::clone(&control),
            lists.clone(),
            Arc::clone(&clock),
            shutdown.clone(),
        ));
        let told = lists.clone();
        let applied = move |is_in_force| told.applied(is_in_force);
        let tables = pump::pump(changes, applied, Arc::clone(&filter), Arc::clone(&clock), shutdown.clone());
        let tables_ready = Ready { tables, control: Arc::clone(&control) };
        publish::start(config, &greylist, &lists, &tasks, &clock, &shutdown)?;
        hits::start(config, &filter, &lists, &tasks, &clock, &shutdown);
        if let Some(overload) = overload::start(config, &filter, &lists, &clock, &shutdown)? {
            control.counts_with(overload);
        }
        Ok(Self {
            clock,
            shutdown,
            tasks,
            hostname,
            tls,
            resolver,
            greylist,
            filter,
            control,
            lists,
            tables_ready,
            standings,
        })
    }
}

impl Ready {
    /// Mail is received only once the tables are in force: a restart opens no gap. With them host mode begins.
    pub(super) async fn wait(self) {
        let mut tables = self.tables;
        for n in 1..=TABLES_WAITS {
            if tokio::time::timeout(TABLES_WAIT, &mut tables).await.is_ok() {
                break;
            }
            let waited = TABLES_WAIT.as_secs() * u64::from(n);
            if n < TABLES_WAITS {
                tracing::info!(target: "mailgate", event = "tables", waited, "not in force yet; mail is received when they are");
            } else {
                tracing::warn!(target: "mailgate", event = "tables", waited, "still not in force; mail is received without them");
            }
        }
        firewall::begin(&self.control);
    }
}

/// Made with mode 0700 if missing.
pub(crate) fn make_state_folder(config: &Config) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = &config.state_dir;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| system(format!("the state folder {} could not be made: {error}", folder.display())))
}

async fn watch_certificates(tls: Tls, shutdown: CancellationToken) {
    tls.watch(CERTIFICATE_INTERVAL, shutdown).await;
}
