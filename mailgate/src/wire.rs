//! The map: every station of the path, constructed and joined in the order in which a message meets them.
//!
//! The numbers are those of docs/architecture.md. Stations that may not know each other meet here and nowhere else.

mod asked;
mod edge_only;
mod firewall;
mod ground;
mod handoff;
mod hits;
mod inquiry;
mod listeners;
mod overload;
mod protected;
mod publish;
mod pump;
mod records;
mod running;
mod standings;
mod sync;

use std::sync::Arc;

use mailgate_delivery::{LocalAgent, RemoteAgent, Routes};
use mailgate_edge::Edge;
use mailgate_edge::config::Behind;
use mailgate_model::IdGenerator;
use mailgate_msgauth::Verifier;
use mailgate_queue::Queue;
use mailgate_store::{Mailboxes, Outbound, Spool};

use self::ground::Ground;
use crate::admin::Failure;
use crate::cli::exit;
use crate::config::Config;

pub(crate) use ground::make_state_folder;
pub use handoff::ToReception;
pub(crate) use hits::hits;
pub use records::Records;
pub use running::{Mail, Ports, Running};

/// Constructs every station that the configuration wants and joins them; returns when all listen.
///
/// # Errors
/// What could not be opened, in one sentence.
pub async fn start(config: Config) -> Result<Running, Failure> {
    match config.edge.behind {
        Behind::Own => whole(config).await,
        Behind::Foreign => edge_only::start(config).await,
    }
}

/// Every station of the path.
async fn whole(config: Config) -> Result<Running, Failure> {
    // Ground: state, names, certificates; and 1, the kernel filter, fed by the lists.
    let ground = Ground::open(&config).await?;
    let Ground { clock, shutdown, tasks, hostname, tls, resolver, .. } = ground;
    let Ground { greylist, filter, control, lists, tables_ready, .. } = ground;
    let ids = Arc::new(IdGenerator::new(std::process::id().wrapping_mul(0x9E37_79B9)));
    let people = Records::open(&config, &clock)?;
    let spool = Spool::open(config.state_dir.join("spool"), Arc::clone(&clock)).map_err(system)?;
    let mailboxes = Mailboxes::open(&config.state_dir.join("mailboxes"), &hostname, Arc::clone(&clock))
        .map_err(system)?;

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
        inquiry: Some(Arc::new(inquiry::ToDns::new(&resolver, hostname.as_str()))),
        feeds: inquiry::feeds(&config.lists),
        filter: Arc::clone(&filter),
        handoff: Arc::new(handoff::ToReception::new(Arc::clone(&smtp), tasks.clone())),
        tls: Some(tls.clone()),
        recipients: Some(Arc::new(asked::Existing(people.accounts.clone()))),
        texts: Some(Arc::new(asked::Said(lists.clone()))),
        clock: Arc::clone(&clock),
        shutdown: shutdown.clone(),
    });

    learn.join(&edge);
    let outbound = Outbound::open(config.state_dir.join("outbound.db"), Arc::clone(&clock)).await;
    edge.remember_outbound(outbound.map_err(system)?);
    let sync = sync::start(&config, &edge, &hostname, &tasks, &shutdown).await?;

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

    // 13. Access; what people call junk goes back to the edge.
    let imap = mailgate_access::imap::Server::new(mailgate_access::imap::Parts {
        config: config.access.imap.clone(),
        hostname,
        accounts: people.accounts.clone(),
        mailboxes,
        learn: Arc::new(handoff::Calls::start(&edge, &tasks, &shutdown)),
        tls: tls.clone(),
        clock: Arc::clone(&clock),
        shutdown: shutdown.clone(),
    });

    tables_ready.wait().await;
    let mail = listeners::Mail { smtp, imap };
    let doors =
        listeners::Doors { edge: Arc::clone(&edge), mail: Some(mail), tls, clock: Arc::clone(&clock), ids };
    let ports = listeners::open(&config, &doors, &*filter, &tasks, &shutdown)?;
    let mail = Some(Mail { queue, people });
    let running = Running {
        edge,
        greylist,
        lists,
        mail,
        sync,
        foreign: None,
        filter,
        control,
        ports,
        tasks,
        shutdown,
        clock,
    };
    running.open_control(&config).await?;
    tracing::info!(target: "mailgate", event = "started", ports = %running.ports(), filter = running.filter_sentence());
    Ok(running)
}

fn system(error: impl std::fmt::Display) -> Failure {
    Failure { message: error.to_string(), exit: exit::SYSTEM }
}
