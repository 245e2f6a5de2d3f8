//! What all sessions share, and the two doors: fresh connections and those that the edge began.

use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;
use mailgate_accounts::Accounts;
use mailgate_model::{Client, Clock, Domain, IdGenerator, Service, SessionId};
use mailgate_msgauth::{Signer, Verifier};
use mailgate_net::{Limits, Places, Resolver, Stream, Tls};
use mailgate_store::Spool;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::budget::Budget;
use crate::session::Session;

/// Everything a server needs.
pub struct Parts {
    /// `[smtp]`.
    pub config: Config,
    /// Our name in greeting, EHLO, trace fields and as authserv-id.
    pub hostname: Domain,
    /// Who is local, and whose password is right.
    pub accounts: Accounts,
    /// Where accepted messages go.
    pub spool: Spool,
    /// iprev, SPF, DKIM, DMARC.
    pub verifier: Verifier,
    /// DKIM signatures of submitted messages.
    pub signer: Signer,
    /// Names of clients for the trace field.
    pub resolver: Resolver,
    /// Certificates for STARTTLS.
    pub tls: Tls,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Queue ids; the same generator as everywhere in the process.
    pub ids: Arc<IdGenerator>,
    /// Told of every message that another MTA handed over.
    pub learn: Arc<dyn Learn>,
    /// Cancelled at shutdown: sessions that wait for a command say goodbye; a content that is coming in goes on until its
    /// reply.
    pub shutdown: CancellationToken,
}

/// Hears which sources hand over good mail. Joined to the edge's memory in `wire.rs`; reception knows no edge.
pub trait Learn: Send + Sync + 'static {
    /// A message was accepted on port 25. Must not block.
    fn accepted(&self, accepted: &Accepted<'_>);

    /// A message of one of our users was accepted. Must not block.
    fn submitted(&self, submitted: &Submitted) {
        let _ = submitted;
    }
}

/// A message that another MTA handed over.
#[derive(Debug)]
pub struct Accepted<'a> {
    /// Who handed it over.
    pub client: &'a Client,
    /// In which session.
    pub session: SessionId,
    /// Its id here.
    pub queue_id: mailgate_model::QueueId,
    /// Its Message-ID field as it stands there, untrusted; empty when there is none.
    pub message_id: &'a str,
}

/// A message of one of our users that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// Who submitted it: the account that proved its password.
    pub by: mailgate_model::Address,
    /// Recipients that are none of ours.
    pub recipients: Vec<mailgate_model::Address>,
    /// Its `Message-ID`.
    pub message_id: Option<String>,
}

/// A session that the edge began: greeting and the replies to EHLO and MAIL, as far as present, were sent already.
#[derive(Debug)]
pub struct Resumed {
    /// The connection, plain or already inside TLS.
    pub stream: Stream,
    /// What is known of the peer.
    pub client: Client,
    /// Kept, so that the log tells one story.
    pub session: SessionId,
    /// The accepted HELO or EHLO line, without CRLF.
    pub helo: Option<String>,
    /// The accepted MAIL line, without CRLF. Refused here after all, the refusal is the reply to each RCPT.
    pub mail: Option<String>,
    /// The RCPT line that was accepted, and DATA after it: `pending` begins with the content then. A refusal of ours is the
    /// answer to that content, which has no other recipient.
    pub rcpt: Option<String>,
    /// Bytes read from the peer and not yet answered.
    pub pending: BytesMut,
}

/// Reception and submission.
pub struct Server {
    pub(crate) parts: Parts,
    pub(crate) budget: Budget,
    /// Of sessions. Connections come here from the edge, whose listener counts them only until they are handed on.
    pub(crate) places: Arc<Places>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("hostname", &self.parts.hostname).finish_non_exhaustive()
    }
}

impl Server {
    /// Joins the parts; opens nothing.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let budget = Budget::new(parts.config.content_memory);
        let limits = Limits { total: parts.config.sessions, per_source: parts.config.sessions_per_source };
        let places = Places::new(limits);
        Arc::new(Self { parts, budget, places })
    }

    /// Serves one fresh connection until its end. A `stream` that is inside TLS already is implicit TLS.
    /// [`Service::Imap`] is none of ours and is closed.
    pub async fn serve(
        self: &Arc<Self>,
        service: Service,
        stream: Stream,
        client: Client,
        session: SessionId,
    ) {
        if matches!(service, Service::Mx | Service::Msa) {
            let session = Session::new(Arc::clone(self), service, stream, client, session);
            Box::pin(session.run()).await;
        }
    }

    /// Goes on with a session of port 25 that the edge began, until its end.
    pub async fn resume(self: &Arc<Self>, resumed: Resumed) {
        Box::pin(Session::resume(Arc::clone(self), resumed)).await;
    }
}
