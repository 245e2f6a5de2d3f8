//! What a session was told of its mailbox: message numbers change only when the session hears of it.

use std::collections::{BTreeSet, HashSet};

use mailgate_proto::imap::{Numbering, SequenceSet, Writer};
use mailgate_store::mailboxes::{Access, Delta, Flags, Keywords, Message, Selected};

use super::flags;
use super::reply::Reply;

/// Whether EXPUNGE responses may be sent now (RFC 3501 §7.4.1: not while a command with message numbers runs).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expunges {
    Hold,
    Tell,
}

/// A message as the session knows it; its number is its place plus one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) uid: u32,
    pub(crate) flags: Flags,
    pub(crate) is_recent: bool,
    /// Expunged, and the session was not told.
    gone: bool,
}

/// An open mailbox in one session.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) selected: Selected,
    pub(crate) entries: Vec<Entry>,
    pub(crate) keywords: Keywords,
    pub(crate) uid_validity: u32,
    pub(crate) uid_next: u32,
    modseq: u64,
}

/// The mailbox was deleted and made again: nothing the session knows is true any more.
#[derive(Debug)]
pub(crate) struct Outdated;

impl View {
    pub(crate) async fn open(selected: Selected) -> Result<Self, mailgate_store::Error> {
        let delta = selected.since(0).await?;
        let recent: HashSet<u32> = delta.recent.iter().copied().collect();
        let entries = delta.changed.iter().map(|message| entry(message, &recent)).collect();
        Ok(Self {
            selected,
            entries,
            keywords: delta.keywords,
            uid_validity: delta.uid_validity,
            uid_next: delta.uid_next,
            modseq: delta.modseq,
        })
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.selected.access() == Access::ReadWrite
    }

    pub(crate) fn recent(&self) -> usize {
        self.entries.iter().filter(|entry| entry.is_recent).count()
    }

    /// Looks for news.
    pub(crate) async fn news(&self) -> Result<Delta, mailgate_store::Error> {
        self.selected.since(self.modseq).await
    }

    /// Takes in news and writes what the session must hear of it.
    pub(crate) fn apply(
        &mut self,
        delta: Delta,
        expunges: Expunges,
        numbering: Numbering,
        out: &mut Writer,
    ) -> Result<(), Outdated> {
        if delta.uid_validity != self.uid_validity {
            return Err(Outdated);
        }
        self.modseq = delta.modseq;
        self.uid_next = delta.uid_next;
        if delta.keywords != self.keywords {
            self.keywords = delta.keywords;
            flags::announce(&self.keywords, self.is_writable(), out);
        }
        match delta.vanished {
            Some(vanished) => self.mark_gone(&vanished.into_iter().collect(), true),
            None => self.mark_gone(&delta.present.into_iter().collect(), false),
        }
        if expunges == Expunges::Tell {
            self.tell_expunges(out);
        }
        let recent: HashSet<u32> = delta.recent.into_iter().collect();
        let known = self.entries.len();
        let last = self.entries.last().map_or(0, |entry| entry.uid);
        let mut touched = BTreeSet::new();
        for message in &delta.changed {
            if message.uid > last {
                self.entries.push(entry(message, &recent));
            } else if let Ok(at) = self.entries.binary_search_by_key(&message.uid, |entry| entry.uid)
                && let Some(entry) = self.entries.get_mut(at)
                && entry.flags != message.flags
            {
                entry.flags = message.flags;
                touched.insert(at);
            }
        }
        if self.entries.len() > known {
            out.raw("* ").value(self.entries.len()).raw(" EXISTS").end();
            out.raw("* ").value(self.recent()).raw(" RECENT").end();
        }
        for at in touched {
            self.tell_flags(at, numbering, out);
        }
        Ok(())
    }

    fn mark_gone(&mut self, uids: &HashSet<u32>, listed_are_gone: bool) {
        if uids.is_empty() && listed_are_gone {
            return;
        }
        for entry in &mut self.entries {
            if uids.contains(&entry.uid) == listed_are_gone {
                entry.gone = true;
            }
        }
    }

    fn tell_expunges(&mut self, out: &mut Writer) {
        let mut number = 1;
        self.entries.retain(|entry| {
            if entry.gone {
                out.raw("* ").value(number).raw(" EXPUNGE").end();
            } else {
                number += 1;
            }
            !entry.gone
        });
    }

    /// `* n FETCH (FLAGS ...)`; with the UID when the command spoke in UIDs.
    pub(crate) fn tell_flags(&self, at: usize, numbering: Numbering, out: &mut Writer) {
        let Some(entry) = self.entries.get(at) else { return };
        out.raw("* ").value(at + 1).raw(" FETCH (");
        if numbering == Numbering::Uid {
            out.raw("UID ").value(entry.uid).raw(" ");
        }
        out.raw("FLAGS ");
        flags::write(entry.flags, entry.is_recent, &self.keywords, out);
        out.raw(")").end();
    }

    /// Places of the messages of a set. Numbers beyond the last message are the client's mistake; unknown UIDs are not
    /// (RFC 3501 §6.4.8).
    pub(crate) fn find(&self, by: Numbering, set: &SequenceSet) -> Result<Vec<usize>, Reply> {
        match by {
            Numbering::Sequence => {
                let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
                let numbers = set.resolve(count);
                if numbers.last() > count || (count == 0 && set.has_largest()) {
                    return Err(Reply::no_such_message());
                }
                // Not more than one range can reach each place, so this is as long as the answer.
                let ranges = numbers.pairs().map(|(first, last)| first as usize - 1..last as usize);
                Ok(ranges.flatten().collect())
            }
            Numbering::Uid => {
                let uids = set.resolve(self.entries.last().map_or(0, |entry| entry.uid));
                let place = |uid: u32| self.entries.partition_point(|entry| entry.uid < uid);
                let ranges = uids
                    .pairs()
                    .map(|(first, last)| place(first)..last.checked_add(1).map_or(self.entries.len(), place));
                Ok(ranges.flatten().collect())
            }
        }
    }

    pub(crate) fn uids(&self, places: &[usize]) -> Vec<u32> {
        places.iter().filter_map(|at| self.entries.get(*at)).map(|entry| entry.uid).collect()
    }
}

fn entry(message: &Message, recent: &HashSet<u32>) -> Entry {
    Entry { uid: message.uid, flags: message.flags, is_recent: recent.contains(&message.uid), gone: false }
}
