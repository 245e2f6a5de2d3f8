//! What changes in the greylist, for whoever shares it with other hosts; and the way back.
//!
//! Every change is told under the lock of what it changes, so the order is that of the changes, and nobody waits for who
//! hears of it: what is too much is dropped, and who follows is told that something was lost.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use ipnet::IpNet;
use mailgate_model::Timestamp;
use mailgate_proto::edgesync::{Body, Key, Kind, NEVER, Origin as Said_, State};
use tokio::sync::Notify;

use super::writer::Change;
use super::{
    Filter, Grey, Greylist, Identity, Kind as Listed, Known, Origin, Peer, PeerKind, Row, Said, TUPLES_LIMIT,
    Tuple,
};
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

    /// Makes `is` of what is now `was`, as another host says; false when it is something else, because of a change that
    /// is on its way to who follows. What is over counts as nothing. A key of a kind that is unknown here is left alone.
    pub fn exchange(&self, key: &Key, was: Option<Body>, is: Option<Body>) -> bool {
        told_by(Source::Shared, || match key.kind {
            Kind::TUPLE => self.exchange_tuple(key, was, is),
            Kind::NETWORK => self.exchange_network(key, was, is),
            Kind::IDENTITY => self.exchange_identity(key, was, is),
            Kind::TRAP_ADDRESS => {
                if self.is_trap(&key.text) != was.is_some() {
                    return false;
                }
                match is {
                    Some(_) => self.add_trap_address(&key.text),
                    None => self.forget_trap_address(&key.text),
                };
                true
            }
            _ => true,
        })
    }

    fn exchange_tuple(&self, key: &Key, was: Option<Body>, is: Option<Body>) -> bool {
        let mut parts = key.parts();
        let (Some(client), Some(reverse), Some(forward)) = (parts.next(), parts.next(), parts.next()) else {
            return true;
        };
        let Ok(client) = client.parse() else { return true };
        let tuple = Tuple { client, reverse_path: reverse.to_owned(), forward_path: forward.to_owned() };
        let (inner, now) = (&self.0, self.0.clock.now());
        let live =
            |grey: Option<Grey>| grey.filter(|grey| grey.expires > now).map(|grey| grey_body(grey.kept()));
        inner.tuples.change(&tuple, |place, state| {
            if live(*state) != live(was.map(body_grey)) {
                return false;
            }
            match is {
                Some(_) if state.is_none() && inner.tuples.len() >= TUPLES_LIMIT => {
                    inner.writer.count_unsaved()
                }
                Some(body) => {
                    *state = Some(body_grey(body));
                    inner.writer.push(Change::Shared(place, tuple.clone(), body_grey(body)));
                }
                None => {
                    *state = None;
                    inner.writer.push(Change::ForgetGrey(place, tuple.clone()));
                }
            }
            true
        })
    }

    fn exchange_identity(&self, key: &Key, was: Option<Body>, is: Option<Body>) -> bool {
        let Ok(identity) = key.text.parse::<Identity>() else { return true };
        let now = self.0.clock.now();
        let live = |known: Option<Known>| known.filter(|known| known.expires > now);
        self.change_identity(&identity, |known| {
            if live(*known) != live(was.map(body_known)) {
                return false;
            }
            *known = is.map(body_known);
            true
        })
    }

    fn exchange_network(&self, key: &Key, was: Option<Body>, is: Option<Body>) -> bool {
        let Ok(network) = key.text.parse::<IpNet>() else { return true };
        let (network, now) = (network.trunc(), self.0.clock.now());
        let live = |peer: Option<Peer>| peer.filter(|peer| peer.expires > now);
        self.0.index.change(network, |state| {
            if live(*state) != live(was.and_then(body_peer)) {
                return false;
            }
            *state = is.and_then(body_peer);
            self.0.writer.push(match *state {
                Some(peer) => Change::Peer(network, peer),
                None => Change::ForgetPeer(network),
            });
            true
        })
    }
}

fn tuple_key(tuple: &Tuple) -> Key {
    Key::of(Kind::TUPLE, &[&tuple.client.to_string(), &tuple.reverse_path, &tuple.forward_path])
}

fn identity_key(identity: &Identity) -> Key {
    Key::of(Kind::IDENTITY, &[&identity.to_string()])
}

/// Of two beginnings the earlier one holds, of two last messages the later one: these are counted backwards.
fn known_body(known: Known) -> Body {
    Body {
        origin: Said_::Learned,
        state: State::Passed,
        first: known.first.millis(),
        pass: known.last.millis().saturating_neg(),
        expires: known.expires.millis(),
        blocked: known.retries,
        passed: known.messages,
    }
}

fn body_known(body: Body) -> Known {
    let time = Timestamp::from_millis;
    Known {
        first: time(body.first),
        last: time(body.pass.saturating_neg()),
        expires: time(body.expires),
        messages: body.passed,
        retries: body.blocked,
    }
}

fn network_key(network: IpNet) -> Key {
    Key::of(Kind::NETWORK, &[&network.to_string()])
}

fn trap_key(address: &str) -> Key {
    Key::of(Kind::TRAP_ADDRESS, &[address])
}

fn grey_body(grey: Grey) -> Body {
    Body {
        origin: Said_::Learned,
        state: State::Grey,
        first: grey.first.millis(),
        pass: grey.pass.millis(),
        expires: grey.expires.millis(),
        blocked: grey.blocked,
        passed: grey.passed,
    }
}

fn body_grey(body: Body) -> Grey {
    let time = Timestamp::from_millis;
    Grey {
        first: time(body.first),
        pass: time(body.pass),
        expires: time(body.expires),
        blocked: body.blocked,
        passed: body.passed,
    }
}

fn peer_body(peer: Peer) -> Body {
    Body {
        origin: match peer.origin {
            Origin::Admin => Said_::Admin,
            Origin::Learned => Said_::Learned,
        },
        state: match peer.kind {
            PeerKind::Passed => State::Passed,
            PeerKind::Trapped => State::Trapped,
        },
        first: peer.first.millis(),
        pass: peer.pass.millis(),
        expires: peer.expires.millis(),
        blocked: peer.blocked,
        passed: peer.passed,
    }
}

/// `None` for a state that no network has.
fn body_peer(body: Body) -> Option<Peer> {
    let kind = match body.state {
        State::Passed => PeerKind::Passed,
        State::Trapped => PeerKind::Trapped,
        State::Grey => return None,
    };
    let origin = if body.origin == Said_::Admin { Origin::Admin } else { Origin::Learned };
    let grey = body_grey(body);
    let Grey { first, pass, expires, blocked, passed } = grey;
    Some(Peer { kind, origin, first, pass, expires, blocked, passed })
}

/// A trap address is a command and has no end.
fn trap_body(added: Timestamp) -> Body {
    let added = added.millis();
    Body {
        origin: Said_::Admin,
        state: State::Trapped,
        first: added,
        pass: added,
        expires: NEVER,
        blocked: 0,
        passed: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use mailgate_model::{Clock as _, ManualClock};

    use super::super::Next;
    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn tuple() -> Tuple {
        Tuple {
            client: "192.0.2.1/32".parse().unwrap(),
            reverse_path: "a@example.org".to_owned(),
            forward_path: "b@example.net".to_owned(),
        }
    }

    fn grey(first: Timestamp) -> Grey {
        Grey { first, pass: first.plus(MINUTE), expires: first.plus(MINUTE * 60), blocked: 1, passed: 0 }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    async fn greylist() -> (Greylist, ManualClock) {
        let clock = ManualClock::at(START);
        (Greylist::memory(Arc::new(clock.clone())).await.unwrap(), clock)
    }

    async fn heard(follower: &mut Follower) -> Vec<News> {
        match follower.next().await {
            Heard::News(news) => news,
            Heard::Lost => panic!("nothing was lost"),
        }
    }

    #[tokio::test]
    async fn changes_made_here_are_heard_in_their_order_and_those_of_other_hosts_are_not() {
        let (greylist, _) = greylist().await;
        let mut follower = greylist.follow();
        let said = Said { helo: "mx".to_owned(), ..Said::default() };
        greylist.attempt(&tuple(), &said, |_| Next::Defer(grey(START)));
        let network: IpNet = "198.51.100.7/32".parse().unwrap();
        told_by(Source::Datagram, || greylist.trap(network, MINUTE));
        greylist.add_trap_address("trap@example.net");
        greylist.forget_tuple(&tuple());
        let news = heard(&mut follower).await;
        let kinds: Vec<_> = news.iter().map(|one| (one.key.kind, one.source, one.body.is_some())).collect();
        assert_eq!(
            kinds,
            [
                (Kind::TUPLE, Source::Here, true),
                (Kind::NETWORK, Source::Datagram, true),
                (Kind::TRAP_ADDRESS, Source::Here, true),
                (Kind::TUPLE, Source::Here, false),
            ]
        );
        assert_eq!(news[0].said.as_ref().unwrap().helo, "mx");
        assert!(greylist.exchange(&news[0].key, None, news[0].body));
        greylist.add_trap_address("last@example.net");
        assert_eq!(heard(&mut follower).await.len(), 1, "only the last");
        assert_eq!(follower.all().await.unwrap().len(), 4);
    }

    #[tokio::test]
    async fn what_other_hosts_say_is_made_so_only_where_it_was_as_they_think() {
        let (greylist, clock) = greylist().await;
        let key = tuple_key(&tuple());
        let early = grey(Timestamp::from_secs(START.secs() - 30));
        assert!(greylist.exchange(&key, None, Some(grey_body(grey(START)))));
        assert!(!greylist.exchange(&key, None, Some(grey_body(early))), "there is something now");
        assert!(greylist.exchange(&key, Some(grey_body(grey(START))), Some(grey_body(early))));
        assert_eq!(greylist.state(&tuple()), Some(early));
        clock.advance(MINUTE * 61);
        assert!(greylist.exchange(&key, None, Some(grey_body(grey(clock.now())))), "what is over is nothing");
        // What was said here stays.
        greylist.attempt(&tuple(), &Said { helo: "mx".to_owned(), ..Said::default() }, |known| {
            Next::Defer(known.unwrap())
        });
        assert!(greylist.exchange(&key, Some(grey_body(grey(clock.now()))), Some(grey_body(early))));
        let network = network_key("192.0.2.0/24".parse().unwrap());
        let body = Body { state: State::Trapped, origin: Said_::Admin, ..grey_body(grey(clock.now())) };
        assert!(greylist.exchange(&network, None, Some(body)));
        assert!(matches!(
            greylist.standing("192.0.2.9".parse().unwrap()),
            super::super::Standing::Trapped(..)
        ));
        greylist.flush().await.unwrap();
        assert!(greylist.exchange(&network, Some(body), None));
        let identity = Identity::Spf("example.org".to_owned());
        let known = greylist.credit(&identity, super::super::Credit::Message, MINUTE).unwrap();
        let later = Known { last: known.last.plus(MINUTE), messages: 7, ..known };
        let joined = known_body(known).join(known_body(later));
        assert!(greylist.exchange(&identity_key(&identity), Some(known_body(known)), Some(joined)));
        assert_eq!(greylist.known(&identity), Some(later));
        for (kind, text) in
            [(Kind::TUPLE, "nonsense"), (Kind::IDENTITY, ""), (Kind::NETWORK, "x/99"), (Kind(99), "later")]
        {
            assert!(greylist.exchange(&Key::of(kind, &[text]), None, Some(body)), "left alone");
        }
    }

    #[tokio::test]
    async fn who_is_too_slow_hears_that_something_was_lost() {
        let (greylist, _) = greylist().await;
        let mut follower = greylist.follow();
        let network: IpNet = "198.51.100.7/32".parse().unwrap();
        for _ in 0..=NEWS_LIMIT {
            greylist.trap(network, MINUTE);
        }
        assert!(matches!(follower.next().await, Heard::Lost));
        drop(follower);
        greylist.trap(network, MINUTE);
    }
}
