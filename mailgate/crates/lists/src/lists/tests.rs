use std::time::Duration;

use mailgate_model::{ManualClock, Timestamp};

use super::*;
use crate::parse_entry;
use crate::rows::{Done, EntryRow};
use crate::table::{Action, Addition, By, Entry};

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Says what became of each entry.
const VERBOSE: How = How { dry_run: false, verbose: true, wait: false };

struct Station {
    lists: Lists,
    changes: mpsc::Receiver<Vec<Change>>,
    clock: ManualClock,
    shutdown: CancellationToken,
}

impl Station {
    fn start(config: &str, state: &Path) -> Self {
        Self::with(toml_like(config), state)
    }

    /// With a `[lists]` of its own.
    fn with(config: Config, state: &Path) -> Self {
        let clock = ManualClock::at(Timestamp::from_secs(1_000_000));
        let shutdown = CancellationToken::new();
        let (lists, changes) =
            Lists::start(config, state, Arc::new(clock.clone()), shutdown.clone()).unwrap();
        Self { lists, changes, clock, shutdown }
    }

    async fn add(&self, table: &str, text: &str) -> Done {
        self.lists.add(&name(table), By::Hand, vec![entry(text).into()], VERBOSE).await.unwrap()
    }

    async fn show(&self, table: &str) -> Vec<EntryRow> {
        self.lists.show(&name(table), None, usize::MAX).await.unwrap().rows
    }

    /// What is in a table, as people write it.
    async fn prefixes(&self, table: &str) -> Vec<String> {
        let text = |row: EntryRow| format!("{}{}", if row.negated { "!" } else { "" }, row.prefix);
        self.show(table).await.into_iter().map(text).collect()
    }

    async fn batch(&mut self) -> Vec<Change> {
        tokio::time::timeout(PATIENCE, self.changes.recv())
            .await
            .expect("a batch comes")
            .expect("the channel is open")
    }
}

/// `name=action` words become tables.
fn toml_like(text: &str) -> Config {
    let table = |word: &str| {
        let (name, action) = word.split_once('=').unwrap();
        let action = if action == "reject" { Action::Reject } else { Action::Bypass };
        crate::config::TableConfig::new(TableName::parse(name).unwrap(), action)
    };
    Config { table: text.split_whitespace().map(table).collect(), ..Config::default() }
}

fn name(text: &str) -> TableName {
    TableName::parse(text).unwrap()
}

fn entry(text: &str) -> Entry {
    parse_entry(text).unwrap()
}

#[tokio::test]
async fn the_first_message_holds_all_tables_in_order() {
    let state = tempfile::tempdir().unwrap();
    let mut station = Station::start("own=reject", state.path());
    let [Change::Reload(snapshot)] = &station.batch().await[..] else { panic!("expected a reload") };
    let tables: Vec<_> = snapshot.tables.iter().map(|table| (table.name.as_str(), table.action)).collect();
    assert_eq!(
        tables,
        [
            ("bypass", Action::Bypass),
            ("block", Action::Tarpit),
            ("drop", Action::Drop),
            ("bruteforce", Action::Drop),
            ("own", Action::Reject)
        ]
    );
}

#[tokio::test]
async fn entries_by_hand_come_as_differences_and_end_by_themselves() {
    let state = tempfile::tempdir().unwrap();
    let mut station = Station::start("", state.path());
    station.batch().await;
    let expires = Some(station.clock.now().plus(Duration::from_secs(60)));
    let entry = Entry { expires, ..entry("192.0.2.1") };
    let (prefix, entries) = (entry.prefix, vec![entry.into()]);
    let added = station.lists.add(&name("block"), By::Hand, entries, VERBOSE).await.unwrap();
    assert_eq!((added.asked, added.added), (1, 1));
    let [Change::Add(table, added)] = &station.batch().await[..] else { panic!("expected one addition") };
    assert_eq!((table.as_str(), added.expires), ("block", expires));

    station.clock.advance(Duration::from_secs(59));
    assert_eq!(station.lists.tables().await.unwrap()[1].entries, 1);
    station.clock.advance(Duration::from_secs(1));
    let [Change::Delete(table, gone)] = &station.batch().await[..] else { panic!("expected one deletion") };
    assert_eq!((table.as_str(), *gone), ("block", prefix));
    assert_eq!(station.lists.tables().await.unwrap()[1].entries, 0);
}

#[tokio::test]
async fn entries_by_hand_and_of_the_daemon_survive_a_restart_with_ages_ends_notes_and_holes() {
    let state = tempfile::tempdir().unwrap();
    let station = Station::start("", state.path());
    let block = name("block");
    for text in ["10.0.0.0/8", "!10.1.2.3", "2001:db8::/32", "198.51.100.1"] {
        station.add("block", text).await;
        station.clock.advance(Duration::from_millis(1500));
    }
    let expires = Some(station.clock.now().plus(Duration::from_millis(60_500)));
    let overload = Addition::listed(entry("192.0.2.1").prefix, expires, "21 connections\nin 10 s");
    let done = station.lists.add(&block, By::Overload, vec![overload], VERBOSE).await.unwrap();
    assert_eq!(done.added, 1);
    station.lists.delete(&block, vec![entry("198.51.100.1")], VERBOSE).await.unwrap();
    let before = station.show("block").await;
    // Nothing is shut down: this is what kill -9 leaves.
    let journal = std::fs::read_to_string(state.path().join("lists/block.0.journal")).unwrap();
    assert_eq!(journal.lines().count(), 6, "{journal}");

    let station = Station::start("", state.path());
    assert_eq!(station.show("block").await, before);
    assert_eq!(before.len(), 4);
    assert_eq!(before[0].origins, ["manual"]);
    let row = before.iter().find(|row| row.origins == ["overload"]).unwrap();
    assert_eq!((row.expires, row.note.as_deref()), (expires, Some("21 connections in 10 s")));
    assert_eq!(row.added, Timestamp::from_millis(1_000_006_000));
    assert_eq!(station.lists.flush(&block, VERBOSE).await.unwrap().deleted, 4);

    let station = Station::start("", state.path());
    assert_eq!(station.show("block").await, []);
}

#[tokio::test]
async fn a_journal_that_was_cut_off_in_the_middle_of_a_line_costs_that_line() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("lists");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("block.txt"), "# generation 7\n192.0.2.1/32\n192.0.2.9/32\n").unwrap();
    std::fs::write(folder.join("block.6.journal"), "198.51.100.1/32\n").unwrap();
    std::fs::write(folder.join("block.7.journal"), "192.0.2.2/32\n-192.0.2.9/32\n192.0.2.3/3").unwrap();
    let station = Station::start("", state.path());
    assert_eq!(station.prefixes("block").await, ["192.0.2.1/32", "192.0.2.2/32"]);
    // The next edit finds the journal folded into a new file.
    station.add("block", "192.0.2.4").await;
    let whole = std::fs::read_to_string(folder.join("block.txt")).unwrap();
    assert!(whole.contains("# generation 8\n"), "{whole}");
    assert!(!folder.join("block.7.journal").exists());
    let station = Station::start("", state.path());
    assert_eq!(station.prefixes("block").await, ["192.0.2.1/32", "192.0.2.2/32", "192.0.2.4/32"]);
}

#[tokio::test]
async fn a_journal_that_has_outgrown_its_file_is_folded_into_it() {
    let state = tempfile::tempdir().unwrap();
    let station = Station::start("", state.path());
    let block = name("block");
    for round in 0..4_u32 {
        let host = |n: u32| entry(&std::net::Ipv4Addr::from(round << 16 | n).to_string()).into();
        station.lists.add(&block, By::Hand, (0..1000).map(host).collect(), How::default()).await.unwrap();
    }
    let files = std::fs::read_dir(state.path().join("lists")).unwrap();
    let journals: Vec<u64> = files
        .map(|file| file.unwrap())
        .filter(|file| file.file_name().to_string_lossy().ends_with(".journal"))
        .map(|file| file.metadata().unwrap().len())
        .collect();
    assert!(journals.iter().all(|bytes| *bytes < 100_000) && journals.len() == 1, "{journals:?}");
    let station = Station::start("", state.path());
    assert_eq!(station.lists.tables().await.unwrap()[1].entries, 4000);
}

#[tokio::test]
async fn testing_an_address_names_the_most_specific_entry_of_each_table_and_bypass_wins() {
    let state = tempfile::tempdir().unwrap();
    let station = Station::start("", state.path());
    station.add("block", "10.0.0.0/8").await;
    station.add("block", "!10.1.0.0/16").await;
    let action = async |text: &str| station.lists.test(text.parse().unwrap()).await.unwrap().action;
    assert_eq!(action("10.2.0.1").await, Some(Action::Tarpit));
    assert_eq!(action("10.1.0.1").await, None);
    assert_eq!(action("::ffff:10.2.0.1").await, Some(Action::Tarpit));
    assert_eq!(action("11.0.0.1").await, None);
    station.add("bypass", "10.2.0.0/24").await;
    assert_eq!(action("10.2.0.1").await, Some(Action::Bypass));
    let matches = station.lists.test("10.2.0.1".parse().unwrap()).await.unwrap().matches;
    let told: Vec<_> = matches.iter().map(|m| (m.table.as_str(), m.entry.prefix.to_string())).collect();
    assert_eq!(told, [("bypass", "10.2.0.0/24".into()), ("block", "10.0.0.0/8".into())]);
}

#[tokio::test]
async fn a_table_that_is_not_there_is_told_with_those_that_are() {
    let state = tempfile::tempdir().unwrap();
    let station = Station::start("", state.path());
    let said = station.lists.show(&name("blok"), None, 1).await.unwrap_err().to_string();
    assert_eq!(said, "found table blok, expected one of bypass, block, drop, bruteforce");
}

#[tokio::test]
async fn an_edit_that_cannot_be_saved_says_so_and_counts() {
    let state = tempfile::tempdir().unwrap();
    let station = Station::start("", state.path());
    std::fs::remove_dir_all(state.path().join("lists")).unwrap();
    std::fs::write(state.path().join("lists"), "in the way").unwrap();
    let entries = vec![entry("192.0.2.1").into()];
    let error = station.lists.add(&name("block"), By::Hand, entries, VERBOSE).await.unwrap_err();
    assert!(matches!(error, Error::State { .. }), "{error}");
    assert_eq!(station.lists.tables().await.unwrap()[1].entries, 1);

    // Once the obstacle is gone it is saved without being asked again.
    std::fs::remove_file(state.path().join("lists")).unwrap();
    let saved = state.path().join("lists/block.txt");
    tokio::time::timeout(PATIENCE, async {
        while !std::fs::read_to_string(&saved).is_ok_and(|text| text.contains("192.0.2.1/32")) {
            station.clock.advance(Duration::from_secs(10));
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the entry is saved");
}

/// `A 192.0.2.1/32` for each entry that something happened to.
fn letters(done: &Done) -> Vec<String> {
    let letter = |letter| match serde_json::to_value(letter) {
        Ok(serde_json::Value::String(letter)) => letter,
        other => panic!("{other:?}"),
    };
    let text = |f: &crate::rows::Feedback| {
        format!("{} {}{}", letter(f.letter), if f.negated { "!" } else { "" }, f.prefix)
    };
    done.feedback.iter().map(text).collect()
}

fn entries(texts: &[&str]) -> Vec<Entry> {
    texts.iter().map(|text| entry(text)).collect()
}

#[tokio::test]
async fn every_entry_gets_the_letter_of_pfctl() {
    let state = tempfile::tempdir().unwrap();
    let station = Station::start("", state.path());
    let block = name("block");
    let add = async |texts: &[&str]| {
        let additions = entries(texts).into_iter().map(Addition::from).collect();
        station.lists.add(&block, By::Hand, additions, VERBOSE).await.unwrap()
    };
    let done = add(&["192.0.2.1", "!192.0.2.2", "192.0.2.1"]).await;
    assert_eq!(letters(&done), ["A 192.0.2.1/32", "A !192.0.2.2/32", "X 192.0.2.1/32"]);
    let done = add(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]).await;
    assert_eq!(letters(&done), ["Y 192.0.2.2/32", "A 192.0.2.3/32"], "one is there, one the other way round");
    assert_eq!((done.asked, done.added, done.conflicts), (3, 1, 1));

    let done = station
        .lists
        .delete(&block, entries(&["192.0.2.2", "192.0.2.3", "192.0.2.7"]), VERBOSE)
        .await
        .unwrap();
    assert_eq!(letters(&done), ["Y 192.0.2.2/32", "D 192.0.2.3/32"]);
    assert_eq!((done.asked, done.deleted), (3, 1));

    let wanted = entries(&["192.0.2.2", "2001:db8::1", "2001:db8::1"]);
    let tried =
        station.lists.replace(&block, wanted.clone(), How { dry_run: true, ..VERBOSE }).await.unwrap();
    assert_eq!(station.prefixes("block").await, ["192.0.2.1/32", "!192.0.2.2/32"], "only tried");
    let done = station.lists.replace(&block, wanted, VERBOSE).await.unwrap();
    assert_eq!(
        letters(&done),
        ["C 192.0.2.2/32", "A 2001:db8::1/128", "X 2001:db8::1/128", "D 192.0.2.1/32"]
    );
    assert_eq!(tried, done);
    assert_eq!(station.prefixes("block").await, ["192.0.2.2/32", "2001:db8::1/128"]);

    let done = station.lists.zero(&block, Some(entries(&["192.0.2.2", "192.0.2.9"])), VERBOSE).await.unwrap();
    assert_eq!(letters(&done), ["Z 192.0.2.2/32"]);
    let done = station.lists.flush(&block, VERBOSE).await.unwrap();
    assert_eq!(letters(&done), ["D 192.0.2.2/32", "D 2001:db8::1/128"]);
    assert_eq!(station.prefixes("block").await, [""; 0]);
}

#[tokio::test]
async fn a_replaced_set_reaches_the_edge_as_a_whole_and_a_single_change_as_one_difference() {
    let state = tempfile::tempdir().unwrap();
    let mut station = Station::start("", state.path());
    let block = name("block");
    station.batch().await;
    station.lists.replace(&block, entries(&["192.0.2.1", "192.0.2.2"]), How::default()).await.unwrap();
    assert!(matches!(&station.batch().await[..], [Change::Reload(_)]));
    station.lists.replace(&block, entries(&["192.0.2.1"]), How::default()).await.unwrap();
    assert!(matches!(&station.batch().await[..], [Change::Delete(..)]));
    station.lists.replace(&block, entries(&["192.0.2.1"]), How::default()).await.unwrap();
    station.add("block", "192.0.2.9").await;
    assert!(matches!(&station.batch().await[..], [Change::Add(..)]), "the same set again is no change");
}

#[tokio::test]
async fn a_verb_that_waits_says_whether_the_edge_judges_by_it() {
    let state = tempfile::tempdir().unwrap();
    let mut station = Station::start("", state.path());
    let how = How { wait: true, ..How::default() };
    let lists = station.lists.clone();
    let add = |text: &str| {
        let (lists, entries) = (lists.clone(), vec![entry(text).into()]);
        tokio::spawn(async move { lists.add(&name("block"), By::Hand, entries, how).await.unwrap().in_force })
    };
    station.batch().await;
    station.lists.applied(true);
    let adding = add("192.0.2.1");
    station.batch().await;
    station.lists.applied(true);
    assert_eq!(adding.await.unwrap(), Some(true));
    assert_eq!(add("192.0.2.1").await.unwrap(), None, "nothing to tell");

    let adding = add("192.0.2.2");
    station.batch().await;
    station.lists.applied(false);
    tokio::time::timeout(PATIENCE, async {
        while !adding.is_finished() {
            station.clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the patience ends");
    assert_eq!(adding.await.unwrap(), Some(false));
}

#[tokio::test]
async fn a_readonly_table_refuses_verbs_and_holds_what_the_configuration_says() {
    let state = tempfile::tempdir().unwrap();
    let config = toml::from_str(
        r#"
        [[table]]
        name = "private"
        action = "drop"
        entries = ["10.0.0.0/8", "!10.1.0.0/16"]
        readonly = true
        "#,
    );
    let station = Station::with(config.unwrap(), state.path());
    assert_eq!(station.prefixes("private").await, ["10.0.0.0/8", "!10.1.0.0/16"]);
    assert_eq!(station.show("private").await[0].origins, ["config"]);
    let private = name("private");
    let said = "table private is readonly in the configuration; change its entries, files or peers there";
    let refused = |result: Result<Done, Error>| assert_eq!(result.unwrap_err().to_string(), said);
    let (lists, one) = (&station.lists, || entries(&["192.0.2.1"]));
    refused(lists.add(&private, By::Hand, vec![entry("192.0.2.1").into()], How::default()).await);
    refused(lists.delete(&private, one(), How::default()).await);
    refused(lists.replace(&private, one(), How::default()).await);
    refused(lists.flush(&private, How { dry_run: true, ..How::default() }).await);
    refused(lists.expire(&private, Age::Older(Duration::ZERO), How::default()).await);
}

#[tokio::test]
async fn what_exceeds_the_limit_is_refused_before_anything_is_changed() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("block.txt");
    std::fs::write(&file, "192.0.2.1\n192.0.2.2\n").unwrap();
    let text = format!(
        "entries_limit = 4\n[[table]]\nname = \"block\"\naction = \"drop\"\nfiles = [{:?}]\n",
        file.to_str().unwrap()
    );
    let mut station = Station::with(toml::from_str(&text).unwrap(), state.path());
    station.batch().await;
    let block = name("block");
    let three = || entries(&["198.51.100.1", "198.51.100.2", "198.51.100.3"]);
    let said = "found 3 more entries, expected at most 2: all tables together hold 2 of lists.entries_limit = 4; \
                raise it, or shorten the list";
    let additions = three().into_iter().map(Addition::from).collect();
    let refused = station.lists.add(&block, By::Hand, additions, How::default()).await;
    assert_eq!(refused.unwrap_err().to_string(), said);
    let refused = station.lists.replace(&block, three(), How { dry_run: true, ..How::default() }).await;
    assert_eq!(refused.unwrap_err().to_string(), said, "a dry run says it too");
    assert_eq!(station.prefixes("block").await, ["192.0.2.1/32", "192.0.2.2/32"]);
    station.lists.replace(&block, entries(&["198.51.100.1", "198.51.100.2"]), How::default()).await.unwrap();
    // As many again are no growth.
    station.lists.replace(&block, entries(&["198.51.100.3", "198.51.100.4"]), How::default()).await.unwrap();

    std::fs::write(&file, "192.0.2.1\n192.0.2.2\n192.0.2.3\n").unwrap();
    let failed = tokio::time::timeout(PATIENCE, async {
        loop {
            let source = station.lists.sources().await.unwrap().remove(0);
            if let Some(error) = source.error {
                return error;
            }
            station.clock.advance(Duration::from_millis(400));
            tokio::task::yield_now().await;
        }
    });
    assert!(failed.await.unwrap().starts_with("found 1 more entries, expected at most 0"));
    assert_eq!(station.prefixes("block").await.len(), 4, "the last good set stays");
}

fn counting() -> Config {
    toml::from_str("[[table]]\nname = \"block\"\naction = \"drop\"\ncounters = true\n").unwrap()
}

fn hit(source: &str, packets: u64, secs: i64) -> Hit {
    Hit { source: source.parse().unwrap(), packets, bytes: packets * 60, last: Timestamp::from_secs(secs) }
}

#[tokio::test]
async fn hits_go_to_the_most_specific_entry_and_survive_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let station = Station::with(counting(), state.path());
    for text in ["10.0.0.0/8", "10.1.0.0/16", "!10.1.1.0/24", "2001:db8::/32"] {
        station.add("block", text).await;
    }
    station.add("drop", "10.0.0.0/8").await;
    let hits = |more: u64| {
        vec![
            hit("10.2.0.1", 10 + more, 1_000_001),
            hit("10.1.0.1", 3, 1_000_002),
            hit("10.1.0.2", 4, 1_000_003),
            hit("10.1.1.1", 50, 1_000_004),
            hit("2001:db8::1", 5, 1_000_005),
            hit("203.0.113.1", 99, 1_000_006),
        ]
    };
    station.lists.count(hits(0)).await.unwrap();
    station.lists.count(hits(2)).await.unwrap();
    let rows = station.show("block").await;
    let counts: Vec<_> = rows.iter().map(|row| (row.prefix.to_string(), row.packets, row.bytes)).collect();
    let want = [("10.0.0.0/8", 12), ("10.1.0.0/16", 7), ("10.1.1.0/24", 0), ("2001:db8::/32", 5)];
    let want: Vec<_> = want.map(|(prefix, n)| (prefix.to_owned(), Some(n), Some(n * 60))).into();
    assert_eq!(counts, want);
    assert_eq!(rows[1].last, Some(Timestamp::from_secs(1_000_003)));
    assert_eq!(station.show("drop").await[0].packets, None, "a table that does not count says so");
    let table = station.lists.tables().await.unwrap().remove(1);
    assert_eq!((table.packets, table.counters), (Some(24), true));

    station.shutdown.cancel();
    let saved = state.path().join("lists/counts.state");
    tokio::time::timeout(PATIENCE, async {
        while !saved.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the counts are saved");
    let station = Station::with(counting(), state.path());
    assert_eq!(station.show("block").await, rows);
    // The kernel went on counting; what it had counted before is not counted twice.
    station.lists.count(hits(3)).await.unwrap();
    assert_eq!(station.show("block").await[0].packets, Some(13));
    // The kernel has forgotten this source in between.
    station.lists.count(vec![hit("10.2.0.1", 2, 1_000_009)]).await.unwrap();
    assert_eq!(station.show("block").await[0].packets, Some(15));
}

#[tokio::test]
async fn zero_begins_counts_and_ages_anew_and_an_entry_that_comes_again_has_counted_nothing() {
    let state = tempfile::tempdir().unwrap();
    let station = Station::with(counting(), state.path());
    let block = name("block");
    for text in ["192.0.2.1", "192.0.2.2"] {
        station.add("block", text).await;
    }
    let both = |n| vec![hit("192.0.2.1", n, 1_000_001), hit("192.0.2.2", n, 1_000_001)];
    station.lists.count(both(7)).await.unwrap();
    station.clock.advance(Duration::from_secs(100));
    station.lists.zero(&block, Some(entries(&["192.0.2.1"])), How::default()).await.unwrap();
    let packets =
        async || station.show("block").await.iter().map(|row| row.packets.unwrap()).collect::<Vec<_>>();
    assert_eq!(packets().await, [0, 7]);
    let cleared: Vec<i64> = station.show("block").await.iter().map(|row| row.cleared.secs()).collect();
    assert_eq!(cleared, [1_000_100, 1_000_000]);
    station.lists.count(both(9)).await.unwrap();
    assert_eq!(packets().await, [2, 9]);
    station.lists.delete(&block, entries(&["192.0.2.2"]), How::default()).await.unwrap();
    station.add("block", "192.0.2.2").await;
    assert_eq!(packets().await, [2, 0]);
    let done = station.lists.zero(&block, None, How::default()).await.unwrap();
    assert_eq!((done.cleared, packets().await), (2, vec![0, 0]));
}

#[tokio::test]
async fn parity_expire_goes_by_age_as_pfctl_or_by_idleness_and_leaves_what_sources_say() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("block.txt");
    std::fs::write(&file, "203.0.113.1\n").unwrap();
    let mut config = counting();
    config.table[0].files.push(file);
    let mut station = Station::with(config, state.path());
    station.batch().await;
    let block = name("block");
    for text in ["192.0.2.1", "192.0.2.2", "203.0.113.1"] {
        station.add("block", text).await;
    }
    station.clock.advance(Duration::from_secs(100));
    station.add("block", "192.0.2.3").await;
    station.lists.count(vec![hit("192.0.2.1", 1, 1_000_099)]).await.unwrap();
    let idle = Age::Idle(Duration::from_secs(100));
    let tried = station.lists.expire(&block, idle, How { dry_run: true, ..VERBOSE }).await.unwrap();
    assert_eq!(letters(&tried), ["D 192.0.2.2/32", "D 203.0.113.1/32"], "the others were hit or are new");
    let older = Age::Older(Duration::from_secs(100));
    let done = station.lists.expire(&block, older, VERBOSE).await.unwrap();
    assert_eq!(letters(&done), ["D 192.0.2.1/32", "D 192.0.2.2/32", "D 203.0.113.1/32"]);
    assert_eq!((done.asked, done.still, done.still_from.len()), (4, 1, 1));
    assert_eq!(station.prefixes("block").await, ["192.0.2.3/32", "203.0.113.1/32"]);

    let said = station.lists.expire(&name("drop"), idle, How::default()).await.unwrap_err().to_string();
    assert_eq!(said, "table drop does not count hits; give it counters = true in [[lists.table]]");
}

#[tokio::test]
async fn a_big_table_is_shown_page_by_page() {
    let state = tempfile::tempdir().unwrap();
    let station = Station::start("", state.path());
    let block = name("block");
    let all = ["10.0.0.0/8", "10.0.0.0/9", "192.0.2.1", "2001:db8::/32", "2001:db8::1"];
    station.lists.replace(&block, entries(&all), How::default()).await.unwrap();
    for size in 1..=6 {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = station.lists.show(&block, after, size).await.unwrap();
            assert_eq!(page.entries, all.len());
            seen.extend(page.rows.iter().map(|row| row.prefix));
            after = seen.last().copied();
            if !page.more {
                break;
            }
        }
        let want: Vec<_> = entries(&all).iter().map(|entry| entry.prefix).collect();
        assert_eq!(seen, want, "pages of {size}");
    }
}

#[tokio::test]
async fn an_entry_of_a_file_is_as_old_as_the_reading_that_brought_it() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("block.txt");
    std::fs::write(&file, "192.0.2.1\n").unwrap();
    let mut config = Config::default();
    config.table.push(crate::config::TableConfig::new(name("block"), Action::Drop));
    config.table[0].files.push(file.clone());
    let mut station = Station::with(config, state.path());
    station.batch().await;
    station.clock.advance(Duration::from_secs(50));
    std::fs::write(&file, "192.0.2.1\n192.0.2.2\n").unwrap();
    let changed = tokio::time::timeout(PATIENCE, async {
        while station.show("block").await.len() < 2 {
            station.clock.advance(Duration::from_millis(400));
            tokio::task::yield_now().await;
        }
    });
    changed.await.expect("the file is read again");
    let added: Vec<i64> = station.show("block").await.iter().map(|row| row.added.secs()).collect();
    assert_eq!(added[0], 1_000_000);
    assert!(added[1] >= 1_000_050, "{added:?}");
}
