//! One mailbox that somebody has open: its state, shared by all sessions, and how it follows the directories.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::account::Shared;
use super::index::{Place, Record};
use super::keywords::{self, Keywords};
use super::name::Name;
use super::scan::Found;
use super::state::State;
use super::{filename, tree, uidlist};
use crate::Error;

/// A directory that changed less than this before it was read may have changed again within the same tick of the file
/// system's clock.
const TICK: Duration = Duration::from_secs(2);
/// How often a directory that cannot be trusted yet is read again.
const RESCAN: Duration = Duration::from_secs(1);
/// Leftovers in `tmp` are removed after this (maildir(5): 36 hours).
const LEFTOVER: Duration = Duration::from_secs(36 * 3600);

/// Whether a session may take messages out of `new` and call them `\Recent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// As EXAMINE: nothing on disk changes.
    ReadOnly,
    /// As SELECT.
    ReadWrite,
}

/// An open mailbox.
pub(super) struct Folder {
    pub(super) shared: Arc<Shared>,
    pub(super) name: Name,
    pub(super) dir: PathBuf,
    state: Mutex<State>,
    poked: AtomicBool,
    /// Renamed or deleted: the object must not touch the disk any more.
    pub(super) closed: AtomicBool,
    pub(super) changes: watch::Sender<u64>,
}

impl Folder {
    pub(super) fn new(shared: Arc<Shared>, name: Name) -> Self {
        Self {
            dir: tree::path(&shared.root, &name),
            shared,
            name,
            state: Mutex::new(State::default()),
            poked: AtomicBool::new(true),
            closed: AtomicBool::new(false),
            changes: watch::Sender::new(0),
        }
    }

    /// Something arrived: the next look at the directories must not be skipped.
    pub(super) fn poke(&self) {
        self.poked.store(true, Ordering::Release);
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn path(&self, record: &Record) -> PathBuf {
        self.dir.join(record.place.dir()).join(format!("{}{}", record.base, record.info))
    }

    /// The state, brought up to date with the directories.
    pub(super) fn synced(&self, access: Access) -> Result<MutexGuard<'_, State>, Error> {
        let mut state = self.lock()?;
        if state.scanned.is_none() {
            self.first_load(&mut state)?;
        }
        self.sync(&mut state, access)?;
        Ok(state)
    }

    /// The state as it was last seen.
    pub(super) fn lock(&self) -> Result<MutexGuard<'_, State>, Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Missing(format!("mailbox {}", self.name)));
        }
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn now(&self) -> i64 {
        self.shared.mailboxes.now().millis()
    }

    /// What the index knows, and the leftovers of crashed writers.
    fn first_load(&self, state: &mut State) -> Result<(), Error> {
        if !tree::exists(&self.shared.root, &self.name) {
            if !self.name.is_inbox() {
                return Err(Error::Missing(format!("mailbox {}", self.name)));
            }
            tree::ensure(&self.shared.root, &self.name)?;
        }
        if let Some((header, records)) = self.shared.index().load(self.name.as_str()) {
            state.load(header, records);
        }
        sweep(&self.dir.join("tmp"), self.now());
        Ok(())
    }

    /// Follows the directories, if they changed.
    pub(super) fn sync(&self, state: &mut State, access: Access) -> Result<(), Error> {
        let poked = self.poked.swap(false, Ordering::AcqRel);
        let result = self.follow(state, access, poked);
        if result.is_err() {
            // The next look must be as careful as this one should have been.
            self.poked.store(true, Ordering::Release);
        }
        result
    }

    fn follow(&self, state: &mut State, access: Access, poked: bool) -> Result<(), Error> {
        let (new, cur) = self.directory_stamps()?;
        let first = state.scanned.is_none();
        let same = (state.header.new_mtime, state.header.cur_mtime) == (new, cur);
        let list = uidlist::stamp(&self.list_path());
        let list_changed = state.header.validity == 0 || state.header.list != list;
        let due = state.trusted
            || state.scanned.is_some_and(|at| self.now().saturating_sub(at) < RESCAN.as_millis() as i64);
        let claimable =
            access == Access::ReadWrite && state.records.iter().any(|record| record.place == Place::New);
        self.follow_keywords(state)?;
        if same && !list_changed && !claimable && ((due && !poked) || (first && self.is_old(new.max(cur)))) {
            state.scanned = state.scanned.or(Some(self.now()));
            state.trusted |= first;
            return Ok(());
        }
        if list_changed {
            self.follow_list(state)?;
        }
        let before = state.header.modseq;
        let found = self.scan(state, access)?;
        self.merge(state, found)?;
        let (new, cur) = if access == Access::ReadWrite { self.directory_stamps()? } else { (new, cur) };
        state.trusted = self.is_old(new.max(cur));
        (state.header.new_mtime, state.header.cur_mtime) = (new, cur);
        state.header_dirty = true;
        state.scanned = Some(self.now());
        self.tidy_list(state)?;
        self.save(state);
        if state.header.modseq != before {
            self.announce();
        }
        Ok(())
    }

    pub(super) fn announce(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn is_old(&self, mtime: i64) -> bool {
        self.now().saturating_sub(mtime / 1_000_000) >= TICK.as_millis() as i64
    }

    /// Times of change of `new` and `cur`, in nanoseconds.
    pub(super) fn directory_stamps(&self) -> Result<(i64, i64), Error> {
        let stamps = (uidlist::stamp(&self.dir.join("new")), uidlist::stamp(&self.dir.join("cur")));
        if stamps.1.inode == 0 {
            return Err(Error::Missing(format!("mailbox {}", self.name)));
        }
        Ok((stamps.0.mtime, stamps.1.mtime))
    }

    fn follow_keywords(&self, state: &mut State) -> Result<(), Error> {
        let path = self.dir.join(keywords::FILE);
        let stamp = uidlist::stamp(&path);
        if stamp != state.keywords_stamp {
            state.keywords = Keywords::read(&path)?;
            state.keywords_stamp = stamp;
        }
        Ok(())
    }

    fn merge(&self, state: &mut State, found: Vec<Found>) -> Result<(), Error> {
        let mut fresh = Vec::new();
        let mut present: HashSet<u32> = HashSet::with_capacity(found.len());
        for found in found {
            let Some(record) = state.record_of(&found.base) else {
                fresh.push(found);
                continue;
            };
            let uid = record.uid;
            present.insert(uid);
            let visible = record.flags != found.flags;
            if visible || record.info != found.info || record.place != found.place {
                state.update(uid, visible, |record| {
                    record.flags = found.flags;
                    record.info = found.info;
                    record.place = found.place;
                });
            }
        }
        let missing: BTreeSet<u32> =
            state.records.iter().map(|record| record.uid).filter(|uid| !present.contains(uid)).collect();
        state.remove(&missing);
        if !fresh.is_empty() {
            fresh.sort_by(|a, b| {
                (filename::arrival(&a.base), &a.base).cmp(&(filename::arrival(&b.base), &b.base))
            });
            self.give_uids(state, fresh)?;
        }
        Ok(())
    }

    /// Runs a change of our own; when the directories had been as known before, the result is taken as known too.
    pub(super) fn changing<T>(
        &self,
        state: &mut State,
        change: impl FnOnce(&Self, &mut State) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let before = self.directory_stamps()?;
        let modseq = state.header.modseq;
        let result = change(self, state);
        if before == (state.header.new_mtime, state.header.cur_mtime) {
            (state.header.new_mtime, state.header.cur_mtime) = self.directory_stamps()?;
            // Somebody else's change in the same tick would be hidden; so look again in a while.
            state.trusted = false;
            state.header_dirty = true;
        }
        self.save(state);
        if state.header.modseq != modseq {
            self.announce();
        }
        result
    }

    /// Writes what changed to the index.
    pub(super) fn save(&self, state: &mut State) {
        if !state.header_dirty && state.dirty.is_empty() && state.gone.is_empty() {
            return;
        }
        let mut header = state.header.clone();
        if !state.trusted {
            // Whoever loads this must read the directories.
            (header.new_mtime, header.cur_mtime) = (0, 0);
        }
        let gone: Vec<u32> = std::mem::take(&mut state.gone).into_iter().collect();
        let dirty = std::mem::take(&mut state.dirty);
        let changed: Vec<&Record> = dirty.iter().filter_map(|uid| state.record(*uid)).collect();
        self.shared.index().save(self.name.as_str(), &header, &changed, &gone);
        state.header_dirty = false;
    }

    /// Runs `work` on the file of a message; when it is gone, looks where another program put it.
    pub(super) fn with_file<T>(
        &self,
        state: &mut State,
        uid: u32,
        mut work: impl FnMut(&Path) -> io::Result<T>,
    ) -> Result<Option<T>, Error> {
        for look in 0..3 {
            let Some(record) = state.record(uid) else { return Ok(None) };
            let path = self.path(record);
            match work(&path) {
                Ok(value) => return Ok(Some(value)),
                Err(error) if error.kind() == io::ErrorKind::NotFound && look < 2 => {
                    self.poked.store(true, Ordering::Release);
                    self.sync(state, Access::ReadOnly)?;
                }
                Err(error) => return Err(Error::io("using", &path, &error)),
            }
        }
        Ok(None)
    }
}

/// Removes what crashed writers left in `tmp`.
fn sweep(tmp: &Path, now: i64) {
    for entry in tree::entries(tmp).unwrap_or_default() {
        let path = tmp.join(entry);
        let age = now.saturating_sub(uidlist::stamp(&path).mtime / 1_000_000);
        if age > LEFTOVER.as_millis() as i64 {
            // Best effort: the next opening tries again.
            let _ = fs::remove_file(path);
        }
    }
}
