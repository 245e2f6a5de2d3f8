use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use mailgate_model::{Clock, ManualClock, Timestamp};
use mailgate_net::SystemClock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::{Config, DirectoryConfig, FileConfig, SourceConfig};
use crate::rows::{SourceRow, SourceState};
use crate::source::POLL;
use crate::{Change, Lists, TableName};

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often something is tried that a busy machine may delay.
const ROUNDS: u8 = 10;

struct Station {
    lists: Lists,
    changes: mpsc::Receiver<Vec<Change>>,
    told: BTreeSet<String>,
    _stop: tokio_util::sync::DropGuard,
}

impl Station {
    fn start(files: &[PathBuf], state: &Path, clock: Arc<dyn Clock>) -> Self {
        let source = |path: &PathBuf| {
            let table = TableName::parse("block").unwrap();
            SourceConfig::File(FileConfig::new(path.clone(), table))
        };
        let config = Config { source: files.iter().map(source).collect(), ..Config::default() };
        Self::of(config, state, clock)
    }

    fn of(config: Config, state: &Path, clock: Arc<dyn Clock>) -> Self {
        let shutdown = CancellationToken::new();
        let (lists, changes) = Lists::start(config, state, clock, shutdown.clone()).unwrap();
        Self { lists, changes, told: BTreeSet::new(), _stop: shutdown.drop_guard() }
    }

    /// Takes one batch and returns what the edge holds then.
    async fn batch(&mut self) -> BTreeSet<String> {
        let batch =
            tokio::time::timeout(PATIENCE, self.changes.recv()).await.expect("a batch comes").unwrap();
        for change in batch {
            match change {
                Change::Add(_, entry) => {
                    self.told.insert(entry.prefix.to_string());
                }
                Change::Delete(_, prefix) => {
                    self.told.remove(&prefix.to_string());
                }
                Change::Reload(snapshot) => {
                    let entries = snapshot.tables.iter().flat_map(|table| table.entries.iter());
                    self.told = entries.map(|entry| entry.prefix.to_string()).collect();
                }
            }
        }
        self.told.clone()
    }

    async fn told(&mut self, want: &[&str]) {
        let want: BTreeSet<String> = want.iter().map(|text| (*text).to_owned()).collect();
        let mut held = self.told.clone();
        while held != want {
            held = self.batch().await;
        }
    }

    async fn sees(&self, what: &str, want: impl Fn(&SourceRow) -> bool) -> SourceRow {
        let look = async {
            loop {
                let row = self.lists.sources().await.unwrap().remove(0);
                if want(&row) {
                    return row;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{what} does not happen"))
    }
}

#[tokio::test]
async fn changes_are_taken_within_a_second_however_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("block.txt");
    fs::write(&path, "192.0.2.1\n").unwrap();
    let mut station = Station::start(std::slice::from_ref(&path), folder.path(), Arc::new(SystemClock));
    assert_eq!(
        station.batch().await,
        ["192.0.2.1/32".to_owned()].into(),
        "the first message has the file's entries"
    );

    // On a busy machine a moment may be long; that one of some was short proves as much.
    let mut took: [Vec<Duration>; 3] = Default::default();
    for round in 0..ROUNDS {
        let first = format!("192.0.2.{round}");
        let began = std::time::Instant::now();
        fs::write(&path, format!("{first}\n2001:db8::/32\n")).unwrap();
        station.told(&[&format!("{first}/32"), "2001:db8::/32"]).await;
        took[0].push(began.elapsed());

        let began = std::time::Instant::now();
        fs::write(folder.path().join("new"), "192.0.2.17\n").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        station.told(&["192.0.2.17/32"]).await;
        took[1].push(began.elapsed());

        // A writer that never closes, as `tail -f >> block.txt` does.
        let began = std::time::Instant::now();
        let mut writer = fs::OpenOptions::new().append(true).open(&path).unwrap();
        io::Write::write_all(&mut writer, b"192.0.2.18\n").unwrap();
        station.told(&["192.0.2.17/32", "192.0.2.18/32"]).await;
        took[2].push(began.elapsed());
        drop(writer);
        let [written, renamed, appended] = [0, 1, 2].map(|way| took[way].iter().min().unwrap().as_millis());
        if written < 1000 && renamed < 1000 && appended < 1300 {
            return;
        }
    }
    panic!("written, renamed, appended: {took:?}");
}

#[tokio::test]
async fn a_vanished_file_keeps_the_last_good_set_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("block.txt");
    fs::write(&path, "192.0.2.1\n").unwrap();
    let mut station = Station::start(std::slice::from_ref(&path), folder.path(), Arc::new(SystemClock));
    station.told(&["192.0.2.1/32"]).await;
    fs::remove_file(&path).unwrap();
    let row = station.sees("the failure", |row| row.state == SourceState::Failed).await;
    assert_eq!(row.entries, 1);
    assert!(row.error.unwrap().contains("No such file"));
    fs::write(&path, "192.0.2.2\n").unwrap();
    station.told(&["192.0.2.2/32"]).await;
    let row = station.sees("the recovery", |row| row.state == SourceState::Good).await;
    assert_eq!(row.error, None);
}

#[tokio::test]
async fn a_file_that_is_not_there_at_start_does_not_hold_up_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let (later, present) = (folder.path().join("sub/later.txt"), folder.path().join("present.txt"));
    fs::write(&present, "192.0.2.1\n").unwrap();
    // Time stands still: only looking anew finds a file in a folder that could not be watched.
    let clock = ManualClock::at(Timestamp::from_secs(1_000_000));
    let mut station = Station::start(&[later.clone(), present], folder.path(), Arc::new(clock.clone()));
    station.told(&["192.0.2.1/32"]).await;
    assert_eq!(station.lists.sources().await.unwrap()[0].state, SourceState::Failed);

    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(&later, "192.0.2.2\n").unwrap();
    let moving = async {
        loop {
            clock.advance(POLL);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = station.told(&["192.0.2.1/32", "192.0.2.2/32"]) => {}
        () = moving => {}
    }
}

#[tokio::test]
async fn one_prefix_in_two_files_stays_when_one_lets_go() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one.txt"), folder.path().join("two.txt"));
    fs::write(&one, "192.0.2.1\n192.0.2.2\n").unwrap();
    fs::write(&two, "192.0.2.1\n").unwrap();
    let mut station = Station::start(&[one.clone(), two], folder.path(), Arc::new(SystemClock));
    station.told(&["192.0.2.1/32", "192.0.2.2/32"]).await;
    fs::write(&one, "# none\n").unwrap();
    station.told(&["192.0.2.1/32"]).await;
}

#[tokio::test]
async fn broken_lines_are_shown_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("block.txt");
    fs::write(&path, "192.0.2.1\n<html>\n192.0.2.2\n").unwrap();
    let mut station = Station::start(std::slice::from_ref(&path), folder.path(), Arc::new(SystemClock));
    station.told(&["192.0.2.1/32", "192.0.2.2/32"]).await;
    let row = station.lists.sources().await.unwrap().remove(0);
    assert_eq!((row.entries, row.refused), (2, 1));
    let place = format!("{}:2: found \"<html>\"", path.display());
    assert!(row.problems[0].starts_with(&place), "{:?}", row.problems);
}

#[tokio::test]
async fn what_is_not_a_file_is_refused_instead_of_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let station = Station::start(&[folder.path().to_owned()], folder.path(), Arc::new(SystemClock));
    let row = station.sees("the failure", |row| row.state == SourceState::Failed).await;
    assert!(row.error.unwrap().contains("expected a file"));
}

#[tokio::test]
async fn an_error_page_in_place_of_the_list_keeps_the_last_good_set_and_an_empty_list_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("block.txt");
    fs::write(&path, "192.0.2.1\n").unwrap();
    let mut station = Station::start(std::slice::from_ref(&path), folder.path(), Arc::new(SystemClock));
    station.told(&["192.0.2.1/32"]).await;
    fs::write(&path, "<html>\n<h1>503</h1>\n").unwrap();
    let row = station.sees("the failure", |row| row.state == SourceState::Failed).await;
    assert_eq!(row.entries, 1);
    let said = row.error.unwrap();
    assert_eq!(said, "found an HTML or XML page, expected a list");
    // A page of plain text says that its lines are none.
    fs::write(&path, "Service unavailable\nTry later\n").unwrap();
    let said = "no line of 2 can be read, first: ";
    station.sees("the page", |row| row.error.as_ref().is_some_and(|error| error.starts_with(said))).await;
    fs::write(&path, "# nobody today\n").unwrap();
    station.told(&[]).await;
    station.sees("the recovery", |row| row.state == SourceState::Good).await;
}

#[tokio::test]
async fn a_download_that_failed_and_left_nothing_keeps_the_last_good_set() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("block.txt");
    fs::write(&path, "192.0.2.1\n").unwrap();
    let mut station = Station::start(std::slice::from_ref(&path), folder.path(), Arc::new(SystemClock));
    station.told(&["192.0.2.1/32"]).await;
    fs::write(&path, "").unwrap();
    let row = station.sees("the failure", |row| row.state == SourceState::Failed).await;
    assert_eq!(row.entries, 1);
    assert!(row.error.unwrap().starts_with("found a list of no octet"));
    fs::write(&path, "192.0.2.2\n").unwrap();
    station.told(&["192.0.2.2/32"]).await;
}

fn folder_config(path: &Path) -> Config {
    let text = format!("[[source]]\nkind = \"directory\"\npath = {path:?}\ntable = \"block\"\n");
    let config: Config = toml::from_str(&text).unwrap();
    assert!(matches!(&config.source[..], [SourceConfig::Directory(DirectoryConfig { .. })]));
    config
}

#[tokio::test]
async fn the_files_of_a_folder_are_one_list_and_changes_act_at_once() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    fs::write(at("a.txt"), "192.0.2.1\n").unwrap();
    fs::write(at("b.json"), "{\"cidr\":\"198.51.100.0/24\",\"sblid\":\"SBL7\"}\n").unwrap();
    fs::write(at(".hidden"), "203.0.113.1\n").unwrap();
    fs::write(at("c.txt~"), "203.0.113.2\n").unwrap();
    let mut station = Station::of(folder_config(folder.path()), state.path(), Arc::new(SystemClock));
    station.told(&["192.0.2.1/32", "198.51.100.0/24"]).await;
    let told = station.lists.messages("198.51.100.9".parse().unwrap()).await.unwrap();
    assert_eq!(told, [(TableName::parse("block").unwrap(), "SBL7".to_owned())]);

    fs::write(at("c.txt"), "192.0.2.3\n").unwrap();
    station.told(&["192.0.2.1/32", "198.51.100.0/24", "192.0.2.3/32"]).await;
    fs::remove_file(at("a.txt")).unwrap();
    station.told(&["198.51.100.0/24", "192.0.2.3/32"]).await;

    // One file that is no list takes nothing away, neither its own nor the others' entries.
    fs::write(at("b.json"), "<!doctype html><h1>Oops</h1>\n").unwrap();
    let row = station.sees("the failure", |row| row.state == SourceState::Failed).await;
    assert_eq!(row.entries, 2);
    assert!(row.error.unwrap().contains("b.json: found an HTML or XML page"));
}

#[tokio::test]
async fn packed_files_are_read_as_they_are() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("block.txt.gz");
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    io::Write::write_all(&mut packer, b"192.0.2.1\n192.0.2.2\n").unwrap();
    let packed = packer.finish().unwrap();
    fs::write(&path, &packed).unwrap();
    let mut station = Station::start(std::slice::from_ref(&path), state.path(), Arc::new(SystemClock));
    station.told(&["192.0.2.1/32", "192.0.2.2/32"]).await;
    fs::write(&path, &packed[..packed.len() - 9]).unwrap();
    let row = station.sees("the failure", |row| row.state == SourceState::Failed).await;
    assert_eq!(row.entries, 2);
    assert!(row.error.unwrap().contains("cut off"));
}

#[tokio::test]
async fn a_file_that_is_gone_at_the_next_start_counts_as_its_copy_has_it() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("block.txt");
    fs::write(&path, "192.0.2.1\n").unwrap();
    let mut station = Station::start(std::slice::from_ref(&path), state.path(), Arc::new(SystemClock));
    station.told(&["192.0.2.1/32"]).await;
    until_copied(state.path()).await;
    drop(station);
    fs::remove_file(&path).unwrap();
    let mut station = Station::start(std::slice::from_ref(&path), state.path(), Arc::new(SystemClock));
    assert_eq!(station.batch().await, ["192.0.2.1/32".to_owned()].into(), "the first message has it");
    let row = station.sees("the failure", |row| row.state == SourceState::Failed).await;
    assert_eq!(row.entries, 1);
}

/// The copy is written after the tables have changed.
async fn until_copied(state: &Path) {
    let folder = state.join("lists/copies");
    let look = async {
        loop {
            let found = fs::read_dir(&folder).into_iter().flatten().flatten();
            if found.into_iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".copy")) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("a copy is written");
}
