use std::time::Duration;

use mailgate_model::{ManualClock, Timestamp};

use super::*;
use crate::parse_entry;
use crate::table::Action;

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

struct Station {
    lists: Lists,
    changes: mpsc::Receiver<Vec<Change>>,
    clock: ManualClock,
    shutdown: CancellationToken,
}

impl Station {
    fn start(config: &str, state: &Path) -> Self {
        let clock = ManualClock::at(Timestamp::from_secs(1_000_000));
        let shutdown = CancellationToken::new();
        let config = toml_like(config);
        let (lists, changes) =
            Lists::start(config, state, Arc::new(clock.clone()), shutdown.clone()).unwrap();
        Self { lists, changes, clock, shutdown }
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
        crate::config::TableConfig { name: TableName::parse(name).unwrap(), action }
    };
    Config { table: text.split_whitespace().map(table).collect(), source: Vec::new() }
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
    let added = station.lists.add(&name("block"), Entry { expires, ..entry("192.0.2.1") }).await.unwrap();
    assert_eq!(added, Added::Added);
    let [Change::Add(table, added)] = &station.batch().await[..] else { panic!("expected one addition") };
    assert_eq!((table.as_str(), added.expires), ("block", expires));

    station.clock.advance(Duration::from_secs(59));
    assert_eq!(station.lists.tables().await.unwrap()[1].entries, 1);
    station.clock.advance(Duration::from_secs(1));
    let [Change::Delete(table, prefix)] = &station.batch().await[..] else { panic!("expected one deletion") };
    assert_eq!((table.as_str(), *prefix), ("block", entry("192.0.2.1").prefix));
    assert_eq!(station.lists.tables().await.unwrap()[1].entries, 0);
}

#[tokio::test]
async fn entries_by_hand_survive_a_restart_with_holes_and_ends() {
    let state = tempfile::tempdir().unwrap();
    let station = Station::start("", state.path());
    let block = name("block");
    let expires = Some(station.clock.now().plus(Duration::from_secs(60)));
    for text in ["10.0.0.0/8", "!10.1.2.3", "2001:db8::/32"] {
        station.lists.add(&block, entry(text)).await.unwrap();
    }
    station.lists.add(&block, Entry { expires, ..entry("192.0.2.1") }).await.unwrap();
    let before = station.lists.show(&block).await.unwrap();
    station.shutdown.cancel();
    drop(station);

    let station = Station::start("", state.path());
    assert_eq!(station.lists.show(&block).await.unwrap(), before);
    assert_eq!(before.len(), 4);
    assert_eq!(before[0].origins, ["manual"]);
    assert_eq!(station.lists.flush(&block).await.unwrap(), 4);

    let station = Station::start("", state.path());
    assert_eq!(station.lists.show(&block).await.unwrap(), []);
}

#[tokio::test]
async fn testing_an_address_names_the_most_specific_entry_of_each_table_and_bypass_wins() {
    let state = tempfile::tempdir().unwrap();
    let station = Station::start("", state.path());
    let (block, bypass) = (name("block"), name("bypass"));
    station.lists.add(&block, entry("10.0.0.0/8")).await.unwrap();
    station.lists.add(&block, entry("!10.1.0.0/16")).await.unwrap();
    let action = async |text: &str| station.lists.test(text.parse().unwrap()).await.unwrap().action;
    assert_eq!(action("10.2.0.1").await, Some(Action::Tarpit));
    assert_eq!(action("10.1.0.1").await, None);
    assert_eq!(action("::ffff:10.2.0.1").await, Some(Action::Tarpit));
    assert_eq!(action("11.0.0.1").await, None);
    station.lists.add(&bypass, entry("10.2.0.0/24")).await.unwrap();
    assert_eq!(action("10.2.0.1").await, Some(Action::Bypass));
    let matches = station.lists.test("10.2.0.1".parse().unwrap()).await.unwrap().matches;
    let told: Vec<_> = matches.iter().map(|m| (m.table.as_str(), m.entry.prefix.to_string())).collect();
    assert_eq!(told, [("bypass", "10.2.0.0/24".into()), ("block", "10.0.0.0/8".into())]);
}

#[tokio::test]
async fn a_table_that_is_not_there_is_told_with_those_that_are() {
    let state = tempfile::tempdir().unwrap();
    let station = Station::start("", state.path());
    let said = station.lists.show(&name("blok")).await.unwrap_err().to_string();
    assert_eq!(said, "found table blok, expected one of bypass, block, drop, bruteforce");
}

#[tokio::test]
async fn an_edit_that_cannot_be_saved_says_so_and_counts() {
    let state = tempfile::tempdir().unwrap();
    let station = Station::start("", state.path());
    std::fs::write(state.path().join("lists"), "in the way").unwrap();
    let error = station.lists.add(&name("block"), entry("192.0.2.1")).await.unwrap_err();
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

#[tokio::test]
async fn replacing_tells_what_changed() {
    let state = tempfile::tempdir().unwrap();
    let station = Station::start("", state.path());
    let block = name("block");
    let entries = |texts: &[&str]| texts.iter().map(|text| entry(text)).collect::<Vec<_>>();
    station.lists.replace(&block, entries(&["192.0.2.1", "192.0.2.2", "192.0.2.3"])).await.unwrap();
    let replaced =
        station.lists.replace(&block, entries(&["192.0.2.2", "!192.0.2.3", "2001:db8::1"])).await.unwrap();
    assert_eq!(replaced, Replaced { added: 1, changed: 1, deleted: 1 });
}
