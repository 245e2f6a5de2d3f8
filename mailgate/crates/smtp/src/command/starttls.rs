//! STARTTLS (RFC 3207).

use mailgate_net::Stream;

use crate::reply;
use crate::session::{Next, Session};
use crate::transaction::State;
use crate::wire::Gone;

impl Session {
    /// Goes into TLS and forgets everything that was said before (RFC 3207 §4.2).
    pub(crate) async fn starttls(&mut self) -> Result<Next, Gone> {
        if self.client.tls.is_some() {
            return Ok(Next::Say(reply::ALREADY_TLS));
        }
        if !self.wire.input().is_empty() {
            tracing::info!(target: "smtp", s = %self.id, event = "misbehaved", reason = "input after STARTTLS");
            return Ok(Next::Close(reply::NOTHING_AFTER_STARTTLS));
        }
        self.wire.reply(&reply::READY_FOR_TLS);
        self.wire.flush(self.server.parts.config.timeouts.command.duration()).await?;
        let Some(Stream::Plain(tcp)) = self.wire.take() else { return Err(Gone::Closed) };
        let stream = match self.server.parts.tls.accept(tcp).await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::info!(target: "smtp", s = %self.id, event = "starttls", result = "failed", error = %error);
                return Err(Gone::Failed(error));
            }
        };
        self.client.tls = stream.tls_facts();
        self.client.helo = None;
        self.client.identity = None;
        self.hello = None;
        self.owed = None;
        self.state = State::Greeted;
        self.wire.put(stream);
        tracing::info!(target: "smtp", s = %self.id, event = "starttls", result = "ok");
        Ok(Next::Silent)
    }
}
