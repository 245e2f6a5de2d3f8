//! 4. From the edge to reception, which may not know each other.

use std::sync::Arc;

use mailgate_edge::{Handoff, Handover};
use mailgate_model::Service;
use mailgate_smtp::{Resumed, Server};
use tokio_util::task::TaskTracker;

/// Gives connections to reception, each in a task of its own.
pub(super) struct ToReception {
    server: Arc<Server>,
    tasks: TaskTracker,
}

impl ToReception {
    pub(super) fn new(server: Arc<Server>, tasks: TaskTracker) -> Self {
        Self { server, tasks }
    }
}

impl Handoff for ToReception {
    fn hand_over(&self, handover: Handover) {
        let server = Arc::clone(&self.server);
        let Handover { stream, client, session, greeted, helo, mail, pending } = handover;
        self.tasks.spawn(async move {
            if greeted {
                server.resume(Resumed { stream, client, session, helo, mail, pending }).await;
            } else {
                server.serve(Service::Mx, stream, client, session).await;
            }
        });
    }
}
