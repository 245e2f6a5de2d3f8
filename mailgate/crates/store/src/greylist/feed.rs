//! What changes in the greylist, for whoever shares it with other hosts; the way back is in `exchange.rs`.
//!
//! Every change is told under the lock of what it changes, so the order is that of the changes, and nobody waits for who
//! hears of it: what is too much is dropped, and who follows is told that something was lost.

mod exchange;
mod form;

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use mailgate_proto::edgesync::{Body, Key};
use tokio::sync::Notify;

use self::form::{
    grey_body, identity_key, known_body, network_key, peer_body, trap_body, trap_key, tuple_key,
};
use super::writer::Change;
use super::{Filter, Greylist, Kind as Listed, Row, Said};
use crate::Error;

/// Changes that may wait for who follows; about 30 MB.
const NEWS_LIMIT: usize = 100_000;
/// Tuples that are read when somebody begins to follow; as many as are shared.
pub const SHARED_TUPLES: usize = 1_000_000;

/// Who made a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A client or the administrator, here.
    Here,
    /// A datagram of spamd(8); not to be told to others that speak this protocol.
    Datagram,
    /// Another host that shares its memory; nobody is told.
    Shared,
}

thread_local! {
    static SOURCE: Cell<Source> = const { Cell::new(Source::Here) };
}

/// Makes changes of the greylist in the name of `source`. `change` does not wait for anything.
pub fn told_by<T>(source: Source, change: impl FnOnce() -> T) -> T {
    struct Back(Source);
    impl Drop for Back {
        fn drop(&mut self) {
            SOURCE.set(self.0);
        }
    }
    let _back = Back(SOURCE.replace(source));
    change()
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Who made it.
    pub source: Source,
    /// Of what.
    pub key: Key,
    /// What it is now; `None` when it was deleted.
    pub body: Option<Body>,
    /// What a deferred client said.
    pub said: Option<Said>,
}

/// What [`Follower::next`] heard.
#[derive(Debug)]
pub enum Heard {
    /// Changes, in their order.
    News(Vec<News>),
    /// Too many changes at once: some were dropped, and the whole has to be read again.
    Lost,
}

#[derive(Default)]
struct Waiting {
    is_followed: bool,
    news: VecDeque<News>,
    is_lost: bool,
}

/// The ears of who follows; there is one.
#[derive(Default)]
pub(super) struct Feed {
    waiting: Mutex<Waiting>,
    some: Notify,
}

impl Feed {
    pub(super) fn note(&self, change: &Change) {
        let source = SOURCE.get();
        if source == Source::Shared {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.is_followed {
            return;
        }
        let Some(news) = news(source, change) else { return };
        if waiting.news.len() >= NEWS_LIMIT {
            waiting.news.clear();
            waiting.is_lost = true;
        }
        waiting.news.push_back(news);
        drop(waiting);
        self.some.notify_one();
    }
}

fn news(source: Source, change: &Change) -> Option<News> {
    let (key, body, said) = match change {
        Change::Grey(_, tuple, said, grey) => (tuple_key(tuple), Some(grey_body(*grey)), Some(said.clone())),
        Change::ForgetGrey(_, tuple) => (tuple_key(tuple), None, None),
        Change::Peer(network, peer) => (network_key(*network), Some(peer_body(*peer)), None),
        Change::ForgetPeer(network) => (network_key(*network), None, None),
        Change::Identity(identity, known) => (identity_key(identity), Some(known_body(*known)), None),
        Change::ForgetIdentity(identity) => (identity_key(identity), None, None),
        Change::TrapAddress(address, added) => (trap_key(address), Some(trap_body(*added)), None),
        Change::ForgetTrapAddress(address) => (trap_key(address), None, None),
        _ => return None,
    };
    Some(News { source, key, body, said })
}

/// Hears every change from its beginning on.
pub struct Follower {
    greylist: Greylist,
}

impl Follower {
    /// Waits for changes and gives all there are.
    pub async fn next(&mut self) -> Heard {
        let feed = self.greylist.0.writer.feed();
        loop {
            {
                let mut waiting = feed.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if std::mem::take(&mut waiting.is_lost) {
                    waiting.news.clear();
                    return Heard::Lost;
                }
                if !waiting.news.is_empty() {
                    return Heard::News(waiting.news.drain(..).collect());
                }
            }
            feed.some.notified().await;
        }
    }

    /// Everything there is now; what changes meanwhile is told too. Of the tuples a million.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn all(&self) -> Result<Vec<(Key, Body)>, Error> {
        let mut all = Vec::new();
        for (kind, limit) in [
            (Listed::Passed, None),
            (Listed::Trapped, None),
            (Listed::TrapAddress, None),
            (Listed::Grey, Some(SHARED_TUPLES)),
        ] {
            let filter = Filter { kind: Some(kind), limit, ..Filter::default() };
            all.extend(self.greylist.list(filter).await?.into_iter().map(|row| match row {
                Row::Grey { tuple, grey, .. } => (tuple_key(&tuple), grey_body(grey)),
                Row::Peer { network, peer } => (network_key(network), peer_body(peer)),
                Row::TrapAddress { address, added } => (trap_key(&address), trap_body(added)),
            }));
        }
        let identities = self.greylist.identities(None, usize::MAX);
        all.extend(identities.iter().map(|(identity, known)| (identity_key(identity), known_body(*known))));
        Ok(all)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let feed = self.greylist.0.writer.feed();
        *feed.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Waiting::default();
    }
}

impl Greylist {
    /// Begins to hear changes; a later call takes over from an earlier one.
    #[must_use]
    pub fn follow(&self) -> Follower {
        let feed = self.0.writer.feed();
        let mut waiting = feed.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = Waiting { is_followed: true, ..Waiting::default() };
        Follower { greylist: self.clone() }
    }
}

#[cfg(test)]
mod tests;
