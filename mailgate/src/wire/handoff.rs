//! 4. From the edge to reception and back, which may not know each other.

use std::sync::{Arc, OnceLock};

use mailgate_edge::{Edge, Handoff, Handover};
use mailgate_model::Service;
use mailgate_smtp::{Accepted, Learn, Resumed, Server, Submitted};
use tokio_util::task::TaskTracker;

/// Gives connections to reception, each in a task of its own.
pub struct ToReception {
    server: Arc<Server>,
    tasks: TaskTracker,
}

impl ToReception {
    /// `tasks` are waited for at shutdown.
    #[must_use]
    pub fn new(server: Arc<Server>, tasks: TaskTracker) -> Self {
        Self { server, tasks }
    }
}

impl Handoff for ToReception {
    fn hand_over(&self, handover: Handover) {
        let server = Arc::clone(&self.server);
        let Handover { stream, client, session, greeted, helo, mail, rcpt, pending } = handover;
        self.tasks.spawn(async move {
            if greeted {
                server.resume(Resumed { stream, client, session, helo, mail, rcpt, pending }).await;
            } else {
                server.serve(Service::Mx, stream, client, session).await;
            }
        });
    }
}

/// Tells the edge which sources hand over good mail; the edge comes into being after reception.
#[derive(Clone, Default)]
pub(super) struct ToEdge(Arc<OnceLock<Arc<Edge>>>);

impl ToEdge {
    pub(super) fn join(&self, edge: &Arc<Edge>) {
        // There is one edge; a second call would be of the same.
        let _ = self.0.set(Arc::clone(edge));
    }
}

impl Learn for ToEdge {
    fn accepted(&self, accepted: &Accepted<'_>) {
        let Accepted { client, session, queue_id, message_id } = accepted;
        if let Some(edge) = self.0.get() {
            edge.accepted(client, *session, &queue_id.to_string(), message_id);
        }
    }

    fn submitted(&self, submitted: &Submitted) {
        if let Some(edge) = self.0.get() {
            let recipients: Vec<String> = submitted.recipients.iter().map(ToString::to_string).collect();
            let by = submitted.by.to_string();
            edge.sent(&by, recipients.iter().map(String::as_str), submitted.message_id.as_deref());
        }
    }
}
