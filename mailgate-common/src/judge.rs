//! The whole verdict on one packet: scrub, way back, tables, rules, live connections.

use crate::decide::{Action, decide};
use crate::frame::Frame;
use crate::layout::Lines;
use crate::lookup4::lookup4;
use crate::lookup6::lookup6;
use crate::packet::{Family, Fragment, Packet, TCP, UDP, parse};
use crate::reason::Reason;
use crate::ruleset::{COOKIE_PORTS, Facts, NO_RULE, Words, head, is_ruleset, option};
use crate::scrub::{is_land, is_martian, scrub};

/// The loopback interface has this number in every network namespace. There our own addresses talk to each other.
const LOOPBACK: u32 = 1;

/// What the verdict needs to know besides the packet.
pub trait World {
    /// Tables of IPv4.
    type Tables4: Lines;
    /// Tables of IPv6.
    type Tables6: Lines;
    /// The rules.
    type Rules: Words;
    /// The IPv4 generation in force.
    fn tables4(&self) -> Option<Self::Tables4>;
    /// The IPv6 generation in force.
    fn tables6(&self) -> Option<Self::Tables6>;
    /// The ruleset in force.
    fn rules(&self) -> Option<Self::Rules>;
    /// Number of the interface the packet came in by.
    fn interface(&self) -> u32;
    /// Does the packet belong to a socket of ours that talks to this peer, or asks from a port of its own?
    fn established(&self, packet: &Packet) -> bool;
    /// What the mirrored routes say of the source.
    fn way_back(&self, packet: &Packet) -> WayBack;
    /// The same value. In the kernel it makes the verifier forget what it knows of it, so that the paths that led here
    /// are verified no further each by itself.
    #[inline(always)]
    fn forget(&self, value: u64) -> u64 {
        value
    }
}

/// Where packets to the source of a packet would go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayBack {
    /// Out by the interface the packet came in by; also when nothing is known.
    Here,
    /// Out by another interface.
    Elsewhere,
    /// Nowhere.
    Nowhere,
    /// It is an address of this host.
    Own,
}

/// What happens to the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Act {
    /// On to the stack.
    Pass = 0,
    /// Ends.
    Drop = 1,
    /// Ends, a RST goes back.
    Reject = 2,
    /// Is answered by the tarpit in the kernel.
    Tarpit = 3,
    /// Is answered with a SYN cookie.
    Cookie = 4,
}

impl Act {
    /// The one with this number.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Pass),
            1 => Some(Self::Drop),
            2 => Some(Self::Reject),
            3 => Some(Self::Tarpit),
            4 => Some(Self::Cookie),
            _ => None,
        }
    }

    /// The word for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Tarpit => "tarpit",
            Self::Cookie => "cookie",
        }
    }
}

/// What happens to the packet, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ruling {
    /// What happens.
    pub act: Act,
    /// Why.
    pub reason: Reason,
    /// Number of the rule, or [`NO_RULE`].
    pub rule: u32,
    /// The tables that hold the source.
    pub set: u64,
    /// Whether a rule wants it logged.
    pub log: bool,
    /// Whether one of the tables counts per entry.
    pub counted: bool,
}

impl Ruling {
    #[inline(always)]
    const fn of(act: Act, reason: Reason) -> Self {
        Self { act, reason, rule: NO_RULE, set: 0, log: false, counted: false }
    }
}

/// The verdict on a frame.
#[inline(always)]
pub fn judge_frame<W: World, F: Frame>(world: &W, frame: &F) -> Ruling {
    match parse(frame) {
        Ok(packet) => judge(world, &packet),
        Err(reason) => unread(world, reason),
    }
}

/// The verdict on a frame that could not be read as a packet. The stack has no use for most of them either; here they
/// are counted.
#[inline(always)]
pub fn unread<W: World>(world: &W, reason: Reason) -> Ruling {
    const STRICT: u64 = option::SCRUB | option::DEFAULT_DROP;
    if matches!(reason, Reason::NotIp) {
        return Ruling::of(Act::Pass, reason);
    }
    let options = world.rules().filter(is_ruleset).map_or(0, |rules| rules.word(head::OPTIONS));
    if options & STRICT != 0 { Ruling::of(Act::Drop, reason) } else { Ruling::of(Act::Pass, Reason::Unruled) }
}

/// The verdict on a packet.
#[inline(always)]
pub fn judge<W: World>(world: &W, packet: &Packet) -> Ruling {
    let Some(rules) = world.rules() else { return Ruling::of(Act::Pass, Reason::NoRules) };
    if !is_ruleset(&rules) {
        return Ruling::of(Act::Pass, Reason::NoRules);
    }
    let options = rules.word(head::OPTIONS);
    if let Some(reason) = dishonest(world, packet, options) {
        return Ruling::of(Act::Drop, reason);
    }
    let set = match packet.family {
        Family::V4 => world.tables4().map_or(0, |tables| lookup4(&tables, packet.source.v4())),
        Family::V6 => {
            world.tables6().map_or(0, |tables| lookup6(&tables, packet.source.high, packet.source.low))
        }
    };
    let set = world.forget(set);
    let facts = Facts {
        protocol: packet.protocol,
        port: packet.destination_port,
        kind: packet.kind,
        known: packet.transport_read,
        interface: world.interface(),
    };
    let decision = decide(&rules, set, &facts, |matched| world.forget(matched));
    let (act, reason) = match decision.action {
        Some(Action::Pass) => (Act::Pass, Reason::Passed),
        Some(Action::Drop) => (Act::Drop, Reason::Dropped),
        Some(Action::Reject) => (Act::Reject, Reason::Rejected),
        Some(Action::Tarpit) if options & option::TARPIT != 0 && set != 0 && packet.protocol == TCP => {
            (Act::Tarpit, Reason::Held)
        }
        Some(Action::Tarpit) => (Act::Pass, Reason::Tarpitted),
        Some(Action::Greylist) => (Act::Pass, Reason::Greylisted),
        // The stack puts later parts together with a first one, and that had its verdict.
        Some(Action::Limit) | None
            if options & option::DEFAULT_DROP != 0 && !matches!(packet.fragment, Fragment::Later) =>
        {
            (Act::Drop, Reason::DefaultDropped)
        }
        Some(Action::Limit) | None => (Act::Pass, Reason::Unruled),
    };
    let bit = if decision.rule < NO_RULE { 1_u64 << (decision.rule & 63) } else { 0 };
    let mut ruling = Ruling {
        act,
        reason,
        rule: decision.rule,
        set,
        log: rules.word(head::LOG) & bit != 0,
        counted: rules.word(head::COUNTED) & set != 0,
    };
    if !matches!(act, Act::Pass) {
        if may_be_live(packet) && world.established(packet) {
            ruling.act = Act::Pass;
            ruling.reason = Reason::Established;
        }
    } else if packet.opens() && wants_cookie(rules.word(head::COOKIES), packet.destination_port) {
        ruling.act = Act::Cookie;
        ruling.reason = Reason::Cookie;
    }
    ruling
}

/// Why the packet is not honest, as far as the options ask.
#[inline(always)]
fn dishonest<W: World>(world: &W, packet: &Packet, options: u64) -> Option<Reason> {
    const WAY_BACK: u64 = option::REVERSE_PATH_LOOSE | option::REVERSE_PATH_STRICT | option::OWN_SOURCE;
    if options & option::SCRUB != 0
        && let Some(reason) = scrub(packet)
    {
        return Some(reason);
    }
    if world.interface() == LOOPBACK {
        return None;
    }
    if options & option::SCRUB != 0 && is_land(packet) {
        return Some(Reason::Land);
    }
    if options & option::MARTIANS != 0 && is_martian(packet) {
        return Some(Reason::Martian);
    }
    if options & WAY_BACK == 0 {
        return None;
    }
    match world.way_back(packet) {
        WayBack::Own if options & option::OWN_SOURCE != 0 => Some(Reason::OwnSource),
        WayBack::Nowhere if options & (option::REVERSE_PATH_LOOSE | option::REVERSE_PATH_STRICT) != 0 => {
            Some(Reason::ReversePath)
        }
        WayBack::Elsewhere if options & option::REVERSE_PATH_STRICT != 0 => Some(Reason::ReversePath),
        WayBack::Here | WayBack::Elsewhere | WayBack::Nowhere | WayBack::Own => None,
    }
}

/// Could it belong to a live connection, or answer a question of ours? A first segment does neither.
#[inline(always)]
const fn may_be_live(packet: &Packet) -> bool {
    packet.transport_read && ((packet.protocol == TCP && !packet.opens()) || packet.protocol == UDP)
}

#[inline(always)]
const fn wants_cookie(ports: u64, port: u16) -> bool {
    let mut n = 0;
    let mut wants = false;
    while n < COOKIE_PORTS {
        wants |= port != 0 && (ports >> (16 * n)) as u16 == port;
        n += 1;
    }
    wants
}
