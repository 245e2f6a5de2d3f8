//! SELECT, EXAMINE and CLOSE (RFC 3501 §6.3.1, §6.3.2, §6.4.2).

use mailgate_store::mailboxes::{Access, Flags};

use super::super::flags;
use super::super::reply::Reply;
use super::super::session::{Fault, Session, name};
use super::super::view::View;

impl Session {
    pub(crate) async fn select(&mut self, mailbox: &str, access: Access) -> Result<Reply, Fault> {
        self.logged_in()?;
        // RFC 3501 §6.3.1: a failing SELECT leaves no mailbox open.
        self.view = None;
        let name = name(mailbox)?;
        let selected = self.logged_in()?.maildir.select(&name, access).await?;
        let view = View::open(selected).await?;
        let out = &mut self.connection.out;
        flags::announce(&view.keywords, view.is_writable(), out);
        out.raw("* ").value(view.entries.len()).raw(" EXISTS").end();
        out.raw("* ").value(view.recent()).raw(" RECENT").end();
        if let Some(unseen) = view.entries.iter().position(|entry| !entry.flags.contains(Flags::SEEN)) {
            out.raw("* OK [UNSEEN ").value(unseen + 1).raw("] First unseen").end();
        }
        out.raw("* OK [UIDVALIDITY ").value(view.uid_validity).raw("] UIDs valid").end();
        out.raw("* OK [UIDNEXT ").value(view.uid_next).raw("] Next UID").end();
        let code = if view.is_writable() { "READ-WRITE" } else { "READ-ONLY" };
        self.view = Some(view);
        Ok(Reply::ok("Mailbox open").code(code))
    }

    pub(crate) async fn close(&mut self) -> Result<Reply, Fault> {
        if self.opened()?.is_writable() {
            self.remove_deleted(None).await?;
        }
        self.view = None;
        Ok(Reply::ok("Mailbox closed"))
    }
}
