//! What one origin brings as a whole: a sorted array, with sixteen bits for the time of each entry.

use std::collections::BTreeSet;

use mailgate_model::Timestamp;

use super::{Claim, Origin};
use crate::prefix::{Key, Packed};

/// What one origin brings as a whole.
pub(super) struct Bulk<K: Key> {
    pub(super) origin: Origin,
    pub(super) entries: Vec<K::Packed>,
    pub(super) epochs: Epochs,
    pub(super) lengths: BTreeSet<u8>,
}

/// When entries of a set came: sixteen bits in each point at one of these times.
#[derive(Default)]
pub(super) struct Epochs(Vec<Timestamp>);

impl Epochs {
    /// The number of a time; one number may come to stand for neighbouring times when there have been many.
    pub(super) fn of<P: Packed>(&mut self, now: Timestamp, entries: &mut [P]) -> u16 {
        if self.0.len() > usize::from(u16::MAX) {
            // Of each two times the earlier stays: an entry may seem older by one reading, never younger.
            self.0 = self.0.iter().step_by(2).copied().collect();
            entries.iter_mut().for_each(|entry| *entry = entry.of_epoch(entry.epoch() / 2));
        }
        self.0.push(now);
        u16::try_from(self.0.len() - 1).unwrap_or(u16::MAX)
    }

    fn time(&self, epoch: u16) -> Timestamp {
        self.0.get(usize::from(epoch)).copied().unwrap_or_default()
    }
}

impl<K: Key> Bulk<K> {
    pub(super) fn claim(&self, key: K) -> Option<Claim> {
        let at = self.entries.binary_search_by_key(&key, |entry| entry.key()).ok()?;
        self.entries.get(at).map(|entry| self.said(*entry))
    }

    pub(super) fn said(&self, entry: K::Packed) -> Claim {
        Claim::new(entry.sense(), self.epochs.time(entry.epoch()), None)
    }
}

pub(super) fn lengths_of<P: Packed>(entries: &[P]) -> BTreeSet<u8> {
    let mut seen = [false; 1 << 8];
    for entry in entries {
        if let Some(seen) = seen.get_mut(usize::from(entry.key().length())) {
            *seen = true;
        }
    }
    (0..=u8::MAX).zip(seen).filter(|(_, seen)| *seen).map(|(length, _)| length).collect()
}
