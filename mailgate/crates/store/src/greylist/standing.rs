//! The standings of networks: learned, trapped, given by the administrator, and lost.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::writer::Change;
use super::{Greylist, Origin, Peer, PeerKind, Standing, Terms};

impl Greylist {
    /// What is known of `ip` now. Among entries of one kind the longest prefix decides. A standing given by the
    /// administrator beats a learned one, unless a trap names a smaller network; trapped beats passed otherwise.
    #[must_use]
    pub fn standing(&self, ip: IpAddr) -> Standing {
        self.0.index.standing(ip, self.0.clock.now())
    }

    /// Gives `network` a standing that was learned. One that the administrator gave to the same network stays, and a trap
    /// is not ended by a pass, which may be one of a session beside it or of another host; what stays is returned.
    pub fn learn(&self, network: IpNet, peer: Peer) -> Peer {
        let now = self.0.clock.now();
        let holds = |known: &Peer| {
            let is_trap = known.kind == PeerKind::Trapped && peer.kind == PeerKind::Passed;
            known.expires > now && (known.origin == Origin::Admin || is_trap)
        };
        self.0.index.change(network.trunc(), |state| match state {
            Some(known) if holds(known) => *known,
            _ => {
                *state = Some(peer);
                self.0.writer.push(Change::Peer(network.trunc(), peer));
                peer
            }
        })
    }

    /// Traps `network` until now + `span`. Trapping again counts and renews, and never shortens. Returns the standing
    /// the network has now: still passed when the administrator said so.
    pub fn trap(&self, network: IpNet, span: Duration) -> Peer {
        let now = self.0.clock.now();
        let known = self.0.index.at(network.trunc());
        let again = known.filter(|peer| peer.kind == PeerKind::Trapped && peer.expires > now);
        let peer = Peer {
            kind: PeerKind::Trapped,
            origin: Origin::Learned,
            first: again.map_or(now, |peer| peer.first),
            pass: again.map_or(now, |peer| peer.pass),
            // Counted from now, never inherited from an earlier standing.
            expires: again.map_or(now, |peer| peer.expires).max(now.plus(span)),
            blocked: again.map_or(1, |peer| peer.blocked.saturating_add(1)),
            passed: 0,
        };
        self.learn(network, peer)
    }

    /// As [`trap`](Self::trap), for a span that doubles with each time the network was trapped before, as long as that is
    /// not forgiven: by [`FORGIVEN_AFTER`] without a trap, by accepted mail, or by the administrator who frees it.
    pub fn trap_under(&self, network: IpNet, terms: &Terms) -> Peer {
        let network = network.trunc();
        let (now, past) = (self.0.clock.now(), self.0.index.past());
        let known = self.0.index.at(network);
        let again = known.is_some_and(|peer| peer.kind == PeerKind::Trapped && peer.expires > now);
        let before = past.times(network, now);
        // Who is trapped and hits again stays as long again, and is no worse for it.
        let span = terms.span(if again { before.saturating_sub(1) } else { before });
        let peer = self.trap(network, span);
        if peer.kind == PeerKind::Trapped {
            let times = if again { past.again(network, now) } else { past.add(network, now) };
            if let Some(times) = times {
                self.0.writer.push(Change::Past(network, Some(times)));
            }
        }
        peer
    }

    /// How often `network` was trapped, as far as that is not forgiven.
    #[must_use]
    pub fn times_trapped(&self, network: IpNet) -> u32 {
        self.0.index.past().times(network.trunc(), self.0.clock.now())
    }

    fn forgive(&self, inside: impl Fn(&IpNet) -> bool) {
        for network in self.0.index.past().forgive(inside) {
            self.0.writer.push(Change::Past(network, None));
        }
    }

    /// A message from `ip` was accepted: its passed entry is kept for `span` from now and counts one more. Says
    /// whether there was one. Trapped and unknown addresses stay what they are.
    pub fn accepted(&self, ip: IpAddr, span: Duration) -> bool {
        let now = self.0.clock.now();
        // Whatever length traps have; nearly always there is nothing to forgive.
        let lengths = if ip.to_canonical().is_ipv4() { 32..=32 } else { 32..=128 };
        for network in lengths.filter_map(|length| IpNet::new(ip.to_canonical(), length).ok()) {
            let network = network.trunc();
            if self.0.index.past().forgive_one(network) {
                self.0.writer.push(Change::Past(network, None));
            }
        }
        let Standing::Passed(network, _) = self.0.index.standing(ip, now) else { return false };
        self.0.index.change(network, |state| match state {
            Some(peer) if peer.kind == PeerKind::Passed => {
                peer.passed = peer.passed.saturating_add(1);
                // Never shortened: of two statements the one that lasts longer holds.
                peer.expires = peer.expires.max(now.plus(span));
                self.0.writer.push(Change::Peer(network, *peer));
                true
            }
            _ => false,
        })
    }

    /// The watcher is to hear of `ip` again, because its copy seems not to know.
    pub fn tell_again(&self, ip: IpAddr) {
        match self.standing(ip) {
            Standing::Passed(network, _) | Standing::Trapped(network, _) => {
                self.0.index.noted().note(network)
            }
            Standing::Unknown => {}
        }
    }

    /// Gives `network` a standing by command of the administrator; replaces whatever it had, and passing a network
    /// frees every trapped address inside it.
    pub fn admit(&self, network: IpNet, peer: Peer) {
        let network = network.trunc();
        if peer.kind == PeerKind::Passed {
            for inside in self.0.index.trapped_inside(network) {
                self.forget_peer(inside, PeerKind::Trapped);
            }
            self.forgive(|past| network.contains(past));
        }
        self.0.index.change(network, |state| {
            *state = Some(peer);
            self.0.writer.push(Change::Peer(network, peer));
        });
    }

    /// Removes the standing of exactly `network` if it is of `kind`. Says whether there was one.
    pub fn forget_peer(&self, network: IpNet, kind: PeerKind) -> bool {
        let network = network.trunc();
        if kind == PeerKind::Trapped && self.0.index.past().forgive_one(network) {
            self.0.writer.push(Change::Past(network, None));
        }
        self.0.index.change(network, |state| {
            let found = state.is_some_and(|peer| peer.kind == kind);
            if found {
                *state = None;
                self.0.writer.push(Change::ForgetPeer(network));
            }
            found
        })
    }
}
