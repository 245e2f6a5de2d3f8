mod killed;
mod large;
mod trapped;

use std::net::IpAddr;

use mailgate_model::ManualClock;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const START: Timestamp = Timestamp::from_secs(1_700_000_000);

fn net(text: &str) -> IpNet {
    text.parse().unwrap_or_else(|_| IpNet::from(text.parse::<IpAddr>().unwrap()))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tuple(client: &str, from: &str, to: &str) -> Tuple {
    Tuple { client: net(client).into(), reverse_path: from.into(), forward_path: to.into() }
}

fn said(from: &str, to: &str) -> Said {
    Said { ip: None, helo: "mx.example.org".into(), reverse_path: from.into(), forward_path: to.into() }
}

fn grey(first: Timestamp) -> Grey {
    Grey { first, pass: first.plus(25 * MINUTE), expires: first.plus(240 * MINUTE), blocked: 1, passed: 0 }
}

fn passed(now: Timestamp, origin: Origin) -> Peer {
    let expires = now.plus(36 * DAY);
    Peer { kind: PeerKind::Passed, origin, first: now, pass: now, expires, blocked: 1, passed: 0 }
}

async fn fresh() -> (ManualClock, Greylist) {
    let clock = ManualClock::at(START);
    let list = Greylist::memory(Arc::new(clock.clone())).await.unwrap();
    (clock, list)
}

fn is_passed(list: &Greylist, address: &str) -> bool {
    matches!(list.standing(ip(address)), Standing::Passed(..))
}

fn is_trapped(list: &Greylist, address: &str) -> bool {
    matches!(list.standing(ip(address)), Standing::Trapped(..))
}

#[tokio::test]
async fn the_judge_sees_what_was_stored_and_a_pass_consumes_the_tuple() {
    let (clock, list) = fresh().await;
    let key = tuple("192.0.2.1", "a@x.org", "b@y.org");
    let words = said("A@x.org", "b@y.org");
    list.attempt(&key, &words, |known| {
        assert_eq!(known, None);
        Next::Defer(grey(START))
    });
    clock.advance(30 * MINUTE);
    list.attempt(&key, &words, |known| {
        assert_eq!(known, Some(grey(START)));
        Next::Pass(passed(clock.now(), Origin::Learned))
    });
    assert!(is_passed(&list, "192.0.2.1") && !is_passed(&list, "192.0.2.2"));
    let rows = list.list(Filter::default()).await.unwrap();
    assert!(matches!(rows.as_slice(), [Row::Peer { .. }]), "{rows:?}");
    assert_eq!(list.counts().grey, 0);
}

#[tokio::test]
async fn everything_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("greylist.db");
    let clock = ManualClock::at(START);
    let list = Greylist::open(&path, Arc::new(clock.clone())).await.unwrap();
    let key = tuple("2001:db8::1", "", "b@y.org");
    list.attempt(&key, &said("", "B@y.org"), |_| Next::Defer(grey(START)));
    list.learn(net("192.0.2.0/24"), passed(START, Origin::Learned));
    list.trap(net("198.51.100.7"), DAY);
    list.add_trap_address("Trap@Example.org");
    let before = list.list(Filter::default()).await.unwrap();
    assert_eq!(before.len(), 4);
    drop(list);

    let list = Greylist::open(&path, Arc::new(clock.clone())).await.unwrap();
    assert_eq!(list.list(Filter::default()).await.unwrap(), before);
    assert!(is_passed(&list, "192.0.2.200") && is_trapped(&list, "198.51.100.7"));
    assert!(list.is_trap("trap@example.ORG"));
    list.attempt(&key, &said("", ""), |known| {
        assert_eq!(known, Some(grey(START)));
        Next::Defer(grey(START))
    });
}

/// A file as a release of before left it.
async fn of_format(path: &Path, format: usize, rows: &'static str) {
    let migrations: &'static [&'static str] = &MIGRATIONS[..format];
    let database = Database::open(path, Durability::Normal, migrations).unwrap();
    database.write(move |transaction| Ok(transaction.execute_batch(rows)?)).await.unwrap();
}

/// What stands in every format: a passed network, a trapped one, a trap address.
async fn has_the_rest(list: &Greylist) {
    assert!(is_passed(list, "192.0.2.77") && is_trapped(list, "2001:db8::1"));
    assert!(list.is_trap("trap@example.org"));
    let counts = list.counts();
    assert_eq!((counts.passed, counts.trapped, counts.trap_addresses), (1, 1, 1));
}

const OTHERS: &str = "
    INSERT INTO peer VALUES ('192.0.2.0/24', 'passed', 'admin', 1, 1, 4000000000000, 0, 3);
    INSERT INTO peer VALUES ('2001:db8::/64', 'trapped', 'learned', 1, 1, 4000000000000, 1, 0);
    INSERT INTO trap_address VALUES ('trap@example.org', 1);";

#[tokio::test]
async fn a_file_of_format_1_is_taken_over_with_every_tuple() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("greylist.db");
    of_format(&path, 1, "
        INSERT INTO tuple VALUES ('192.0.2.1/32', 'a@x.org', 'b@y.org', 'mail.x.org', 'A@x.org', 'b@y.org',
                                  1700000000000, 1700001500000, 4000000000000, 2, 0);
        INSERT INTO tuple VALUES ('2001:db8::/64', '', 'b@y.org', 'h', '', 'b@y.org', 1, 2, 4000000000000, 1, 0);").await;
    of_format(&path, 1, OTHERS).await;
    let clock = Arc::new(ManualClock::at(START));
    for opening in 1..=2 {
        let list = Greylist::open(&path, clock.clone()).await.unwrap();
        let state = list.state(&tuple("192.0.2.1", "a@x.org", "b@y.org")).unwrap();
        assert_eq!((state.first, state.blocked), (Timestamp::from_secs(1_700_000_000), 2), "{opening}");
        assert!(
            list.state(&Tuple { client: net("2001:db8::/64").into(), ..tuple("::", "", "b@y.org") })
                .is_some()
        );
        let rows = list.list(Filter { kind: Some(Kind::Grey), ..Filter::default() }).await.unwrap();
        assert_eq!(rows.len(), 2);
        let Row::Grey { said, .. } = &rows[0] else { panic!() };
        assert_eq!((said.helo.as_str(), said.reverse_path.as_str()), ("mail.x.org", "A@x.org"));
        has_the_rest(&list).await;
    }
}

#[tokio::test]
async fn a_file_of_format_2_is_taken_over_with_its_keys_and_histories() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("greylist.db");
    // The key is that of the tuple under this secret, as that release wrote it.
    let secret: [u8; tuples::SECRET] = *b"0123456789abcdef";
    let key = Tuples::new(secret, None).key(&tuple("192.0.2.1", "a@x.org", "b@y.org")).row();
    let database = Database::open(&path, Durability::Normal, &MIGRATIONS[..2]).unwrap();
    let fill = move |transaction: &rusqlite::Transaction<'_>| {
        transaction.execute("UPDATE secret SET value = ?1", [secret])?;
        let sql = "INSERT INTO tuple VALUES (?1, 1, 2, 4000000000000, 7, 0, '192.0.2.1/32', 'a@x.org', 'b@y.org', 'h', NULL, NULL)";
        transaction.execute(sql, [key])?;
        transaction.execute("INSERT INTO trap_history VALUES ('198.51.100.9/32', 3, 1700000000000)", [])?;
        Ok(transaction.execute_batch(OTHERS)?)
    };
    database.write(fill).await.unwrap();
    drop(database);
    let list = Greylist::open(&path, Arc::new(ManualClock::at(START))).await.unwrap();
    assert_eq!(list.state(&tuple("192.0.2.1", "a@x.org", "b@y.org")).unwrap().blocked, 7);
    assert_eq!(list.times_trapped(net("198.51.100.9")), 3);
    has_the_rest(&list).await;
    // What came later works on it.
    list.credit(&Identity::Spf("x.org".into()), Credit::Message, DAY);
    assert!(list.list(Filter::default()).await.unwrap().len() == 4 && list.identities(None, 9).len() == 1);
}

#[tokio::test]
async fn a_file_of_format_3_keeps_its_decisions() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("greylist.db");
    of_format(&path, 3, "
        INSERT INTO decision VALUES (1, 1700000000000, 's1', '192.0.2.1', 'spf:x.org', 'h', 'a', 'b', 'deferred', 'r', '[]', 5, 90, '', '');
        INSERT INTO identity VALUES ('spf:x.org', 1, 2, 4000000000000, 4, 1);").await;
    of_format(&path, 3, OTHERS).await;
    let list = Greylist::open(&path, Arc::new(ManualClock::at(START))).await.unwrap();
    let decisions = list.decisions(Wanted::Id("s1".into()), 9).await.unwrap();
    assert_eq!((decisions.len(), decisions[0].points), (1, 5));
    assert!(list.is_trusted(&Identity::Spf("x.org".into())));
    has_the_rest(&list).await;
}

#[tokio::test]
async fn a_damaged_kind_stops_the_opening_and_is_not_guessed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("greylist.db");
    let database = Database::open(&path, Durability::Normal, MIGRATIONS).unwrap();
    let insert = |transaction: &rusqlite::Transaction<'_>| {
        transaction.execute("INSERT INTO peer VALUES ('nonsense', 'passed', 'admin', 1, 1, 1, 1, 1)", [])?;
        Ok(())
    };
    database.write(insert).await.unwrap();
    drop(database);
    let error = Greylist::open(&path, Arc::new(ManualClock::at(START))).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)), "{error}");
}

#[tokio::test]
async fn expired_entries_are_not_seen_and_are_swept_an_hour_later() {
    let (clock, list) = fresh().await;
    list.trap(net("198.51.100.7"), DAY);
    list.attempt(&tuple("192.0.2.1", "a", "b"), &said("a", "b"), |_| Next::Defer(grey(START)));
    clock.advance(DAY);
    assert_eq!(list.standing(ip("198.51.100.7")), Standing::Unknown);
    assert_eq!(list.list(Filter::default()).await.unwrap(), []);
    assert_eq!(list.sweep().await.unwrap(), 1, "the tuple ended 20 hours ago, the trap just now");
    clock.advance(61 * MINUTE);
    assert_eq!(list.sweep().await.unwrap(), 1);
    assert_eq!(list.counts(), Counts::default());
    let rows = list.0.writer.database().read(|connection| {
        let count: i64 = connection.query_row(
            "SELECT (SELECT count(*) FROM tuple) + (SELECT count(*) FROM peer)",
            [],
            |row| row.get(0),
        )?;
        Ok(count)
    });
    assert_eq!(rows.await.unwrap(), 0);
}

#[tokio::test]
async fn the_longest_prefix_decides_and_a_trap_beats_what_was_learned() {
    let (_, list) = fresh().await;
    list.learn(net("192.0.2.0/24"), passed(START, Origin::Learned));
    list.trap(net("192.0.2.9"), DAY);
    assert!(is_passed(&list, "192.0.2.8") && is_trapped(&list, "192.0.2.9"));
    list.learn(net("2001:db8:1:2::1"), passed(START, Origin::Learned));
    list.trap(net("2001:db8:1:2::/64"), DAY);
    assert!(is_trapped(&list, "2001:db8:1:2::1"), "a trap of the whole network wins over one passed address");
    assert!(!is_trapped(&list, "2001:db8:1:3::1"));
    list.admit(net("2001:db8:1:2::1"), passed(START, Origin::Admin));
    assert!(is_passed(&list, "2001:db8:1:2::1") && is_trapped(&list, "2001:db8:1:2::2"));
}

#[tokio::test]
async fn mapped_addresses_are_those_they_map() {
    let (_, list) = fresh().await;
    list.learn(net("192.0.2.1"), passed(START, Origin::Learned));
    assert!(is_passed(&list, "::ffff:192.0.2.1"));
}

#[tokio::test]
async fn passing_by_command_frees_the_trapped_inside() {
    let (_, list) = fresh().await;
    list.trap(net("192.0.2.9"), DAY);
    list.trap(net("192.0.3.9"), DAY);
    list.admit(net("192.0.2.0/24"), passed(START, Origin::Admin));
    assert!(is_passed(&list, "192.0.2.9") && is_trapped(&list, "192.0.3.9"));
}

#[tokio::test]
async fn defect_04_counting_a_contact_never_frees_a_trapped_host() {
    let (_, list) = fresh().await;
    list.trap(net("192.0.2.9"), DAY);
    for _ in 0..3 {
        assert!(!list.accepted(ip("192.0.2.9"), 36 * DAY));
    }
    assert!(is_trapped(&list, "192.0.2.9"));
    // Nor does a tuple of before that passes now, here or at another host.
    list.learn(net("192.0.2.9"), passed(START, Origin::Learned));
    let key = tuple("192.0.2.9", "a", "b");
    list.attempt(&key, &said("a", "b"), |_| Next::Pass(passed(START, Origin::Learned)));
    assert!(is_trapped(&list, "192.0.2.9"));
    list.admit(net("192.0.2.9"), passed(START, Origin::Admin));
    assert!(is_passed(&list, "192.0.2.9"), "the administrator may");
    list.trap(net("192.0.2.9"), DAY);
    assert!(is_passed(&list, "192.0.2.9"), "and what is learned does not overrule");
}

#[tokio::test]
async fn defect_05_of_two_ends_the_later_one_holds() {
    let (clock, list) = fresh().await;
    list.learn(net("192.0.2.1"), passed(START, Origin::Learned));
    clock.advance(10 * DAY);
    assert!(list.accepted(ip("192.0.2.1"), 36 * DAY));
    assert!(list.accepted(ip("192.0.2.1"), DAY), "a shorter statement counts but shortens nothing");
    let Standing::Passed(_, peer) = list.standing(ip("192.0.2.1")) else { panic!() };
    assert_eq!((peer.expires, peer.passed), (START.plus(46 * DAY), 2));
}

#[tokio::test]
async fn defect_06_a_trap_lasts_its_own_time_whatever_the_host_was_before() {
    let (clock, list) = fresh().await;
    list.learn(net("192.0.2.1"), passed(START, Origin::Learned));
    list.trap(net("192.0.2.1"), DAY);
    assert!(is_trapped(&list, "192.0.2.1"));
    clock.advance(DAY);
    assert_eq!(list.standing(ip("192.0.2.1")), Standing::Unknown);
}

#[tokio::test]
async fn defect_03_what_was_deleted_stays_deleted() {
    let (_, list) = fresh().await;
    let key = tuple("192.0.2.1", "a", "b");
    list.attempt(&key, &said("a", "b"), |_| Next::Defer(grey(START)));
    list.attempt(&key, &said("a", "b"), |_| Next::Pass(passed(START, Origin::Learned)));
    assert!(list.forget_peer(net("192.0.2.1"), PeerKind::Passed));
    list.sweep().await.unwrap();
    assert_eq!(list.standing(ip("192.0.2.1")), Standing::Unknown);
    list.attempt(&key, &said("a", "b"), |known| {
        assert_eq!(known, None, "no tuple is left that could promote it again");
        Next::Defer(grey(START))
    });
}

#[tokio::test]
async fn listings_filter_by_kind_and_network() {
    let (_, list) = fresh().await;
    for client in ["192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::1"] {
        list.attempt(&tuple(client, "a", "b"), &said("a", "b"), |_| Next::Defer(grey(START)));
        list.learn(net(client), passed(START, Origin::Learned));
    }
    list.add_trap_address("t@x.org");
    let count = async |kind, network: Option<&str>, limit| {
        let filter = Filter { kind, network: network.map(net), limit, ..Filter::default() };
        list.list(filter).await.unwrap().len()
    };
    assert_eq!(count(None, None, None).await, 9);
    assert_eq!(count(None, None, Some(3)).await, 3);
    assert_eq!(count(Some(Kind::TrapAddress), None, None).await, 1);
    assert_eq!(count(Some(Kind::Grey), Some("192.0.2.0/24"), None).await, 2);
    assert_eq!(count(None, Some("2001:db8::1"), None).await, 2);
    assert_eq!(list.forget_tuples(net("192.0.2.0/24")).await.unwrap(), 2);
    assert_eq!(count(Some(Kind::Grey), None, None).await, 2);
}

#[tokio::test]
async fn listings_filter_by_the_texts_of_paths_and_count_to_their_limit_after_that() {
    let (_, list) = fresh().await;
    for (n, from) in ["Ann@One.example", "bob@two.example", "ann@three.example", ""].iter().enumerate() {
        let client = format!("192.0.2.{n}");
        list.attempt(&tuple(&client, from, "To@y.org"), &said(from, "To@y.org"), |_| {
            Next::Defer(grey(START))
        });
    }
    list.learn(net("192.0.2.1"), passed(START, Origin::Learned));
    list.add_trap_address("trap@y.org");
    let found = async |from: &str, to: &str, limit| {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let filter = Filter { from: given(from), to: given(to), limit, ..Filter::default() };
        let rows = list.list(filter).await.unwrap();
        let text = |row: Row| match row {
            Row::Grey { said, .. } => said.reverse_path,
            Row::Peer { network, .. } => network.to_string(),
            Row::TrapAddress { address, .. } => address,
        };
        rows.into_iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(found("ANN@", "", None).await, ["Ann@One.example", "ann@three.example"]);
    assert_eq!(found("ann@", "", Some(1)).await, ["Ann@One.example"]);
    assert_eq!(found("three", "to@Y", None).await, ["ann@three.example"]);
    assert_eq!(found("", "y.org", None).await.len(), 5, "a trap address is a recipient, too");
    assert_eq!(found("", "trap", Some(1)).await, ["trap@y.org"]);
    assert!(found("bob", "elsewhere", None).await.is_empty());
}

#[tokio::test]
async fn texts_of_strangers_are_clipped_at_a_character() {
    let (_, list) = fresh().await;
    let long = "ü".repeat(400);
    list.attempt(&tuple("192.0.2.1", "a", "b"), &said(&long, "b"), |_| Next::Defer(grey(START)));
    let rows = list.list(Filter::default()).await.unwrap();
    let [Row::Grey { said, .. }] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!(said.reverse_path, "ü".repeat(256));
}

#[tokio::test]
async fn ten_thousand_changes_at_once_are_all_written_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let list = Greylist::open(dir.path().join("g.db"), Arc::new(ManualClock::at(START))).await.unwrap();
    for round in 0..3_u32 {
        for n in 0..3_500_u32 {
            let key = Tuple {
                client: IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n)).into(),
                reverse_path: "a".into(),
                forward_path: "b".into(),
            };
            list.attempt(&key, &said("a", "b"), |known| {
                assert_eq!(known.map(|grey| grey.blocked), round.checked_sub(1));
                Next::Defer(Grey { blocked: round, ..grey(START) })
            });
        }
    }
    let rows = list.list(Filter::default()).await.unwrap();
    assert_eq!(rows.len(), 3_500);
    assert!(rows.iter().all(|row| matches!(row, Row::Grey { grey, .. } if grey.blocked == 2)));
}

proptest::proptest! {
    /// The index against the obvious reading of its rule: look at every entry.
    #[test]
    fn standings_agree_with_a_search_through_all_entries(
        entries in proptest::collection::vec((0_u32..16, 28_u8..=32, 0_u8..3, 0_u64..3), 0..12),
        asked in 0_u32..16,
    ) {
        let index = Index::default();
        let mut all: std::collections::HashMap<IpNet, Peer> = std::collections::HashMap::new();
        for (low, length, what, days) in entries {
            let network = IpNet::new(std::net::Ipv4Addr::from_bits(0xc000_0200 + low).into(), length).unwrap();
            let (kind, origin) = match what {
                0 => (PeerKind::Trapped, Origin::Learned),
                1 => (PeerKind::Passed, Origin::Learned),
                _ => (PeerKind::Passed, Origin::Admin),
            };
            let peer = Peer { kind, expires: START.plus(DAY * u32::try_from(days).unwrap()), ..passed(START, origin) };
            index.change(network.trunc(), |state| *state = Some(peer));
            all.insert(network.trunc(), peer);
        }
        let address = IpAddr::from(std::net::Ipv4Addr::from_bits(0xc000_0200 + asked));
        let longest = |kind, origin| {
            all.iter()
                .filter(|(net, peer)| net.contains(&address) && peer.expires > START)
                .filter(|(_, peer)| peer.kind == kind && peer.origin == origin)
                .max_by_key(|(net, _)| net.prefix_len())
                .map(|(net, _)| net.prefix_len())
        };
        let trapped = longest(PeerKind::Trapped, Origin::Learned);
        let admin = longest(PeerKind::Passed, Origin::Admin);
        let learned = longest(PeerKind::Passed, Origin::Learned);
        let want = match (trapped, admin, learned) {
            (Some(trap), admin, _) if admin.is_none_or(|admin| trap > admin) => "trapped",
            (_, Some(_), _) | (None, None, Some(_)) => "passed",
            _ => "unknown",
        };
        let got = match index.standing(address, START) {
            Standing::Passed(..) => "passed",
            Standing::Trapped(..) => "trapped",
            Standing::Unknown => "unknown",
        };
        proptest::prop_assert_eq!(got, want);
    }
}

#[tokio::test]
async fn one_source_cannot_fill_the_memory_and_others_are_remembered_all_the_same() {
    let (clock, list) = fresh().await;
    let defer = |client: &str, to: String| {
        let now = clock.now();
        list.attempt(&tuple(client, "a@x.org", &to), &said("a@x.org", &to), |known| {
            Next::Defer(known.unwrap_or(grey(now)))
        });
    };
    let limit = usize::try_from(super::sources::LIMIT).unwrap();
    for n in 0..limit + 50 {
        // A host that wanders through its /64.
        defer(&format!("2001:db8::{:x}", n % 1000), format!("u{n}@y.org"));
    }
    assert_eq!(list.counts().grey, limit);
    assert_eq!(list.counts().unsaved, 50);
    defer("2001:db8:0:1::1", "b@y.org".into());
    defer("192.0.2.1", "b@y.org".into());
    assert_eq!(list.counts().grey, limit + 2, "others are remembered");
    clock.advance(61 * MINUTE);
    list.sweep().await.unwrap();
    defer("2001:db8::1", "again@y.org".into());
    assert_eq!(list.counts().grey, limit + 3, "an hour later it counts anew");
}
