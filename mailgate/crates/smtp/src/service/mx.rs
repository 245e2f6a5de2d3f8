//! Mail from other MTAs.

use super::Draft;
use crate::session::Session;

impl Session {
    /// The content with its trace header.
    pub(super) fn receive(&self, draft: &Draft) -> Vec<u8> {
        tracing::debug!(target: "smtp", s = %self.id, event = "received", q = %draft.id);
        draft.assemble(&draft.trace, 0)
    }
}
