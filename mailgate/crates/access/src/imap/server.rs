//! What all sessions share.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use mailgate_accounts::Accounts;
use mailgate_model::{Address, Client, Clock, Domain, SessionId};
use mailgate_net::{Stream, Tls};
use mailgate_store::Mailboxes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::budget::Budget;
use super::connection::Connection;
use super::junk::Learn;
use super::reply::Bye;
use super::session::Session;
use crate::config;

/// Everything a server needs.
pub struct Parts {
    /// `[access.imap]`.
    pub config: config::Imap,
    /// Our name in the greeting.
    pub hostname: Domain,
    /// Whose password is right.
    pub accounts: Accounts,
    /// Their mail.
    pub mailboxes: Mailboxes,
    /// Hears what people call junk.
    pub learn: Arc<dyn Learn>,
    /// Certificates for STARTTLS.
    pub tls: Tls,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Cancelled at shutdown: sessions end with BYE after the command they are at.
    pub shutdown: CancellationToken,
}

/// The IMAP server.
pub struct Server {
    pub(crate) parts: Parts,
    pub(crate) budget: Budget,
    sessions: Semaphore,
    by_account: Mutex<HashMap<Address, usize>>,
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
        Arc::new(Self {
            budget: Budget::new(parts.config.content_memory),
            sessions: Semaphore::new(parts.config.sessions.min(Semaphore::MAX_PERMITS)),
            by_account: Mutex::default(),
            parts,
        })
    }

    /// Serves one connection until its end. A `stream` that is inside TLS already is implicit TLS.
    pub async fn serve(self: &Arc<Self>, stream: Stream, client: Client, session: SessionId) {
        let clock = Arc::clone(&self.parts.clock);
        let connection = Connection::new(stream, clock, self.parts.shutdown.clone());
        let Ok(_permit) = self.sessions.try_acquire() else {
            tracing::info!(target: "access", s = %session, event = "imap.refused", reason = "sessions");
            return connection.close(&super::connection::End::Bye(Bye::Full)).await;
        };
        let session = Session::new(Arc::clone(self), connection, client, session);
        Box::pin(session.run()).await;
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, HashMap<Address, usize>> {
        self.by_account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat of an account, unless all are taken; given back when dropped.
    pub(crate) fn seat(self: &Arc<Self>, account: &Address) -> Option<Seat> {
        let mut counts = self.counts();
        let count = counts.entry(account.clone()).or_default();
        if *count >= self.parts.config.sessions_per_account {
            return None;
        }
        *count += 1;
        Some(Seat { server: Arc::clone(self), account: account.clone() })
    }
}

/// One session of an account.
pub(crate) struct Seat {
    server: Arc<Server>,
    account: Address,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.server.counts();
        if let Some(count) = counts.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.account);
            }
        }
    }
}
