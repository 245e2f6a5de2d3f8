//! One account's Maildir: its list of mailboxes and its subscriptions.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use mailgate_proto::imap::utf7;

use super::dotlock::Lock;
use super::folder::{Access, Folder};
use super::index::Index;
use super::name::Name;
use super::selected::{Selected, Status};
use super::{Mailboxes, content, filename, tree};
use crate::Error;

/// One name per line, in modified UTF-7, as Dovecot's first format.
const SUBSCRIPTIONS: &str = "subscriptions";
/// The last UIDVALIDITY given in this Maildir, so that a mailbox made again in the same second has another.
const VALIDITY: &str = "mailgate-uidvalidity";
/// Mailboxes one account may have.
const MAILBOX_LIMIT: usize = 10_000;

/// What all handles to one Maildir share.
pub(super) struct Shared {
    pub(super) mailboxes: Mailboxes,
    pub(super) root: PathBuf,
    index: Mutex<Index>,
    folders: Mutex<HashMap<Name, Weak<Folder>>>,
    /// Held while mailboxes are made, renamed and deleted.
    changing: Mutex<()>,
}

impl Shared {
    pub(super) fn new(mailboxes: Mailboxes, root: PathBuf) -> Self {
        Self {
            mailboxes,
            index: Mutex::new(Index::new(&root)),
            root,
            folders: Mutex::default(),
            changing: Mutex::default(),
        }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folders(&self) -> MutexGuard<'_, HashMap<Name, Weak<Folder>>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mailbox if somebody has it open.
    pub(super) fn opened(&self, name: &Name) -> Option<Arc<Folder>> {
        self.folders().get(name).and_then(Weak::upgrade)
    }

    pub(super) fn folder(self: &Arc<Self>, name: &Name) -> Arc<Folder> {
        let mut folders = self.folders();
        if let Some(folder) = folders.get(name).and_then(Weak::upgrade) {
            return folder;
        }
        folders.retain(|_, folder| folder.strong_count() > 0);
        let folder = Arc::new(Folder::new(Arc::clone(self), name.clone()));
        folders.insert(name.clone(), Arc::downgrade(&folder));
        folder
    }

    /// Ends the open mailbox object: whoever holds it learns that the mailbox is gone.
    fn close(&self, name: &Name) {
        if let Some(folder) = self.folders().remove(name).and_then(|folder| folder.upgrade()) {
            folder.closed.store(true, Ordering::Release);
            folder.announce();
        }
    }

    /// A UIDVALIDITY never given before in this Maildir (RFC 3501 §2.3.1.1).
    pub(super) fn next_validity(&self) -> Result<u32, Error> {
        let path = self.root.join(VALIDITY);
        let lock = Lock::acquire(path.clone(), self.mailboxes.clock())?;
        let last = |path: PathBuf, radix| {
            fs::read_to_string(path)
                .ok()
                .and_then(|text| u32::from_str_radix(text.trim(), radix).ok())
                .unwrap_or(0)
        };
        let last = last(path, 10).max(last(self.root.join("dovecot-uidvalidity"), 16));
        let now = u32::try_from(self.mailboxes.now().secs()).unwrap_or(1);
        let next = now.max(last.saturating_add(1)).max(1);
        lock.commit(format!("{next}\n").as_bytes())?;
        Ok(next)
    }
}

/// One row of the list of mailboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: Name,
    /// Whether it can be selected; `false` for a name that only has mailboxes below it.
    pub selectable: bool,
    /// Whether there are mailboxes below it.
    pub parent: bool,
}

/// A handle to one account's mailboxes; clones share it.
#[derive(Clone)]
pub struct Maildir(pub(super) Arc<Shared>);

impl std::fmt::Debug for Maildir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Maildir").field(&self.0.root).finish()
    }
}

impl Maildir {
    async fn run<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Arc<Shared>) -> Result<T, Error> + Send + 'static,
    {
        let shared = Arc::clone(&self.0);
        self.0.mailboxes.blocking(move || work(&shared)).await
    }

    /// All mailboxes and the names above them, `INBOX` first. Makes the Maildir when there is none.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn list(&self) -> Result<Vec<Listed>, Error> {
        self.run(|shared| {
            tree::ensure(&shared.root, &Name::inbox())?;
            let existing: BTreeSet<Name> = tree::names(&shared.root)?.into_iter().collect();
            let above: BTreeSet<Name> = existing.iter().flat_map(Name::ancestors).collect();
            let mut rows: Vec<Listed> = existing
                .union(&above)
                .map(|name| Listed {
                    selectable: existing.contains(name),
                    parent: above.contains(name),
                    name: name.clone(),
                })
                .collect();
            rows.sort_by_key(|row| (!row.name.is_inbox(), row.name.clone()));
            Ok(rows)
        })
        .await
    }

    /// Whether a mailbox exists and can be selected.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn has(&self, name: &Name) -> Result<bool, Error> {
        let name = name.clone();
        self.run(move |shared| Ok(name.is_inbox() || tree::exists(&shared.root, &name))).await
    }

    /// Makes a mailbox.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it exists; [`Error::Full`] when there are ten thousand.
    pub async fn create(&self, name: &Name) -> Result<(), Error> {
        let name = name.clone();
        self.run(move |shared| {
            let _changing = shared.lock();
            if name.is_inbox() || tree::exists(&shared.root, &name) {
                return Err(Error::Conflict(format!("mailbox {name} exists")));
            }
            if tree::names(&shared.root)?.len() >= MAILBOX_LIMIT {
                return Err(Error::Full("the account has 10,000 mailboxes".to_owned()));
            }
            shared.close(&name);
            shared.index().forget(name.as_str());
            tree::ensure(&shared.root, &name).map(drop)
        })
        .await
    }

    /// Deletes a mailbox and its messages; mailboxes below it stay.
    ///
    /// # Errors
    /// [`Error::Missing`] when it does not exist; [`Error::Conflict`] for `INBOX`.
    pub async fn delete(&self, name: &Name) -> Result<(), Error> {
        let name = name.clone();
        self.run(move |shared| {
            let _changing = shared.lock();
            if name.is_inbox() {
                return Err(Error::Conflict("INBOX cannot be deleted".to_owned()));
            }
            if !tree::exists(&shared.root, &name) {
                return Err(Error::Missing(format!("mailbox {name}")));
            }
            shared.close(&name);
            let dir = tree::path(&shared.root, &name);
            // Out of the way at once; the name must not be a mailbox's (those begin with a dot).
            let unique = filename::fresh(shared.mailboxes.now(), shared.mailboxes.hostname());
            let doomed = shared.root.join(format!("mailgate-deleted.{unique}"));
            fs::rename(&dir, &doomed).map_err(|error| Error::io("deleting", &dir, &error))?;
            content::sync_folder(&shared.root)?;
            shared.index().forget(name.as_str());
            fs::remove_dir_all(&doomed).map_err(|error| Error::io("deleting", &doomed, &error))
        })
        .await
    }

    /// Renames a mailbox and all below it. Renaming `INBOX` moves its messages and leaves it empty (RFC 3501 §6.3.5).
    ///
    /// # Errors
    /// [`Error::Missing`] when `from` does not exist; [`Error::Conflict`] when a target exists or lies below `from`.
    pub async fn rename(&self, from: &Name, to: &Name) -> Result<(), Error> {
        if from.is_inbox() {
            self.create(to).await?;
            let inbox = self.select(from, Access::ReadWrite).await?;
            let uids = inbox.uids().await?;
            return inbox.move_to(uids, to).await.map(drop);
        }
        let (from, to) = (from.clone(), to.clone());
        self.run(move |shared| rename(shared, &from, &to)).await
    }

    /// Opens a mailbox.
    ///
    /// # Errors
    /// [`Error::Missing`] when it does not exist.
    pub async fn select(&self, name: &Name, access: Access) -> Result<Selected, Error> {
        let name = name.clone();
        self.run(move |shared| {
            let folder = shared.folder(&name);
            drop(folder.synced(access)?);
            Ok(Selected { folder, access })
        })
        .await
    }

    /// Counts of a mailbox without opening it for a session.
    ///
    /// # Errors
    /// [`Error::Missing`] when it does not exist.
    pub async fn status(&self, name: &Name) -> Result<Status, Error> {
        self.select(name, Access::ReadOnly).await?.status().await
    }

    /// What the user subscribed to, whether it exists or not.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn subscriptions(&self) -> Result<BTreeSet<Name>, Error> {
        self.run(|shared| read_subscriptions(shared)).await
    }

    /// Adds subscriptions.
    ///
    /// # Errors
    /// When the disk fails, or there are ten thousand.
    pub async fn subscribe(&self, names: Vec<Name>) -> Result<(), Error> {
        self.change_subscriptions(move |subscribed| subscribed.extend(names)).await
    }

    /// Removes a subscription; no complaint when there is none.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn unsubscribe(&self, name: &Name) -> Result<(), Error> {
        let name = name.clone();
        self.change_subscriptions(move |subscribed| {
            subscribed.remove(&name);
        })
        .await
    }

    async fn change_subscriptions(
        &self,
        change: impl FnOnce(&mut BTreeSet<Name>) + Send + 'static,
    ) -> Result<(), Error> {
        self.run(move |shared| {
            let _changing = shared.lock();
            tree::ensure(&shared.root, &Name::inbox())?;
            let lock = Lock::acquire(shared.root.join(SUBSCRIPTIONS), shared.mailboxes.clock())?;
            let before = read_subscriptions(shared)?;
            let mut after = before.clone();
            change(&mut after);
            if after == before {
                return Ok(());
            }
            if after.len() > MAILBOX_LIMIT {
                return Err(Error::Full("10,000 subscriptions".to_owned()));
            }
            let lines: String =
                after.iter().map(|name| format!("{}\n", utf7::encode(name.as_str()))).collect();
            lock.commit(lines.as_bytes())
        })
        .await
    }
}

fn read_subscriptions(shared: &Shared) -> Result<BTreeSet<Name>, Error> {
    let path = shared.root.join(SUBSCRIPTIONS);
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::io("reading", &path, &error)),
    };
    // Dovecot's second format begins with `V<TAB>2` and an empty line, and has tabs between the parts of a name.
    let second = text.starts_with("V\t2");
    let lines = text.lines().skip(usize::from(second)).filter(|line| !line.is_empty());
    Ok(lines
        .map(|line| if second { line.replace('\t', ".") } else { line.to_owned() })
        .filter_map(|line| Name::parse(&utf7::decode(&line)?).ok())
        .collect())
}

fn rename(shared: &Arc<Shared>, from: &Name, to: &Name) -> Result<(), Error> {
    let _changing = shared.lock();
    if to.is_below(from) || to.is_inbox() || from == to {
        return Err(Error::Conflict(format!("{from} cannot become {to}")));
    }
    let names = tree::names(&shared.root)?;
    let moved: Vec<(Name, Name)> = names
        .iter()
        .filter(|name| *name == from || name.is_below(from))
        .map(|name| Ok((name.clone(), name.moved(from, to)?)))
        .collect::<Result<_, Error>>()?;
    if moved.is_empty() {
        return Err(Error::Missing(format!("mailbox {from}")));
    }
    if let Some((_, taken)) = moved.iter().find(|(_, to)| tree::exists(&shared.root, to)) {
        return Err(Error::Conflict(format!("mailbox {taken} exists")));
    }
    for (from, to) in &moved {
        shared.close(from);
        shared.close(to);
        let (source, target) = (tree::path(&shared.root, from), tree::path(&shared.root, to));
        fs::rename(&source, &target).map_err(|error| Error::io("renaming", &source, &error))?;
        // UIDs travel with the folder's own list; the index is read anew.
        shared.index().forget(from.as_str());
        shared.index().forget(to.as_str());
    }
    content::sync_folder(&shared.root)
}
