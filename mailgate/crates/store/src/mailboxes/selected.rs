//! Work on the messages of one mailbox.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use mailgate_model::Timestamp;
use tokio::sync::watch;

use super::flags::Flags;
use super::folder::{Access, Folder};
use super::index::{Place, Record};
use super::keywords::{self, Keywords};
use super::name::Name;
use super::state::State;
use super::{content, filename, place, uidlist};
use crate::Error;

/// A message as sessions know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Its UID, at least 1, rising in the order of arrival.
    pub uid: u32,
    /// Its flags.
    pub flags: Flags,
    /// Rises with every change of the message (RFC 7162 §3.1).
    pub modseq: u64,
}

/// What changed since a ModSeq.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Ask from here the next time.
    pub modseq: u64,
    /// When it differs from the last time, all UIDs the session knows have lost their meaning.
    pub uid_validity: u32,
    /// The next UID.
    pub uid_next: u32,
    /// New messages and messages whose flags changed, by UID.
    pub changed: Vec<Message>,
    /// UIDs that are gone; `None` when too much was forgotten, then `present` counts.
    pub vanished: Option<Vec<u32>>,
    /// All UIDs, only when `vanished` is `None`.
    pub present: Vec<u32>,
    /// UIDs that this session may call `\Recent`.
    pub recent: Vec<u32>,
    /// Names of the keyword letters.
    pub keywords: Keywords,
}

/// Counts of a mailbox (RFC 3501 §6.3.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Messages in it.
    pub messages: u32,
    /// Messages no session has seen.
    pub recent: u32,
    /// Messages without `\Seen`.
    pub unseen: u32,
    /// Messages with `\Deleted` (RFC 9051 §6.3.11).
    pub deleted: u32,
    /// The next UID.
    pub uid_next: u32,
    /// UIDs mean something only together with this.
    pub uid_validity: u32,
    /// The highest ModSeq.
    pub modseq: u64,
}

/// Size and date of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Octets with CRLF line ends (RFC 3501 §2.3.4).
    pub size: u64,
    /// When it arrived (RFC 3501 §2.3.3).
    pub internal_date: Timestamp,
}

/// How flags change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagChange {
    /// These too.
    Add,
    /// Not these.
    Remove,
    /// Exactly these.
    Replace,
}

/// Where messages went: for `COPYUID` and `APPENDUID` (RFC 4315 §3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placed {
    /// UIDVALIDITY of the target.
    pub uid_validity: u32,
    /// UID in the source (0 for an append) and in the target.
    pub uids: Vec<(u32, u32)>,
}

/// An open mailbox; as long as it lives, changes of other sessions are announced.
#[derive(Clone)]
pub struct Selected {
    pub(super) folder: Arc<Folder>,
    pub(super) access: Access,
}

impl std::fmt::Debug for Selected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Selected").field(&self.folder.dir).finish()
    }
}

impl Selected {
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Arc<Folder>) -> Result<T, Error> + Send + 'static,
    {
        let folder = Arc::clone(&self.folder);
        self.folder.shared.mailboxes.blocking(move || work(&folder)).await
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.folder.name
    }

    /// Whether the session may change it.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// Changes whenever [`since`](Self::since) would tell something new that this process knows of. Other programs'
    /// changes are noticed by asking.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.folder.changes.subscribe()
    }

    /// Looks at the directories if they changed and tells what is new since `modseq`; 0 gives everything.
    ///
    /// # Errors
    /// [`Error::Missing`] when the mailbox was deleted or renamed.
    pub async fn since(&self, modseq: u64) -> Result<Delta, Error> {
        let access = self.access;
        self.run(move |folder| {
            let mut state = folder.synced(access)?;
            let recent: Vec<u32> = match access {
                Access::ReadOnly => state.recent.iter().copied().collect(),
                Access::ReadWrite => std::mem::take(&mut state.recent).into_iter().collect(),
            };
            let vanished = state.vanished_since(modseq);
            let present = match vanished {
                Some(_) => Vec::new(),
                None => state.records.iter().map(|record| record.uid).collect(),
            };
            let changed = if state.header.modseq == modseq {
                Vec::new()
            } else {
                state.records.iter().filter(|record| record.modseq > modseq).map(message).collect()
            };
            let keywords = state.keywords.clone();
            Ok(Delta {
                modseq: state.header.modseq,
                uid_validity: state.header.validity,
                uid_next: state.header.next,
                changed,
                vanished,
                present,
                recent,
                keywords,
            })
        })
        .await
    }

    /// Counts as of now.
    ///
    /// # Errors
    /// [`Error::Missing`] when the mailbox was deleted or renamed.
    pub async fn status(&self) -> Result<Status, Error> {
        self.run(|folder| {
            let state = folder.synced(Access::ReadOnly)?;
            let count =
                |test: &dyn Fn(&Record) -> bool| narrow(state.records.iter().filter(|r| test(r)).count());
            Ok(Status {
                messages: narrow(state.records.len()),
                recent: narrow(state.recent.len()),
                unseen: count(&|record| !record.flags.contains(Flags::SEEN)),
                deleted: count(&|record| record.flags.contains(Flags::DELETED)),
                uid_next: state.header.next,
                uid_validity: state.header.validity,
                modseq: state.header.modseq,
            })
        })
        .await
    }

    /// All UIDs as last seen.
    ///
    /// # Errors
    /// [`Error::Missing`] when the mailbox was deleted or renamed.
    pub async fn uids(&self) -> Result<Vec<u32>, Error> {
        self.run(|folder| Ok(folder.lock()?.records.iter().map(|record| record.uid).collect())).await
    }

    /// Sizes and dates; messages that are gone are left out. The first question per message may read its file.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn facts(&self, uids: Vec<u32>) -> Result<Vec<(u32, Facts)>, Error> {
        self.run(move |folder| {
            let mut state = folder.lock()?;
            let mut facts = Vec::with_capacity(uids.len());
            for uid in uids {
                if let Some(known) = measure(folder, &mut state, uid)? {
                    facts.push((uid, known));
                }
            }
            folder.save(&mut state);
            Ok(facts)
        })
        .await
    }

    /// The content with CRLF line ends; `None` when the message is gone.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn content(&self, uid: u32) -> Result<Option<Bytes>, Error> {
        self.run(move |folder| {
            let file = {
                let mut state = folder.lock()?;
                folder.with_file(&mut state, uid, |path| File::open(path))?
            };
            // Read without the lock: a large message must not hold up the other sessions.
            let Some(file) = file else { return Ok(None) };
            let bytes =
                content::read(file).map_err(|error| Error::io("reading from", &folder.dir, &error))?;
            Ok(Some(content::to_wire(bytes)))
        })
        .await
    }

    /// The beginning of each content, at most `octets` of it, with CRLF line ends; messages that are gone are left out.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn heads(&self, uids: Vec<u32>, octets: usize) -> Result<Vec<Bytes>, Error> {
        self.run(move |folder| {
            let mut heads = Vec::with_capacity(uids.len());
            for uid in uids {
                let file = {
                    let mut state = folder.lock()?;
                    folder.with_file(&mut state, uid, |path| File::open(path))?
                };
                let Some(file) = file else { continue };
                let mut bytes = Vec::with_capacity(octets);
                file.take(octets as u64)
                    .read_to_end(&mut bytes)
                    .map_err(|error| Error::io("reading from", &folder.dir, &error))?;
                heads.push(content::to_wire(bytes));
            }
            Ok(heads)
        })
        .await
    }

    /// Changes flags and keywords of messages; those that are gone are left out. Returns the UIDs that exist.
    ///
    /// # Errors
    /// [`Error::Full`] when a new keyword finds no letter.
    pub async fn store(
        &self,
        uids: Vec<u32>,
        change: FlagChange,
        flags: Flags,
        keywords: Vec<String>,
    ) -> Result<Vec<u32>, Error> {
        self.run(move |folder| {
            let mut state = folder.lock()?;
            let flags = (flags & Flags::SETTABLE) | letters(folder, &mut state, &keywords, change)?;
            folder.changing(&mut state, |folder, state| {
                let mut stored = Vec::with_capacity(uids.len());
                for uid in uids {
                    if set_flags(folder, state, uid, change, flags)? {
                        stored.push(uid);
                    }
                }
                Ok(stored)
            })
        })
        .await
    }

    /// Removes messages for ever. Returns how many files went.
    ///
    /// # Errors
    /// When the disk fails; what was removed before stays removed.
    pub async fn expunge(&self, uids: Vec<u32>) -> Result<usize, Error> {
        self.run(move |folder| {
            let mut state = folder.lock()?;
            folder.changing(&mut state, |folder, state| {
                let mut gone = BTreeSet::new();
                let mut result = Ok(());
                for uid in uids {
                    match folder.with_file(state, uid, |path| fs::remove_file(path)) {
                        Ok(Some(())) => drop(gone.insert(uid)),
                        Ok(None) => {}
                        Err(error) => result = Err(error),
                    }
                }
                state.remove(&gone);
                content::sync_folder(&folder.dir.join("cur"))?;
                result.map(|()| gone.len())
            })
        })
        .await
    }

    /// Copies messages with flags and dates into another mailbox, all or none (RFC 3501 §6.4.7).
    ///
    /// # Errors
    /// [`Error::Missing`] when the target does not exist.
    pub async fn copy_to(&self, uids: Vec<u32>, target: &Name) -> Result<Placed, Error> {
        let target = target.clone();
        self.run(move |folder| place::copy(folder, uids, &target)).await
    }

    /// Moves messages into another mailbox (RFC 6851). What was moved before a failure stays moved.
    ///
    /// # Errors
    /// [`Error::Missing`] when the target does not exist; [`Error::Conflict`] when it is this mailbox.
    pub async fn move_to(&self, uids: Vec<u32>, target: &Name) -> Result<Placed, Error> {
        let target = target.clone();
        self.run(move |folder| place::relocate(folder, uids, &target)).await
    }
}

fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn message(record: &Record) -> Message {
    Message { uid: record.uid, flags: record.flags, modseq: record.modseq }
}

/// Letters of keywords by name. A keyword that is to be removed needs no letter of its own.
pub(super) fn letters(
    folder: &Folder,
    state: &mut State,
    names: &[String],
    change: FlagChange,
) -> Result<Flags, Error> {
    if change == FlagChange::Remove {
        let known = names.iter().filter_map(|name| state.keywords.index(name));
        return Ok(known.fold(Flags::NONE, |flags, index| flags | Flags::keyword(index)));
    }
    let path = folder.dir.join(keywords::FILE);
    let mut known = state.keywords.clone();
    let letters = known.assign(names, || state.letters_used(), &path, folder.shared.mailboxes.clock())?;
    if known != state.keywords {
        state.keywords = known;
        state.keywords_stamp = uidlist::stamp(&path);
    }
    Ok(letters)
}

fn measure(folder: &Folder, state: &mut State, uid: u32) -> Result<Option<Facts>, Error> {
    let Some(record) = state.record(uid) else { return Ok(None) };
    let (mut size, mut date) = (record.size, record.date);
    if date.is_none() {
        date = folder.with_file(state, uid, |path| fs::metadata(path))?.and_then(|metadata| {
            let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            i64::try_from(modified.as_millis()).ok()
        });
    }
    if size.is_none() {
        size = folder
            .with_file(state, uid, |path| content::read(File::open(path)?))?
            .map(|bytes| content::wire_size(&bytes));
    }
    let (Some(size), date) = (size, date.unwrap_or(0)) else { return Ok(None) };
    if state.record(uid).is_some_and(|record| record.size.is_none() || record.date.is_none()) {
        state.update(uid, false, |record| (record.size, record.date) = (Some(size), Some(date)));
    }
    Ok(Some(Facts { size, internal_date: Timestamp::from_millis(date) }))
}

fn set_flags(
    folder: &Folder,
    state: &mut State,
    uid: u32,
    change: FlagChange,
    flags: Flags,
) -> Result<bool, Error> {
    for _ in 0..3 {
        let Some(record) = state.record(uid) else { return Ok(false) };
        let new = match change {
            FlagChange::Add => record.flags | flags,
            FlagChange::Remove => record.flags - flags,
            // Letters that IMAP cannot name are not the client's to remove.
            FlagChange::Replace => (record.flags - Flags::SETTABLE) | flags,
        };
        if new == record.flags {
            return Ok(true);
        }
        let (source, info) = (folder.path(record), filename::join("", new));
        let target = folder.dir.join(Place::Cur.dir()).join(format!("{}{info}", record.base));
        match fs::rename(&source, &target) {
            Ok(()) => {
                state.update(uid, true, |record| {
                    record.flags = new;
                    record.info = info.into();
                    record.place = Place::Cur;
                });
                return Ok(true);
            }
            // Another program changed the flags meanwhile; ours are applied to theirs.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                folder.poke();
                folder.sync(state, Access::ReadOnly)?;
            }
            Err(error) => return Err(Error::io("renaming", &source, &error)),
        }
    }
    Ok(false)
}
