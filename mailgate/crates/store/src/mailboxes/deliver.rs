//! Delivery: a message gets into `new` once, durably, however often it is tried.
//!
//! | after a crash | ledger | file | the next attempt |
//! |---|---|---|---|
//! | before `begin` | no row | none | begins |
//! | after `begin` | unsettled | none, or in `tmp` | searches, finds nothing, writes |
//! | after the link | unsettled | in `new`, or where the user moved it | searches, finds it, settles |
//! | after `settle` | settled | anywhere, or expunged | does nothing |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use mailgate_model::QueueId;

use super::ledger::Standing;
use super::name::Name;
use super::{Mailboxes, content, filename, tree};
use crate::Error;

/// How a delivery ended; both are success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// An earlier attempt had put it there.
    Repeated,
    /// The file is in place, durable, under this base name.
    Stored(String),
}

impl Mailboxes {
    /// Puts a message into a mailbox: durable when it returns, and only once per `(id, index)` even when the daemon
    /// died between the file and the ledger, and even when the user has meanwhile read or moved the message. Makes
    /// Maildir and mailbox when they do not exist. `content` has CRLF line ends.
    ///
    /// # Errors
    /// [`Error::Name`] for a name that is none; else the disk's fault, and then trying again is right.
    pub async fn deliver(
        &self,
        maildir: &Path,
        mailbox: &str,
        id: QueueId,
        index: u32,
        content: &[u8],
    ) -> Result<Delivery, Error> {
        self.deliver_below(maildir, mailbox, id, index, "", Bytes::copy_from_slice(content)).await
    }

    /// As [`deliver`](Self::deliver), with `head` in front: fields with their CRLF, or nothing. The content is written
    /// as it lies in memory; no copy is made.
    ///
    /// # Errors
    /// As [`deliver`](Self::deliver).
    pub async fn deliver_below(
        &self,
        maildir: &Path,
        mailbox: &str,
        id: QueueId,
        index: u32,
        head: &str,
        content: Bytes,
    ) -> Result<Delivery, Error> {
        let name = Name::parse(mailbox)?;
        let standing = self.ledger().begin(id, index, self.now()).await?;
        if standing == Standing::Settled {
            return Ok(Delivery::Repeated);
        }
        let job = Job {
            maildir: maildir.to_owned(),
            name: name.clone(),
            unique: filename::of_delivery(id, index, self.hostname()),
            temporary: filename::fresh(self.now(), self.hostname()),
            pieces: [Bytes::copy_from_slice(head.as_bytes()), content],
            search: standing == Standing::Unsettled,
        };
        let delivery = self.blocking(move || job.run()).await?;
        self.ledger().settle(id, index).await?;
        self.poke(maildir, &name);
        Ok(delivery)
    }
}

struct Job {
    maildir: PathBuf,
    name: Name,
    unique: String,
    temporary: String,
    pieces: [Bytes; 2],
    search: bool,
}

impl Job {
    fn run(self) -> Result<Delivery, Error> {
        tree::ensure(&self.maildir, &self.name)?;
        if self.search
            && let Some(folder) = find(&self.maildir, &self.unique)?
        {
            content::sync_folder(&folder)?;
            return Ok(Delivery::Repeated);
        }
        let folder = tree::path(&self.maildir, &self.name);
        let temporary = folder.join("tmp").join(&self.temporary);
        let outgoing = content::Outgoing::new(&self.pieces);
        let base = filename::with_sizes(&self.unique, outgoing.size, outgoing.wire_size);
        content::write_pieces_durably(&temporary, &outgoing)?;
        let new = folder.join("new");
        // A link fails when the name is taken; a rename would silently replace.
        let linked = fs::hard_link(&temporary, new.join(&base));
        let removed = fs::remove_file(&temporary);
        let delivery = match linked {
            Ok(()) => Delivery::Stored(base),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Delivery::Repeated,
            Err(error) => return Err(Error::io("linking into", &new, &error)),
        };
        removed.map_err(|error| Error::io("removing", &temporary, &error))?;
        content::sync_folder(&new)?;
        Ok(delivery)
    }
}

/// The `new` or `cur` of any mailbox that holds the delivery. The host's name may have changed since.
fn find(maildir: &Path, unique: &str) -> Result<Option<PathBuf>, Error> {
    let mut key = unique.splitn(3, '.');
    let (seconds, tag) = (key.next().unwrap_or_default(), key.next().unwrap_or_default());
    let prefix = format!("{seconds}.{tag}.");
    for name in tree::names(maildir)? {
        let folder = tree::path(maildir, &name);
        for part in ["new", "cur"] {
            let dir = folder.join(part);
            let found = tree::entries(&dir)?.into_iter().any(|entry| entry.starts_with(&prefix));
            if found {
                return Ok(Some(dir));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
