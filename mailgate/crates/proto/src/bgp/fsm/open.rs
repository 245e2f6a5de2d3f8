//! From the connection to the session: OPEN, what both sides can, and two connections at once.

use std::time::Duration;

use mailgate_model::Timestamp;

use super::super::{
    AsWidth, Capability, Cease, Families, Family, Message, Misbehaved, Notification, Open, Refresh, Relation,
    Session,
};
use super::link::Link;
use super::{Command, Machine, Parameters, State, Way};

/// RFC 8538 §2: a NOTIFICATION does not end what graceful restart keeps. Not: that we have restarted, of which we say
/// nothing because we keep no forwarding state.
const OVER_NOTIFICATION: u8 = 4;

/// We take several paths and send one (RFC 7911 §4).
const RECEIVE: u8 = 1;

impl Machine {
    /// Sends our OPEN on a fresh connection.
    pub(super) fn open(&mut self, way: Way, now: Timestamp) -> Vec<Command> {
        let Parameters { local_as, identifier, hold_time, families, add_path, .. } = self.parameters;
        let mut capabilities = Vec::new();
        if !self.is_plain {
            for (afi, safi) in families.iter().map(Family::codes) {
                capabilities.push(Capability::Multiprotocol(afi, safi));
            }
            capabilities.push(Capability::RouteRefresh);
            capabilities.push(Capability::ExtendedMessage);
            // No family: we have nothing to keep, but want to be told the end of the routes (RFC 4724 §3).
            let (flags, time, none) = (OVER_NOTIFICATION, 0, Vec::new());
            capabilities.push(Capability::GracefulRestart { flags, time, families: none });
            capabilities.push(Capability::FourOctetAs(local_as));
            if add_path {
                let mode = |(afi, safi)| (afi, safi, RECEIVE);
                capabilities
                    .push(Capability::AddPath(families.iter().map(Family::codes).map(mode).collect()));
            }
            capabilities.push(Capability::EnhancedRouteRefresh);
        }
        let hold_time = u16::try_from(hold_time.as_secs()).unwrap_or(u16::MAX);
        let open = Open::new(local_as, hold_time, identifier, capabilities);
        *self.place(way) = Some(Link::new(now));
        self.send(way, &Message::Open(open), now).into_iter().collect()
    }

    /// The peer's OPEN is there.
    pub(super) fn opened(&mut self, way: Way, open: &Open, now: Timestamp) -> Vec<Command> {
        let (session, hold) = match self.agree(open) {
            Ok(agreed) => agreed,
            Err(misbehaved) => return self.misbehaved(way, &misbehaved, now),
        };
        let mut commands = Vec::new();
        if self.link(way.other()).is_some_and(|other| other.state != State::OpenSent) {
            if self.keeps(open) != way {
                return self.collide(way, now);
            }
            commands = self.collide(way.other(), now);
        }
        let Some(link) = self.link_mut(way) else { return commands };
        (link.session, link.hold, link.peer) = (session, hold, open.identifier);
        link.state = State::OpenConfirm;
        link.heard(now);
        commands.extend(self.keepalive(way, now));
        commands
    }

    /// Which of two connections stays (RFC 4271 §6.8): that of the speaker with the higher identifier, or with the higher AS
    /// where they have the same (RFC 6286 §2.3).
    fn keeps(&self, open: &Open) -> Way {
        let Parameters { local_as, peer_as, identifier, .. } = self.parameters;
        let (ours, theirs) = ((u32::from(identifier), local_as), (u32::from(open.identifier), peer_as));
        if ours > theirs { Way::Out } else { Way::In }
    }

    /// Closes the connection that is one too many; the session goes on over the other.
    fn collide(&mut self, way: Way, now: Timestamp) -> Vec<Command> {
        let notification = Message::Notification(Notification::cease(Cease::Collision, ""));
        let mut commands: Vec<Command> = self.send(way, &notification, now).into_iter().collect();
        *self.place(way) = None;
        commands.push(Command::Close(way));
        commands
    }

    /// The session is up over `way`: what the other connection was doing is over.
    pub(super) fn drop_other(&mut self, way: Way, now: Timestamp) -> Vec<Command> {
        let other = way.other();
        if self.link(other).is_some() {
            return self.collide(other, now);
        }
        let is_connecting = other == Way::Out && self.base == State::Connect;
        is_connecting.then_some(Command::Close(Way::Out)).into_iter().collect()
    }

    /// Checks the peer's OPEN (RFC 4271 §6.2) and comes to what both sides can, and the hold time.
    fn agree(&self, open: &Open) -> Result<(Session, Duration), Misbehaved> {
        let Parameters { local_as, peer_as, identifier, hold_time, families, add_path, .. } = self.parameters;
        let found = open.asn();
        if found != peer_as {
            return Err(Misbehaved::BadPeerAs { found, expected: peer_as });
        }
        let relation = if local_as == peer_as { Relation::Internal } else { Relation::External };
        // RFC 6286 §2.1 and §2.2.
        let is_ours = relation == Relation::Internal && open.identifier == identifier;
        if open.identifier.is_unspecified() || is_ours {
            return Err(Misbehaved::BadIdentifier(open.identifier));
        }
        if matches!(open.hold_time, 1 | 2) {
            return Err(Misbehaved::BadHoldTime(open.hold_time));
        }
        let hold = hold_time.min(Duration::from_secs(open.hold_time.into()));
        if self.is_plain {
            // Without capabilities of ours the session carries IPv4 unicast alone, in two bytes.
            let families =
                Families::filter(|family| family == Family::Ipv4Unicast && families.contains(family));
            return Ok((Session { relation, families, ..Session::default() }, hold));
        }
        let has = |wanted: &Capability| open.capabilities.contains(wanted);
        let families = Families::filter(|family| families.contains(family) && open.speaks(family));
        let refresh = match (has(&Capability::EnhancedRouteRefresh), has(&Capability::RouteRefresh)) {
            (true, _) => Refresh::Enhanced,
            (false, true) => Refresh::Plain,
            (false, false) => Refresh::None,
        };
        let session = Session {
            as_width: if open.four_octet_as().is_some() { AsWidth::Four } else { AsWidth::Two },
            relation,
            families,
            add_path: Families::filter(|family| {
                add_path && families.contains(family) && open.sends_paths(family)
            }),
            extended: has(&Capability::ExtendedMessage),
            refresh,
            restart: open.restart(),
        };
        Ok((session, hold))
    }

    /// Sends a KEEPALIVE and sets the time of the next, a third of the hold time (RFC 4271 §4.4).
    pub(super) fn keepalive(&mut self, way: Way, now: Timestamp) -> Vec<Command> {
        let hold = self.link(way).map_or(Duration::ZERO, |link| link.hold);
        let pause = self.pause.jittered(hold / 3);
        if let Some(link) = self.link_mut(way) {
            link.keepalive_at = (!hold.is_zero()).then(|| now.plus(pause));
        }
        self.send(way, &Message::Keepalive, now).into_iter().collect()
    }
}
