//! Mail from other MTAs: its claims are checked, and the results written in front (RFC 8601).

use mailgate_model::Reply;

use super::Draft;
use crate::config::Dmarc;
use crate::reply;
use crate::session::Session;
use crate::transaction::Transaction;

impl Session {
    /// The content with trace header and results, or why it is rejected.
    pub(super) async fn receive(&self, transaction: &Transaction, draft: &Draft) -> Result<Vec<u8>, Reply> {
        let parts = &self.server.parts;
        let helo = self.client.helo.as_deref().unwrap_or_default();
        let verified =
            parts.verifier.verify(&self.client, helo, &transaction.mail.path, &draft.content).await;
        tracing::info!(target: "smtp", s = %self.id, event = "verified", q = %draft.id, spf = %verified.spf,
            dkim = %verified.dkim, dmarc = %verified.dmarc, iprev = %verified.iprev);
        if verified.wants_reject() && parts.config.mx.dmarc == Dmarc::Reject {
            return Err(self.refuse("dmarc", reply::DMARC_REJECT));
        }
        // RFC 8601 §4.1: the results stand above the trace field of the host that found them.
        Ok(draft.assemble(&format!("{}{}", verified.header, draft.trace), 0))
    }
}
