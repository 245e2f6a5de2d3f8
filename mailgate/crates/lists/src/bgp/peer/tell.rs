//! What the peer is told: our lists, their end, and their refresh.

use std::net::IpAddr;

use mailgate_model::Timestamp;
use mailgate_proto::bgp::{Asked, Event, NextHops, Session, Update, Way};

use super::{NO_IDENTIFIER, Peer};

/// While more bytes than these wait to be sent, nothing more is announced.
const UNSENT_LIMIT: usize = 1024 * 1024;

impl Peer {
    /// Tells the peer what it does not know yet, as far as TCP takes it.
    pub(super) fn announce(&mut self) {
        let now = self.shared.clock.now();
        while let Some((way, session)) = self.machine.way().zip(self.machine.session()) {
            if !self.config.announces || self.wires.unsent(way) > UNSENT_LIMIT {
                return;
            }
            if !self.told.is_behind {
                return self.ended(session, now);
            }
            let hops = self.hops(way);
            for update in self.told.next(&self.outbox, self.config.local_as, hops, &session) {
                let commands = self.machine.handle(Event::Announce(&update), now);
                self.obey(commands.into(), now);
            }
        }
    }

    /// Everything has been told: says so, once in a session and after each refresh.
    fn ended(&mut self, session: Session, now: Timestamp) {
        if !std::mem::replace(&mut self.has_ended, true) {
            for family in session.families.iter() {
                let commands = self.machine.handle(Event::Announce(&Update::end_of_rib(family)), now);
                self.obey(commands.into(), now);
            }
        }
        for family in std::mem::take(&mut self.refreshing) {
            let commands = self.machine.mark(family, Asked::Ends, now);
            self.obey(commands.into(), now);
        }
    }

    /// Where packets for what we announce would go.
    fn hops(&mut self, way: Way) -> NextHops {
        let local = self.wires.local(way);
        let v4 = match local {
            Some(IpAddr::V4(address)) => address,
            _ => self.config.router_id.unwrap_or(NO_IDENTIFIER),
        };
        let v6 = match (self.config.next_hop_v6, local) {
            (Some(address), _) => address,
            (None, Some(IpAddr::V6(address))) => address,
            _ => v4.to_ipv6_mapped(),
        };
        NextHops { v4, v6 }
    }
}
