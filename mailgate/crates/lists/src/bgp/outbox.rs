//! What is announced to one neighbour: the whole set that is wanted, and how far the neighbour has been told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use mailgate_proto::bgp::{Advert, NextHops, Session, Update, announce, withdraw};
use tokio::sync::Notify;

/// Everything that a neighbour should know of us.
type Wanted = BTreeMap<IpNet, Arc<Advert>>;

/// Most prefixes told in one go; the rest follows when these have been taken.
const TURN: usize = 20_000;

/// What is wanted; shared between whoever decides and the session.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    wanted: Mutex<Arc<Wanted>>,
    /// Wakes the session.
    pub(super) changed: Notify,
}

impl Outbox {
    /// Replaces the whole set.
    pub(crate) fn set(&self, wanted: Wanted) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(wanted);
        self.changed.notify_one();
    }

    fn wanted(&self) -> Arc<Wanted> {
        Arc::clone(&self.wanted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What one session has been told.
#[derive(Debug, Default)]
pub(super) struct Told {
    told: Wanted,
    /// Whether there may be a difference to what is wanted.
    pub(super) is_behind: bool,
}

impl Told {
    /// A new session, or a refresh: nothing counts as told.
    pub(super) fn begin(&mut self) {
        self.told.clear();
        self.is_behind = true;
    }

    pub(super) fn len(&self) -> usize {
        self.told.len()
    }

    /// The next messages, at most for [`TURN`] prefixes; [`is_behind`](Self::is_behind) says afterwards whether more follow.
    pub(super) fn next(
        &mut self,
        outbox: &Outbox,
        local_as: u32,
        hops: NextHops,
        session: &Session,
    ) -> Vec<Update> {
        let wanted = outbox.wanted();
        let gone: Vec<IpNet> =
            self.told.keys().filter(|prefix| !wanted.contains_key(*prefix)).take(TURN).copied().collect();
        let mut by_advert: BTreeMap<Arc<Advert>, Vec<IpNet>> = BTreeMap::new();
        let news = wanted.iter().filter(|(prefix, advert)| self.told.get(*prefix) != Some(*advert));
        let mut count = gone.len();
        for (prefix, advert) in news.take(TURN - gone.len()) {
            by_advert.entry(Arc::clone(advert)).or_default().push(*prefix);
            count += 1;
        }
        let mut updates = withdraw(&gone, session);
        gone.iter().for_each(|prefix| drop(self.told.remove(prefix)));
        for (advert, prefixes) in by_advert {
            updates.extend(announce(&prefixes, &advert, local_as, hops, session));
            self.told.extend(prefixes.into_iter().map(|prefix| (prefix, Arc::clone(&advert))));
        }
        self.is_behind = count >= TURN;
        updates
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use mailgate_proto::bgp::{AsWidth, Community, Families};

    use super::*;

    #[test]
    fn a_session_is_told_differences_alone_and_never_more_than_a_turn() {
        let session = Session { as_width: AsWidth::Four, families: Families::ALL, ..Session::default() };
        let hops = NextHops { v4: Ipv4Addr::LOCALHOST, v6: std::net::Ipv6Addr::LOCALHOST };
        let host = |n: u32| IpNet::from(std::net::IpAddr::from(Ipv4Addr::from(0xc612_0000 + n)));
        let mark =
            |low| Arc::new(Advert { communities: vec![Community::new(65_500, low)], ..Advert::default() });
        let (outbox, mut told) = (Outbox::default(), Told::default());
        let mut wanted: Wanted = (0..30_000).map(|n| (host(n), mark(1))).collect();
        outbox.set(wanted.clone());
        told.begin();
        let next = |told: &mut Told| {
            let updates = told.next(&outbox, 65_500, hops, &session);
            let announced: usize = updates.iter().map(|update| update.all_announced().count()).sum();
            let withdrawn: usize = updates.iter().map(|update| update.all_withdrawn().count()).sum();
            (announced, withdrawn, told.is_behind)
        };
        assert_eq!(next(&mut told), (20_000, 0, true));
        assert_eq!(next(&mut told), (10_000, 0, false));
        assert_eq!(next(&mut told), (0, 0, false));
        wanted.remove(&host(7));
        wanted.insert(host(8), mark(2));
        wanted.insert(host(40_000), mark(2));
        outbox.set(wanted);
        assert_eq!(next(&mut told), (2, 1, false));
        assert_eq!(told.len(), 30_000);
    }
}
