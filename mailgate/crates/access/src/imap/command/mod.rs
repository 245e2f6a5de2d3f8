//! One file per group of commands; each gives the tagged reply.

mod append;
mod copy;
mod expunge;
mod idle;
mod list;
mod login;
mod mailbox;
mod select;
mod status;
mod store;
mod tls;

use mailgate_proto::imap::Command;

use super::reply::Reply;
use super::session::{Fault, Session};

impl Session {
    /// What can be done before and after login (RFC 3501 §6.1.1).
    pub(crate) fn capabilities(&self) -> String {
        let mut words = vec!["IMAP4rev1", "LITERAL+", "SASL-IR", "ID", "ENABLE"];
        if self.login.is_some() {
            words.extend([
                "IDLE",
                "NAMESPACE",
                "CHILDREN",
                "SPECIAL-USE",
                "LIST-EXTENDED",
                "LIST-STATUS",
                "STATUS=SIZE",
                "UIDPLUS",
                "UNSELECT",
                "MOVE",
            ]);
            return words.join(" ");
        }
        if !self.connection.is_tls() {
            words.push("STARTTLS");
        }
        words.extend(if self.may_say_password() {
            &["AUTH=PLAIN", "AUTH=LOGIN"][..]
        } else {
            &["LOGINDISABLED"]
        });
        words.join(" ")
    }

    pub(crate) async fn carry_out(&mut self, command: Command) -> Result<Reply, Fault> {
        match command {
            Command::Append { mailbox, flags, date, message } => {
                self.append(&mailbox, flags, date, message).await
            }
            Command::Authenticate { mechanism, initial } => {
                self.authenticate(&mechanism, initial.as_deref()).await
            }
            Command::Capability => {
                let capabilities = self.capabilities();
                self.connection.untagged(&format!("CAPABILITY {capabilities}"));
                Ok(Reply::ok("Done"))
            }
            Command::Check => self.opened().map(|_| Reply::ok("Done")),
            Command::Close => self.close().await,
            Command::Copy(by, set, target) => self.copy(by, &set, &target).await,
            Command::Create(mailbox) => self.create(&mailbox).await,
            Command::Delete(mailbox) => self.delete(&mailbox).await,
            Command::Enable(_) => {
                // Nothing that could be enabled is offered yet (RFC 5161 §3.1: unknown names are passed over).
                self.logged_in()?;
                self.connection.untagged("ENABLED");
                Ok(Reply::ok("Done"))
            }
            Command::Examine(mailbox) => {
                self.select(&mailbox, mailgate_store::mailboxes::Access::ReadOnly).await
            }
            Command::Expunge(set) => self.expunge(set.as_ref()).await,
            Command::Fetch(by, set, items) => self.fetch(by, &set, &items).await,
            Command::Id(fields) => Ok(self.identify(&fields)),
            Command::Idle => self.idle().await,
            Command::List(list) => self.list(&list).await,
            Command::Login(login, password) => self.login(&login, &password).await,
            Command::Lsub(reference, pattern) => self.lsub(&reference, &pattern).await,
            Command::Move(by, set, target) => self.relocate(by, &set, &target).await,
            Command::Namespace => {
                self.logged_in()?;
                self.connection.untagged("NAMESPACE ((\"\" \".\")) NIL NIL");
                Ok(Reply::ok("Done"))
            }
            Command::Noop => Ok(Reply::ok("Done")),
            Command::Rename(from, to) => self.rename(&from, &to).await,
            Command::Search(by, search) => self.search(by, search).await,
            Command::Select(mailbox) => {
                self.select(&mailbox, mailgate_store::mailboxes::Access::ReadWrite).await
            }
            Command::Status(mailbox, items) => self.status(&mailbox, &items).await,
            Command::Store { by, set, mode, verbosity, flags } => {
                self.store(by, &set, mode, verbosity, flags).await
            }
            Command::Subscribe(mailbox) => self.subscribe(&mailbox).await,
            Command::Unselect => {
                self.opened()?;
                self.view = None;
                Ok(Reply::ok("Done"))
            }
            Command::Unsubscribe(mailbox) => self.unsubscribe(&mailbox).await,
            // Both are dealt with before the reply is known.
            Command::Logout | Command::StartTls => Ok(Reply::wrong_state()),
        }
    }

    /// ID (RFC 2971): clients tell their name for the log.
    fn identify(&mut self, fields: &[(String, Option<String>)]) -> Reply {
        let name = fields.iter().find(|(field, _)| field.eq_ignore_ascii_case("name"));
        let name: String =
            name.and_then(|(_, value)| value.as_deref()).unwrap_or_default().chars().take(64).collect();
        tracing::info!(target: "access", s = %self.id, event = "imap.id", client = ?name);
        self.connection.untagged("ID (\"name\" \"mailgate\")");
        Reply::ok("Done")
    }
}
