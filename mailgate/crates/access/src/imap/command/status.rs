//! STATUS (RFC 3501 §6.3.10, RFC 8438).

use mailgate_proto::imap::StatusItem;
use mailgate_store::mailboxes::{Access, Name};

use super::super::reply::Reply;
use super::super::session::{Fault, Session, name};

impl Session {
    pub(crate) async fn status(&mut self, mailbox: &str, items: &[StatusItem]) -> Result<Reply, Fault> {
        self.logged_in()?;
        let name = name(mailbox)?;
        self.write_status(&name, items).await?;
        Ok(Reply::ok("Done"))
    }

    /// `* STATUS name (...)`.
    pub(crate) async fn write_status(&mut self, name: &Name, items: &[StatusItem]) -> Result<(), Fault> {
        let selected = self.logged_in()?.maildir.select(name, Access::ReadOnly).await?;
        let status = selected.status().await?;
        let mut size = 0;
        if items.contains(&StatusItem::Size) {
            let facts = selected.facts(selected.uids().await?).await?;
            size = facts.iter().map(|(_, facts)| facts.size).sum();
        }
        let out = &mut self.connection.out;
        out.raw("* STATUS ").mailbox(name.as_str()).raw(" ");
        out.list(items, |out, item| {
            let (word, value) = match item {
                StatusItem::Deleted => ("DELETED", u64::from(status.deleted)),
                StatusItem::Messages => ("MESSAGES", u64::from(status.messages)),
                StatusItem::Recent => ("RECENT", u64::from(status.recent)),
                StatusItem::Size => ("SIZE", size),
                StatusItem::UidNext => ("UIDNEXT", u64::from(status.uid_next)),
                StatusItem::UidValidity => ("UIDVALIDITY", u64::from(status.uid_validity)),
                StatusItem::Unseen => ("UNSEEN", u64::from(status.unseen)),
            };
            out.raw(word).raw(" ").value(value);
        });
        out.end();
        Ok(())
    }
}
