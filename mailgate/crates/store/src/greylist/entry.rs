//! What is remembered: tuples, the standings of networks, and the words for them.

use std::net::IpAddr;

use ipnet::IpNet;
use mailgate_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::Identity;

/// Longest text kept of what a client said: a path of RFC 5321 §4.5.3.1.3 with room for UTF-8.
const SAID_LIMIT: usize = 512;

/// The key of one delivery attempt (RFC 6647 §2.3), normalised by the caller. HELO is no part of it: pools of one
/// sender say many names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Who the client is: its address as a network, or wider, or a proved name.
    pub client: Identity,
    /// Normalised reverse-path, empty for the null path.
    pub reverse_path: String,
    /// Normalised forward-path.
    pub forward_path: String,
}

/// What the client said, kept for people to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// The address it came from.
    pub ip: Option<IpAddr>,
    /// Argument of HELO or EHLO.
    pub helo: String,
    /// Reverse-path without angle brackets.
    pub reverse_path: String,
    /// Forward-path without angle brackets.
    pub forward_path: String,
}

/// A tuple that was deferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grey {
    /// The first attempt; the clock of the delay starts here and is never restarted.
    pub first: Timestamp,
    /// From when on an attempt passes.
    pub pass: Timestamp,
    /// From when on an attempt counts as the first again.
    pub expires: Timestamp,
    /// Attempts that were deferred.
    pub blocked: u32,
    /// Attempts that passed; 0, because a pass consumes the tuple, except in imported data.
    pub passed: u32,
}

/// Which of the two standings a network has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerKind {
    /// Goes straight to reception.
    Passed,
    /// Goes to the tarpit.
    Trapped,
}

/// Who gave a network its standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A command of the administrator; what is learned does not overrule it.
    Admin,
    /// The behaviour of the client.
    Learned,
}

/// The standing of one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Passed or trapped.
    pub kind: PeerKind,
    /// Who said so.
    pub origin: Origin,
    /// The first contact known.
    pub first: Timestamp,
    /// When it got this standing.
    pub pass: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// Attempts deferred, or hits of a trap.
    pub blocked: u32,
    /// Messages accepted since.
    pub passed: u32,
}

/// What is known of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Passed; the network that says so.
    Passed(IpNet, Peer),
    /// Trapped; the network that says so.
    Trapped(IpNet, Peer),
    /// Nothing.
    Unknown,
}

/// What the judge of an attempt wants done with the tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Keep this as the tuple's state; the attempt is deferred.
    Defer(Grey),
    /// The tuple is consumed and the network of its client gets this standing. A standing given by the administrator
    /// stays.
    Pass(Peer),
    /// The tuple is consumed; what its client earned is told otherwise.
    Consume,
}

/// The kinds of entry that people list, add and delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A tuple that was deferred.
    Grey,
    /// A network that passed.
    Passed,
    /// A network in the tarpit.
    Trapped,
    /// An address whose use traps the client.
    TrapAddress,
}

/// How many entries there are, expired ones included until they are swept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Tuples.
    pub grey: usize,
    /// Networks that passed.
    pub passed: usize,
    /// Networks in the tarpit.
    pub trapped: usize,
    /// Trap addresses.
    pub trap_addresses: usize,
    /// Identities that had mail accepted or came again.
    pub identities: usize,
    /// Changes that could not be stored because the database failed for long, and tuples that were not remembered
    /// because there are too many.
    pub unsaved: u64,
    /// Tuples are still being read from disk; those that are not yet counted act all the same.
    pub loading: bool,
}

impl Said {
    /// As much of it as is kept.
    pub(super) fn clipped(&self) -> Self {
        let clip = |text: &str| -> String {
            let end = (0..=SAID_LIMIT.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
            text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
        };
        Self {
            ip: self.ip,
            helo: clip(&self.helo),
            reverse_path: clip(&self.reverse_path),
            forward_path: clip(&self.forward_path),
        }
    }
}
