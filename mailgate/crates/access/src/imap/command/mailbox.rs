//! CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE (RFC 3501 §6.3.3 to §6.3.7).

use mailgate_store::Error as StoreError;

use super::super::reply::Reply;
use super::super::session::{Fault, Session, name};

impl Session {
    pub(crate) async fn create(&mut self, mailbox: &str) -> Result<Reply, Fault> {
        let maildir = &self.logged_in()?.maildir;
        match maildir.create(&name(mailbox)?).await {
            Ok(()) => Ok(Reply::ok("Created")),
            Err(StoreError::Conflict(_)) => Ok(Reply::already_exists()),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn delete(&mut self, mailbox: &str) -> Result<Reply, Fault> {
        let name = name(mailbox)?;
        self.logged_in()?.maildir.delete(&name).await?;
        // A session that deletes its own mailbox goes on without one.
        if self.view.as_ref().is_some_and(|view| *view.selected.name() == name) {
            self.view = None;
        }
        Ok(Reply::ok("Deleted"))
    }

    pub(crate) async fn rename(&mut self, from: &str, to: &str) -> Result<Reply, Fault> {
        let (from, to) = (name(from)?, name(to)?);
        let maildir = self.logged_in()?.maildir.clone();
        if to.is_inbox() || maildir.has(&to).await? {
            return Ok(Reply::already_exists());
        }
        maildir.rename(&from, &to).await?;
        let is_moved = |open: &mailgate_store::mailboxes::Name| *open == from || open.is_below(&from);
        if !from.is_inbox() && self.view.as_ref().is_some_and(|view| is_moved(view.selected.name())) {
            self.view = None;
        }
        Ok(Reply::ok("Renamed"))
    }

    pub(crate) async fn subscribe(&mut self, mailbox: &str) -> Result<Reply, Fault> {
        self.logged_in()?.maildir.subscribe(vec![name(mailbox)?]).await?;
        Ok(Reply::ok("Subscribed"))
    }

    pub(crate) async fn unsubscribe(&mut self, mailbox: &str) -> Result<Reply, Fault> {
        self.logged_in()?.maildir.unsubscribe(&name(mailbox)?).await?;
        Ok(Reply::ok("Unsubscribed"))
    }
}
