//! APPEND (RFC 3501 §6.3.11, RFC 4315 §3).

use bytes::Bytes;
use mailgate_model::Timestamp;
use mailgate_store::Error as StoreError;

use super::super::flags;
use super::super::reply::Reply;
use super::super::session::{Fault, Session, name};

impl Session {
    pub(crate) async fn append(
        &mut self,
        mailbox: &str,
        flags: Vec<String>,
        date: Option<Timestamp>,
        message: Bytes,
    ) -> Result<Reply, Fault> {
        let login = self.logged_in()?;
        let (flags, keywords) = flags::read(flags)?;
        let name = name(mailbox)?;
        let size = message.len();
        match login.maildir.append(&name, flags, keywords, date, message.clone()).await {
            Ok(placed) => {
                let uid = placed.uids.first().map_or(0, |(_, uid)| *uid);
                tracing::info!(target: "access", s = %self.id, event = "imap.append", mailbox = %name, uid, size);
                self.learn_from_appended(&name, &message);
                Ok(Reply::ok("Appended").code(format!("APPENDUID {} {uid}", placed.uid_validity)))
            }
            Err(StoreError::Missing(_)) => Ok(Reply::try_create()),
            Err(error) => Err(error.into()),
        }
    }
}
