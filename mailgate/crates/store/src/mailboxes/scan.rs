//! What is in `new` and `cur` right now.

use std::collections::{HashMap, HashSet};
use std::fs;

use super::flags::Flags;
use super::folder::{Access, Folder};
use super::index::{Place, Record};
use super::state::State;
use super::uidlist::Row;
use super::{filename, tree};
use crate::Error;

/// A file seen in a directory.
pub(super) struct Found {
    pub(super) base: Box<str>,
    pub(super) info: Box<str>,
    pub(super) flags: Flags,
    pub(super) place: Place,
    /// Came through `new` or from us: `\Recent` to the first who sees it.
    pub(super) arrived: bool,
}

impl Found {
    pub(super) fn record(self, row: Row) -> Record {
        let size = filename::size(&self.base, 'W');
        Record {
            uid: row.uid,
            base: self.base,
            info: self.info,
            place: self.place,
            flags: self.flags,
            modseq: 0,
            size,
            date: None,
            extra: row.extra,
        }
    }
}

impl Folder {
    /// Reads both directories; with `ReadWrite`, what is in `new` goes to `cur` first.
    pub(super) fn scan(&self, state: &mut State, access: Access) -> Result<Vec<Found>, Error> {
        let new = self.dir.join("new");
        let cur = self.dir.join("cur");
        let mut found = Vec::new();
        for entry in tree::entries(&new)? {
            let (base, flags) = filename::split(&entry);
            let mut info = entry.get(base.len()..).unwrap_or_default().to_owned();
            let mut place = Place::New;
            if access == Access::ReadWrite && !base.is_empty() {
                let target = filename::join(base, flags);
                // A name that is taken in `cur` would be overwritten; it stays where it is.
                if !cur.join(&target).exists() && fs::rename(new.join(&entry), cur.join(&target)).is_ok() {
                    info = target.get(base.len()..).unwrap_or_default().to_owned();
                    place = Place::Cur;
                }
            }
            found.push(Found { base: base.into(), info: info.into(), flags, place, arrived: true });
        }
        let moved: HashSet<Box<str>> = found.iter().map(|found| found.base.clone()).collect();
        for entry in tree::entries(&cur)? {
            let (base, flags) = filename::split(&entry);
            if moved.contains(base) || base.is_empty() {
                continue;
            }
            let info = entry.get(base.len()..).unwrap_or_default().into();
            found.push(Found { base: base.into(), info, flags, place: Place::Cur, arrived: false });
        }
        self.confirm(state, found)
    }

    /// Reading a directory while others rename in it can miss files and see files twice; looks again at both.
    fn confirm(&self, state: &State, found: Vec<Found>) -> Result<Vec<Found>, Error> {
        let mut unique: HashMap<Box<str>, Found> = HashMap::with_capacity(found.len());
        for found in found {
            match unique.get(&found.base) {
                Some(other)
                    if self
                        .dir
                        .join(other.place.dir())
                        .join(format!("{}{}", other.base, other.info))
                        .exists() => {}
                _ => {
                    unique.insert(found.base.clone(), found);
                }
            }
        }
        if state.records.iter().any(|record| !unique.contains_key(&record.base)) {
            for entry in tree::entries(&self.dir.join("cur"))? {
                let (base, flags) = filename::split(&entry);
                if !unique.contains_key(base) && state.by_base.contains_key(base) {
                    let info = entry.get(base.len()..).unwrap_or_default().into();
                    unique.insert(
                        base.into(),
                        Found { base: base.into(), info, flags, place: Place::Cur, arrived: false },
                    );
                }
            }
        }
        Ok(unique.into_values().collect())
    }
}
