//! RCPT (RFC 5321 §4.1.1.3).

use mailgate_model::Reply;
use mailgate_proto::smtp::Rcpt;

use crate::relay::{self, Denied};
use crate::reply;
use crate::session::{Next, Session};
use crate::transaction::State;

impl Session {
    /// Adds a recipient for whom there is a permit.
    pub(crate) async fn rcpt(&mut self, rcpt: Rcpt) -> Next {
        let said = match &self.state {
            State::MailGiven(transaction) | State::RcptGiven(transaction) => transaction.said(),
            State::Greeted => {
                let refusal = self.owed.clone().unwrap_or(reply::SAY_MAIL);
                return self.wrong(refusal);
            }
            State::Chunks(..) => return self.wrong(reply::IN_CHUNKS),
        };
        // RFC 5321 §4.5.3.1.10: transient, so that the client sends the others in another transaction. No lookup is
        // made, so ten thousand of them cost little.
        if said >= self.recipient_limit() {
            return Next::Say(reply::TOO_MANY_RECIPIENTS);
        }
        let server = &self.server.parts;
        match relay::permit(&server.accounts, self.client.identity.as_ref(), &rcpt.path).await {
            Ok(Ok(permit)) => {
                tracing::info!(target: "smtp", s = %self.id, event = "rcpt", to = %rcpt.path, result = "accepted");
                if let State::MailGiven(mut transaction) | State::RcptGiven(mut transaction) =
                    std::mem::take(&mut self.state)
                {
                    transaction.admit(permit, &rcpt);
                    self.state = State::RcptGiven(transaction);
                }
                Next::Say(reply::about(reply::RECIPIENT_OK, &rcpt.path))
            }
            Ok(Err(denied)) => self.deny(denied, &rcpt),
            Err(error) => Next::Say(self.failed("rcpt", &error)),
        }
    }

    /// Says no; a client that guesses names hears it only so often.
    fn deny(&mut self, denied: Denied, rcpt: &Rcpt) -> Next {
        tracing::info!(target: "smtp", s = %self.id, event = "rcpt", to = %rcpt.path, result = "rejected",
            reason = denied.reason());
        self.counts.unknown_recipients += 1;
        let limit = self.server.parts.config.mx.unknown_recipients;
        // Our own people may have an old address book.
        if self.client.identity.is_none() && self.counts.unknown_recipients > limit {
            return Next::Close(reply::TOO_MANY_UNKNOWN);
        }
        let refusal: Reply = match denied {
            Denied::Foreign => reply::RELAYING_DENIED,
            Denied::Unknown => reply::NO_SUCH_USER,
        };
        Next::Say(reply::about(refusal, &rcpt.path))
    }
}
