//! Mailboxes: Maildir++ in place, understood by Dovecot and by every program that reads Maildirs.
//!
//! What is where, and what a loss costs:
//!
//! | file | holds | when it is lost |
//! |---|---|---|
//! | `cur/*`, `new/*` | content, flags (in the name), internal date (mtime) | the message is lost |
//! | `dovecot-uidlist` | UIDVALIDITY, next UID, UID of each message; shared with Dovecot | written again from the index |
//! | `dovecot-keywords` | names of the keyword letters; shared with Dovecot | keywords get placeholder names |
//! | `subscriptions` | what the user subscribed to | subscriptions are gone |
//! | `mailgate-index.sqlite` | a copy of the above, sizes, dates, ModSeq | read again from the files |
//! | state folder, `deliveries.sqlite` | the ledger of [`deliver`](Mailboxes::deliver) | searched by file name instead |

mod account;
mod content;
mod deliver;
mod dotlock;
mod filename;
mod flags;
mod folder;
mod index;
mod keywords;
mod ledger;
mod name;
mod numbering;
mod place;
mod scan;
mod selected;
mod state;
mod tree;
mod uidlist;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use mailgate_model::{Clock, Domain, Timestamp};
use tokio::sync::Semaphore;

pub use self::account::{Listed, Maildir};
pub use self::deliver::Delivery;
pub use self::flags::{Flags, KEYWORD_LIMIT};
pub use self::folder::Access;
pub use self::keywords::Keywords;
pub use self::name::{Name, SEPARATOR};
pub use self::selected::{Delta, Facts, FlagChange, Message, Placed, Selected, Status};

use self::account::Shared;
use self::ledger::Ledger;
use crate::Error;

/// Threads that may wait for the disk on behalf of mailboxes at the same time; further work queues up.
const DISK_LIMIT: usize = 32;

/// The mailboxes of all accounts; clones share everything.
#[derive(Clone)]
pub struct Mailboxes(Arc<Inner>);

struct Inner {
    hostname: Domain,
    clock: Arc<dyn Clock>,
    ledger: Ledger,
    disk: Arc<Semaphore>,
    /// Maildirs that somebody uses, so that all sessions of an account share one view.
    maildirs: Mutex<HashMap<PathBuf, Weak<Shared>>>,
}

impl std::fmt::Debug for Mailboxes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailboxes")
    }
}

impl Mailboxes {
    /// Opens the ledger of deliveries under `state_dir`; Maildirs are opened as they are used. `hostname` becomes part
    /// of file names.
    ///
    /// # Errors
    /// When the ledger cannot be opened.
    pub fn open(state_dir: &Path, hostname: &Domain, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        content::create_folder(state_dir)?;
        let ledger = Ledger::open(&state_dir.join("deliveries.sqlite"))?;
        let disk = Arc::new(Semaphore::new(DISK_LIMIT));
        Ok(Self(Arc::new(Inner {
            hostname: hostname.clone(),
            clock,
            ledger,
            disk,
            maildirs: Mutex::default(),
        })))
    }

    fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    fn hostname(&self) -> &Domain {
        &self.0.hostname
    }

    fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Runs what waits for the disk away from the runtime's threads.
    async fn blocking<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, Error> + Send + 'static,
    {
        let permit = Arc::clone(&self.0.disk).acquire_owned().await.map_err(|_| Error::Closed)?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        done.await.map_err(|error| Error::Panicked(error.to_string()))?
    }

    /// The mailboxes of one account. Nothing is read or made yet.
    #[must_use]
    pub fn maildir(&self, root: &Path) -> Maildir {
        let mut maildirs = self.0.maildirs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = maildirs.get(root).and_then(Weak::upgrade) {
            return Maildir(shared);
        }
        maildirs.retain(|_, shared| shared.strong_count() > 0);
        let shared = Arc::new(Shared::new(self.clone(), root.to_owned()));
        maildirs.insert(root.to_owned(), Arc::downgrade(&shared));
        Maildir(shared)
    }

    /// Tells whoever has the mailbox open that something arrived.
    fn poke(&self, maildir: &Path, name: &Name) {
        let shared = {
            let maildirs = self.0.maildirs.lock().unwrap_or_else(PoisonError::into_inner);
            maildirs.get(maildir).and_then(Weak::upgrade)
        };
        if let Some(folder) = shared.and_then(|shared| shared.opened(name)) {
            folder.poke();
        }
    }
}

#[cfg(test)]
mod tests;
