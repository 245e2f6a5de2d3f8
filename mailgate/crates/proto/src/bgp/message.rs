//! Messages, and what both sides have agreed on.

use std::time::Duration;

use ipnet::IpNet;

use super::cursor::Cursor;
use super::{
    AsWidth, EXTENDED_LIMIT, HEADER_LENGTH, MESSAGE_LIMIT, Misbehaved, Notification, Open, TooLong, Update,
};

/// Any message (RFC 4271 §4, RFC 2918).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// "I am still here."
    Keepalive,
    /// The end of the session, and why.
    Notification(Notification),
    /// The beginning of the session.
    Open(Open),
    /// A wish for all routes anew, or the marks around the answer.
    RouteRefresh(RouteRefresh),
    /// Routes.
    Update(Box<Update>),
}

/// A ROUTE-REFRESH (RFC 2918, RFC 7313).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Address family.
    pub afi: u16,
    /// 0 asks, 1 begins, 2 ends (RFC 7313 §3.2).
    pub subtype: u8,
    /// Subsequent address family.
    pub safi: u8,
}

/// The families of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

impl Families {
    /// Both.
    pub const ALL: Self = Self { ipv4: true, ipv6: true };
}

impl Family {
    /// The family of a prefix.
    #[must_use]
    pub const fn of_prefix(prefix: IpNet) -> Self {
        match prefix {
            IpNet::V4(_) => Self::Ipv4Unicast,
            IpNet::V6(_) => Self::Ipv6Unicast,
        }
    }

    /// Both.
    pub const ALL: [Self; 2] = [Self::Ipv4Unicast, Self::Ipv6Unicast];

    /// AFI and SAFI (IANA address-family-numbers).
    #[must_use]
    pub const fn codes(self) -> (u16, u8) {
        match self {
            Self::Ipv4Unicast => (1, 1),
            Self::Ipv6Unicast => (2, 1),
        }
    }

    /// The family of AFI and SAFI.
    #[must_use]
    pub fn of(afi: u16, safi: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.codes() == (afi, safi))
    }
}

/// A set of families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Families {
    /// IPv4 unicast is in it.
    pub ipv4: bool,
    /// IPv6 unicast is in it.
    pub ipv6: bool,
}

impl Families {
    /// Those for which `choose` says yes.
    #[must_use]
    pub fn filter(choose: impl Fn(Family) -> bool) -> Self {
        Self { ipv4: choose(Family::Ipv4Unicast), ipv6: choose(Family::Ipv6Unicast) }
    }

    /// Whether a family is in it.
    #[must_use]
    pub fn contains(self, family: Family) -> bool {
        match family {
            Family::Ipv4Unicast => self.ipv4,
            Family::Ipv6Unicast => self.ipv6,
        }
    }

    /// Its members.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(move |family| self.contains(*family))
    }
}

/// Whether both sides are of one AS (RFC 4271 §1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Relation {
    /// Different AS.
    #[default]
    External,
    /// The same AS.
    Internal,
}

/// Whether all routes may be asked for anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Refresh {
    /// No.
    #[default]
    None,
    /// Yes (RFC 2918).
    Plain,
    /// Yes, and their beginning and end are marked (RFC 7313).
    Enhanced,
}

/// What the peer said of keeping routes over a restart (RFC 4724 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restart {
    /// It has just restarted.
    pub is_restarting: bool,
    /// Routes are kept also when a NOTIFICATION ended the session (RFC 8538 §2).
    pub over_notification: bool,
    /// How long it may take to come back.
    pub time: Duration,
    /// Families of which it says so.
    pub families: Families,
    /// Families in which it forwarded on while it was away.
    pub preserved: Families,
}

/// What both sides have agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Session {
    /// How AS numbers are written.
    pub as_width: AsWidth,
    /// Whether both sides are of one AS.
    pub relation: Relation,
    /// Families both take part in.
    pub families: Families,
    /// Families in which the peer sends several paths for one prefix (RFC 7911); we never do.
    pub add_path: Families,
    /// Whether messages may have up to 65535 bytes (RFC 8654).
    pub extended: bool,
    /// Whether all routes may be asked for anew.
    pub refresh: Refresh,
    /// What the peer said of its restarts.
    pub restart: Option<Restart>,
}

impl Session {
    /// Longest message, header included.
    #[must_use]
    pub const fn message_limit(&self) -> usize {
        if self.extended { EXTENDED_LIMIT } else { MESSAGE_LIMIT }
    }
}

const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;
const ROUTE_REFRESH: u8 = 5;

/// As much of a malformed ROUTE-REFRESH as its sender is shown (RFC 7313 §5 wants the whole; a good one has 23 bytes).
const REFRESH_SHOWN: usize = 1024;

impl Message {
    /// Reads one whole message as [`Framer`](super::Framer) yields it.
    ///
    /// # Errors
    /// What ends the session. Malformed attributes mostly do not: they are in [`Update::faults`].
    pub fn decode(frame: &[u8], session: &Session) -> Result<Self, Misbehaved> {
        let mut cursor = Cursor::new(frame);
        let found = u16::try_from(frame.len()).unwrap_or(u16::MAX);
        let bad_length = || Misbehaved::BadLength(found);
        let header = (cursor.array::<16>(), cursor.u16(), cursor.u8());
        let (Some(_), Some(_), Some(kind)) = header else { return Err(bad_length()) };
        let body = cursor.rest();
        // RFC 4271 §6.1, RFC 7313 §5.
        let fits = match kind {
            // RFC 8654 §4: never longer, whatever was agreed on.
            OPEN => body.len() >= 10 && frame.len() <= MESSAGE_LIMIT,
            UPDATE => body.len() >= 4,
            NOTIFICATION => body.len() >= 2,
            KEEPALIVE => body.is_empty(),
            ROUTE_REFRESH if body.len() != 4 && session.refresh == Refresh::Enhanced => {
                return Err(Misbehaved::BadRefresh(frame.iter().copied().take(REFRESH_SHOWN).collect()));
            }
            ROUTE_REFRESH => body.len() == 4,
            _ => return Err(Misbehaved::BadType(kind)),
        };
        if !fits {
            return Err(bad_length());
        }
        match kind {
            OPEN => Open::read(body).map(Self::Open),
            UPDATE => Update::read(body, session).map(|update| Self::Update(Box::new(update))),
            NOTIFICATION => {
                let (Some(code), Some(subcode)) = (cursor.u8(), cursor.u8()) else {
                    return Err(bad_length());
                };
                let data = cursor.rest().to_vec();
                Ok(Self::Notification(Notification { code, subcode, data }))
            }
            ROUTE_REFRESH => {
                let (Some(afi), Some([subtype, safi])) = (cursor.u16(), cursor.array()) else {
                    return Err(bad_length());
                };
                Ok(Self::RouteRefresh(RouteRefresh { afi, subtype, safi }))
            }
            _ => Ok(Self::Keepalive),
        }
    }

    /// Writes the message with its header.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn encode(&self, session: &Session) -> Result<Vec<u8>, TooLong> {
        let mut bytes = vec![0xff; 16];
        bytes.extend([0, 0]);
        match self {
            Self::Keepalive => bytes.push(KEEPALIVE),
            Self::Notification(Notification { code, subcode, data }) => {
                bytes.extend([NOTIFICATION, *code, *subcode]);
                bytes.extend(data);
            }
            Self::Open(open) => {
                bytes.push(OPEN);
                open.write(&mut bytes)?;
            }
            Self::RouteRefresh(RouteRefresh { afi, subtype, safi }) => {
                bytes.push(ROUTE_REFRESH);
                bytes.extend(afi.to_be_bytes());
                bytes.extend([*subtype, *safi]);
            }
            Self::Update(update) => {
                bytes.push(UPDATE);
                update.write(&mut bytes, session)?;
            }
        }
        let length = u16::try_from(bytes.len()).map_err(|_| TooLong)?;
        let limit = if matches!(self, Self::Open(_)) { MESSAGE_LIMIT } else { session.message_limit() };
        if bytes.len() > limit {
            return Err(TooLong);
        }
        if let Some(place) = bytes.get_mut(HEADER_LENGTH - 3..HEADER_LENGTH - 1) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Ok(bytes)
    }
}
