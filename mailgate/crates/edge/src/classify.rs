//! Where a connection goes: a pure function of what is known when it arrives.

use mailgate_lists::{Action, TableName};
use mailgate_packet::Verdict;
use mailgate_store::greylist::{Origin, Standing};

use crate::config::Mode;
use crate::reason::Reason;

/// What the layers say of a source at the moment it connects.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    /// It is in one of the networks that always go on.
    pub local: bool,
    /// Who says that it may pass, if a table does.
    pub bypass: Option<Bypass>,
    /// What a table says that blocks: drop, reject or tarpit.
    pub blocked: Option<Action>,
    /// A table with action grey holds it.
    pub grey: bool,
    /// What its behaviour or the administrator said.
    pub standing: &'a Standing,
    /// What becomes of the unknown.
    pub mode: Mode,
}

/// Who fills the tables that let a source pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bypass {
    /// The administrator, by hand, in a file or by a rule.
    Admin,
    /// Others, whose word counts less than what was seen here.
    Feed,
}

/// What the tables say: who lets it pass, and what blocks it. `feeds` are the tables that others fill.
#[must_use]
pub(crate) fn said(verdict: &Verdict, feeds: &[TableName]) -> (Option<Bypass>, Option<Action>) {
    // Nothing that blocks was in its way.
    if verdict.action == Some(Action::FeedBypass) {
        return (Some(Bypass::Feed), None);
    }
    let held = || verdict.tables.iter().zip(&verdict.meanings);
    let blocking = |action: &Action| matches!(action, Action::Drop | Action::Reject | Action::Tarpit);
    if verdict.action != Some(Action::Bypass) {
        return (None, verdict.action.filter(blocking));
    }
    let mut bypasses = held().filter(|(_, meaning)| **meaning == Action::Bypass).peekable();
    // Without any it was a rule of the firewall.
    let is_fed = bypasses.peek().is_some() && bypasses.all(|(name, _)| feeds.contains(name));
    let blocked = held().map(|(_, meaning)| *meaning).filter(blocking).min();
    (Some(if is_fed { Bypass::Feed } else { Bypass::Admin }), blocked.filter(|_| is_fed))
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

/// How a refused connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Without a word.
    Drop,
    /// With a greeting that says so.
    Reject,
}

impl Refusal {
    /// The reason.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::Drop => Reason::Dropped,
            Self::Reject => Reason::Rejected,
        }
    }
}

/// The layers in their order, the first that applies decides: local networks; bypass by the administrator; tables that drop
/// or reject; what the administrator passed; traps; tables that tarpit; what passed by itself; bypass by feeds; the unknown.
#[must_use]
pub fn classify(layers: &Layers<'_>) -> Route {
    if layers.local {
        return Route::Reception(Reason::Local);
    }
    if layers.bypass == Some(Bypass::Admin) {
        return Route::Reception(Reason::Bypass);
    }
    match layers.blocked {
        Some(Action::Drop) => return Route::Refuse(Refusal::Drop),
        Some(Action::Reject) => return Route::Refuse(Refusal::Reject),
        Some(Action::Bypass | Action::FeedBypass | Action::Grey | Action::Score | Action::Tarpit) | None => {}
    }
    match layers.standing {
        Standing::Passed(_, peer) if peer.origin == Origin::Admin => Route::Reception(Reason::Admitted),
        Standing::Trapped(..) => Route::Tarpit(Reason::Trapped),
        _ if layers.blocked == Some(Action::Tarpit) => Route::Tarpit(Reason::Listed),
        Standing::Passed(..) => Route::Reception(Reason::Passed),
        Standing::Unknown if layers.bypass.is_some() => Route::Reception(Reason::FeedBypass),
        Standing::Unknown => match layers.mode {
            Mode::Classic | Mode::Selective => Route::Greylist,
            Mode::Off if layers.grey => Route::Greylist,
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

    /// Every pair of neighbouring layers, and some that are far apart.
    #[test]
    fn layers_decide_in_their_order() {
        use Action::{Drop, Reject, Tarpit};
        let unknown = Standing::Unknown;
        let passed = standing(PeerKind::Passed, Origin::Learned);
        let admin = standing(PeerKind::Passed, Origin::Admin);
        let trapped = standing(PeerKind::Trapped, Origin::Learned);
        let (by_admin, by_feed) = (Some(Bypass::Admin), Some(Bypass::Feed));
        let reception = Route::Reception;
        let cases = [
            ("a local network beats every block", true, None, Some(Drop), &trapped, reception(Reason::Local)),
            ("bypass beats a block", false, by_admin, Some(Drop), &trapped, reception(Reason::Bypass)),
            (
                "bypass spares the unknown the greylist",
                false,
                by_admin,
                None,
                &unknown,
                reception(Reason::Bypass),
            ),
            ("drop beats everything learned", false, None, Some(Drop), &passed, Route::Refuse(Refusal::Drop)),
            (
                "drop beats a feed's bypass",
                false,
                by_feed,
                Some(Drop),
                &unknown,
                Route::Refuse(Refusal::Drop),
            ),
            ("reject says so", false, None, Some(Reject), &admin, Route::Refuse(Refusal::Reject)),
            (
                "passed by command beats a tarpit table",
                false,
                None,
                Some(Tarpit),
                &admin,
                reception(Reason::Admitted),
            ),
            (
                "a trap beats a tarpit table",
                false,
                None,
                Some(Tarpit),
                &trapped,
                Route::Tarpit(Reason::Trapped),
            ),
            ("a trap beats a feed's bypass", false, by_feed, None, &trapped, Route::Tarpit(Reason::Trapped)),
            (
                "a tarpit table beats passed by itself",
                false,
                None,
                Some(Tarpit),
                &passed,
                Route::Tarpit(Reason::Listed),
            ),
            (
                "a tarpit table beats a feed's bypass",
                false,
                by_feed,
                Some(Tarpit),
                &unknown,
                Route::Tarpit(Reason::Listed),
            ),
            (
                "passed by itself beats a feed's bypass",
                false,
                by_feed,
                None,
                &passed,
                reception(Reason::Passed),
            ),
            (
                "a feed's bypass beats the unknown",
                false,
                by_feed,
                None,
                &unknown,
                reception(Reason::FeedBypass),
            ),
            ("unknown", false, None, None, &unknown, Route::Greylist),
        ];
        for (name, local, bypass, blocked, standing, want) in cases {
            let layers = Layers { local, bypass, blocked, grey: false, standing, mode: Mode::Classic };
            assert_eq!(classify(&layers), want, "{name}");
        }
    }

    #[test]
    fn without_greylisting_only_the_unknown_fare_otherwise() {
        let unknown = Standing::Unknown;
        let layers = Layers {
            local: false,
            bypass: None,
            blocked: None,
            grey: false,
            standing: &unknown,
            mode: Mode::Off,
        };
        assert_eq!(classify(&layers), Route::Reception(Reason::Unknown));
        assert_eq!(classify(&Layers { grey: true, ..layers }), Route::Greylist, "tables act all the same");
        let trapped = standing(PeerKind::Trapped, Origin::Learned);
        assert_eq!(classify(&Layers { standing: &trapped, ..layers }), Route::Tarpit(Reason::Trapped));
    }

    #[test]
    fn a_bypass_of_feeds_alone_is_one_of_a_feed_and_shows_what_else_is_said() {
        let name = |text: &str| TableName::parse(text).unwrap();
        let feeds = [name("feed"), name("spews")];
        let verdict = |tables: &[(&str, Action)]| Verdict {
            action: tables.iter().map(|(_, action)| *action).min(),
            tables: tables.iter().map(|(table, _)| name(table)).collect(),
            meanings: tables.iter().map(|(_, action)| *action).collect(),
            ..Verdict::default()
        };
        let of = |tables: &[(&str, Action)]| said(&verdict(tables), &feeds);
        let (feed, own, block) =
            (("feed", Action::Bypass), ("own", Action::Bypass), ("spews", Action::Tarpit));
        assert_eq!(of(&[feed]), (Some(Bypass::Feed), None));
        assert_eq!(of(&[feed, block]), (Some(Bypass::Feed), Some(Action::Tarpit)));
        assert_eq!(of(&[feed, own, block]), (Some(Bypass::Admin), None));
        assert_eq!(of(&[block]), (None, Some(Action::Tarpit)));
        assert_eq!(of(&[("g", Action::Grey), ("s", Action::Score)]), (None, None));
        let by_rule = Verdict { action: Some(Action::Bypass), ..Verdict::default() };
        assert_eq!(said(&by_rule, &feeds), (Some(Bypass::Admin), None));
    }
}
