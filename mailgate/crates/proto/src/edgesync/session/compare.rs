//! The comparison that brings two hosts level: which leaves differ, which keys in them, and which records are wanted.

use std::collections::{HashMap, VecDeque};

use super::{BATCH, BATCH_OCTETS, Scope, Session};
use crate::edgesync::frame::{Frame, Misbehaved, PART_LIMIT};
use crate::edgesync::replica::Replica;

/// Parts of a comparison on their way at a time.
pub(super) const WINDOW: usize = 8;
/// No further part is asked about while so many records wait to be sent.
const SEND_PAUSE: usize = 4 * PART_LIMIT;
/// Hashes below one leaf.
const LEAF_SPAN: u64 = 1 << 48;

/// A part of a comparison of the peer, on its way to be answered.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) next: Option<u64>,
    pub(super) upto: u64,
    pub(super) theirs: HashMap<u64, u64>,
    pub(super) want: Vec<u64>,
}

/// Our comparison.
#[derive(Debug, Default)]
pub(super) struct Compare {
    /// Every group that differs was listed.
    pub(super) is_listed: bool,
    pub(super) ranges: VecDeque<(u64, u64)>,
    pub(super) in_flight: usize,
}

impl Session {
    /// Both tell and believe everything.
    pub(super) fn can_compare(&self) -> bool {
        let all = |takes: Scope, gives: Scope| takes == Scope::All && gives == Scope::All;
        all(self.settings.takes, self.settings.gives)
            && self.peer.as_ref().is_some_and(|peer| all(peer.takes, peer.gives))
    }

    /// Records that the peer wants.
    pub(super) fn wanted(&mut self, replica: &Replica, now: i64) -> Frame {
        let (mut records, mut octets) = (Vec::new(), 0);
        while records.len() < BATCH
            && octets < BATCH_OCTETS
            && let Some(hash) = self.send.pop_front()
        {
            let Some(slot) = replica.slot(hash).filter(|slot| self.concerns(slot, now)) else { continue };
            let record = slot.record();
            octets += record.key.text.len();
            records.push(record);
        }
        self.progress.sent += records.len() as u64;
        Frame::Records { log: 0, records }
    }

    /// Answers the peer's comparison: first what it lacks, then what we want.
    pub(super) fn answer(&mut self, replica: &Replica, now: i64) -> Option<Frame> {
        let mut range = self.ranges.pop_front()?;
        if let Some(next) = range.next {
            let differs = |hash| range.theirs.get(&hash).copied() != replica.version(hash);
            let (records, next) = self.batch(replica.range(next, range.upto), now, differs);
            range.next = next;
            if next.is_some() || !records.is_empty() {
                self.ranges.push_front(range);
                return Some(Frame::Records { log: 0, records });
            }
        }
        Some(Frame::Want(range.want))
    }

    pub(super) fn leaves(&mut self, group: u8, digests: &[u64], replica: &Replica) -> Result<(), Misbehaved> {
        let compare =
            self.compare.as_mut().filter(|compare| !compare.is_listed).ok_or(Misbehaved::Unexpected)?;
        let ours = replica.leaves(group);
        for (leaf, (a, b)) in (0_u64..).zip(ours.iter().zip(digests)) {
            if a == b {
                continue;
            }
            let from = (u64::from(group) << 56) + leaf * LEAF_SPAN;
            let upto = from + (LEAF_SPAN - 1);
            match compare.ranges.back_mut() {
                Some((_, last)) if last.checked_add(1) == Some(from) => *last = upto,
                // Groups come in order and once, so there are at most as many ranges as leaves.
                Some((_, last)) if *last >= from => return Err(Misbehaved::Unexpected),
                _ => compare.ranges.push_back((from, upto)),
            }
        }
        Ok(())
    }

    /// Asks about the next range.
    pub(super) fn ask(&mut self, replica: &Replica, now: i64) -> Option<Frame> {
        let compare = self.compare.as_mut()?;
        if compare.in_flight >= WINDOW || self.send.len() >= SEND_PAUSE {
            return None;
        }
        let (from, upto) = compare.ranges.pop_front()?;
        let mut has = Vec::new();
        let mut end = upto;
        for (hash, _) in replica.range(from, upto).filter(|(_, slot)| slot.is_worth_telling(now)) {
            if has.len() == PART_LIMIT {
                end = hash - 1;
                compare.ranges.push_front((hash, upto));
                break;
            }
            has.push((hash, replica.version(hash).unwrap_or_default()));
        }
        compare.in_flight += 1;
        Some(Frame::Part { from, upto: end, has })
    }

    pub(super) fn end_compare(&mut self, now: i64) {
        let done =
            |compare: &Compare| compare.is_listed && compare.ranges.is_empty() && compare.in_flight == 0;
        if self.compare.as_ref().is_some_and(done) {
            self.compare = None;
            self.progress.compared += 1;
            self.progress.compared_at = now;
        }
    }
}
