//! STARTTLS (RFC 3501 §6.2.1).

use super::super::connection::End;
use super::super::reply::{Bye, Reply};
use super::super::session::Session;

impl Session {
    pub(crate) async fn start_tls(&mut self, tag: &str) -> Result<(), End> {
        if self.connection.is_tls() {
            self.connection.tagged(tag, &Reply::no_tls_twice());
            return Ok(());
        }
        if self.login.is_some() {
            self.connection.tagged(tag, &Reply::wrong_state());
            return Ok(());
        }
        // Commands that follow in the clear would be taken as said inside TLS: a man in the middle's trick.
        if self.connection.has_pending() {
            tracing::warn!(target: "access", s = %self.id, event = "imap.starttls", result = "injected");
            self.connection.tagged(tag, &Reply::injected());
            return Err(End::Bye(Bye::Misbehaved));
        }
        self.connection.tagged(tag, &Reply::ok("Begin TLS"));
        let tls = self.server.parts.tls.clone();
        self.connection.start_tls(&tls).await?;
        self.client.tls = self.connection.tls_facts();
        Ok(())
    }
}
