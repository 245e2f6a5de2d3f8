//! The session: RFC 4271 §8 for a speaker that connects, never listens, and announces nothing.
//!
//! Pure: it is told what happened and what time it is, and says what to do. Connecting waits in Idle after an
//! error of the protocol and in Active after one of TCP; both pauses double up to a limit, with jitter, because some
//! route servers allow one connection per client and take quick reconnects ill.

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::time::Duration;

use mailgate_model::Timestamp;

use super::{
    AsWidth, Capability, Cease, Families, Family, Message, Misbehaved, Notification, Open, Relation, Session,
    Update,
};

/// Longest wait for TCP.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Hold time until the peer's OPEN is there (RFC 4271 §8.2.2, OpenSent).
const OPEN_HOLD: Duration = Duration::from_secs(240);

/// A session that lasted this long was a good one: the next pause is the shortest again.
const STABLE: Duration = Duration::from_secs(60);

/// Doublings after which the pause grows no more, whatever its limit.
const DOUBLINGS: u32 = 16;

/// Who we are, whom we expect, and how patient we are.
#[derive(Debug, Clone)]
pub struct Parameters {
    /// Our AS.
    pub local_as: u32,
    /// The AS the peer must have.
    pub peer_as: u32,
    /// Our identifier; not zero.
    pub identifier: Ipv4Addr,
    /// Hold time we propose, in whole seconds: zero, or 3 to 65535.
    pub hold_time: Duration,
    /// First pause before connecting anew.
    pub retry_min: Duration,
    /// Longest pause before connecting anew.
    pub retry_max: Duration,
    /// Families we take part in.
    pub families: Families,
    /// Anything that differs between speakers, for the jitter.
    pub seed: u64,
}

/// States of a session (RFC 4271 §8.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// TCP failed; waiting to connect anew.
    Active,
    /// TCP is being connected.
    Connect,
    /// Routes flow.
    Established,
    /// Nothing; or waiting after an error.
    Idle,
    /// Both OPENs are there; waiting for KEEPALIVE.
    OpenConfirm,
    /// Our OPEN is sent.
    OpenSent,
}

impl State {
    /// As RFC 4271 names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Connect => "Connect",
            Self::Established => "Established",
            Self::Idle => "Idle",
            Self::OpenConfirm => "OpenConfirm",
            Self::OpenSent => "OpenSent",
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// TCP was closed or failed, or could not be connected; with why.
    Closed(String),
    /// TCP is connected.
    Connected,
    /// The session has to end, and may begin anew after a pause.
    End(Notification),
    /// The stream cannot be cut into messages.
    Garbled(Misbehaved),
    /// A whole message arrived.
    Received(&'a [u8]),
    /// Begin. Also ends a pause at once.
    Start,
    /// End for good, with a text for the peer.
    Stop(&'a str),
    /// Time has passed, see [`Machine::deadline`].
    Tick,
}

/// What to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Close TCP, or stop connecting.
    Close,
    /// Connect TCP.
    Connect,
    /// The session is over; why, for the log and the summary.
    Down(String),
    /// The session is up.
    Established(Session),
    /// Routes.
    Route(Box<Update>),
    /// Send these bytes.
    Send(Vec<u8>),
}

/// A session with one peer.
#[derive(Debug)]
pub struct Machine {
    parameters: Parameters,
    state: State,
    session: Session,
    /// The hold time agreed on; zero for none.
    hold: Duration,
    /// When to connect anew, or to give up connecting.
    retry_at: Option<Timestamp>,
    hold_until: Option<Timestamp>,
    keepalive_at: Option<Timestamp>,
    established_at: Option<Timestamp>,
    failures: u32,
    /// The peer refused our optional parameters: the next OPEN has none (RFC 5492 §3).
    is_plain: bool,
    random: u64,
    received: u64,
    sent: u64,
}

impl Machine {
    /// A session that has not begun.
    #[must_use]
    pub fn new(parameters: Parameters) -> Self {
        let random = parameters.seed | 1;
        Self {
            parameters,
            state: State::Idle,
            session: Session::default(),
            hold: Duration::ZERO,
            retry_at: None,
            hold_until: None,
            keepalive_at: None,
            established_at: None,
            failures: 0,
            is_plain: false,
            random,
            received: 0,
            sent: 0,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Messages received and sent, over all sessions.
    #[must_use]
    pub fn messages(&self) -> (u64, u64) {
        (self.received, self.sent)
    }

    /// The hold time agreed on; zero for none, or when there is no session.
    #[must_use]
    pub fn hold_time(&self) -> Duration {
        self.hold
    }

    /// Changes our identifier, for the next session.
    pub fn identify(&mut self, identifier: Ipv4Addr) {
        self.parameters.identifier = identifier;
    }

    /// When to come with [`Event::Tick`] if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        [self.retry_at, self.hold_until, self.keepalive_at].into_iter().flatten().min()
    }

    /// Takes what happened and says what to do.
    pub fn handle(&mut self, event: Event<'_>, now: Timestamp) -> Vec<Command> {
        match event {
            Event::Start if matches!(self.state, State::Idle | State::Active) => self.connect(now),
            Event::Start => Vec::new(),
            Event::Connected if self.state == State::Connect => self.open(now),
            Event::Connected => vec![Command::Close],
            Event::Closed(why) => self.closed(why, now),
            Event::Received(frame) => self.received(frame, now),
            Event::Garbled(misbehaved) => self.misbehaved(&misbehaved, now),
            Event::End(notification) => self.end(notification, now),
            Event::Stop(text) => self.stop(text, now),
            Event::Tick => self.tick(now),
        }
    }

    fn connect(&mut self, now: Timestamp) -> Vec<Command> {
        self.state = State::Connect;
        self.retry_at = Some(now.plus(CONNECT_LIMIT));
        vec![Command::Connect]
    }

    fn open(&mut self, now: Timestamp) -> Vec<Command> {
        let Parameters { local_as, identifier, hold_time, families, .. } = self.parameters;
        let mut capabilities = Vec::new();
        if !self.is_plain {
            for (afi, safi) in families.iter().map(Family::codes) {
                capabilities.push(Capability::Multiprotocol(afi, safi));
            }
            capabilities.push(Capability::RouteRefresh);
            // No family: we have nothing to keep, but want to be told the end of the routes (RFC 4724 §3).
            capabilities.push(Capability::GracefulRestart { flags: 0, time: 0, families: Vec::new() });
            capabilities.push(Capability::FourOctetAs(local_as));
        }
        let hold_time = u16::try_from(hold_time.as_secs()).unwrap_or(u16::MAX);
        let open = Open::new(local_as, hold_time, identifier, capabilities);
        self.state = State::OpenSent;
        self.session = Session::default();
        self.retry_at = None;
        self.hold_until = Some(now.plus(OPEN_HOLD));
        self.send(&Message::Open(open)).into_iter().collect()
    }

    fn closed(&mut self, why: String, now: Timestamp) -> Vec<Command> {
        match self.state {
            State::Idle | State::Active => Vec::new(),
            State::Connect => {
                self.pause(State::Active, now);
                vec![Command::Close, Command::Down(why)]
            }
            State::OpenSent | State::OpenConfirm | State::Established => {
                self.pause(State::Idle, now);
                vec![Command::Close, Command::Down(why)]
            }
        }
    }

    fn received(&mut self, frame: &[u8], now: Timestamp) -> Vec<Command> {
        if !matches!(self.state, State::OpenSent | State::OpenConfirm | State::Established) {
            return Vec::new();
        }
        self.received += 1;
        let message = match Message::decode(frame, &self.session) {
            Ok(message) => message,
            Err(misbehaved) => return self.misbehaved(&misbehaved, now),
        };
        match (self.state, message) {
            (_, Message::Notification(notification)) => self.notified(&notification, now),
            (State::OpenSent, Message::Open(open)) => match self.agree(&open) {
                Ok(()) => self.confirm(now),
                Err(misbehaved) => self.misbehaved(&misbehaved, now),
            },
            (State::OpenConfirm, Message::Keepalive) => self.establish(now),
            (State::Established, Message::Keepalive) => {
                self.heard(now);
                Vec::new()
            }
            (State::Established, Message::Update(update)) => {
                self.heard(now);
                vec![Command::Route(update)]
            }
            // We have no routes to send again.
            (State::Established, Message::RouteRefresh(_)) => {
                self.heard(now);
                Vec::new()
            }
            (state, _) => self.misbehaved(&Misbehaved::Unexpected(state), now),
        }
    }

    /// Checks the peer's OPEN (RFC 4271 §6.2) and keeps what both sides can.
    fn agree(&mut self, open: &Open) -> Result<(), Misbehaved> {
        let Parameters { local_as, peer_as, identifier, hold_time, families, .. } = self.parameters;
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
        self.hold = hold_time.min(Duration::from_secs(open.hold_time.into()));
        let as_width = match open.four_octet_as() {
            Some(_) if !self.is_plain => AsWidth::Four,
            _ => AsWidth::Two,
        };
        // Without capabilities of ours the session carries IPv4 unicast alone.
        let families = if self.is_plain { Families { ipv4: true, ipv6: false } } else { families };
        let families = Families::filter(|family| families.contains(family) && open.speaks(family));
        self.session = Session { as_width, relation, families };
        Ok(())
    }

    fn confirm(&mut self, now: Timestamp) -> Vec<Command> {
        self.state = State::OpenConfirm;
        self.heard(now);
        self.keepalive(now)
    }

    fn establish(&mut self, now: Timestamp) -> Vec<Command> {
        self.state = State::Established;
        self.established_at = Some(now);
        self.heard(now);
        let mut commands = vec![Command::Established(self.session)];
        // We announce nothing, and say at once that this was all (RFC 4724 §2).
        for family in self.session.families.iter() {
            commands.extend(self.send(&Message::Update(Box::new(Update::end_of_rib(family)))));
        }
        commands
    }

    /// Something came: the peer is there for another hold time.
    fn heard(&mut self, now: Timestamp) {
        self.hold_until = (!self.hold.is_zero()).then(|| now.plus(self.hold));
    }

    /// Sends a KEEPALIVE and sets the time of the next, a third of the hold time (RFC 4271 §4.4).
    fn keepalive(&mut self, now: Timestamp) -> Vec<Command> {
        let pause = self.jittered(self.hold / 3);
        self.keepalive_at = (!self.hold.is_zero()).then(|| now.plus(pause));
        self.send(&Message::Keepalive).into_iter().collect()
    }

    fn tick(&mut self, now: Timestamp) -> Vec<Command> {
        let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        if due(self.hold_until) {
            return self.misbehaved(&Misbehaved::HoldTimeExpired, now);
        }
        if due(self.retry_at) {
            return match self.state {
                State::Idle | State::Active => self.connect(now),
                _ => self.closed("no connection in time".into(), now),
            };
        }
        if due(self.keepalive_at) { self.keepalive(now) } else { Vec::new() }
    }

    fn misbehaved(&mut self, misbehaved: &Misbehaved, now: Timestamp) -> Vec<Command> {
        let mut commands = self.leave(&misbehaved.notification(), now);
        commands.push(Command::Down(misbehaved.to_string()));
        commands
    }

    fn notified(&mut self, notification: &Notification, now: Timestamp) -> Vec<Command> {
        // RFC 5492 §3: a peer that knows no optional parameters is asked again without any.
        self.is_plain = self.state == State::OpenSent && (notification.code, notification.subcode) == (2, 4);
        self.pause(State::Idle, now);
        vec![Command::Close, Command::Down(format!("the peer says: {notification}"))]
    }

    fn end(&mut self, notification: Notification, now: Timestamp) -> Vec<Command> {
        if matches!(self.state, State::Idle | State::Active) {
            return Vec::new();
        }
        // Whatever we end the session for will not be over soon: the pause is the longest one.
        self.established_at = None;
        self.failures = DOUBLINGS;
        let mut commands = self.leave(&notification, now);
        commands.push(Command::Down(notification.to_string()));
        commands
    }

    fn stop(&mut self, text: &str, now: Timestamp) -> Vec<Command> {
        let mut commands = Vec::new();
        if self.state != State::Idle && self.state != State::Active {
            commands = self.leave(&Notification::cease(Cease::AdministrativeShutdown, text), now);
            commands.push(Command::Down("shut down".into()));
        }
        self.state = State::Idle;
        self.retry_at = None;
        commands
    }

    /// Says why if the peer can hear it, closes, and pauses.
    fn leave(&mut self, notification: &Notification, now: Timestamp) -> Vec<Command> {
        let mut commands = Vec::new();
        if matches!(self.state, State::OpenSent | State::OpenConfirm | State::Established) {
            commands.extend(self.send(&Message::Notification(notification.clone())));
        }
        commands.push(Command::Close);
        self.pause(State::Idle, now);
        commands
    }

    /// Ends whatever was and sets the time of the next try.
    fn pause(&mut self, state: State, now: Timestamp) {
        if self.established_at.take().is_some_and(|since| now.since(since) >= STABLE) {
            self.failures = 0;
        }
        let factor = 1_u32 << self.failures.min(DOUBLINGS);
        let pause = self.parameters.retry_min.saturating_mul(factor).min(self.parameters.retry_max);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now.plus(self.jittered(pause)));
        self.state = state;
        self.hold = Duration::ZERO;
        self.hold_until = None;
        self.keepalive_at = None;
    }

    fn send(&mut self, message: &Message) -> Option<Command> {
        // What we send is short: an OPEN with four capabilities, a cut text, marks.
        let bytes = message.encode(&self.session).ok()?;
        self.sent += 1;
        Some(Command::Send(bytes))
    }

    /// Three quarters to the whole of a span (RFC 4271 §10).
    fn jittered(&mut self, span: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let quarter = span / 4;
        let part = u32::try_from(self.random % 1024).unwrap_or(0);
        span - quarter + quarter * part / 1024
    }
}
