//! The map: every station of the path, constructed and joined in the order in which a message meets them.
//!
//! The numbers are those of docs/architecture.md. Stations that may not know each other meet here and nowhere else.

mod handoff;
mod listeners;
mod pump;
mod records;
mod running;

use std::sync::Arc;
use std::time::Duration;

use mailgate_delivery::{LocalAgent, RemoteAgent, Routes};
use mailgate_edge::{Edge, packet};
use mailgate_lists::Lists;
use mailgate_model::{Clock, IdGenerator};
use mailgate_msgauth::Verifier;
use mailgate_net::{Resolver, SystemClock, Tls};
use mailgate_queue::Queue;
use mailgate_store::{Greylist, Mailboxes, Spool};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Failure;
use crate::cli::exit;
use crate::config::Config;

pub use handoff::ToReception;
pub use records::Records;
pub use running::{Ports, Running};

/// How long the start waits for the tables before mail is received without them.
const TABLES_PATIENCE: Duration = Duration::from_secs(20);
/// How often certificate files are looked at.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(2);

/// Constructs every station and joins them; returns when all listen.
///
/// # Errors
/// What could not be opened, in one sentence.
pub async fn start(config: Config) -> Result<Running, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let ids = Arc::new(IdGenerator::new(std::process::id().wrapping_mul(0x9E37_79B9)));
    let shutdown = CancellationToken::new();
    let tasks = TaskTracker::new();
    let hostname = config.own_name().map_err(|message| Failure { message, exit: exit::CONFIG })?;

    // Ground: state, names, certificates.
    let people = Records::open(&config, &clock)?;
    let tls = Tls::open(&config.net.tls, &config.state_dir, &hostname).map_err(system)?;
    tasks.spawn(watch_certificates(tls.clone(), shutdown.clone()));
    let resolver = Resolver::new(&config.net.resolver).map_err(system)?;
    let spool = Spool::open(config.state_dir.join("spool"), Arc::clone(&clock)).map_err(system)?;
    let mailboxes = Mailboxes::open(&config.state_dir.join("mailboxes"), &hostname, Arc::clone(&clock))
        .map_err(system)?;
    let greylist =
        Greylist::open(config.state_dir.join("greylist.db"), Arc::clone(&clock)).await.map_err(system)?;

    // 1. Kernel filter, fed by the lists.
    let spared = packet::Config { local: config.edge.local.clone(), ..config.edge.packet.clone() };
    let filter = packet::open(&spared, Arc::clone(&clock));
    let (lists, changes) =
        Lists::start(config.lists.clone(), &config.state_dir, Arc::clone(&clock), shutdown.clone())
            .map_err(system)?;
    let told = lists.clone();
    let applied = move |is_in_force| told.applied(is_in_force);
    let tables_ready =
        pump::pump(changes, applied, Arc::clone(&filter), Arc::clone(&clock), shutdown.clone());

    // 5 to 9. Reception: message authentication, relay right, durable commit.
    let learn = handoff::ToEdge::default();
    let smtp = mailgate_smtp::Server::new(mailgate_smtp::Parts {
        config: config.smtp.clone(),
        hostname: hostname.clone(),
        accounts: people.accounts.clone(),
        spool: spool.clone(),
        verifier: Verifier::new(&resolver, hostname.as_str()),
        signer: people.signer.clone(),
        resolver: resolver.clone(),
        tls: tls.clone(),
        clock: Arc::clone(&clock),
        ids: Arc::clone(&ids),
        learn: Arc::new(learn.clone()),
        shutdown: shutdown.clone(),
    });

    // 2 to 4. Edge: accept, tarpit, greylist, and the hand-off to reception.
    let edge = Edge::new(mailgate_edge::Parts {
        config: config.edge.clone(),
        hostname: hostname.clone(),
        content_limit: config.smtp.message_size,
        greylist: greylist.clone(),
        filter: Arc::clone(&filter),
        handoff: Arc::new(handoff::ToReception::new(Arc::clone(&smtp), tasks.clone())),
        tls: Some(tls.clone()),
        clock: Arc::clone(&clock),
        shutdown: shutdown.clone(),
    });

    learn.join(&edge);

    // 10 to 12. Queue, its agents, and DSNs.
    let queue = Queue::start(mailgate_queue::Parts {
        spool: spool.clone(),
        route: Arc::new(Routes::new(Arc::new(people.accounts.clone()), config.delivery.clone())),
        local: Arc::new(LocalAgent::new(
            Arc::new(people.accounts.clone()),
            mailboxes.clone(),
            spool.clone(),
            Arc::clone(&ids),
            Arc::clone(&clock),
        )),
        remote: Arc::new(RemoteAgent::new(
            config.delivery.clone(),
            hostname.clone(),
            Arc::new(resolver),
            Arc::new(tls.clone()),
            Arc::clone(&clock),
        )),
        config: config.queue.clone(),
        clock: Arc::clone(&clock),
        hostname: hostname.clone(),
        ids: Arc::clone(&ids),
        shutdown: shutdown.clone(),
    });

    // 13. Access.
    let imap = mailgate_access::imap::Server::new(mailgate_access::imap::Parts {
        config: config.access.imap.clone(),
        hostname,
        accounts: people.accounts.clone(),
        mailboxes,
        tls: tls.clone(),
        clock: Arc::clone(&clock),
        shutdown: shutdown.clone(),
    });

    // Mail is received only once the tables are in force: a restart opens no gap.
    if tokio::time::timeout(TABLES_PATIENCE, tables_ready).await.is_err() {
        tracing::warn!(target: "mailgate", event = "tables", "not ready after {} s; receiving without them", TABLES_PATIENCE.as_secs());
    }
    let doors = listeners::Doors { edge: Arc::clone(&edge), smtp, imap, tls, clock: Arc::clone(&clock), ids };
    let ports = listeners::open(&config, &doors, &*filter, &tasks, &shutdown)?;
    let running = Running { edge, greylist, lists, queue, filter, people, ports, tasks, shutdown, clock };
    running.open_control(&config).await?;
    tracing::info!(target: "mailgate", event = "started", ports = %running.ports(), filter = running.filter_sentence());
    Ok(running)
}

async fn watch_certificates(tls: Tls, shutdown: CancellationToken) {
    tls.watch(CERTIFICATE_INTERVAL, shutdown).await;
}

fn system(error: impl std::fmt::Display) -> Failure {
    Failure { message: error.to_string(), exit: exit::SYSTEM }
}
