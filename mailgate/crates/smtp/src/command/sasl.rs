//! AUTH PLAIN and LOGIN (RFC 4954, RFC 4616); only for submission.

use mailgate_accounts::sasl::{Credentials, Exchange, Mechanism, Step};
use mailgate_model::{Reply, Service};
use mailgate_proto::smtp::Misbehaved;

use crate::reply;
use crate::session::{Next, Session};
use crate::transaction::State;
use crate::wire::Gone;

impl Session {
    /// One exchange from the mechanism to the verdict.
    pub(crate) async fn identify(&mut self, mechanism: &str, initial: Option<String>) -> Result<Next, Gone> {
        if let Some(refusal) = self.may_identify() {
            return Ok(Next::Say(refusal));
        }
        let Some(mechanism) = Mechanism::of(mechanism) else {
            return Ok(Next::Say(reply::UNKNOWN_MECHANISM));
        };
        match self.exchange(mechanism, initial.as_deref()).await? {
            Ok(credentials) => Ok(self.judge(credentials).await),
            Err(refusal) => Ok(Next::Say(refusal)),
        }
    }

    /// Whether AUTH is allowed at this place at all (RFC 4954 §4).
    fn may_identify(&self) -> Option<Reply> {
        let is_covered = self.client.tls.is_some() || !self.server.parts.config.msa.auth_require_tls;
        match () {
            () if self.service != Service::Msa => Some(reply::NOT_IMPLEMENTED),
            () if self.hello.is_none() => Some(reply::SAY_EHLO),
            () if self.client.identity.is_some() => Some(reply::ALREADY_IDENTIFIED),
            () if !matches!(self.state, State::Greeted) => Some(reply::IN_TRANSACTION),
            () if !is_covered => Some(reply::NEEDS_TLS),
            () => None,
        }
    }

    /// Challenges and responses until there are credentials, or a reason to stop.
    async fn exchange(
        &mut self,
        mechanism: Mechanism,
        initial: Option<&str>,
    ) -> Result<Result<Credentials, Reply>, Gone> {
        let shutdown = self.server.parts.shutdown.clone();
        let limit = self.server.parts.config.timeouts.command.duration();
        let (mut exchange, mut step) = Exchange::begin(mechanism, initial);
        loop {
            let challenge = match step {
                Step::Cancelled => return Ok(Err(reply::SASL_CANCELLED)),
                Step::Challenge(challenge) => challenge,
                Step::Done(credentials) => return Ok(Ok(credentials)),
                Step::Malformed => return Ok(Err(reply::SASL_MALFORMED)),
            };
            self.wire.reply(&reply::challenge(challenge));
            step = match self.wire.sasl_line(limit, &shutdown).await? {
                Ok(line) => exchange.take(String::from_utf8_lossy(&line).trim_end()),
                Err(Misbehaved::LineTooLong) => return Ok(Err(reply::SASL_LINE_TOO_LONG)),
                Err(_) => return Ok(Err(reply::SASL_MALFORMED)),
            };
        }
    }

    /// Asks accounts; too many wrong passwords end the session.
    async fn judge(&mut self, credentials: Credentials) -> Next {
        let Credentials { login, password } = credentials;
        match self.server.parts.accounts.authenticate(&login, &password, self.client.ip()).await {
            Ok(Some(identity)) => {
                tracing::info!(target: "smtp", s = %self.id, event = "login", account = %identity, result = "ok");
                self.client.identity = Some(identity);
                Next::Say(reply::IDENTIFIED)
            }
            Ok(None) => self.not_identified("wrong-credentials", reply::WRONG_CREDENTIALS),
            Err(mailgate_accounts::Error::Throttled) => {
                self.not_identified("throttled", reply::SASL_UNAVAILABLE)
            }
            Err(error) => {
                self.failed("login", &error.into());
                Next::Say(reply::SASL_UNAVAILABLE)
            }
        }
    }
    /// Says no; too many of these end the session.
    fn not_identified(&mut self, reason: &'static str, refusal: Reply) -> Next {
        tracing::info!(target: "smtp", s = %self.id, event = "login", peer = %self.client.peer, result = "refused", reason);
        self.counts.sasl_failures += 1;
        if self.counts.sasl_failures >= self.server.parts.config.msa.sasl_failures {
            return Next::Close(reply::TOO_MANY_FAILURES);
        }
        Next::Say(refusal)
    }
}
