//! FETCH (RFC 3501 §6.4.5, §7.4.2).

mod envelope;
mod section;
mod shape;

use std::collections::HashMap;

use bytes::Bytes;
use mailgate_proto::imap::{FetchItem, Numbering, Peek, Section, SectionText, SequenceSet, write_date_time};
use mailgate_store::mailboxes::{Facts, FlagChange, Flags};
use tokio::sync::OwnedSemaphorePermit;

use self::section::Piece;
use super::connection::End;
use super::flags;
use super::reply::{Bye, Reply};
use super::session::{Fault, Session};
use super::view::Expunges;
use crate::Error;
use crate::mime::Structure;

/// Messages whose sizes and dates are asked for at once.
const BATCH: usize = 512;
/// Content up to this size is looked at on the runtime's thread; more would hold up the others.
const QUICK: usize = 128 * 1024;

/// A message being read.
pub(crate) struct Opened {
    pub(crate) content: Bytes,
    pub(crate) structure: Structure,
}

impl Opened {
    pub(crate) async fn new(content: Bytes) -> Result<Self, Error> {
        if content.len() <= QUICK {
            return Ok(Self { structure: Structure::parse(&content), content });
        }
        let parsing =
            tokio::task::spawn_blocking(move || Self { structure: Structure::parse(&content), content });
        parsing.await.map_err(|error| Error::Unreachable(error.to_string()))
    }
}

/// What the items need beyond flags.
#[derive(Debug, Clone, Copy)]
struct Needs {
    facts: bool,
    content: bool,
    reads: bool,
}

impl Needs {
    fn of(items: &[FetchItem]) -> Self {
        let mut needs = Self { facts: false, content: false, reads: false };
        for item in items {
            match item {
                FetchItem::Flags | FetchItem::Uid => {}
                FetchItem::InternalDate | FetchItem::Rfc822Size => needs.facts = true,
                FetchItem::Body
                | FetchItem::BodyStructure
                | FetchItem::Envelope
                | FetchItem::Rfc822Header => {
                    needs.content = true;
                }
                FetchItem::BodySection { peek, .. } => {
                    needs.content = true;
                    needs.reads |= *peek == Peek::Reads;
                }
                FetchItem::Rfc822 | FetchItem::Rfc822Text => (needs.content, needs.reads) = (true, true),
            }
        }
        // How much memory a content needs is known from its size.
        needs.facts |= needs.content;
        needs
    }
}

impl Session {
    pub(crate) async fn fetch(
        &mut self,
        by: Numbering,
        set: &SequenceSet,
        items: &[FetchItem],
    ) -> Result<Reply, Fault> {
        let places = self.opened()?.find(by, set)?;
        let needs = Needs::of(items);
        let mut items = items.to_vec();
        if by == Numbering::Uid && !items.contains(&FetchItem::Uid) {
            items.insert(0, FetchItem::Uid);
        }
        let mut all_there = true;
        for batch in places.chunks(BATCH) {
            all_there &= self.fetch_batch(batch, &items, needs, by).await?;
        }
        // RFC 2180 §4.1.2: messages that another session expunged.
        Ok(if all_there || by == Numbering::Uid { Reply::ok("Done") } else { Reply::some_gone() })
    }

    /// Memory for a message, or a reply that says to come again.
    pub(crate) async fn room_for(&self, octets: u64) -> Result<OwnedSemaphorePermit, Fault> {
        let share = self.server.budget.share_soon(octets, &*self.server.parts.clock).await;
        Ok(share.ok_or_else(Reply::busy)?)
    }

    /// Whether all were there.
    async fn fetch_batch(
        &mut self,
        places: &[usize],
        items: &[FetchItem],
        needs: Needs,
        by: Numbering,
    ) -> Result<bool, Fault> {
        let view = self.opened()?;
        let uids = view.uids(places);
        let mut facts: HashMap<u32, Facts> = HashMap::new();
        if needs.facts {
            facts = view.selected.facts(uids.clone()).await?.into_iter().collect();
        }
        let read =
            if needs.reads && view.is_writable() { self.mark_seen(places, by).await? } else { Vec::new() };
        let mut all_there = true;
        for at in places {
            let view = self.opened()?;
            let Some(entry) = view.entries.get(*at).copied() else { continue };
            let known = facts.get(&entry.uid).copied();
            if needs.facts && known.is_none() {
                all_there = false;
                continue;
            }
            let _share;
            let mut opened = None;
            if needs.content {
                let selected = view.selected.clone();
                // Stored and on the wire at the same time.
                let size = known.map_or(0, |facts| facts.size).saturating_mul(2);
                _share = Some(self.room_for(size).await?);
                let Some(content) = selected.content(entry.uid).await? else {
                    all_there = false;
                    continue;
                };
                opened = Some(Opened::new(content).await?);
            }
            self.write_message(*at, items, known, opened.as_ref(), read.contains(at)).await?;
        }
        Ok(all_there)
    }

    /// Reading sets `\Seen`; gives the places where it was not.
    async fn mark_seen(&mut self, places: &[usize], by: Numbering) -> Result<Vec<usize>, Fault> {
        let Some(view) = &mut self.view else { return Ok(Vec::new()) };
        let unseen =
            |at: &usize| view.entries.get(*at).is_some_and(|entry| !entry.flags.contains(Flags::SEEN));
        let unread: Vec<usize> = places.iter().copied().filter(unseen).collect();
        if unread.is_empty() {
            return Ok(unread);
        }
        let uids = view.uids(&unread);
        view.selected.store(uids.clone(), FlagChange::Add, Flags::SEEN, Vec::new()).await?;
        let delta = view.news().await?;
        for message in delta.changed.iter().filter(|message| uids.contains(&message.uid)) {
            if let Ok(at) = view.entries.binary_search_by_key(&message.uid, |entry| entry.uid)
                && let Some(entry) = view.entries.get_mut(at)
            {
                entry.flags = message.flags;
            }
        }
        let out = &mut self.connection.out;
        view.apply(delta, Expunges::Hold, by, out).map_err(|_| End::Bye(Bye::MailboxGone))?;
        Ok(unread)
    }

    async fn write_message(
        &mut self,
        at: usize,
        items: &[FetchItem],
        facts: Option<Facts>,
        opened: Option<&Opened>,
        was_read: bool,
    ) -> Result<(), Fault> {
        let tells_flags = items.contains(&FetchItem::Flags);
        self.connection.out.raw("* ").value(at + 1).raw(" FETCH (");
        for (n, item) in items.iter().enumerate() {
            if n > 0 {
                self.connection.out.raw(" ");
            }
            self.write_item(at, item, facts, opened).await?;
            // The same large part may be asked for many times in one command.
            self.connection.drain().await?;
        }
        if was_read && !tells_flags {
            self.connection.out.raw(" ");
            self.write_item(at, &FetchItem::Flags, facts, opened).await?;
        }
        self.connection.out.raw(")").end();
        Ok(self.connection.drain().await?)
    }

    async fn write_item(
        &mut self,
        at: usize,
        item: &FetchItem,
        facts: Option<Facts>,
        opened: Option<&Opened>,
    ) -> Result<(), Fault> {
        let Some((view, entry)) = self.view.as_ref().and_then(|view| Some((view, view.entries.get(at)?)))
        else {
            return Err(Reply::no_mailbox_open().into());
        };
        let out = &mut self.connection.out;
        let whole = |text| Section { part: Vec::new(), text };
        let (label, section, partial) = match (item, opened) {
            (FetchItem::Flags, _) => {
                out.raw("FLAGS ");
                flags::write(entry.flags, entry.is_recent, &view.keywords, out);
                return Ok(());
            }
            (FetchItem::Uid, _) => {
                out.raw("UID ").value(entry.uid);
                return Ok(());
            }
            (FetchItem::InternalDate, _) => {
                let date = facts.map(|facts| facts.internal_date).unwrap_or_default();
                out.raw("INTERNALDATE ").raw(&write_date_time(date));
                return Ok(());
            }
            (FetchItem::Rfc822Size, _) => {
                out.raw("RFC822.SIZE ").value(facts.map_or(0, |facts| facts.size));
                return Ok(());
            }
            (_, None) => return Err(Error::Unreachable("a message that was not opened".to_owned()).into()),
            (FetchItem::Body, Some(opened)) => {
                out.raw("BODY ");
                shape::write(opened, 0, shape::Detail::Basic, out);
                return Ok(());
            }
            (FetchItem::BodyStructure, Some(opened)) => {
                out.raw("BODYSTRUCTURE ");
                shape::write(opened, 0, shape::Detail::Extended, out);
                return Ok(());
            }
            (FetchItem::Envelope, Some(opened)) => {
                out.raw("ENVELOPE ");
                envelope::write(section::header(opened, 0), out);
                return Ok(());
            }
            (FetchItem::Rfc822, _) => ("RFC822".to_owned(), whole(SectionText::Whole), None),
            (FetchItem::Rfc822Header, _) => ("RFC822.HEADER".to_owned(), whole(SectionText::Header), None),
            (FetchItem::Rfc822Text, _) => ("RFC822.TEXT".to_owned(), whole(SectionText::Text), None),
            (FetchItem::BodySection { section, partial, .. }, _) => {
                (section::label(section, *partial), section.clone(), *partial)
            }
        };
        out.raw(&label).raw(" ");
        if let Some(opened) = opened {
            self.write_piece(section::cut(opened, &section, partial)).await?;
        }
        Ok(())
    }

    async fn write_piece(&mut self, piece: Option<Piece<'_>>) -> Result<(), Fault> {
        match piece {
            None => drop(self.connection.out.raw("NIL")),
            Some(Piece::Borrowed(bytes)) if bytes.len() > QUICK && !bytes.contains(&0) => {
                self.connection.out.announce(bytes.len());
                self.connection.write_through(bytes).await?;
            }
            Some(piece) => drop(self.connection.out.literal(piece.bytes())),
        }
        Ok(())
    }
}
