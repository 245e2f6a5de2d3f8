//! The edge alone, in front of a mail server that has port 25 of this host and stays as it is.
//!
//! Stations 1 to 4 and nothing behind them: no accounts, no queue, no mailboxes, and nobody is listened to at a port that
//! clients know. The kernel gives us connections to the mail server's port; without it there is nothing to do here.

use std::sync::Arc;

use mailgate_edge::Edge;
use mailgate_edge::foreign::{self, Foreign};
use mailgate_model::IdGenerator;
use mailgate_packet::Where;

use super::ground::Ground;
use super::{Running, asked, listeners};
use crate::admin::Failure;
use crate::config::Config;

/// The port of the mail server where the configuration names none.
const SMTP: u16 = 25;

pub(super) async fn start(config: Config) -> Result<Running, Failure> {
    let Ground {
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
    } = Ground::open(&config).await?;

    let inquiry = Arc::new(super::inquiry::ToDns::new(&resolver, hostname.as_str()));
    // 4. The hand-off goes to the mail server behind.
    let foreign = Foreign::start(foreign::Parts {
        config: config.edge.foreign.clone(),
        hostname: hostname.clone(),
        port: config.edge.packet.reception_ports.first().copied().unwrap_or(SMTP),
        resolver,
        clock: Arc::clone(&clock),
        tasks: tasks.clone(),
        shutdown: shutdown.clone(),
    });

    let own_name = hostname.clone();
    // 2 and 3. Accept, tarpit, greylist.
    let edge = Edge::new(mailgate_edge::Parts {
        config: config.edge.clone(),
        hostname,
        content_limit: config.smtp.message_size,
        greylist: greylist.clone(),
        inquiry: Some(inquiry),
        feeds: super::inquiry::feeds(&config.lists),
        filter: Arc::clone(&filter),
        handoff: Arc::new(foreign.clone()),
        tls: Some(tls.clone()),
        recipients: None,
        texts: Some(Arc::new(asked::Said(lists.clone()))),
        clock: Arc::clone(&clock),
        shutdown: shutdown.clone(),
    });

    let sync = super::sync::start(&config, &edge, &own_name, &tasks, &shutdown).await?;

    tables_ready.wait().await;
    let ids = Arc::new(IdGenerator::new(std::process::id().wrapping_mul(0x9E37_79B9)));
    let doors = listeners::Doors { edge: Arc::clone(&edge), mail: None, tls, clock: Arc::clone(&clock), ids };
    // A filter that does not send those who passed to the mail server must send us nobody: they would come back for ever.
    let steers = filter.status().acts != Where::Memory;
    if let Some(standings) = standings.filter(|_| steers) {
        let passed_for = config.edge.greylist.passed_for.duration();
        tasks.spawn(standings.follow(passed_for, shutdown.clone()));
        listeners::open_steered(&doors, &*filter, &tasks, &shutdown);
    } else {
        tracing::error!(target: "mailgate", event = "edge-only", reason = filter.status().reason,
            "nothing comes here: only the kernel filter can give us connections to another program's port; all clients reach the mail server");
    }
    let ports = super::Ports::default();
    let foreign = Some(foreign);
    let running = Running {
        edge,
        greylist,
        lists,
        mail: None,
        sync,
        foreign,
        filter,
        control,
        ports,
        tasks,
        shutdown,
        clock,
    };
    running.open_control(&config).await?;
    tracing::info!(target: "mailgate", event = "started", mode = "edge only", filter = running.filter_sentence());
    Ok(running)
}
