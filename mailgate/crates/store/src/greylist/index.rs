//! The memory in which lookups are answered.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ipnet::IpNet;
use mailgate_model::Timestamp;

use super::past::Past;
use super::watch::Noted;
use super::{Origin, Peer, PeerKind, Standing};

/// Standings of networks, and trap addresses.
#[derive(Default)]
pub(super) struct Index {
    peers: RwLock<Peers>,
    traps: RwLock<HashSet<String>>,
    past: Past,
    noted: Noted,
}

#[derive(Default)]
struct Peers {
    by_network: HashMap<IpNet, Peer>,
    /// How many networks have a prefix length; only these are probed. 0 to 32 are IPv4, 200 + length is IPv6.
    lengths: BTreeMap<u16, usize>,
}

/// Sets the lengths of IPv6 apart from those of IPv4 in one ordered map.
const V6_LENGTHS: u16 = 200;

fn length_class(network: IpNet) -> u16 {
    match network {
        IpNet::V4(v4) => u16::from(v4.prefix_len()),
        IpNet::V6(v6) => V6_LENGTHS + u16::from(v6.prefix_len()),
    }
}

impl Peers {
    fn insert(&mut self, network: IpNet, peer: Peer) {
        if self.by_network.insert(network, peer).is_none() {
            *self.lengths.entry(length_class(network)).or_default() += 1;
        }
    }

    fn remove(&mut self, network: IpNet) {
        if self.by_network.remove(&network).is_none() {
            return;
        }
        let class = length_class(network);
        if let Some(count) = self.lengths.get_mut(&class) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&class);
            }
        }
    }

    /// Entries that hold `ip`, the most specific first.
    fn holding(&self, ip: IpAddr) -> impl Iterator<Item = (IpNet, Peer)> {
        let base = if ip.is_ipv4() { 0 } else { V6_LENGTHS };
        let span = if ip.is_ipv4() { 32 } else { 128 };
        self.lengths.range(base..=base + span).rev().filter_map(move |(class, _)| {
            let length = u8::try_from(class - base).ok()?;
            let network = IpNet::new(ip, length).ok()?.trunc();
            Some((network, *self.by_network.get(&network)?))
        })
    }
}

impl Index {
    pub(super) fn standing(&self, ip: IpAddr, now: Timestamp) -> Standing {
        let ip = ip.to_canonical();
        let peers = self.peers();
        let live = || peers.holding(ip).filter(|(_, peer)| peer.expires > now);
        let trapped = live().find(|(_, peer)| peer.kind == PeerKind::Trapped);
        let passed = |origin| live().find(|(_, peer)| peer.kind == PeerKind::Passed && peer.origin == origin);
        let admin = passed(Origin::Admin);
        match (trapped, admin) {
            // The longer prefix says more of this address; a network has one standing, so they are never equal.
            (Some((trap, peer)), Some((admin, _))) if trap.prefix_len() > admin.prefix_len() => {
                Standing::Trapped(trap, peer)
            }
            (_, Some((network, peer))) => Standing::Passed(network, peer),
            (Some((network, peer)), None) => Standing::Trapped(network, peer),
            (None, None) => match passed(Origin::Learned) {
                Some((network, peer)) => Standing::Passed(network, peer),
                None => Standing::Unknown,
            },
        }
    }

    pub(super) fn at(&self, network: IpNet) -> Option<Peer> {
        self.peers().by_network.get(&network).copied()
    }

    /// Changes or looks at the standing of one network under the lock.
    pub(super) fn change<T>(&self, network: IpNet, change: impl FnOnce(&mut Option<Peer>) -> T) -> T {
        let mut peers = self.peers_mut();
        let before = peers.by_network.get(&network).copied();
        let mut state = before;
        let answer = change(&mut state);
        match state {
            Some(peer) => peers.insert(network, peer),
            None => peers.remove(network),
        }
        let says = |peer: Option<Peer>| peer.map(|peer| (peer.kind, peer.origin));
        // One that had ended and is renewed is news too; two that are told and are none do no harm.
        if says(before) != says(state)
            || before.is_some_and(|before| {
                state.is_some_and(|state| state.first != before.first || state.pass != before.pass)
            })
        {
            self.noted.note(network);
        }
        answer
    }

    /// What is remembered of traps that ended.
    pub(super) fn past(&self) -> &Past {
        &self.past
    }

    pub(super) fn noted(&self) -> &Noted {
        &self.noted
    }

    /// Every standing that has not ended.
    pub(super) fn live(&self, now: Timestamp) -> Vec<(IpNet, Peer)> {
        let peers = self.peers();
        let live = peers.by_network.iter().filter(|(_, peer)| peer.expires > now);
        live.map(|(network, peer)| (*network, *peer)).collect()
    }

    /// Networks whose standing ended after `from` and not after `to`, or the other way round: a clock that was set back
    /// makes them live again.
    pub(super) fn ended_between(&self, from: Timestamp, to: Timestamp) -> Vec<IpNet> {
        let (from, to) = (from.min(to), from.max(to));
        let peers = self.peers();
        let ended = peers.by_network.iter().filter(|(_, peer)| peer.expires > from && peer.expires <= to);
        ended.map(|(network, _)| *network).collect()
    }

    pub(super) fn trapped_inside(&self, network: IpNet) -> Vec<IpNet> {
        let peers = self.peers();
        let inside = peers.by_network.iter().filter(|(candidate, peer)| {
            peer.kind == PeerKind::Trapped && network.contains(*candidate) && **candidate != network
        });
        inside.map(|(candidate, _)| *candidate).collect()
    }

    pub(super) fn sweep(&self, until: Timestamp) -> usize {
        let mut peers = self.peers_mut();
        let gone: Vec<IpNet> =
            peers.by_network.iter().filter(|(_, peer)| peer.expires <= until).map(|(net, _)| *net).collect();
        gone.iter().for_each(|network| peers.remove(*network));
        gone.len()
    }

    pub(super) fn is_trap(&self, address: &str) -> bool {
        self.traps.read().unwrap_or_else(PoisonError::into_inner).contains(address)
    }

    pub(super) fn change_traps<T>(&self, change: impl FnOnce(&mut HashSet<String>) -> T) -> T {
        change(&mut self.traps.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Passed, trapped, trap addresses.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let peers = self.peers();
        let passed = peers.by_network.values().filter(|peer| peer.kind == PeerKind::Passed).count();
        let traps = self.traps.read().unwrap_or_else(PoisonError::into_inner).len();
        (passed, peers.by_network.len() - passed, traps)
    }

    fn peers(&self) -> RwLockReadGuard<'_, Peers> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers_mut(&self) -> RwLockWriteGuard<'_, Peers> {
        self.peers.write().unwrap_or_else(PoisonError::into_inner)
    }
}
