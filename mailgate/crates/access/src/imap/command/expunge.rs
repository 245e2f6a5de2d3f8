//! EXPUNGE and UID EXPUNGE (RFC 3501 §6.4.3, RFC 4315 §2.1).

use mailgate_proto::imap::{Numbering, SequenceSet};
use mailgate_store::mailboxes::Flags;

use super::super::reply::Reply;
use super::super::session::{Fault, Session};
use super::super::view::Expunges;

impl Session {
    pub(crate) async fn expunge(&mut self, set: Option<&SequenceSet>) -> Result<Reply, Fault> {
        self.writable()?;
        // What another session marked a moment ago counts.
        self.tell_news(Expunges::Tell, Numbering::Sequence).await?;
        self.remove_deleted(set).await?;
        Ok(Reply::ok("Expunged"))
    }

    /// Removes messages with `\Deleted`; of a set of UIDs only those.
    pub(crate) async fn remove_deleted(&mut self, set: Option<&SequenceSet>) -> Result<(), Fault> {
        let view = self.writable()?;
        let within = match set {
            Some(set) => view.find(Numbering::Uid, set)?,
            None => (0..view.entries.len()).collect(),
        };
        let uids: Vec<u32> = within
            .into_iter()
            .filter_map(|at| view.entries.get(at))
            .filter(|entry| entry.flags.contains(Flags::DELETED))
            .map(|entry| entry.uid)
            .collect();
        if !uids.is_empty() {
            let count = view.selected.expunge(uids).await?;
            tracing::info!(target: "access", s = %self.id, event = "imap.expunge", count);
        }
        Ok(())
    }
}
