//! Entries of the greylist in the form that hosts exchange, and back.

use ipnet::IpNet;
use mailgate_model::Timestamp;
use mailgate_proto::edgesync::{Body, Key, Kind, NEVER, Origin as Said, State};

use super::super::{Grey, Identity, Known, Origin, Peer, PeerKind, Tuple};

pub(super) fn tuple_key(tuple: &Tuple) -> Key {
    Key::of(Kind::TUPLE, &[&tuple.client.to_string(), &tuple.reverse_path, &tuple.forward_path])
}

pub(super) fn identity_key(identity: &Identity) -> Key {
    Key::of(Kind::IDENTITY, &[&identity.to_string()])
}

/// Of two beginnings the earlier one holds, of two last messages the later one: these are counted backwards.
pub(super) fn known_body(known: Known) -> Body {
    Body {
        origin: Said::Learned,
        state: State::Passed,
        first: known.first.millis(),
        pass: known.last.millis().saturating_neg(),
        expires: known.expires.millis(),
        blocked: known.retries,
        passed: known.messages,
    }
}

pub(super) fn body_known(body: Body) -> Known {
    let time = Timestamp::from_millis;
    Known {
        first: time(body.first),
        last: time(body.pass.saturating_neg()),
        expires: time(body.expires),
        messages: body.passed,
        retries: body.blocked,
    }
}

pub(super) fn network_key(network: IpNet) -> Key {
    Key::of(Kind::NETWORK, &[&network.to_string()])
}

pub(super) fn trap_key(address: &str) -> Key {
    Key::of(Kind::TRAP_ADDRESS, &[address])
}

pub(super) fn grey_body(grey: Grey) -> Body {
    Body {
        origin: Said::Learned,
        state: State::Grey,
        first: grey.first.millis(),
        pass: grey.pass.millis(),
        expires: grey.expires.millis(),
        blocked: grey.blocked,
        passed: grey.passed,
    }
}

pub(super) fn body_grey(body: Body) -> Grey {
    let time = Timestamp::from_millis;
    Grey {
        first: time(body.first),
        pass: time(body.pass),
        expires: time(body.expires),
        blocked: body.blocked,
        passed: body.passed,
    }
}

pub(super) fn peer_body(peer: Peer) -> Body {
    Body {
        origin: match peer.origin {
            Origin::Admin => Said::Admin,
            Origin::Learned => Said::Learned,
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
pub(super) fn body_peer(body: Body) -> Option<Peer> {
    let kind = match body.state {
        State::Passed => PeerKind::Passed,
        State::Trapped => PeerKind::Trapped,
        State::Grey => return None,
    };
    let origin = if body.origin == Said::Admin { Origin::Admin } else { Origin::Learned };
    let grey = body_grey(body);
    let Grey { first, pass, expires, blocked, passed } = grey;
    Some(Peer { kind, origin, first, pass, expires, blocked, passed })
}

/// A trap address is a command and has no end.
pub(super) fn trap_body(added: Timestamp) -> Body {
    let added = added.millis();
    Body {
        origin: Said::Admin,
        state: State::Trapped,
        first: added,
        pass: added,
        expires: NEVER,
        blocked: 0,
        passed: 0,
    }
}
