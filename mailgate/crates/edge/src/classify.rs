//! Where a connection goes: a pure function of what is known when it arrives.

use mailgate_lists::Action;
use mailgate_store::greylist::{Origin, Standing};

use crate::config::Mode;

/// What is known of a source at the moment it connects.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// It is in one of the networks that always go on.
    pub local: bool,
    /// What the tables say, if one of them lists it; bypass beats block there already.
    pub listed: Option<Action>,
    /// What its behaviour or the administrator said.
    pub standing: &'a Standing,
    /// What becomes of the unknown.
    pub mode: Mode,
}

/// Where a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The greylister.
    Greylist,
    /// Straight to reception; the word says why, for logs and counters.
    Reception(Reason),
    /// Closed, with or without a word.
    Refuse(Refusal),
    /// The tarpit.
    Tarpit(Reason),
}

/// Why a connection goes where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A table with action bypass holds it.
    Bypass,
    /// It is in a local network.
    Local,
    /// A table with action tarpit holds it.
    Listed,
    /// It passed the greylist, or the administrator said so.
    Passed,
    /// It stepped into a trap, or the administrator said so.
    Trapped,
    /// Nothing is known, and greylisting is off.
    Unknown,
}

impl Reason {
    /// The word for logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Listed => "listed",
            Self::Local => "local",
            Self::Passed => "passed",
            Self::Trapped => "trapped",
            Self::Unknown => "unknown",
        }
    }
}

/// How a refused connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Without a word.
    Drop,
    /// With a greeting that says so.
    Reject,
}

/// The layers in their order, the first that applies decides: local networks; bypass tables; block tables that drop or
/// reject; what the administrator passed; traps; block tables that tarpit; what passed by itself; the unknown.
#[must_use]
pub fn classify(facts: &Facts<'_>) -> Route {
    if facts.local {
        return Route::Reception(Reason::Local);
    }
    match facts.listed {
        Some(Action::Bypass) => return Route::Reception(Reason::Bypass),
        Some(Action::Drop) => return Route::Refuse(Refusal::Drop),
        Some(Action::Reject) => return Route::Refuse(Refusal::Reject),
        Some(Action::Tarpit | Action::Grey | Action::Score) | None => {}
    }
    let tarpitted = facts.listed == Some(Action::Tarpit);
    match facts.standing {
        Standing::Passed(_, peer) if peer.origin == Origin::Admin => Route::Reception(Reason::Passed),
        Standing::Trapped(..) => Route::Tarpit(Reason::Trapped),
        _ if tarpitted => Route::Tarpit(Reason::Listed),
        Standing::Passed(..) => Route::Reception(Reason::Passed),
        Standing::Unknown => match facts.mode {
            Mode::Classic => Route::Greylist,
            Mode::Off => Route::Reception(Reason::Unknown),
        },
    }
}

#[cfg(test)]
mod tests {
    use mailgate_model::Timestamp;
    use mailgate_store::greylist::{Peer, PeerKind};

    use super::*;

    fn standing(kind: PeerKind, origin: Origin) -> Standing {
        let network = "192.0.2.1/32".parse().unwrap();
        let at = Timestamp::from_secs(1);
        let peer = Peer { kind, origin, first: at, pass: at, expires: at, blocked: 0, passed: 0 };
        match kind {
            PeerKind::Passed => Standing::Passed(network, peer),
            PeerKind::Trapped => Standing::Trapped(network, peer),
        }
    }

    #[test]
    fn layers_decide_in_their_order() {
        use Action::{Bypass, Drop, Reject, Tarpit};
        let unknown = Standing::Unknown;
        let passed = standing(PeerKind::Passed, Origin::Learned);
        let admin = standing(PeerKind::Passed, Origin::Admin);
        let trapped = standing(PeerKind::Trapped, Origin::Learned);
        let reception = Route::Reception;
        let cases = [
            ("a local network beats every block", true, Some(Drop), &trapped, reception(Reason::Local)),
            ("bypass beats a trap", false, Some(Bypass), &trapped, reception(Reason::Bypass)),
            (
                "bypass spares the unknown the greylist",
                false,
                Some(Bypass),
                &unknown,
                reception(Reason::Bypass),
            ),
            ("drop beats everything learned", false, Some(Drop), &passed, Route::Refuse(Refusal::Drop)),
            ("reject says so", false, Some(Reject), &unknown, Route::Refuse(Refusal::Reject)),
            (
                "passed by command beats a tarpit table",
                false,
                Some(Tarpit),
                &admin,
                reception(Reason::Passed),
            ),
            (
                "a tarpit table beats passed by itself",
                false,
                Some(Tarpit),
                &passed,
                Route::Tarpit(Reason::Listed),
            ),
            ("trapped", false, None, &trapped, Route::Tarpit(Reason::Trapped)),
            ("passed by itself", false, None, &passed, reception(Reason::Passed)),
            ("unknown", false, None, &unknown, Route::Greylist),
        ];
        for (name, local, listed, standing, want) in cases {
            let facts = Facts { local, listed, standing, mode: Mode::Classic };
            assert_eq!(classify(&facts), want, "{name}");
        }
    }

    #[test]
    fn without_greylisting_only_the_unknown_fare_otherwise() {
        let facts = Facts { local: false, listed: None, standing: &Standing::Unknown, mode: Mode::Off };
        assert_eq!(classify(&facts), Route::Reception(Reason::Unknown));
        let trapped = standing(PeerKind::Trapped, Origin::Learned);
        let facts = Facts { standing: &trapped, ..facts };
        assert_eq!(classify(&facts), Route::Tarpit(Reason::Trapped));
    }
}
