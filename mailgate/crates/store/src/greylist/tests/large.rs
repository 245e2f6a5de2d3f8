//! More tuples than are read at once, formats of earlier releases, and clocks that jump.

use super::*;

fn numbered(n: u32) -> Tuple {
    let client = IpNet::from(IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n)));
    Tuple { client: client.into(), reverse_path: "a@x.org".into(), forward_path: "b@y.org".into() }
}

async fn open(path: &std::path::Path, clock: &ManualClock) -> Greylist {
    Greylist::open(path, Arc::new(clock.clone())).await.unwrap()
}

async fn fill(list: &Greylist, numbers: std::ops::Range<u32>) {
    for n in numbers {
        list.attempt(&numbered(n), &said("A@x.org", "b@y.org"), |_| Next::Defer(grey(START)));
        if n % 50_000 == 0 {
            list.flush().await.unwrap();
        }
    }
    list.flush().await.unwrap();
}

async fn loaded(list: &Greylist) {
    while list.counts().loading {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_yet_in_memory_is_found_changed_and_forgotten_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("greylist.db");
    let clock = ManualClock::at(START);
    const ALL: u32 = 130_000;
    let list = open(&path, &clock).await;
    fill(&list, 0..ALL).await;
    drop(list);

    let list = open(&path, &clock).await;
    // At once, whether or not their part was read.
    for n in (0..ALL).step_by(1000) {
        assert_eq!(list.state(&numbered(n)), Some(grey(START)), "{n}");
        assert_eq!(list.state(&numbered(ALL + n)), None, "{n}");
    }
    let later = Grey { blocked: 7, ..grey(START) };
    for n in 0..3 {
        list.attempt(&numbered(n), &said("a", "b"), |_| Next::Defer(later));
        assert!(list.forget_tuple(&numbered(n + 3)));
        list.attempt(&numbered(ALL + n), &said("a", "b"), |_| Next::Defer(later));
    }
    loaded(&list).await;
    assert_eq!(list.counts().grey, 130_000, "three more, three less");
    for n in 0..3 {
        assert_eq!(list.state(&numbered(n)), Some(later));
        assert_eq!(list.state(&numbered(n + 3)), None, "not brought back by the loading");
        assert_eq!(list.state(&numbered(ALL + n)), Some(later));
    }
    drop(list);
    let list = open(&path, &clock).await;
    loaded(&list).await;
    assert_eq!((list.counts().grey, list.state(&numbered(1))), (130_000, Some(later)));
}

#[tokio::test]
async fn what_ended_while_we_were_away_is_swept_from_disk_by_the_loading() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("greylist.db");
    let clock = ManualClock::at(START);
    let list = open(&path, &clock).await;
    fill(&list, 0..100).await;
    drop(list);
    clock.advance(DAY);
    let list = open(&path, &clock).await;
    loaded(&list).await;
    let rows = list.0.writer.database().read(|connection| {
        Ok(connection.query_row("SELECT count(*) FROM tuple", [], |row| row.get::<_, i64>(0))?)
    });
    assert_eq!((rows.await.unwrap(), list.counts().grey), (0, 0));
}

#[tokio::test]
async fn the_rows_of_the_first_format_are_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("greylist.db");
    let first = MIGRATIONS.get(..1).unwrap();
    let database = Database::open(&path, Durability::Normal, first).unwrap();
    let insert = |transaction: &rusqlite::Transaction<'_>| {
        transaction.execute(
            "INSERT INTO tuple VALUES ('192.0.2.1/32', 'a@x.org', 'b@y.org', 'helo', 'A@x.org', 'b@y.org',
             1700000000000, 1700001500000, 1700014400000, 1, 0)",
            [],
        )?;
        Ok(())
    };
    database.write(insert).await.unwrap();
    drop(database);
    let clock = ManualClock::at(START);
    for _ in 0..2 {
        let list = open(&path, &clock).await;
        let key = tuple("192.0.2.1", "a@x.org", "b@y.org");
        assert_eq!(list.state(&key), Some(grey(START)));
        let rows = list.list(Filter::default()).await.unwrap();
        let [Row::Grey { tuple, said, .. }] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!(tuple, &key);
        assert_eq!((said.reverse_path.as_str(), said.forward_path.as_str()), ("A@x.org", "b@y.org"));
    }
}

/// Runs a day of attempts, trap and pass with a clock that jumps by `jump` hours in its middle and back an hour later.
async fn day_with_a_jump(jump: i64) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("greylist.db");
    let at = |minutes: i64| Timestamp::from_secs(START.secs() + 60 * minutes);
    let clock = ManualClock::at(at(0));
    let list = open(&path, &clock).await;
    list.attempt(&numbered(1), &said("a", "b"), |_| Next::Defer(grey(START)));
    list.trap(net("192.0.2.1"), DAY);
    list.learn(net("192.0.2.2"), passed(START, Origin::Learned));
    list.flush().await.unwrap();
    drop(list);

    let during = ManualClock::at(at(10 + 60 * jump));
    let list = open(&path, &during).await;
    assert!(is_trapped(&list, "192.0.2.1") && is_passed(&list, "192.0.2.2"), "{jump} h");
    assert!(list.accepted(ip("192.0.2.2"), DAY));
    list.sweep().await.unwrap();
    assert_eq!(list.state(&numbered(1)), Some(grey(START)), "{jump} h");
    list.flush().await.unwrap();
    drop(list);

    let after = ManualClock::at(at(70));
    let list = open(&path, &after).await;
    list.sweep().await.unwrap();
    assert_eq!(list.state(&numbered(1)), Some(grey(START)), "nothing was destroyed by {jump} h");
    let Standing::Passed(_, peer) = list.standing(ip("192.0.2.2")) else { panic!("{jump} h") };
    assert_eq!(peer.expires, START.plus(36 * DAY), "and nothing lasts longer for it");
    let Standing::Trapped(_, peer) = list.standing(ip("192.0.2.1")) else { panic!("{jump} h") };
    assert_eq!(peer.expires, START.plus(DAY));
}

#[tokio::test]
async fn clocks_that_jump_by_an_hour_and_back_are_harmless() {
    for jump in [-1, 1, 4] {
        day_with_a_jump(jump).await;
    }
}
