//! The words between the machine and who drives it: what it is told, and what it says to do.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::bgp::{Families, Family, Misbehaved, Notification, Session, Update};

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
    /// Who connects.
    pub mode: Mode,
    /// How long we wait before connecting anew.
    pub patience: Patience,
    /// Families we take part in.
    pub families: Families,
    /// Whether we take several paths for one prefix (RFC 7911).
    pub add_path: bool,
    /// Whether we announce something: then the end of our routes is said by whoever announces them, else at once.
    pub announces: bool,
    /// Anything that differs between speakers, for the jitter.
    pub seed: u64,
}

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// We do.
    #[default]
    Active,
    /// Either.
    Both,
    /// The neighbour does.
    Passive,
}

/// Pauses before connecting anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The first after a failure; doubles with each.
    pub retry_min: Duration,
    /// The longest.
    pub retry_max: Duration,
    /// The first when a session has come up and gone down twice in short time; doubles with each.
    pub damping_min: Duration,
    /// The longest.
    pub damping_max: Duration,
}

/// States of a session (RFC 4271 §8.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Waiting: to connect anew, or for the neighbour to connect.
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

/// Which of the two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// The one that the neighbour opened.
    In,
    /// The one that we opened.
    Out,
}

impl Way {
    /// Both.
    pub const ALL: [Self; 2] = [Self::In, Self::Out];

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::In => Self::Out,
            Self::Out => Self::In,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// The neighbour has connected; taken only if [`Command::Accept`] comes back.
    Accepted,
    /// Send this; without effect unless the session is established.
    Announce(&'a Update),
    /// TCP was closed or failed, or could not be connected; with why.
    Closed(Way, String),
    /// Our connection is there.
    Connected,
    /// The session has to end, and may begin anew after this time, or after the longest usual pause.
    End(Notification, Option<Duration>),
    /// Everything sent so far was taken by TCP.
    Flushed(Way),
    /// The stream cannot be cut into messages.
    Garbled(Way, Misbehaved),
    /// A whole message arrived.
    Received(Way, &'a [u8]),
    /// Ask for all routes anew, see [`Machine::session`] for whether that can be.
    Refresh,
    /// End and begin anew, with a text for the peer.
    Reset(&'a str),
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
    /// Keep the connection of [`Event::Accepted`]; without this it has to be closed.
    Accept,
    /// Close this connection, or stop connecting, after what was to be sent has been tried once.
    Close(Way),
    /// Connect TCP.
    Connect,
    /// The session, or the try to have one, is over.
    Down(Loss),
    /// The session is up.
    Established(Session),
    /// The peer asks for our routes, or marks its own.
    Refresh(Family, Asked),
    /// Routes.
    Route(Box<Update>),
    /// Send these bytes.
    Send(Way, Vec<u8>),
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Why, for the log and the summary.
    pub why: String,
    /// Whether the peer's routes are kept as RFC 4724 §4.2 and RFC 8538 §4 say: it said before that it might restart, and
    /// the session ended in a way that may be a restart.
    pub is_graceful: bool,
    /// What the peer had said of that.
    pub session: Option<Session>,
}

/// What a ROUTE-REFRESH says (RFC 7313 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// All routes follow.
    Begins,
    /// All routes were sent.
    Ends,
    /// All routes are asked for.
    Wanted,
}
