//! What the process knows of one mailbox that somebody has open.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::flags::Flags;
use super::index::{Header, Place, Record};
use super::keywords::Keywords;
use super::uidlist::Stamp;

/// Expunges remembered for sessions that have not asked since; a session further behind compares all UIDs.
const VANISHED_LIMIT: usize = 65_536;

/// Mailbox state; guarded by the folder's lock.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) header: Header,
    pub(super) keywords: Keywords,
    pub(super) keywords_stamp: Stamp,
    /// By UID, rising.
    pub(super) records: Vec<Record>,
    pub(super) by_base: HashMap<Box<str>, u32>,
    /// UIDs that came through `new` or APPEND and that no session has claimed as `\Recent`.
    pub(super) recent: BTreeSet<u32>,
    /// (ModSeq, UID) of expunges, rising.
    vanished: VecDeque<(u64, u32)>,
    /// Expunges up to this ModSeq may be missing in `vanished`.
    vanished_floor: u64,
    /// Changed or gone since the index was written.
    pub(super) dirty: BTreeSet<u32>,
    pub(super) gone: BTreeSet<u32>,
    /// Milliseconds; when the directories were last read.
    pub(super) scanned: Option<i64>,
    /// The directories were older than their last reading by enough to trust that it saw everything.
    pub(super) trusted: bool,
    /// The header changed since the index was written.
    pub(super) header_dirty: bool,
}

impl State {
    pub(super) fn load(&mut self, header: Header, records: Vec<Record>) {
        self.by_base = records.iter().map(|record| (record.base.clone(), record.uid)).collect();
        self.recent =
            records.iter().filter(|record| record.place == Place::New).map(|record| record.uid).collect();
        self.vanished_floor = header.modseq;
        self.header = header;
        self.records = records;
    }

    fn position(&self, uid: u32) -> Result<usize, usize> {
        self.records.binary_search_by_key(&uid, |record| record.uid)
    }

    pub(super) fn record(&self, uid: u32) -> Option<&Record> {
        self.position(uid).ok().and_then(|at| self.records.get(at))
    }

    pub(super) fn record_of(&self, base: &str) -> Option<&Record> {
        self.by_base.get(base).and_then(|uid| self.record(*uid))
    }

    pub(super) fn next_modseq(&mut self) -> u64 {
        self.header.modseq += 1;
        self.header_dirty = true;
        self.header.modseq
    }

    /// Adds a message, or replaces what is known under its UID.
    pub(super) fn put(&mut self, mut record: Record) {
        record.modseq = self.next_modseq();
        let uid = record.uid;
        self.header.next = self.header.next.max(uid.saturating_add(1));
        self.by_base.insert(record.base.clone(), uid);
        self.dirty.insert(uid);
        self.gone.remove(&uid);
        match self.position(uid) {
            Ok(at) => {
                if let Some(slot) = self.records.get_mut(at) {
                    *slot = record;
                }
            }
            Err(at) => self.records.insert(at, record),
        }
    }

    /// Changes a message; `visible` when IMAP clients must hear of it.
    pub(super) fn update(&mut self, uid: u32, visible: bool, change: impl FnOnce(&mut Record)) {
        let Ok(at) = self.position(uid) else { return };
        let modseq = if visible { self.next_modseq() } else { 0 };
        if let Some(record) = self.records.get_mut(at) {
            change(record);
            if visible {
                record.modseq = modseq;
            }
            self.dirty.insert(uid);
        }
    }

    /// Forgets messages; one pass whatever their number.
    pub(super) fn remove(&mut self, uids: &BTreeSet<u32>) {
        if uids.is_empty() {
            return;
        }
        let modseq = self.next_modseq();
        let (by_base, mut removed) = (&mut self.by_base, Vec::new());
        self.records.retain(|record| {
            let stays = !uids.contains(&record.uid);
            if !stays {
                by_base.remove(&record.base);
                removed.push(record.uid);
            }
            stays
        });
        for uid in removed {
            self.vanished.push_back((modseq, uid));
            self.recent.remove(&uid);
            self.dirty.remove(&uid);
            self.gone.insert(uid);
            self.header.stale = self.header.stale.saturating_add(1);
        }
        while self.vanished.len() > VANISHED_LIMIT {
            self.vanished_floor = self.vanished.pop_front().map_or(self.vanished_floor, |(modseq, _)| modseq);
        }
    }

    /// Letters of keywords that some message carries.
    pub(super) fn letters_used(&self) -> Flags {
        self.records.iter().fold(Flags::NONE, |flags, record| flags | record.flags)
    }

    /// UIDs that went after `since`; `None` when that is not known any more.
    pub(super) fn vanished_since(&self, since: u64) -> Option<Vec<u32>> {
        (since >= self.vanished_floor).then(|| {
            let from = self.vanished.partition_point(|(modseq, _)| *modseq <= since);
            self.vanished.range(from..).map(|(_, uid)| *uid).collect()
        })
    }
}
