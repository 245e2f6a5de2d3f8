//! UIDs of an open mailbox: taken over from the UID list, given to files that have none, and the list kept short.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;

use super::dotlock::Lock;
use super::filename;
use super::flags::Flags;
use super::folder::Folder;
use super::index::Place;
use super::scan::Found;
use super::state::State;
use super::uidlist::{self, Row, UidList};
use crate::Error;

/// Lines of the UID list that name no message any more before it is written anew (and a quarter of all lines).
const STALE_LIMIT: u32 = 256;

impl Folder {
    pub(super) fn list_path(&self) -> PathBuf {
        self.dir.join(uidlist::FILE)
    }

    /// Takes over what the UID list says; makes one when there is none.
    pub(super) fn follow_list(&self, state: &mut State) -> Result<(), Error> {
        let path = self.list_path();
        let list = match uidlist::read(&path) {
            Ok(list) => list,
            Err(error @ Error::Corrupt(_)) => {
                tracing::warn!(target: "access", event = "uidlist-damaged", mailbox = %self.name, %error);
                let aside = path.with_extension("damaged");
                fs::rename(&path, &aside).map_err(|error| Error::io("setting aside", &path, &error))?;
                None
            }
            Err(error) => return Err(error),
        };
        match list {
            Some(list) => self.adopt(state, &list),
            None => {
                if state.header.validity == 0 {
                    state.header.validity = self.shared.next_validity()?;
                    state.header.next = 1;
                }
                self.write_list(state)?;
            }
        }
        state.header.list = uidlist::stamp(&path);
        state.header_dirty = true;
        Ok(())
    }

    fn adopt(&self, state: &mut State, list: &UidList) {
        let rows: HashMap<&str, &Row> = list.rows.iter().map(|row| (&*row.base, row)).collect();
        let other = state.header.validity != list.validity;
        // A message whose UID the list does not confirm is taken up again by the scan that follows.
        let wrong: BTreeSet<u32> = state
            .records
            .iter()
            .filter(|record| other || rows.get(&*record.base).is_none_or(|row| row.uid != record.uid))
            .map(|record| record.uid)
            .collect();
        state.remove(&wrong);
        state.header.validity = list.validity;
        state.header.next = if other { list.next } else { list.next.max(state.header.next) };
        state.header.extra.clone_from(&list.extra);
        let known = state.records.len();
        state.header.stale = u32::try_from(list.rows.len().saturating_sub(known)).unwrap_or(u32::MAX);
    }

    fn write_list(&self, state: &mut State) -> Result<(), Error> {
        let lock = Lock::acquire(self.list_path(), self.shared.mailboxes.clock())?;
        let mut text = uidlist::header(state.header.validity, state.header.next, &state.header.extra);
        for record in &state.records {
            Row { uid: record.uid, extra: record.extra.clone(), base: record.base.clone() }.write(&mut text);
        }
        lock.commit(text.as_bytes())?;
        state.header.list = uidlist::stamp(&self.list_path());
        state.header.stale = 0;
        state.header_dirty = true;
        Ok(())
    }

    pub(super) fn tidy_list(&self, state: &mut State) -> Result<(), Error> {
        let stale = state.header.stale;
        if stale > STALE_LIMIT && stale as usize > state.records.len() / 4 {
            self.write_list(state)?;
        }
        Ok(())
    }

    /// Gives UIDs to files that have none: those of the list, else new ones, written to the list before anybody sees
    /// them.
    pub(super) fn give_uids(&self, state: &mut State, fresh: Vec<Found>) -> Result<(), Error> {
        let path = self.list_path();
        let lock = Lock::acquire(path.clone(), self.shared.mailboxes.clock())?;
        let list = uidlist::read(&path)?;
        let (mut known, torn) = match &list {
            Some(list) if list.validity == state.header.validity => {
                state.header.next = state.header.next.max(list.next);
                (list.rows.iter().map(|row| (&*row.base, row)).collect::<HashMap<_, _>>(), list.torn)
            }
            _ => (HashMap::new(), true),
        };
        let mut lines = String::new();
        for found in fresh {
            let row = known.remove(&*found.base).cloned().unwrap_or_else(|| {
                let row = Row { uid: state.header.next, extra: "".into(), base: found.base.clone() };
                state.header.next = state.header.next.saturating_add(1);
                row.write(&mut lines);
                row
            });
            if found.arrived {
                state.recent.insert(row.uid);
            }
            state.put(found.record(row));
        }
        if torn {
            drop(lock);
            return self.write_list(state);
        }
        if !lines.is_empty() {
            lock.append(lines.as_bytes())?;
        }
        state.header.list = uidlist::stamp(&path);
        let lines = list.map_or(0, |list| list.rows.len()) + lines.lines().count();
        state.header.stale = u32::try_from(lines.saturating_sub(state.records.len())).unwrap_or(u32::MAX);
        Ok(())
    }

    /// Gives UIDs to files that this process just put into `cur`.
    pub(super) fn add(&self, state: &mut State, files: Vec<(Box<str>, Flags)>) -> Result<Vec<u32>, Error> {
        let bases: Vec<Box<str>> = files.iter().map(|(base, _)| base.clone()).collect();
        let fresh = files.into_iter().map(|(base, flags)| Found {
            info: filename::join("", flags).into(),
            base,
            flags,
            place: Place::Cur,
            arrived: true,
        });
        self.give_uids(state, fresh.collect())?;
        bases
            .iter()
            .map(|base| state.record_of(base).map(|record| record.uid))
            .collect::<Option<_>>()
            .ok_or_else(|| Error::Unreachable("a message without a UID".to_owned()))
    }
}
