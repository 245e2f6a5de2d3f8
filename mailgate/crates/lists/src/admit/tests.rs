//! What a feed can never do, for those that bring sets and those that announce.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use mailgate_model::ManualClock;
use proptest::prelude::*;

use super::reopen::tick;
use super::*;
use crate::Config;
use crate::format;
use crate::merge::SOURCES;
use crate::shared::{Kind, Shared, Status};

const HOUR: Duration = Duration::from_secs(3600);

const FEED: Origin = SOURCES;

/// Tables and gates without tasks.
struct Bench {
    shared: Shared,
    now: Timestamp,
}

impl Bench {
    /// With sources as in a configuration.
    fn of(text: &str) -> Self {
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.problems(), [""; 0]);
        let now = Timestamp::from_secs(1_000_000);
        let merged = Merged::new(config.tables(), config.entries_limit, now);
        let status = |source: &SourceConfig| {
            Status::new(source.name(), Kind::Local("file"), Gate::new(source, &merged))
        };
        let statuses = config.sources().iter().map(status).collect();
        let clock = Arc::new(ManualClock::at(now));
        Self { shared: Shared::new(merged, config.protected(), statuses, clock, "counts".into()), now }
    }

    /// One feed from elsewhere into `block`, as if fetched: a file with the rules of a URL.
    fn fetched(admission: &str) -> Self {
        Self::of(&format!(
            "[protect]\nnetworks = [\"198.51.100.0/24\", \"2001:db8:25::/48\"]\n[[source]]\nkind = \"file\"\nname = \"feed\"\n\
             path = \"x\"\ntable = \"block\"\n[source.admission]\nshortest_v4 = 24\nshortest_v6 = 48\n{admission}\n"
        ))
    }

    /// One neighbour with the tables of bgp-spamd.
    fn peer(admission: &str) -> Self {
        Self::of(&format!(
            "[protect]\nnetworks = [\"198.51.100.0/24\", \"2001:db8:25::/48\"]\n[[source]]\nkind = \"bgp\"\nname = \"feed\"\n\
             peer = \"192.0.2.66\"\nlocal_as = 65500\npeer_as = 65066\n\
             communities = {{ \"65066:666\" = \"block\", \"65066:42\" = \"bypass\" }}\n[source.admission]\n{admission}\n"
        ))
    }

    fn table(&self, name: &str) -> TableIndex {
        self.shared.lock().merged.index(&crate::TableName::parse(name).unwrap()).unwrap()
    }

    /// Offers a text as a set for a table.
    fn offers(&self, lines: &str) -> Result<bool, String> {
        self.offers_all(&[("block", lines)], Told::Fresh)
    }

    fn offers_all(&self, texts: &[(&str, &str)], told: Told) -> Result<bool, String> {
        let most = self.shared.lock().sources[0].gate.max_entries();
        let set = |text: &str| format::parse(format::Format::Plain, "x", text.as_bytes(), most).set;
        let sets = texts.iter().map(|(table, text)| (self.table(table), set(text))).collect();
        let mut state = self.shared.lock();
        let offered = offer_sets(&mut state, FEED, sets, told, self.now);
        offered.map(|offered| offered.is_whole).map_err(|refusal| refusal.to_string())
    }

    /// Announces (`+`) and withdraws (`-`): `+block 192.0.2.1/32`.
    fn says(&self, steps: &[&str]) {
        let step = |text: &&str| {
            let (table, prefix) = text[1..].split_once(' ').unwrap();
            let kind = if text.starts_with('+') { StepKind::Announce } else { StepKind::Withdraw };
            Step { table: self.table(table), prefix: prefix.parse().unwrap(), kind }
        };
        let steps: Vec<Step> = steps.iter().map(step).collect();
        offer_steps(&mut self.shared.lock(), FEED, &steps, self.now);
    }

    /// Announces so many hosts from this address on.
    fn announces(&self, first: [u8; 4], count: u32) {
        let table = self.table("block");
        let first = u32::from(Ipv4Addr::from(first));
        let step = |n: u32| Step {
            table,
            prefix: IpNet::from(std::net::IpAddr::from(Ipv4Addr::from(first + n))),
            kind: StepKind::Announce,
        };
        let steps: Vec<Step> = (0..count).map(step).collect();
        offer_steps(&mut self.shared.lock(), FEED, &steps, self.now);
    }

    /// Time goes by, in steps as in the daemon.
    fn passes(&mut self, span: Duration) {
        let end = self.now.plus(span);
        while self.now < end {
            self.now = self.now.plus(Duration::from_secs(60)).min(end);
            tick(&mut self.shared.lock(), self.now);
        }
    }

    fn row(&self) -> AdmissionRow {
        let state = self.shared.lock();
        let installed =
            state.sources[0].gate.tables.iter().map(|table| state.merged.count(*table, FEED)).sum();
        state.sources[0].gate.row(installed, self.now)
    }

    /// Entries of the tables as `table prefix`.
    fn held(&self) -> Vec<String> {
        let state = self.shared.lock();
        let names: Vec<String> = state.merged.tables().map(|(name, ..)| name.to_string()).collect();
        let mut held = Vec::new();
        for (table, name) in (0..).zip(names) {
            held.extend(
                state.merged.entries(table, None).map(|found| format!("{name} {}", found.entry.prefix)),
            );
        }
        held
    }

    fn refused(&self) -> Vec<(Reason, usize)> {
        self.row().refused.iter().map(|row| (row.reason, row.entries)).collect()
    }
}

/// So many hosts from this address on, one to a line.
fn hosts(first: [u8; 4], count: u32) -> String {
    let first = u32::from(Ipv4Addr::from(first));
    (0..count).fold(String::new(), |mut text, n| {
        writeln!(text, "{}", Ipv4Addr::from(first + n)).unwrap();
        text
    })
}

/// What single entries are refused for: both kinds of source, the same words.
const WRONG: [(&str, Reason); 9] = [
    ("0.0.0.0/0", Reason::DefaultRoute),
    ("::/0", Reason::DefaultRoute),
    ("198.51.0.0/16", Reason::TooShort),
    ("2001:db8::/32", Reason::TooShort),
    ("198.51.100.0/24", Reason::Protected),
    ("198.51.100.7/32", Reason::Protected),
    ("2001:db8:25::/48", Reason::Protected),
    ("127.0.0.1/32", Reason::Protected),
    ("fe80::1/128", Reason::Protected),
];

#[test]
fn entries_that_are_wrong_by_themselves_are_refused_with_their_reason_and_the_rest_is_taken() {
    for (prefix, want) in WRONG {
        let bench = Bench::fetched("");
        assert_eq!(bench.offers(&format!("192.0.2.1\n{prefix}\n203.0.113.0/24\n")), Ok(true), "{prefix}");
        assert_eq!(bench.held(), ["block 192.0.2.1/32", "block 203.0.113.0/24"], "{prefix}");
        let row = bench.row();
        assert_eq!((row.received, row.accepted, row.installed), (3, 2, 2), "{prefix}");
        assert_eq!(bench.refused(), [(want, 1)], "{prefix}");
        assert_eq!(row.refused[0].examples, [prefix.parse::<IpNet>().unwrap()]);

        let bench = Bench::peer("");
        bench.says(&["+block 192.0.2.1/32", &format!("+block {prefix}"), "+block 203.0.113.0/24"]);
        assert_eq!(bench.held(), ["block 192.0.2.1/32", "block 203.0.113.0/24"], "{prefix}");
        assert_eq!(bench.refused(), [(want, 1)], "{prefix}");
        assert_eq!(bench.row().received, 3, "{prefix}");
        bench.says(&[&format!("-block {prefix}")]);
        assert_eq!((bench.row().received, bench.refused()), (2, vec![]), "{prefix}");
    }
    // A neighbour is protected from every feed, its own included.
    let bench = Bench::peer("");
    bench.says(&["+block 192.0.2.0/24", "+block 192.0.2.66/32", "+bypass 192.0.2.66/32"]);
    assert_eq!(bench.held(), ["bypass 192.0.2.66/32"]);
    assert_eq!(bench.refused(), [(Reason::Protected, 2)]);
}

#[test]
fn ipv4_in_disguise_is_refused_from_a_peer() {
    let bench = Bench::peer("");
    bench.says(&["+block ::ffff:192.0.2.1/128"]);
    assert_eq!(bench.refused(), [(Reason::Mapped, 1)]);
}

#[test]
fn a_feed_may_let_in_the_protected_and_make_holes_for_them() {
    let bench = Bench::fetched("");
    assert_eq!(bench.offers("!198.51.100.7\n"), Ok(true));
    assert_eq!(bench.held(), ["block 198.51.100.7/32"]);
    let config = "[protect]\nnetworks = [\"198.51.100.0/24\"]\n[[source]]\nkind = \"file\"\nname = \"feed\"\npath = \"x\"\n\
                  table = \"bypass\"\n";
    let bench = Bench::of(config);
    assert_eq!(bench.offers_all(&[("bypass", "198.51.100.7\n!198.51.100.8\n")], Told::Fresh), Ok(true));
    assert_eq!(bench.held(), ["bypass 198.51.100.7/32"], "a hole in a bypass keeps out");
    assert_eq!(bench.refused(), [(Reason::Protected, 1)]);
}

#[test]
fn wider_prefixes_are_taken_where_the_configuration_says_so_but_never_everybody() {
    let bench = Bench::fetched("");
    assert_eq!(bench.offers("5.188.0.0/16\n"), Ok(true));
    assert_eq!(bench.refused(), [(Reason::TooShort, 1)]);
    let bench = Bench::peer("shortest_v4 = 1\nshortest_v6 = 1");
    bench.says(&["+block 5.188.0.0/16", "+block 2a00::/12", "+block 0.0.0.0/0", "+block ::/0"]);
    assert_eq!(bench.held(), ["block 5.188.0.0/16", "block 2a00::/12"]);
    assert_eq!(bench.refused(), [(Reason::DefaultRoute, 2)]);
}

#[test]
fn more_than_a_feed_may_bring_is_refused_as_a_whole_and_the_set_of_before_stays() {
    let bench = Bench::fetched("max_entries = 1000");
    assert_eq!(bench.offers(&hosts([192, 0, 2, 0], 200)), Ok(true));
    let said = bench.offers(&hosts([1, 0, 0, 0], 1001)).unwrap_err();
    assert!(
        said.contains("found more than 1000 entries, expected at most that: nothing was taken"),
        "{said}"
    );
    assert_eq!(bench.held().len(), 200);
    assert_eq!(bench.refused(), [(Reason::TooMany, 1000)]);
    assert_eq!(bench.offers(&hosts([192, 0, 2, 0], 199)), Ok(true));
    assert_eq!(bench.refused(), []);

    let bench = Bench::peer("max_entries = 1000");
    bench.announces([1, 0, 0, 0], 1500);
    assert_eq!((bench.held().len(), bench.row().received), (1000, 1500));
    assert_eq!(bench.refused(), [(Reason::TooMany, 500)]);
}

#[test]
fn a_ten_fold_jump_freezes_new_blocks_while_withdrawals_go_on() {
    let bench = Bench::fetched("jump = 10\nfreeze_share = 0");
    let usual = hosts([192, 0, 2, 0], 200);
    assert_eq!(bench.offers(&usual), Ok(true));
    let jumped = hosts([192, 0, 2, 1], 199) + &hosts([1, 0, 0, 0], 2000);
    assert_eq!(bench.offers(&jumped), Ok(false));
    let row = bench.row();
    assert_eq!(
        (row.state, row.received, row.installed, row.waiting),
        (AdmissionState::Frozen, 2199, 199, 2000)
    );
    assert_eq!(
        row.why.as_deref(),
        Some("found 2199 entries, expected at most 2000, as it usually has 200 (jump = 10)")
    );
    assert_eq!(bench.held().len(), 199, "192.0.2.0 was withdrawn");
    // As it was: believed again by itself.
    assert_eq!(bench.offers(&usual), Ok(true));
    assert_eq!((bench.row().state, bench.held().len()), (AdmissionState::Open, 200));
}

#[test]
fn a_frozen_feed_is_believed_by_command_by_time_or_when_it_says_the_same_often_enough() {
    let jumped = || {
        let bench = Bench::fetched("jump = 10\nconfirm = 3\nthaw_after = \"6h\"");
        assert_eq!(bench.offers(&hosts([192, 0, 2, 0], 200)), Ok(true));
        assert_eq!(bench.offers(&hosts([1, 0, 0, 0], 3000)), Ok(false));
        assert_eq!(bench.held().len(), 0, "none of the new ones, and the old ones are withdrawn");
        bench
    };
    let bench = jumped();
    assert_eq!(thaw(&mut bench.shared.lock(), FEED, bench.now), Some(3000));
    assert_eq!((bench.row().state, bench.held().len()), (AdmissionState::Open, 3000));
    assert_eq!(thaw(&mut bench.shared.lock(), FEED, bench.now), None, "not frozen any more");

    let mut bench = jumped();
    bench.passes(HOUR * 6 - Duration::from_secs(60));
    assert_eq!(bench.held().len(), 0);
    bench.passes(Duration::from_secs(60));
    assert_eq!((bench.row().state, bench.held().len()), (AdmissionState::Open, 3000));

    let bench = jumped();
    for _ in 0..2 {
        assert_eq!(bench.offers(&hosts([1, 0, 0, 0], 3000)), Ok(false));
    }
    assert_eq!(bench.offers(&hosts([1, 0, 0, 0], 3000)), Ok(true));
    assert_eq!(bench.held().len(), 3000);
}

#[test]
fn a_fetch_that_changes_too_much_or_too_fast_is_frozen_and_a_small_list_may_change_as_it_likes() {
    let mut bench = Bench::fetched("freeze_share = 20");
    assert_eq!(bench.offers(&hosts([10, 0, 0, 0], 10_000)), Ok(true));
    assert_eq!(bench.offers(&hosts([10, 0, 0, 0], 12_000)), Ok(true), "20 %");
    assert_eq!(bench.offers(&hosts([10, 0, 0, 0], 14_401)), Ok(false));
    let why = bench.row().why.unwrap();
    assert_eq!(why, "found 2401 new entries beside 12000, expected at most 2400 (freeze_share = 20)");
    assert_eq!((bench.held().len(), bench.row().waiting), (12_000, 2401));

    bench = Bench::fetched("freeze_rate = 100");
    assert_eq!(bench.offers(&hosts([10, 0, 0, 0], 10)), Ok(true));
    bench.passes(HOUR);
    assert_eq!(bench.offers(&hosts([10, 0, 0, 0], 6010)), Ok(true), "100 a minute, for an hour");
    assert_eq!(bench.offers(&hosts([10, 0, 0, 0], 6111)), Ok(false));

    let bench = Bench::fetched("freeze_share = 20\njump = 10\nshrink = 90");
    assert_eq!(bench.offers("192.0.2.1\n"), Ok(true));
    assert_eq!(bench.offers(&hosts([10, 0, 0, 0], 900)), Ok(true));
}

#[test]
fn near_emptying_keeps_the_set_of_before_until_it_is_believed() {
    let bench = Bench::fetched("shrink = 90\nconfirm = 2");
    assert_eq!(bench.offers(&hosts([192, 0, 2, 0], 200)), Ok(true));
    assert_eq!(bench.offers(&hosts([192, 0, 2, 0], 20)), Ok(true), "90 % is what it may lose");
    assert_eq!(bench.offers(&hosts([192, 0, 2, 0], 200)), Ok(true));
    assert_eq!(bench.offers(&hosts([192, 0, 2, 0], 19)), Ok(false));
    assert_eq!(bench.held().len(), 200);
    assert_eq!(
        bench.row().why.as_deref(),
        Some("found 19 entries after 200, expected at least 20 (shrink = 90)")
    );
    assert_eq!(bench.offers("# nothing\n"), Ok(false));
    assert_eq!(bench.held().len(), 200);
    assert_eq!(bench.offers("# nothing\n"), Ok(true), "said three times");
    assert_eq!(bench.held().len(), 0);
}

#[test]
fn a_peer_that_grows_too_fast_is_frozen_and_bypass_and_withdrawals_go_on() {
    let mut bench = Bench::peer("");
    bench.announces([10, 0, 0, 0], 30_000);
    assert_eq!(bench.held().len(), 30_000, "at first it may bring what it has");
    bench.passes(Duration::from_secs(120));
    bench.announces([11, 0, 0, 0], 5000);
    assert_eq!(bench.row().state, AdmissionState::Open);
    bench.announces([12, 0, 0, 0], 10);
    let row = bench.row();
    assert_eq!((row.state, row.installed, row.waiting), (AdmissionState::Frozen, 35_000, 10));
    assert!(row.why.unwrap().contains("more than 5000 new entries in a minute"));
    bench.says(&["+bypass 203.0.113.1/32", "-block 10.0.0.0/32", "-block 12.0.0.3/32", "+block 11.0.0.9/32"]);
    let row = bench.row();
    assert_eq!(
        (row.installed, row.waiting),
        (35_000, 9),
        "one more, one less, and one of those that wait is gone"
    );
    bench.passes(HOUR * 24);
    let row = bench.row();
    assert_eq!((row.state, row.installed, row.waiting), (AdmissionState::Open, 35_009, 0));
    // More than a fifth in an hour, slowly.
    for minute in 0..50 {
        bench.announces([13, minute, 0, 0], 200);
        bench.passes(Duration::from_secs(60));
    }
    let row = bench.row();
    assert_eq!(row.state, AdmissionState::Frozen);
    assert!(row.why.unwrap().contains("in an hour beside 35009"), "{:?}", bench.row());
}

#[test]
fn prefixes_that_flap_are_not_new_and_cost_no_memory() {
    let mut bench = Bench::peer("");
    bench.announces([10, 0, 0, 0], 20_000);
    bench.passes(Duration::from_secs(120));
    let table = bench.table("block");
    let step = |n: u32, kind| Step {
        table,
        prefix: IpNet::from(std::net::IpAddr::from(Ipv4Addr::from(0x0a00_0000 + n))),
        kind,
    };
    for _ in 0..30 {
        for kind in [StepKind::Withdraw, StepKind::Announce] {
            let steps: Vec<Step> = (0..10_000).map(|n| step(n, kind)).collect();
            offer_steps(&mut bench.shared.lock(), FEED, &steps, bench.now);
        }
        bench.passes(Duration::from_secs(1));
    }
    let row = bench.row();
    assert_eq!((row.state, row.installed, row.waiting), (AdmissionState::Open, 20_000, 0));
    assert_eq!(bench.shared.lock().sources[0].gate.aside.len(), 0);
}

#[test]
fn a_peer_that_comes_back_ten_times_as_large_is_frozen_even_at_first() {
    let mut bench = Bench::peer("");
    bench.announces([10, 0, 0, 0], 2000);
    bench.passes(Duration::from_secs(120));
    let all: Vec<Step> = (0..2000_u32)
        .map(|n| Step {
            table: bench.table("block"),
            prefix: IpNet::from(std::net::IpAddr::from(Ipv4Addr::from(0x0a00_0000 + n))),
            kind: StepKind::Withdraw,
        })
        .collect();
    offer_steps(&mut bench.shared.lock(), FEED, &all, bench.now);
    assert_eq!(bench.held().len(), 0);
    bench.announces([1, 0, 0, 0], 25_000);
    let row = bench.row();
    assert_eq!((row.state, row.installed, row.waiting), (AdmissionState::Frozen, 20_000, 5000));
}

#[test]
fn a_new_feed_is_only_watched_for_as_long_as_configured() {
    let mut bench = Bench::fetched("observe = \"24h\"");
    assert_eq!(bench.offers("192.0.2.1\n0.0.0.0/0\n"), Ok(false));
    let row = bench.row();
    assert_eq!(
        (row.state, row.received, row.accepted, row.installed, row.waiting),
        (AdmissionState::Observing, 2, 1, 0, 1)
    );
    bench.passes(HOUR * 24);
    assert_eq!(bench.held(), ["block 192.0.2.1/32"], "taken by itself");
    assert_eq!(bench.row().state, AdmissionState::Open);
    assert_eq!(bench.offers("192.0.2.2\n"), Ok(true));

    let mut bench = Bench::peer("observe = \"24h\"");
    bench.says(&["+block 192.0.2.1/32", "+bypass 192.0.2.2/32", "+block 192.0.2.3/32"]);
    bench.passes(HOUR * 23);
    bench.says(&["-block 192.0.2.3/32"]);
    assert_eq!((bench.held().len(), bench.row().waiting), (0, 2));
    bench.passes(HOUR);
    assert_eq!(bench.held(), ["bypass 192.0.2.2/32", "block 192.0.2.1/32"]);
    let bench = Bench::peer("observe = \"24h\"");
    bench.says(&["+block 192.0.2.1/32"]);
    assert_eq!(thaw(&mut bench.shared.lock(), FEED, bench.now), Some(1), "by command");
    assert_eq!(bench.held(), ["block 192.0.2.1/32"]);
}

#[test]
fn what_a_feed_both_blocks_and_bypasses_is_neither_unless_it_is_said_what_counts() {
    for (priority, want) in
        [("none", vec![]), ("block", vec!["block 192.0.2.1/32"]), ("bypass", vec!["bypass 192.0.2.1/32"])]
    {
        for order in
            [["+block 192.0.2.1/32", "+bypass 192.0.2.1/32"], ["+bypass 192.0.2.1/32", "+block 192.0.2.1/32"]]
        {
            let bench = Bench::peer(&format!("priority = \"{priority}\""));
            bench.says(&order);
            assert_eq!(bench.held(), want, "{priority} {order:?}");
            let refused = bench.row().refused[0].entries;
            assert_eq!((refused, bench.row().received), (2 - want.len(), 2), "{priority} {order:?}");
            bench.says(&["-bypass 192.0.2.1/32"]);
            assert_eq!(bench.held(), ["block 192.0.2.1/32"], "{priority} {order:?}");
            assert_eq!((bench.refused(), bench.row().received), (vec![], 1), "{priority} {order:?}");
            bench.says(&["+bypass 192.0.2.1/32", "-block 192.0.2.1/32"]);
            assert_eq!(bench.held(), ["bypass 192.0.2.1/32"], "{priority} {order:?}");
        }
        // And in sets.
        let bench = Bench::peer(&format!("priority = \"{priority}\""));
        let sets = [("block", "192.0.2.1\n192.0.2.2\n"), ("bypass", "192.0.2.1\n192.0.2.3\n")];
        assert_eq!(bench.offers_all(&sets, Told::Fresh), Ok(true));
        let mut both = vec!["bypass 192.0.2.3/32", "block 192.0.2.2/32"];
        both.extend(&want);
        both.sort_unstable();
        let mut held = bench.held();
        held.sort_unstable();
        assert_eq!(held, both, "{priority}");
        assert_eq!(bench.refused(), [(Reason::Contradiction, 2 - want.len())], "{priority}");
    }
}

#[test]
fn who_is_protected_later_leaves_the_tables_and_comes_back_afterwards() {
    let own = |text: &str| Protected { network: text.parse().unwrap(), why: Why::Own };
    for announces in [false, true] {
        let bench = if announces { Bench::peer("") } else { Bench::fetched("") };
        if announces {
            bench.says(&["+block 203.0.113.0/24", "+block 203.0.113.7/32", "+block 192.0.2.1/32"]);
        } else {
            bench.offers("203.0.113.0/24\n203.0.113.7\n192.0.2.1\n").unwrap();
        }
        protect(&mut bench.shared.lock(), vec![own("203.0.113.7/32")], bench.now);
        assert_eq!(bench.held(), ["block 192.0.2.1/32"]);
        assert_eq!(bench.refused(), [(Reason::Protected, 2)]);
        protect(&mut bench.shared.lock(), vec![own("203.0.113.8/32")], bench.now);
        assert_eq!(bench.held(), ["block 192.0.2.1/32", "block 203.0.113.7/32"]);
        protect(&mut bench.shared.lock(), vec![], bench.now);
        assert_eq!(bench.held().len(), 3);
        assert_eq!((bench.refused(), bench.row().received), (vec![], 3));
    }
}

#[test]
fn what_was_taken_before_a_restart_is_no_news_and_a_freeze_survives_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = "jump = 10\nfreeze_share = 20";
    let bench = Bench::fetched(config);
    assert_eq!(bench.offers(&hosts([10, 0, 0, 0], 2000)), Ok(true));
    assert_eq!(bench.offers(&hosts([10, 0, 0, 0], 30_000)), Ok(false));
    crate::disk::replace(&folder.path().join("admission.state"), keep::written(&bench.shared.lock()))
        .unwrap();

    let after = Bench::fetched(config);
    load(folder.path(), &mut after.shared.lock());
    assert_eq!(after.row().state, AdmissionState::Frozen);
    assert_eq!(after.offers_all(&[("block", &hosts([10, 0, 0, 0], 2000))], Told::Kept), Ok(true));
    assert_eq!(after.held().len(), 2000);
    assert_eq!(after.offers(&hosts([10, 0, 0, 0], 30_000)), Ok(false));
    assert_eq!(after.held().len(), 2000);
    // Without a copy the size is still known.
    let bare = Bench::fetched(config);
    load(folder.path(), &mut bare.shared.lock());
    assert_eq!(bare.offers(&hosts([10, 0, 0, 0], 30_000)), Ok(false));
    assert_eq!(bare.held().len(), 0);
    assert_eq!(bare.offers(&hosts([10, 0, 0, 0], 2000)), Ok(true));
}

/// Prefixes close to each other and to what is protected.
fn prefixes() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<u8>(), 0_u8..=32).prop_map(|(last, length)| {
        IpNet::new(Ipv4Addr::new(198, 51, 100 + last % 4, last).into(), length).unwrap().trunc()
    });
    let v6 = (0_u16..4, 0_u8..=128).prop_map(|(part, length)| {
        let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0x24 + part, part, 0, 0, 0, 1);
        IpNet::new(address.into(), length).unwrap().trunc()
    });
    prop_oneof![4 => v4, 1 => v6]
}

proptest! {
    #[test]
    fn no_entry_of_any_feed_ever_has_a_protected_address(
        steps in prop::collection::vec((prefixes(), any::<bool>(), any::<bool>()), 1..120),
    ) {
        let bench = Bench::peer("shortest_v4 = 1\nshortest_v6 = 1");
        let protected = bench.shared.lock().guarded.clone();
        let (block, bypass) = (bench.table("block"), bench.table("bypass"));
        let mut said = std::collections::BTreeSet::new();
        for (prefix, announces, blocks) in steps {
            let table = if blocks { block } else { bypass };
            let kind = if announces { StepKind::Announce } else { StepKind::Withdraw };
            if announces { said.insert((table, prefix)); } else { said.remove(&(table, prefix)); }
            offer_steps(&mut bench.shared.lock(), FEED, &[Step { table, prefix, kind }], bench.now);
            let state = bench.shared.lock();
            for found in state.merged.entries(block, None) {
                prop_assert!(protected.hit(found.entry.prefix).is_none(), "{}", found.entry.prefix);
                prop_assert!(found.entry.prefix.prefix_len() > 0);
            }
            drop(state);
            // Every entry that it has is either in a table or has a reason.
            let row = bench.row();
            let refused: usize = row.refused.iter().map(|row| row.entries).sum();
            prop_assert_eq!(row.received, said.len());
            prop_assert_eq!(row.installed + refused, said.len());
        }
    }

    #[test]
    fn a_set_and_the_same_prefixes_announced_one_by_one_come_to_the_same(
        blocked in prop::collection::btree_set(prefixes(), 0..60), bypassed in prop::collection::btree_set(prefixes(), 0..20),
    ) {
        let text = |set: &std::collections::BTreeSet<IpNet>| set.iter().map(|net| format!("{net}\n")).collect::<String>();
        let sets = Bench::peer("");
        prop_assert_eq!(sets.offers_all(&[("block", &text(&blocked)), ("bypass", &text(&bypassed))], Told::Fresh), Ok(true));
        let steps = Bench::peer("");
        let all: Vec<String> = blocked.iter().map(|net| format!("+block {net}"))
            .chain(bypassed.iter().map(|net| format!("+bypass {net}"))).collect();
        steps.says(&all.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert_eq!(sets.held(), steps.held());
    }
}
