//! What a peer can do wrong so that the session has to end.

use super::Notification;

/// A message cannot be written because it would be longer than the session allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message would be longer than the session allows")]
pub struct TooLong;

/// Something for which a session ends (RFC 4271 §6). Malformed attributes mostly do not end it, see
/// [`Fault`](super::Fault).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misbehaved {
    /// The identifier is zero, or ours in an internal session (RFC 6286 §2.2).
    #[error("found BGP identifier {0}, expected another")]
    BadIdentifier(std::net::Ipv4Addr),
    /// A length in the header that no message, or none of this type, has.
    #[error("found message length {0}, expected one that its type and this session have")]
    BadLength(u16),
    /// The sixteen bytes before each message are not all ones.
    #[error("found something else where a message was expected to begin")]
    BadMarker,
    /// A ROUTE-REFRESH of another length than it has (RFC 7313 §5).
    #[error("found a ROUTE-REFRESH of {} bytes, expected 23", .0.len())]
    BadRefresh(Vec<u8>),
    /// Another AS than the configured one.
    #[error("found AS {found}, expected AS {expected}")]
    BadPeerAs {
        /// What the peer says.
        found: u32,
        /// What the configuration says.
        expected: u32,
    },
    /// A type of message that there is not.
    #[error("found message type {0}, expected 1 to 5")]
    BadType(u8),
    /// Another version of the protocol.
    #[error("found BGP version {0}, expected 4")]
    BadVersion(u8),
    /// Prefixes announced or withdrawn cannot be read.
    #[error("found prefixes that cannot be read")]
    BadPrefixes,
    /// The same of MP_REACH_NLRI or MP_UNREACH_NLRI.
    #[error("found attribute {code} whose prefixes or next hop cannot be read")]
    BadMultiprotocol {
        /// The code of the attribute.
        code: u8,
    },
    /// Nothing was heard for the hold time.
    #[error("heard nothing for the hold time")]
    HoldTimeExpired,
    /// A hold time of one or two seconds.
    #[error("found hold time {0} s, expected 0 or at least 3")]
    BadHoldTime(u16),
    /// Lengths inside an UPDATE contradict each other, or MP_REACH_NLRI comes twice.
    #[error("found an UPDATE whose lengths or attributes contradict each other")]
    MalformedAttributes,
    /// The fields of an OPEN contradict each other.
    #[error("found an OPEN whose lengths contradict each other")]
    MalformedOpen,
    /// A message that has no place in this state.
    #[error("found a message that is not expected in state {0:?}")]
    Unexpected(super::State),
    /// An optional parameter of OPEN that is not capabilities.
    #[error("found optional parameter {0}, expected 2")]
    UnsupportedParameter(u8),
    /// A well-known attribute that is not known.
    #[error("found well-known attribute {code} that is not known")]
    UnknownWellKnown {
        /// The code of the attribute.
        code: u8,
        /// The whole attribute.
        attribute: Vec<u8>,
    },
}

impl Misbehaved {
    /// What the peer is told (RFC 4271 §6.1 to §6.6).
    #[must_use]
    pub fn notification(&self) -> Notification {
        let (code, subcode, data) = match self {
            Self::BadMarker => (1, 1, Vec::new()),
            Self::BadLength(length) => (1, 2, length.to_be_bytes().to_vec()),
            Self::BadType(kind) => (1, 3, vec![*kind]),
            Self::MalformedOpen => (2, 0, Vec::new()),
            // The largest version that we speak.
            Self::BadVersion(_) => (2, 1, vec![0, 4]),
            Self::BadPeerAs { .. } => (2, 2, Vec::new()),
            Self::BadIdentifier(_) => (2, 3, Vec::new()),
            Self::UnsupportedParameter(_) => (2, 4, Vec::new()),
            Self::BadHoldTime(_) => (2, 6, Vec::new()),
            Self::MalformedAttributes => (3, 1, Vec::new()),
            Self::UnknownWellKnown { attribute, .. } => (3, 2, attribute.clone()),
            Self::BadMultiprotocol { .. } => (3, 9, Vec::new()),
            Self::BadPrefixes => (3, 10, Vec::new()),
            Self::HoldTimeExpired => (4, 0, Vec::new()),
            Self::BadRefresh(message) => (7, 1, message.clone()),
            // RFC 6608 §3.
            Self::Unexpected(super::State::OpenSent) => (5, 1, Vec::new()),
            Self::Unexpected(super::State::OpenConfirm) => (5, 2, Vec::new()),
            Self::Unexpected(super::State::Established) => (5, 3, Vec::new()),
            Self::Unexpected(_) => (5, 0, Vec::new()),
        };
        Notification { code, subcode, data }
    }
}
