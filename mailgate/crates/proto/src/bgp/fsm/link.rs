//! One connection of a session, from OPEN on.

use std::net::Ipv4Addr;
use std::time::Duration;

use mailgate_model::Timestamp;

use super::super::Session;
use super::State;

/// Hold time until the peer's OPEN is there (RFC 4271 §8.2.2, OpenSent).
const OPEN_HOLD: Duration = Duration::from_secs(240);

/// A peer that takes nothing of what is sent for this long, or for twice the hold time if that is longer, is given up (RFC
/// 9687 §5).
const SEND_HOLD: Duration = Duration::from_secs(480);

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    /// OpenSent, OpenConfirm or Established.
    pub(super) state: State,
    pub(super) session: Session,
    /// The hold time agreed on; zero for none.
    pub(super) hold: Duration,
    pub(super) hold_until: Option<Timestamp>,
    pub(super) keepalive_at: Option<Timestamp>,
    /// Set while something sent was not yet taken.
    pub(super) send_hold_until: Option<Timestamp>,
    /// The peer's identifier, once its OPEN is there.
    pub(super) peer: Ipv4Addr,
}

impl Link {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            state: State::OpenSent,
            session: Session::default(),
            hold: Duration::ZERO,
            hold_until: Some(now.plus(OPEN_HOLD)),
            keepalive_at: None,
            send_hold_until: None,
            peer: Ipv4Addr::UNSPECIFIED,
        }
    }

    pub(super) fn deadline(&self) -> Option<Timestamp> {
        [self.hold_until, self.keepalive_at, self.send_hold_until].into_iter().flatten().min()
    }

    /// Something came: the peer is there for another hold time.
    pub(super) fn heard(&mut self, now: Timestamp) {
        self.hold_until = (!self.hold.is_zero()).then(|| now.plus(self.hold));
    }

    pub(super) fn send_hold(&self) -> Duration {
        SEND_HOLD.max(self.hold * 2)
    }

    /// Whether routes are kept also when a NOTIFICATION ends the session: we always say so, the peer has to as well (RFC
    /// 8538 §4).
    pub(super) fn survives_notification(&self) -> bool {
        self.session.restart.is_some_and(|restart| restart.over_notification)
    }
}
