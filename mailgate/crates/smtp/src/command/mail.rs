//! MAIL (RFC 5321 §4.1.1.2).

use mailgate_model::{Reply, ReversePath, Service};
use mailgate_proto::smtp::Mail;

use crate::reply;
use crate::session::{Next, Session};
use crate::transaction::{State, Transaction};

impl Session {
    /// Checks who may send here as whom, and opens a transaction.
    pub(crate) async fn mail(&mut self, mail: Mail) -> Next {
        if self.service == Service::Msa
            && let Some(refusal) = self.may_submit(&mail.path).await
        {
            return Next::Say(refusal);
        }
        self.owed = None;
        Next::Say(self.open(mail))
    }

    /// Opens a transaction; everything that needs no lookup is checked here.
    pub(crate) fn open(&mut self, mail: Mail) -> Reply {
        if self.hello.is_none() {
            return reply::SAY_EHLO;
        }
        if !matches!(self.state, State::Greeted) {
            return reply::IN_TRANSACTION;
        }
        let size = usize::try_from(mail.size.unwrap_or(0)).unwrap_or(usize::MAX);
        if size > self.server.parts.config.message_size {
            return reply::MESSAGE_TOO_BIG;
        }
        if !self.server.budget.has_room_for(size.saturating_mul(2)) {
            tracing::warn!(target: "smtp", s = %self.id, event = "mail", result = "deferred", reason = "content-memory");
            return reply::OUT_OF_STORAGE;
        }
        tracing::info!(target: "smtp", s = %self.id, event = "mail", from = %mail.path, size);
        self.state = State::MailGiven(Transaction::new(mail));
        reply::SENDER_OK
    }

    /// Submission: authenticated, and sending as somebody the account may send as (RFC 6409 §4.3, §6.1).
    async fn may_submit(&self, path: &ReversePath) -> Option<Reply> {
        let parts = &self.server.parts;
        if self.client.tls.is_none() && parts.config.msa.auth_require_tls {
            return Some(reply::SAY_STARTTLS);
        }
        let Some(identity) = &self.client.identity else { return Some(reply::SAY_AUTH) };
        // The null reverse-path claims to be nobody; notifications of a mail program use it (RFC 8098 §3).
        let address = path.address()?;
        match parts.accounts.may_send_as(identity, address).await {
            Ok(true) => None,
            Ok(false) => {
                tracing::info!(target: "smtp", s = %self.id, event = "mail", from = %path, account = %identity,
                    result = "rejected", reason = "not-your-address");
                Some(reply::about(reply::NOT_YOUR_ADDRESS, path))
            }
            Err(error) => Some(self.failed("mail", &error.into())),
        }
    }
}
