//! What a replica says of itself, and its digests; changes nothing.

use super::{Counts, Replica, Slot};
use crate::edgesync::frame::FAN;
use crate::edgesync::record::{Body, Key, mix};

impl Replica {
    /// Every key with its state, for tests and repair.
    pub fn states(&self) -> impl Iterator<Item = (&Key, Option<Body>)> {
        self.slots.values().map(|slot| (&slot.key, slot.body))
    }

    /// The state of one key.
    #[must_use]
    pub fn state(&self, key: &Key) -> Option<Body> {
        self.slots.get(&key.hash()).filter(|slot| slot.key == *key).and_then(|slot| slot.body)
    }

    /// Sizes and counters.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            keys: self.slots.len() - self.deletions,
            deletions: self.deletions,
            hearsay: self.hearsay,
            log: self.log_end() - 1,
            left_out: self.left_out,
        }
    }

    /// Another number after each start.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The position behind the last local change.
    #[must_use]
    pub fn log_end(&self) -> u64 {
        self.log_start + self.log.len() as u64
    }

    pub(in crate::edgesync) fn log_start(&self) -> u64 {
        self.log_start
    }

    /// The changes from a position on.
    pub(in crate::edgesync) fn log_from(&self, position: u64) -> impl Iterator<Item = u64> {
        let skip = usize::try_from(position.saturating_sub(self.log_start)).unwrap_or(usize::MAX);
        self.log.iter().skip(skip).copied()
    }

    pub(in crate::edgesync) fn slot(&self, hash: u64) -> Option<&Slot> {
        self.slots.get(&hash)
    }

    pub(in crate::edgesync) fn version(&self, hash: u64) -> Option<u64> {
        self.slots.get(&hash).map(|slot| slot.version(hash))
    }

    pub(in crate::edgesync) fn range(&self, from: u64, upto: u64) -> impl Iterator<Item = (u64, &Slot)> {
        let bounds = from..=upto;
        let range = (from <= upto).then(|| self.slots.range(bounds));
        range.into_iter().flatten().map(|(hash, slot)| (*hash, slot))
    }

    /// Digests of the groups of leaves.
    pub(in crate::edgesync) fn groups(&self) -> Vec<u64> {
        self.leaves.chunks(FAN).map(|group| group.iter().fold(0, |sum, leaf| mix(sum, *leaf))).collect()
    }

    /// Digests of the leaves of one group.
    pub(in crate::edgesync) fn leaves(&self, group: u8) -> Vec<u64> {
        self.leaves.chunks(FAN).nth(usize::from(group)).unwrap_or_default().to_vec()
    }
}
