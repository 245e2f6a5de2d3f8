//! One connection with a peer: what is to be sent, and what becomes of what comes.
//!
//! Everything that is sent is made when there is room for it, so a slow peer costs no memory. Changes are told from a
//! log; who missed a part of it, or was never here, is brought level by comparison: digests of 256 groups, of the 256
//! leaves of each group that differs, and the keys of what still differs.

mod compare;

use std::collections::{HashSet, VecDeque};

use self::compare::{Compare, Range, WINDOW};
use super::frame::{Frame, Hello, Misbehaved, Refusal};
use super::record::Record;
use super::replica::{Applied, Refused, Replica, Slot};

/// Records of one frame, and octets of their keys: a frame stays below 64 KiB.
const BATCH: usize = 200;
const BATCH_OCTETS: usize = 32 * 1024;
/// How much is said or believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everything: hosts of one owner.
    All,
    /// Only who was trapped: friends.
    Traps,
}

/// What a session is begun with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Our name, for people.
    pub name: String,
    /// What we take from this peer.
    pub takes: Scope,
    /// What we give to this peer.
    pub gives: Scope,
    /// How far its clock may be from ours, milliseconds.
    pub skew: i64,
    /// Whether we are the one that compares; the other side does it only when it fell behind.
    pub compares: bool,
    /// The peer's incarnation when we last spoke, 0 for never, and how much of its log of then we have.
    pub knows: (u64, u64),
}

/// How it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The peer's name.
    pub name: String,
    /// Its clock is so many milliseconds ahead of ours.
    pub ahead: i64,
    /// Records that came.
    pub received: u64,
    /// Of these, records that changed something.
    pub taken: u64,
    /// Records sent.
    pub sent: u64,
    /// Records from the future that were not taken.
    pub early: u64,
    /// Records this peer may not tell, not taken.
    pub untrusted: u64,
    /// Records for which there was no room.
    pub full: u64,
    /// Comparisons that came to their end.
    pub compared: u64,
    /// When the last one did, milliseconds since 1970.
    pub compared_at: i64,
    /// Position of our log up to which the peer has everything.
    pub acknowledged: u64,
    /// The peer's incarnation and the position of its log up to which we have everything.
    pub knows: (u64, u64),
}

/// Why [`Session::output`] has another frame.
#[derive(Debug)]
enum Work {
    Leaves(u8),
    LeavesEnd,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    is_greeted: bool,
    peer: Option<Hello>,
    /// The next position of our log to be told.
    cursor: u64,
    /// Where the telling of everything is; for who cannot compare.
    snapshot: Option<u64>,
    /// The peer is to know from where on it is told the log.
    position_due: bool,
    alive_due: bool,
    compare_due: bool,
    compare: Option<Compare>,
    send: VecDeque<u64>,
    work: VecDeque<Work>,
    ranges: VecDeque<Range>,
    progress: Progress,
}

impl Session {
    /// For a fresh connection.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let progress = Progress { knows: settings.knows, ..Progress::default() };
        Self {
            settings,
            is_greeted: false,
            peer: None,
            cursor: 0,
            snapshot: None,
            position_due: false,
            alive_due: false,
            compare_due: false,
            compare: None,
            send: VecDeque::new(),
            work: VecDeque::new(),
            ranges: VecDeque::new(),
            progress,
        }
    }

    /// How it goes.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether the peer has said hello.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.peer.is_some()
    }

    /// Says that we live; every 20 seconds or so.
    pub fn stay_alive(&mut self) {
        self.alive_due = true;
    }

    /// Compares as soon as there is nothing else to say.
    pub fn compare(&mut self) {
        self.compare_due = self.can_compare();
    }

    /// Whether there is no comparison on its way and nothing waits to be sent.
    #[must_use]
    pub fn is_idle(&self, replica: &Replica) -> bool {
        self.is_greeted
            && self.peer.is_some()
            && !self.alive_due
            && !self.compare_due
            && !self.position_due
            && self.compare.is_none()
            && self.snapshot.is_none()
            && self.send.is_empty()
            && self.work.is_empty()
            && self.ranges.is_empty()
            && self.cursor == replica.log_end()
    }

    /// Takes one frame; gives what the store has to change.
    ///
    /// # Errors
    /// When the session cannot go on.
    pub fn input(
        &mut self,
        frame: Frame,
        replica: &mut Replica,
        now: i64,
    ) -> Result<Vec<Applied>, Misbehaved> {
        match frame {
            Frame::Hello(hello) if self.peer.is_none() => self.greeted(hello, replica, now)?,
            Frame::Refuse(refusal) => return Err(Misbehaved::Refused(refusal)),
            _ if self.peer.is_none() => return Err(Misbehaved::Unexpected),
            Frame::Hello(_) => return Err(Misbehaved::Unexpected),
            Frame::Records { log, records } => return Ok(self.records(log, records, replica, now)),
            Frame::Alive { has, now: theirs } => {
                self.check_clock(theirs, now)?;
                self.progress.acknowledged = has.min(replica.log_end());
            }
            Frame::Groups(digests) => {
                if !self.can_compare() || !self.work.is_empty() {
                    return Err(Misbehaved::Unexpected);
                }
                let ours = replica.groups();
                let differ = (0..=u8::MAX).zip(ours.iter().zip(&digests)).filter(|(_, (a, b))| a != b);
                self.work.extend(differ.map(|(group, _)| Work::Leaves(group)));
                self.work.push_back(Work::LeavesEnd);
            }
            Frame::Leaves(group, digests) => self.leaves(group, &digests, replica)?,
            Frame::LeavesEnd => {
                let compare = self.compare.as_mut().ok_or(Misbehaved::Unexpected)?;
                compare.is_listed = true;
                self.end_compare(now);
            }
            Frame::Part { from, upto, has } => {
                if !self.can_compare() || self.ranges.len() >= WINDOW {
                    return Err(Misbehaved::Unexpected);
                }
                let missing = |(hash, version): &&(u64, u64)| replica.version(*hash) != Some(*version);
                let want = has.iter().filter(missing).map(|(hash, _)| *hash).collect();
                let theirs = has.into_iter().collect();
                self.ranges.push_back(Range { next: Some(from), upto, theirs, want });
            }
            Frame::Want(hashes) => {
                let compare = self.compare.as_mut().ok_or(Misbehaved::Unexpected)?;
                compare.in_flight = compare.in_flight.checked_sub(1).ok_or(Misbehaved::Unexpected)?;
                self.send.extend(hashes);
                self.end_compare(now);
            }
        }
        Ok(Vec::new())
    }

    /// The next frame to be sent, when there is one. To be asked again after every input, every local change and when
    /// the last one has gone.
    pub fn output(&mut self, replica: &mut Replica, now: i64) -> Option<Frame> {
        if !self.is_greeted {
            self.is_greeted = true;
            return Some(Frame::Hello(self.hello(replica, now)));
        }
        self.peer.as_ref()?;
        if std::mem::take(&mut self.alive_due) {
            return Some(Frame::Alive { has: self.progress.knows.1, now });
        }
        if let Some(frame) = self.next_of_log(replica, now) {
            return Some(frame);
        }
        if !self.send.is_empty() {
            return Some(self.wanted(replica, now));
        }
        if let Some(next) = self.snapshot {
            let (records, next) = self.batch(replica.range(next, u64::MAX), now, |_| true);
            self.snapshot = next;
            if !records.is_empty() {
                return Some(Frame::Records { log: 0, records });
            }
        }
        if self.snapshot.is_none() && std::mem::take(&mut self.position_due) {
            return Some(Frame::Records { log: self.cursor, records: Vec::new() });
        }
        if let Some(frame) = self.answer(replica, now) {
            return Some(frame);
        }
        match self.work.pop_front() {
            Some(Work::Leaves(group)) => return Some(Frame::Leaves(group, replica.leaves(group))),
            Some(Work::LeavesEnd) => return Some(Frame::LeavesEnd),
            None => {}
        }
        if self.compare.is_some() {
            return self.ask(replica, now);
        }
        if std::mem::take(&mut self.compare_due) {
            self.compare = Some(Compare::default());
            return Some(Frame::Groups(replica.groups()));
        }
        None
    }

    fn hello(&self, replica: &Replica, now: i64) -> Hello {
        let Settings { name, takes, gives, knows: (knows, has), .. } = self.settings.clone();
        Hello { name, incarnation: replica.incarnation(), now, takes, gives, knows, has }
    }

    fn greeted(&mut self, hello: Hello, replica: &Replica, now: i64) -> Result<(), Misbehaved> {
        self.check_clock(hello.now, now)?;
        self.progress.name.clone_from(&hello.name);
        if self.progress.knows.0 != hello.incarnation {
            self.progress.knows = (hello.incarnation, 0);
        }
        let told = replica.log_start()..=replica.log_end();
        let resumes = hello.knows == replica.incarnation() && told.contains(&hello.has);
        self.cursor = if resumes { hello.has } else { replica.log_end() };
        self.progress.acknowledged = self.cursor;
        self.peer = Some(hello);
        if !self.can_compare() {
            self.snapshot = (!resumes).then_some(0);
        }
        self.position_due = !resumes;
        self.compare_due = self.can_compare() && self.settings.compares;
        self.alive_due = true;
        Ok(())
    }

    fn check_clock(&mut self, theirs: i64, now: i64) -> Result<(), Misbehaved> {
        self.progress.ahead = theirs.saturating_sub(now);
        if self.progress.ahead.saturating_abs() > self.settings.skew {
            return Err(Misbehaved::Clock(self.progress.ahead));
        }
        Ok(())
    }

    /// Whether the peer is to hear of this.
    fn concerns(&self, slot: &Slot, now: i64) -> bool {
        let takes = self.peer.as_ref().map_or(Scope::Traps, |peer| peer.takes);
        match (self.settings.gives, takes) {
            (Scope::All, Scope::All) => slot.is_worth_telling(now),
            _ => slot.is_own_trap(now),
        }
    }

    fn records(&mut self, log: u64, records: Vec<Record>, replica: &mut Replica, now: i64) -> Vec<Applied> {
        let mut applied = Vec::new();
        for record in records {
            self.progress.received += 1;
            let taken = match self.settings.takes {
                Scope::All => replica.merge(record, now, self.settings.skew),
                Scope::Traps => replica.hear(&record, now),
            };
            match taken {
                Ok(change) => {
                    self.progress.taken += u64::from(change.is_some());
                    applied.extend(change);
                }
                Err(Refused::Early) => self.progress.early += 1,
                Err(Refused::Full) => self.progress.full += 1,
                Err(Refused::Untrusted) => self.progress.untrusted += 1,
            }
        }
        if log != 0 {
            self.progress.knows.1 = log;
            self.alive_due = true;
        }
        applied
    }

    fn next_of_log(&mut self, replica: &Replica, now: i64) -> Option<Frame> {
        if self.cursor < replica.log_start() {
            // It was too slow: what is not told is found by comparison.
            self.cursor = replica.log_end();
            self.compare_due = self.can_compare();
            if !self.compare_due {
                self.snapshot = Some(0);
                self.position_due = true;
            }
        }
        if self.cursor >= replica.log_end() {
            return None;
        }
        let (mut records, mut octets, mut seen) = (Vec::new(), 0, HashSet::new());
        for hash in replica.log_from(self.cursor) {
            if records.len() >= BATCH || octets >= BATCH_OCTETS {
                break;
            }
            self.cursor += 1;
            let Some(slot) = replica.slot(hash).filter(|slot| self.concerns(slot, now)) else { continue };
            if seen.insert(hash) {
                let record = slot.record();
                octets += record.key.text.len();
                records.push(record);
            }
        }
        self.progress.sent += records.len() as u64;
        // Before everything else is told, the log alone would be no place to go on from.
        let log = if self.snapshot.is_some() { 0 } else { self.cursor };
        Some(Frame::Records { log, records })
    }

    /// Records from the front of `slots`, and where to go on.
    fn batch<'s>(
        &mut self,
        slots: impl Iterator<Item = (u64, &'s Slot)>,
        now: i64,
        tells: impl Fn(u64) -> bool,
    ) -> (Vec<Record>, Option<u64>) {
        let (mut records, mut octets) = (Vec::new(), 0);
        for (hash, slot) in slots {
            if records.len() >= BATCH || octets >= BATCH_OCTETS {
                self.progress.sent += records.len() as u64;
                return (records, Some(hash));
            }
            if tells(hash) && self.concerns(slot, now) {
                let record = slot.record();
                octets += record.key.text.len();
                records.push(record);
            }
        }
        self.progress.sent += records.len() as u64;
        (records, None)
    }
}

impl Misbehaved {
    /// What the peer is told before the connection is closed.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Clock(_) => Refusal::Clock,
            _ => Refusal::Protocol,
        }
    }
}
