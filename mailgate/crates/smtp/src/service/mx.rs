//! Mail from other MTAs: its claims are checked, and the results written in front (RFC 8601).

use bytes::Bytes;
use mailgate_model::Reply;

use super::Prepared;
use crate::config::Dmarc;
use crate::reply;
use crate::session::Session;
use crate::transaction::Transaction;

impl Session {
    /// The content with trace header and results, or why it is rejected.
    pub(super) async fn receive(
        &mut self,
        transaction: &Transaction,
        content: Bytes,
    ) -> Result<Prepared, Reply> {
        let parts = &self.server.parts;
        let helo = self.client.helo.as_deref().unwrap_or_default();
        let name = async {
            match &self.client.rdns {
                Some(name) => Some(name.clone()),
                // For the trace field only; whose name cannot be had just now has none there.
                None => parts.resolver.rdns(self.client.ip()).await.ok().flatten(),
            }
        };
        let checks = parts.verifier.verify(&self.client, helo, &transaction.mail.path, &content);
        let (rdns, verified) = tokio::join!(name, checks);
        self.client.rdns = rdns;
        let draft = self.draft(transaction, content);
        tracing::info!(target: "smtp", s = %self.id, event = "verified", q = %draft.id, spf = %verified.spf,
            dkim = %verified.dkim, dmarc = %verified.dmarc, iprev = %verified.iprev);
        if verified.wants_reject() && self.server.parts.config.mx.dmarc == Dmarc::Reject {
            return Err(self.refuse("dmarc", reply::DMARC_REJECT));
        }
        // RFC 8601 §4.1: the results stand above the trace field of the host that found them.
        let content = draft.assemble(&format!("{}{}", verified.header, draft.trace), 0);
        Ok(Prepared { id: draft.id, content })
    }
}
