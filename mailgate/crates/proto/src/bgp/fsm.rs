//! The session with one neighbour: RFC 4271 §8, with one connection that we open and one that the neighbour opens.
//!
//! Pure: it is told what happened and what time it is, and says what to do. Each connection is a [`Link`]; when both come
//! up, one of them is closed (§6.8). Pauses before connecting anew double up to a limit, with jitter, because some route
//! servers allow one connection per client and take quick reconnects ill; a session that comes up and goes down again and
//! again waits much longer (§8.1.1, DampPeerOscillations), and is not let in meanwhile either.

mod ending;
mod link;
mod open;
mod pause;
mod terms;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::time::Duration;

use mailgate_model::Timestamp;

use super::{Families, Family, Message, Misbehaved, Refresh, RouteRefresh, Session, Update};
use ending::down;
use link::Link;
use pause::Pause;
pub use terms::{Asked, Command, Event, Loss, Mode, Parameters, Patience, State, Way};

/// Longest wait for TCP.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// The session with one neighbour.
#[derive(Debug)]
pub struct Machine {
    parameters: Parameters,
    /// Idle, Connect or Active: of the connection that we open, or are waiting to open.
    base: State,
    inward: Option<Link>,
    outward: Option<Link>,
    /// When to connect anew, or to give up connecting.
    retry_at: Option<Timestamp>,
    established_at: Option<Timestamp>,
    pause: Pause,
    is_stopped: bool,
    /// The peer refused our optional parameters: the next OPEN has none (RFC 5492 §3).
    is_plain: bool,
    received: u64,
    sent: u64,
}

impl Machine {
    /// A session that has not begun.
    #[must_use]
    pub fn new(parameters: Parameters) -> Self {
        let pause = Pause::new(parameters.patience, parameters.seed);
        Self {
            parameters,
            base: State::Idle,
            inward: None,
            outward: None,
            retry_at: None,
            established_at: None,
            pause,
            is_stopped: true,
            is_plain: false,
            received: 0,
            sent: 0,
        }
    }

    /// Where it is: as far as the better of the connections has come.
    #[must_use]
    pub fn state(&self) -> State {
        let rank = |state: &State| match state {
            State::Established => 2,
            State::OpenConfirm => 1,
            _ => 0,
        };
        let links = [&self.inward, &self.outward].into_iter().flatten();
        links.map(|link| link.state).max_by_key(rank).unwrap_or(self.base)
    }

    /// What was agreed on, while the session is established.
    #[must_use]
    pub fn session(&self) -> Option<Session> {
        self.established().map(|(_, link)| link.session)
    }

    /// The peer's identifier, while the session is established.
    #[must_use]
    pub fn peer_identifier(&self) -> Option<Ipv4Addr> {
        self.established().map(|(_, link)| link.peer)
    }

    /// Which connection carries the established session.
    #[must_use]
    pub fn way(&self) -> Option<Way> {
        self.established().map(|(way, _)| way)
    }

    /// Longest message that may arrive.
    #[must_use]
    pub fn message_limit(&self, way: Way) -> usize {
        self.link(way).map_or(super::MESSAGE_LIMIT, |link| link.session.message_limit())
    }

    /// Messages received and sent, over all sessions.
    #[must_use]
    pub fn messages(&self) -> (u64, u64) {
        (self.received, self.sent)
    }

    /// The hold time agreed on; zero for none, or when there is no session.
    #[must_use]
    pub fn hold_time(&self) -> Duration {
        let link =
            self.established().map(|(_, link)| link).or(self.outward.as_ref()).or(self.inward.as_ref());
        link.map_or(Duration::ZERO, |link| link.hold)
    }

    /// Whether the session is held down because it came up and went down too often, or as [`Event::End`] said.
    #[must_use]
    pub fn is_damped(&self) -> bool {
        self.pause.is_damped
    }

    /// Changes our identifier, for the next session.
    pub fn identify(&mut self, identifier: Ipv4Addr) {
        self.parameters.identifier = identifier;
    }

    /// When to come with [`Event::Tick`] if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        let links = [&self.inward, &self.outward].into_iter().flatten().filter_map(Link::deadline);
        links.chain(self.retry_at).min()
    }

    /// Takes what happened and says what to do.
    pub fn handle(&mut self, event: Event<'_>, now: Timestamp) -> Vec<Command> {
        match event {
            Event::Start => self.start(now),
            Event::Connected if self.base == State::Connect => {
                (self.base, self.retry_at) = (State::Idle, None);
                self.open(Way::Out, now)
            }
            Event::Connected => vec![Command::Close(Way::Out)],
            Event::Accepted => self.accepted(now),
            Event::Closed(way, why) => self.closed(way, why, now),
            Event::Received(way, frame) => self.received(way, frame, now),
            Event::Garbled(way, misbehaved) => self.misbehaved(way, &misbehaved, now),
            Event::Flushed(way) => {
                self.link_mut(way).into_iter().for_each(|link| link.send_hold_until = None);
                Vec::new()
            }
            Event::Announce(update) => {
                let Some(way) = self.way() else { return Vec::new() };
                self.send(way, &Message::Update(Box::new(update.clone())), now).into_iter().collect()
            }
            Event::Refresh => self.ask_anew(now),
            Event::End(notification, after) => self.end(&notification, after, now),
            Event::Reset(text) => self.reset(text, now),
            Event::Stop(text) => self.stop(text, now),
            Event::Tick => self.tick(now),
        }
    }

    /// Says that all our routes of the refreshed families follow, or were sent (RFC 7313 §4.1); without effect where that was
    /// not agreed on.
    pub fn mark(&mut self, family: Family, asked: Asked, now: Timestamp) -> Vec<Command> {
        let Some((way, session)) = self.way().zip(self.session()) else { return Vec::new() };
        if session.refresh != Refresh::Enhanced && asked != Asked::Wanted {
            return Vec::new();
        }
        let (afi, safi) = family.codes();
        let subtype = match asked {
            Asked::Wanted => 0,
            Asked::Begins => 1,
            Asked::Ends => 2,
        };
        let message = Message::RouteRefresh(RouteRefresh { afi, subtype, safi });
        self.send(way, &message, now).into_iter().collect()
    }

    fn established(&self) -> Option<(Way, &Link)> {
        let link =
            |way| self.link(way).filter(|link| link.state == State::Established).map(|link| (way, link));
        Way::ALL.into_iter().find_map(link)
    }

    fn link(&self, way: Way) -> Option<&Link> {
        match way {
            Way::In => self.inward.as_ref(),
            Way::Out => self.outward.as_ref(),
        }
    }

    fn link_mut(&mut self, way: Way) -> Option<&mut Link> {
        self.place(way).as_mut()
    }

    fn place(&mut self, way: Way) -> &mut Option<Link> {
        match way {
            Way::In => &mut self.inward,
            Way::Out => &mut self.outward,
        }
    }

    fn start(&mut self, now: Timestamp) -> Vec<Command> {
        self.is_stopped = false;
        self.pause.is_damped = false;
        let is_waiting = matches!(self.base, State::Idle | State::Active);
        if is_waiting && self.inward.is_none() && self.outward.is_none() {
            self.begin(now)
        } else {
            Vec::new()
        }
    }

    /// Connects, or waits for the neighbour to do so.
    fn begin(&mut self, now: Timestamp) -> Vec<Command> {
        self.pause.is_damped = false;
        if self.parameters.mode == Mode::Passive {
            (self.base, self.retry_at) = (State::Active, None);
            return Vec::new();
        }
        (self.base, self.retry_at) = (State::Connect, Some(now.plus(CONNECT_LIMIT)));
        vec![Command::Connect]
    }

    /// The neighbour connects.
    fn accepted(&mut self, now: Timestamp) -> Vec<Command> {
        if self.parameters.mode == Mode::Active || self.is_stopped || self.pause.is_damped {
            return Vec::new();
        }
        let mut commands = Vec::new();
        match self.established().map(|(way, link)| (way, link.session.restart.is_some())) {
            // RFC 4724 §5: a peer that might restart has done so, and the old connection has not noticed yet.
            Some((way, true)) => {
                commands = self.lose(way, "the peer has restarted and connects anew".into(), true, now);
            }
            // RFC 4271 §6.8.
            Some((_, false)) => return Vec::new(),
            None if self.inward.is_some() => return Vec::new(),
            None => {}
        }
        commands.push(Command::Accept);
        commands.extend(self.open(Way::In, now));
        commands
    }

    fn closed(&mut self, way: Way, why: String, now: Timestamp) -> Vec<Command> {
        if self.link(way).is_some() {
            return self.lose(way, why, true, now);
        }
        if way == Way::Out && self.base == State::Connect {
            (self.base, self.retry_at) = (State::Idle, None);
            let mut commands = vec![Command::Close(Way::Out)];
            if self.inward.is_none() {
                self.wait(State::Active, now);
                commands.push(down(why));
            }
            return commands;
        }
        Vec::new()
    }

    fn received(&mut self, way: Way, frame: &[u8], now: Timestamp) -> Vec<Command> {
        let Some(link) = self.link(way) else { return Vec::new() };
        let (state, session) = (link.state, link.session);
        self.received += 1;
        let message = match Message::decode(frame, &session) {
            Ok(message) => message,
            Err(misbehaved) => return self.misbehaved(way, &misbehaved, now),
        };
        match (state, message) {
            (_, Message::Notification(notification)) => self.notified(way, &notification, now),
            (State::OpenSent, Message::Open(open)) => self.opened(way, &open, now),
            (State::OpenConfirm, Message::Keepalive) => self.establish(way, now),
            (State::Established, message) if !matches!(message, Message::Open(_)) => {
                self.link_mut(way).into_iter().for_each(|link| link.heard(now));
                match message {
                    Message::Update(update) => vec![Command::Route(update)],
                    Message::RouteRefresh(refresh) => self.refreshed(refresh, session, now),
                    _ => Vec::new(),
                }
            }
            (state, _) => self.misbehaved(way, &Misbehaved::Unexpected(state), now),
        }
    }

    fn refreshed(&mut self, refresh: RouteRefresh, session: Session, now: Timestamp) -> Vec<Command> {
        let family =
            Family::of(refresh.afi, refresh.safi).filter(|family| session.families.contains(*family));
        // RFC 2918 §4: of families that were not agreed on, nothing.
        let Some(family) = family else { return Vec::new() };
        let asked = match refresh.subtype {
            1 if session.refresh == Refresh::Enhanced => Asked::Begins,
            2 if session.refresh == Refresh::Enhanced => Asked::Ends,
            // RFC 7313 §5: others are ignored.
            other if other != 0 && session.refresh == Refresh::Enhanced => return Vec::new(),
            _ => Asked::Wanted,
        };
        if asked == Asked::Wanted && !self.parameters.announces {
            // All of nothing.
            let mut commands = self.mark(family, Asked::Begins, now);
            commands.extend(self.mark(family, Asked::Ends, now));
            return commands;
        }
        vec![Command::Refresh(family, asked)]
    }

    fn ask_anew(&mut self, now: Timestamp) -> Vec<Command> {
        let Some(session) = self.session().filter(|session| session.refresh != Refresh::None) else {
            return Vec::new();
        };
        let families: Vec<Family> = session.families.iter().collect();
        families.into_iter().flat_map(|family| self.mark(family, Asked::Wanted, now)).collect()
    }

    fn establish(&mut self, way: Way, now: Timestamp) -> Vec<Command> {
        let mut commands = self.drop_other(way, now);
        let Some(link) = self.link_mut(way) else { return commands };
        link.state = State::Established;
        link.heard(now);
        let session = link.session;
        (self.base, self.retry_at, self.established_at) = (State::Idle, None, Some(now));
        commands.push(Command::Established(session));
        if !self.parameters.announces {
            // We announce nothing, and say at once that this was all (RFC 4724 §2).
            for family in session.families.iter() {
                commands.extend(self.send(way, &Message::Update(Box::new(Update::end_of_rib(family))), now));
            }
        }
        commands
    }

    fn tick(&mut self, now: Timestamp) -> Vec<Command> {
        let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        let mut commands = Vec::new();
        for way in Way::ALL {
            let Some(link) = self.link(way) else { continue };
            if due(link.send_hold_until) {
                // RFC 9687 §4: what cannot be sent cannot be said either.
                let why = "the peer takes nothing of what is sent (send hold timer expired)";
                commands.extend(self.lose(way, why.into(), true, now));
            } else if due(link.hold_until) {
                commands.extend(self.misbehaved(way, &Misbehaved::HoldTimeExpired, now));
            } else if due(link.keepalive_at) {
                commands.extend(self.keepalive(way, now));
            }
        }
        if due(self.retry_at) {
            commands.extend(match self.base {
                State::Connect => self.closed(Way::Out, "no connection in time".into(), now),
                _ => self.begin(now),
            });
        }
        commands
    }

    /// Sets the time of the next try.
    fn wait(&mut self, state: State, now: Timestamp) {
        let lasted = self.established_at.take().map(|since| now.since(since));
        let pause = self.pause.after(lasted);
        let waits_only = self.parameters.mode == Mode::Passive && !self.pause.is_damped;
        self.base = if waits_only { State::Active } else { state };
        self.retry_at = (!waits_only).then(|| now.plus(pause));
    }

    /// Sends on a connection, if it is there.
    fn send(&mut self, way: Way, message: &Message, now: Timestamp) -> Option<Command> {
        let link = self.link_mut(way)?;
        // The paths of a prefix are the peer's; ours have no number.
        let session = Session { add_path: Families::default(), ..link.session };
        // What we send is short: an OPEN with few capabilities, a cut text, marks, packed announcements.
        let bytes = message.encode(&session).ok()?;
        let limit = link.send_hold();
        link.send_hold_until.get_or_insert(now.plus(limit));
        self.sent += 1;
        Some(Command::Send(way, bytes))
    }
}
