use std::net::IpAddr;

use super::*;
use crate::suspicion::{HeloLeads, Ourselves, Reverse, Spf, weigh};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn at(span: Duration) -> Timestamp {
    START.plus(span)
}

/// A judge with its memory.
struct Judge {
    policy: Policy,
    config: Config,
    memory: Remembered,
}

impl Judge {
    fn new(mode: Mode) -> Self {
        let config = Config { mode, ..Config::default() };
        Self { policy: Policy::from(&config), config, memory: Remembered::default() }
    }

    fn weighed(&self, facts: &Facts<'_>) -> Weighed {
        let ourselves =
            Ourselves { hostname: mailgate_model::Domain::parse("mx.example.org").unwrap(), address: None };
        weigh(&self.config.suspicion, &ourselves, facts)
    }

    fn attempt(&mut self, facts: &Facts<'_>, now: Timestamp) -> Judgement {
        let weighed = self.weighed(facts);
        self.memory.attempt(&self.policy, &weighed, facts, now)
    }

    /// Seconds to wait; `None` when it goes on.
    fn wait(&mut self, facts: &Facts<'_>, now: Timestamp) -> Option<u64> {
        match self.attempt(facts, now).verdict {
            Verdict::Accept { .. } => None,
            Verdict::Defer { wait, .. } => Some(wait.as_secs()),
        }
    }
}

fn server(ip: &str) -> Facts<'static> {
    Facts {
        helo: "mail.sender.example",
        reverse_path: "a@sender.example",
        forward_path: "b@example.org",
        reverse: Reverse::Confirmed("mail.sender.example"),
        helo_leads: HeloLeads::Here,
        spf: Spf::Pass,
        ..Facts::of(ip.parse::<IpAddr>().unwrap())
    }
}

/// Enough against it to wait, and too little to wait long.
fn shabby(ip: &str) -> Facts<'static> {
    Facts { reverse: Reverse::None, spf: Spf::None, ..server(ip) }
}

/// A bot.
fn bot(ip: &str) -> Facts<'static> {
    Facts { helo: "localhost", helo_leads: HeloLeads::Late, ..shabby(ip) }
}

#[test]
fn a_server_of_which_nothing_bad_is_known_never_waits() {
    let mut judge = Judge::new(Mode::Selective);
    let judgement = judge.attempt(&server("192.0.2.1"), START);
    assert_eq!((judgement.is_accept(), judgement.reason), (true, Reason::LowSuspicion));
}

#[test]
fn a_suspicious_one_waits_three_minutes_and_a_bot_as_long_as_with_spamd() {
    let mut judge = Judge::new(Mode::Selective);
    assert_eq!(judge.wait(&shabby("192.0.2.1"), START), Some(180));
    assert_eq!(judge.attempt(&shabby("192.0.2.1"), at(MINUTE)).reason, Reason::TooEarly);
    assert_eq!(judge.wait(&shabby("192.0.2.1"), at(3 * MINUTE)), None);
    assert_eq!(judge.wait(&bot("198.51.100.1"), START), Some(1500));
    assert_eq!(judge.wait(&bot("198.51.100.1"), at(25 * MINUTE)), None);
    // SPF pass, and yet suspicious: early talk of a server without a name.
    let aligned = Facts { reverse: Reverse::None, early_pipelining: true, ..server("203.0.113.1") };
    assert_eq!(judge.wait(&aligned, START), Some(90));
}

#[test]
fn a_slow_retrier_of_twelve_hours_passes() {
    let mut judge = Judge::new(Mode::Selective);
    assert!(judge.wait(&shabby("192.0.2.1"), START).is_some());
    assert_eq!(judge.wait(&shabby("192.0.2.1"), at(12 * HOUR)), None);
}

#[test]
fn a_retry_from_another_address_of_the_same_pool_counts() {
    for (first, second) in [("192.0.2.1", "192.0.2.200"), ("2001:db8::1", "2001:db8::dead:beef")] {
        let mut judge = Judge::new(Mode::Selective);
        assert!(judge.wait(&shabby(first), START).is_some());
        assert_eq!(judge.wait(&shabby(second), at(5 * MINUTE)), None, "{second}");
    }
    // By name, wherever its addresses are.
    let suspicious = |ip| Facts { early_talk: true, ..server(ip) };
    let mut judge = Judge::new(Mode::Selective);
    assert!(judge.wait(&suspicious("192.0.2.1"), START).is_some());
    assert_eq!(judge.wait(&suspicious("198.51.100.77"), at(5 * MINUTE)), None);
}

#[test]
fn defect_10_another_helo_is_the_same_attempt_where_clients_are_weighed() {
    let mut judge = Judge::new(Mode::Selective);
    let one = shabby("192.0.2.1");
    assert!(judge.wait(&one, START).is_some());
    assert_eq!(judge.wait(&Facts { helo: "mail2.sender.example", ..one }, at(4 * MINUTE)), None);
}

#[test]
fn defect_11_another_tag_is_the_same_attempt_where_clients_are_weighed() {
    let mut judge = Judge::new(Mode::Selective);
    let one = Facts { reverse_path: "bounce-123456-b=example.org@sender.example", ..shabby("192.0.2.1") };
    let reverse_path = "BOUNCE-777777-b=example.org@Sender.Example";
    assert!(judge.wait(&one, START).is_some());
    assert_eq!(
        judge.wait(&Facts { reverse_path, forward_path: "B@Example.ORG", ..one }, at(4 * MINUTE)),
        None
    );
}

#[test]
fn who_came_again_or_had_two_messages_accepted_is_known_for_45_days() {
    let mut judge = Judge::new(Mode::Selective);
    judge.wait(&shabby("192.0.2.1"), START);
    assert_eq!(judge.wait(&shabby("192.0.2.1"), at(4 * MINUTE)), None);
    let other = Facts { reverse_path: "x@other.example", ..shabby("192.0.2.1") };
    assert_eq!(judge.attempt(&other, at(44 * DAY)).reason, Reason::KnownIdentity);
    assert!(judge.wait(&other, at(46 * DAY)).is_some());

    let mut judge = Judge::new(Mode::Selective);
    let suspicious = Facts { early_talk: true, ..server("192.0.2.1") };
    let identity = judge.weighed(&suspicious).identity().clone();
    judge.memory.accepted(&judge.policy, &identity, START);
    assert!(judge.wait(&suspicious, at(MINUTE)).is_some(), "one message is not enough");
    judge.memory.accepted(&judge.policy, &identity, at(HOUR));
    assert_eq!(judge.attempt(&suspicious, at(2 * HOUR)).reason, Reason::KnownIdentity);
}

#[test]
fn a_bot_gains_nothing_by_its_neighbours_or_by_the_domain_it_claims() {
    let mut judge = Judge::new(Mode::Selective);
    judge.wait(&bot("192.0.2.1"), START);
    assert_eq!(judge.wait(&bot("192.0.2.1"), at(30 * MINUTE)), None, "it did come again");
    assert_eq!(
        judge.attempt(&bot("192.0.2.1"), at(HOUR)).reason,
        Reason::KnownIdentity,
        "and is trusted alone"
    );
    let neighbour = Facts { reverse_path: "y@other.example", ..bot("192.0.2.2") };
    assert!(judge.wait(&neighbour, at(HOUR)).is_some());
}

#[test]
fn a_grey_table_makes_even_a_good_server_wait_once() {
    let mut judge = Judge::new(Mode::Selective);
    let listed = Facts { grey_table: true, ..server("192.0.2.1") };
    assert_eq!(judge.wait(&listed, START), Some(90));
    assert_eq!(judge.wait(&listed, at(2 * MINUTE)), None);
    assert_eq!(judge.attempt(&listed, at(HOUR)).reason, Reason::KnownIdentity);
}

#[test]
fn recipients_opt_out_by_address_local_part_or_domain() {
    let mut config = Config::default();
    config.greylist.opt_out =
        ["Help@example.org", "abuse@", "shop.example"].into_iter().map(str::to_owned).collect();
    for mode in [Mode::Selective, Mode::Classic] {
        let policy = Policy::from(&Config { mode, ..config.clone() });
        for (to, want) in [
            ("help@example.org", true),
            ("help+tag@Example.org", true),
            ("abuse@any.example", true),
            ("x@shop.example", true),
            ("x@eu.shop.example", true),
            ("x@myshop.example", false),
            ("help@other.example", false),
            ("postmaster", false),
        ] {
            let facts = Facts { forward_path: to, ..bot("192.0.2.1") };
            let judgement = policy.judge(
                &Weighed { points: 9, ..Weighed::unknown(facts.ip) },
                &facts,
                &View::default(),
                START,
            );
            assert_eq!(judgement.reason == Reason::OptedOut, want, "{to}");
        }
    }
}

#[test]
fn known_lists_and_our_own_correspondents_go_on() {
    let judge = Judge::new(Mode::Selective);
    let facts = Facts { early_talk: true, ..server("192.0.2.1") };
    let weighed = judge.weighed(&facts);
    let of = |weighed: &Weighed, view: View| judge.policy.judge(weighed, &facts, &view, START).reason;
    assert_eq!(of(&weighed, View::default()), Reason::FirstAttempt);
    assert_eq!(of(&weighed, View { correspondent: true, ..View::default() }), Reason::Correspondent);
    let claimed = Weighed { aligned: false, ..weighed.clone() };
    assert_eq!(
        of(&claimed, View { correspondent: true, ..View::default() }),
        Reason::FirstAttempt,
        "not proved"
    );
    assert_eq!(of(&Weighed { vouched: true, ..weighed }, View::default()), Reason::Dnswl);
}

/// spec/edge.md section 7: retry at passtime - 1 s and + 1 s, expiry at greyexp, whole address passes.
#[test]
fn parity_classic_mode_keeps_spamds_times_and_passes_the_address() {
    let mut judge = Judge::new(Mode::Classic);
    let client = bot("192.0.2.1");
    assert_eq!(judge.wait(&client, START), Some(1500));
    assert_eq!(judge.wait(&client, at(25 * MINUTE - Duration::from_secs(1))), Some(1));
    assert_eq!(judge.wait(&client, at(25 * MINUTE + Duration::from_secs(1))), None);
    let other = Facts { reverse_path: "z@z.example", ..bot("192.0.2.1") };
    assert_eq!(judge.attempt(&other, at(HOUR)).reason, Reason::Passed);
    assert!(judge.wait(&bot("192.0.2.2"), at(HOUR)).is_some());
    let good = server("198.51.100.1");
    assert_eq!(judge.wait(&good, START), Some(1500), "everybody unknown waits");
    assert_eq!(judge.wait(&good, at(4 * HOUR)), Some(1500), "at greyexp it is the first again");
    assert_eq!(judge.memory.sweep(at(100 * DAY)), 0);
}

#[test]
fn where_content_is_read_a_retry_of_the_message_passes_from_anywhere() {
    let message = |last| Tuple {
        client: Identity::Message([last; 16]),
        reverse_path: "a@sender.example".into(),
        forward_path: "b@example.org".into(),
    };
    for (mode, wait) in [(Mode::Classic, 25 * MINUTE), (Mode::Selective, 3 * MINUTE)] {
        let mut judge = Judge::new(mode);
        let mut attempt = |ip, last, time| {
            let facts = shabby(ip);
            let weighed = judge.weighed(&facts);
            judge.memory.attempt_with(&judge.policy, &weighed, &facts, &message(last), time).reason
        };
        assert_eq!(attempt("192.0.2.1", 1, START), Reason::FirstAttempt);
        assert_eq!(attempt("198.51.100.1", 2, at(wait)), Reason::FirstAttempt, "another message");
        assert_eq!(attempt("203.0.113.1", 1, at(wait)), Reason::SameMessage);
        let again = if mode == Mode::Classic { Reason::Passed } else { Reason::KnownIdentity };
        assert_eq!(attempt("203.0.113.1", 3, at(wait)), again, "it came again as a mail server does");
    }
}
