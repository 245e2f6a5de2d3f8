//! 4 and 13. What the edge, reception and access tell each other, which may not know one another.

use std::sync::{Arc, OnceLock};

use mailgate_access::imap;
use mailgate_edge::{Edge, Handoff, Handover, learn};
use mailgate_model::{QueueId, Service};
use mailgate_smtp::{Accepted, Learn, Resumed, Server, Submitted};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What people called messages and the edge has not written down yet. Beyond it they are forgotten: what one message more
/// or less says of a sender is little, and a session must not wait for it.
const CALLS_WAITING: usize = 1024;

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

/// Tells the edge what people call junk, one after the other, because each is written to disk.
pub(super) struct Calls(mpsc::Sender<(QueueId, imap::Called)>);

impl Calls {
    pub(super) fn start(edge: &Arc<Edge>, tasks: &TaskTracker, shutdown: &CancellationToken) -> Self {
        let (sender, mut waiting) = mpsc::channel::<(QueueId, imap::Called)>(CALLS_WAITING);
        let (edge, shutdown) = (Arc::clone(edge), shutdown.clone());
        tasks.spawn(async move {
            loop {
                let (message, called) = tokio::select! {
                    called = waiting.recv() => match called {
                        Some(called) => called,
                        None => return,
                    },
                    () = shutdown.cancelled() => return,
                };
                let called = match called {
                    imap::Called::Good => learn::Called::Good,
                    imap::Called::Junk => learn::Called::Junk,
                };
                if let Err(error) = edge.called(&message.to_string(), called).await {
                    tracing::warn!(target: "edge", event = "called", q = %message, %error);
                }
            }
        });
        Self(sender)
    }
}

impl imap::Learn for Calls {
    fn called(&self, message: QueueId, called: imap::Called) {
        if self.0.try_send((message, called)).is_err() {
            tracing::warn!(target: "edge", event = "called", q = %message, error = "too many at once; not learned");
        }
    }
}
