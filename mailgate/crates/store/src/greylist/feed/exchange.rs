//! The way back: what another host says becomes so here, if nothing else came in between.

use ipnet::IpNet;
use mailgate_proto::edgesync::{Body, Key, Kind};

use super::super::writer::Change;
use super::super::{Grey, Greylist, Identity, Known, Peer, TUPLES_LIMIT, Tuple};
use super::form::{body_grey, body_known, body_peer, grey_body};
use super::{Source, told_by};

impl Greylist {
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
