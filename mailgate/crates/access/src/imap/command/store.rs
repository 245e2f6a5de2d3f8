//! STORE (RFC 3501 §6.4.6).

use std::collections::HashSet;

use mailgate_proto::imap::{Numbering, SequenceSet, StoreMode, Verbosity};
use mailgate_store::Error as StoreError;
use mailgate_store::mailboxes::FlagChange;

use super::super::connection::End;
use super::super::flags;
use super::super::reply::{Bye, Reply};
use super::super::session::{Fault, Session};
use super::super::view::Expunges;

impl Session {
    pub(crate) async fn store(
        &mut self,
        by: Numbering,
        set: &SequenceSet,
        mode: StoreMode,
        verbosity: Verbosity,
        names: Vec<String>,
    ) -> Result<Reply, Fault> {
        let view = self.writable()?;
        let places = view.find(by, set)?;
        let (flags, keywords) = flags::read(names)?;
        let change = match mode {
            StoreMode::Add => FlagChange::Add,
            StoreMode::Remove => FlagChange::Remove,
            StoreMode::Replace => FlagChange::Replace,
        };
        let uids = view.uids(&places);
        let asked = uids.len();
        let stored: HashSet<u32> = match view.selected.store(uids, change, flags, keywords).await {
            Ok(stored) => stored.into_iter().collect(),
            Err(StoreError::Full(_)) => return Ok(Reply::keyword_limit()),
            Err(error) => return Err(error.into()),
        };
        self.tell_stored(&places, &stored, by, verbosity).await?;
        // RFC 2180 §4.2.3: a message that another session expunged was not changed.
        let complete = stored.len() == asked || by == Numbering::Uid;
        Ok(if complete { Reply::ok("Stored") } else { Reply::some_gone() })
    }

    /// Tells the new flags of what was stored, whether they changed or not; silently only learns them.
    async fn tell_stored(
        &mut self,
        places: &[usize],
        stored: &HashSet<u32>,
        by: Numbering,
        verbosity: Verbosity,
    ) -> Result<(), Fault> {
        let Some(view) = &mut self.view else { return Ok(()) };
        let delta = view.news().await?;
        for message in delta.changed.iter().filter(|message| stored.contains(&message.uid)) {
            if let Ok(at) = view.entries.binary_search_by_key(&message.uid, |entry| entry.uid)
                && let Some(entry) = view.entries.get_mut(at)
            {
                entry.flags = message.flags;
            }
        }
        // What comes from others is told in any case; expunges only where message numbers may change.
        let expunges = Expunges::Hold;
        let out = &mut self.connection.out;
        view.apply(delta, expunges, by, out).map_err(|_| End::Bye(Bye::MailboxGone))?;
        if verbosity == Verbosity::Told {
            for at in places {
                if view.entries.get(*at).is_some_and(|entry| stored.contains(&entry.uid)) {
                    view.tell_flags(*at, by, out);
                }
            }
        }
        Ok(())
    }
}
