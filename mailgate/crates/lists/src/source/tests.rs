//! Sources from elsewhere: what comes, what does not, and what a restart begins with.

mod feed;
mod spamd;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mailgate_model::{Clock as _, ManualClock, Timestamp};
use proptest::prelude::*;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::copy::{read, write};
use super::*;
use crate::notes::NotesBuilder;
use crate::prefix::{PrefixSet, Sense};
use crate::rows::{SourceRow, SourceState};
use crate::{Change, Config, Lists, TableName};
use feed::{Feed, Sent};

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

const T0: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A station whose time stands still until it is moved.
struct Station {
    lists: Lists,
    changes: mpsc::Receiver<Vec<Change>>,
    clock: ManualClock,
    stop: CancellationToken,
}

impl Drop for Station {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Station {
    fn start(config: &str, state: &Path, now: Timestamp) -> Self {
        let config: Config = toml::from_str(config).unwrap();
        let (clock, stop) = (ManualClock::at(now), CancellationToken::new());
        let (lists, changes) = Lists::start(config, state, Arc::new(clock.clone()), stop.clone()).unwrap();
        Self { lists, changes, clock, stop }
    }

    async fn row(&self) -> SourceRow {
        self.lists.sources().await.unwrap().remove(0)
    }

    async fn sees(&self, what: &str, want: impl Fn(&SourceRow) -> bool) -> SourceRow {
        let look = async {
            loop {
                let row = self.row().await;
                if want(&row) {
                    return row;
                }
                tokio::task::yield_now().await;
            }
        };
        match tokio::time::timeout(PATIENCE, look).await {
            Ok(row) => row,
            Err(_) => panic!("{what} does not happen: {:?}", self.row().await),
        }
    }

    async fn good(&self) -> SourceRow {
        // Said when all is done: the tables, the copy, the plan.
        let now = self.clock.now();
        self.sees("a good list", |row| row.state == SourceState::Good && row.last_success == Some(now)).await
    }

    /// Everything in the table `block`.
    async fn held(&self) -> Vec<String> {
        let page = self.lists.show(&block(), None, 1000).await.unwrap();
        page.rows.iter().map(|row| row.prefix.to_string()).collect()
    }

    /// What the first message to the edge holds.
    async fn first(&mut self) -> Vec<String> {
        let batch =
            tokio::time::timeout(PATIENCE, self.changes.recv()).await.expect("a batch comes").unwrap();
        let [Change::Reload(snapshot)] = &batch[..] else { panic!("{batch:?}") };
        let entries = snapshot.tables.iter().flat_map(|table| table.entries.iter());
        entries.map(|entry| entry.prefix.to_string()).collect()
    }

    async fn reload(&self) -> crate::rows::Reloaded {
        self.lists.reload(None).await.unwrap().remove(0)
    }

    async fn told(&self, address: &str) -> Vec<String> {
        let told = self.lists.messages(address.parse().unwrap()).await.unwrap();
        told.into_iter().map(|(_, text)| text).collect()
    }
}

fn block() -> TableName {
    TableName::parse("block").unwrap()
}

fn url_config(feed: &Feed, more: &str) -> String {
    let url = feed.url("/list.txt");
    format!("[[source]]\nkind = \"url\"\nname = \"feed\"\nurl = \"{url}\"\ntable = \"block\"\n{more}\n")
}

fn copies(state: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(state.join("lists/copies")).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = found.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text).unwrap();
    packer.finish().unwrap()
}

const TWO: &[u8] = b"192.0.2.1\n198.51.100.0/24\n";

#[tokio::test]
async fn a_feed_is_fetched_once_and_then_only_asked_for_news() {
    let (feed, state) = (Feed::start().await, tempfile::tempdir().unwrap());
    feed.says(Sent::text(TWO).with("ETag", "\"one\"").with("Last-Modified", "Sat, 21 Nov 2026 00:00:00 GMT"));
    let station = Station::start(&url_config(&feed, ""), state.path(), T0);
    let row = station.good().await;
    assert_eq!((row.entries, row.bytes, row.etag.as_deref()), (2, 26, Some("\"one\"")));
    assert_eq!(row.last_success, Some(T0));
    let next = row.next_run.unwrap().since(T0).as_secs();
    assert!((3240..=3960).contains(&next), "{next}");
    assert_eq!(feed.asked(), ["GET /list.txt"]);

    // The server says that nothing has changed.
    feed.says(Sent::status("304 Not Modified"));
    station.clock.advance(Duration::from_secs(4000));
    let later = T0.plus(Duration::from_secs(4000));
    let row = station.sees("the second fetch", |row| row.last_success == Some(later)).await;
    assert_eq!((row.state, row.entries), (SourceState::Good, 2));
    assert_eq!(
        feed.asked(),
        ["GET /list.txt If-None-Match: \"one\" If-Modified-Since: Sat, 21 Nov 2026 00:00:00 GMT"]
    );

    // And then that something has.
    feed.says(Sent::text(b"192.0.2.1\n192.0.2.2\n").with("ETag", "\"two\""));
    station.clock.advance(Duration::from_secs(4000));
    station.sees("the third fetch", |row| row.etag.as_deref() == Some("\"two\"")).await;
    assert_eq!(station.held().await, ["192.0.2.1/32", "192.0.2.2/32"]);
}

#[tokio::test]
async fn whatever_goes_wrong_with_a_feed_leaves_the_tables_as_they_were() {
    let (feed, state) = (Feed::start().await, tempfile::tempdir().unwrap());
    let packed = gzip(&TWO.repeat(50));
    feed.says(Sent::text(&packed));
    let station =
        Station::start(&url_config(&feed, "size_limit = 100000\nmin_entries = 2"), state.path(), T0);
    station.good().await;
    let copy = fs::read(&copies(state.path())[0]).unwrap();
    let html = b"<!DOCTYPE html><html><body>192.0.2.7</body></html>";
    let plain = b"Service temporarily unavailable.\nPlease try again.\n192.0.2.9\n";
    for (what, sent, want) in [
        ("down", Sent::nothing(), "did not keep to HTTP"),
        ("an error", Sent::status("503 Service Unavailable"), "found status 503, expected 200"),
        ("an unasked 304", Sent::status("304 Not Modified"), "found status 304"),
        ("an HTML page", Sent::text(html), "found an HTML or XML page"),
        ("a page by its type", Sent::text(TWO).with("Content-Type", "text/html; charset=utf-8"), "HTML"),
        ("a JSON error", Sent::text(b"{\"error\":\"quota\"}"), "found a JSON document"),
        ("nothing at all", Sent::text(b""), "no octet"),
        ("a page of plain text", Sent::text(b"Service unavailable\nTry later\n"), "no line of 2 can be read"),
        ("one entry where two are expected", Sent::text(plain), "expected at least min_entries = 2"),
        ("a gzip that is cut off", Sent::text(&packed[..packed.len() - 5]), "cut off or broken"),
        ("an answer that is cut off", Sent::text(TWO).cut(10), "broke off"),
        ("a list that unpacks to a giant", Sent::text(&gzip(&[b'\n'; 200_000])), "more than 100000 bytes"),
        ("an unknown packing", Sent::text(TWO).with("Content-Encoding", "br"), "expected gzip or zstd"),
        (
            "a way without end",
            Sent::status("302 Found").with("Location", "/again"),
            "more than 5 redirections",
        ),
        ("a way out of TLS", Sent::status("302 Found").with("Location", "ftp://x/"), "is not fetched"),
    ] {
        feed.says(sent);
        let done = station.reload().await;
        assert_eq!(done.outcome, "failed", "{what}");
        let said = done.error.unwrap();
        assert!(said.contains(want), "{what}: {said}");
        let row = station.row().await;
        assert_eq!((row.state, row.entries), (SourceState::Failed, 2), "{what}");
        assert_eq!(row.error.as_deref(), Some(said.as_str()), "{what}");
        assert_eq!(row.last_failure, Some(T0), "{what}");
        assert_eq!(fs::read(&copies(state.path())[0]).unwrap(), copy, "{what}");
    }
    feed.says(Sent::text(TWO));
    assert_eq!(station.reload().await.outcome, "unchanged");
    let row = station.good().await;
    assert_eq!(row.error, None);
    assert!(row.last_error.is_some(), "the last failure stays to be read");
}

#[tokio::test]
async fn a_start_without_the_feed_begins_with_the_copy_and_does_not_fetch_what_is_fresh() {
    let (feed, state) = (Feed::start().await, tempfile::tempdir().unwrap());
    feed.says(Sent::text(b"192.0.2.0/24 ; SBL77\n").with("ETag", "\"x\""));
    let config = url_config(&feed, "format = \"drop\"");
    let station = Station::start(&config, state.path(), T0);
    station.good().await;
    drop(station);
    feed.asked();

    let mut station = Station::start(&config, state.path(), T0.plus(Duration::from_secs(60)));
    assert_eq!(station.first().await, ["192.0.2.0/24"], "the first message to the edge has it");
    let row = station.row().await;
    assert_eq!((row.state, row.entries, row.etag.as_deref()), (SourceState::Stale, 1, Some("\"x\"")));
    assert_eq!(row.last_success, Some(T0));
    assert_eq!(row.next_run, Some(T0.plus(Duration::from_secs(3600))));
    assert_eq!(feed.asked(), [""; 0], "an hour has not passed");
    assert_eq!(station.told("192.0.2.9").await, ["SBL77"], "what the list says is in the copy too");

    // When it is time it only asks for news.
    feed.says(Sent::status("304 Not Modified"));
    station.clock.advance(Duration::from_secs(3600));
    station.good().await;
    assert_eq!(feed.asked(), ["GET /list.txt If-None-Match: \"x\""]);
}

#[tokio::test]
async fn a_list_of_which_no_copy_can_be_kept_changes_nothing_until_there_is_room() {
    let (feed, state) = (Feed::start().await, tempfile::tempdir().unwrap());
    feed.says(Sent::text(TWO).with("ETag", "\"one\""));
    let config = url_config(&feed, "");
    let station = Station::start(&config, state.path(), T0);
    station.good().await;
    let path = copies(state.path()).remove(0);
    let before = fs::read(&path).unwrap();
    // The kernel answers every write to this file as a full disk does.
    std::os::unix::fs::symlink("/dev/full", path.with_extension("new")).unwrap();
    feed.says(Sent::text(b"192.0.2.1\n192.0.2.2\n192.0.2.3\n").with("ETag", "\"two\""));
    assert_eq!(station.reload().await.outcome, "failed");
    let row = station.sees("the complaint", |row| row.state == SourceState::Failed).await;
    let said = row.error.unwrap();
    assert!(said.contains("its copy cannot be kept: No space left"), "{said}");
    assert_eq!(station.held().await, ["192.0.2.1/32", "198.51.100.0/24"]);
    assert_eq!(copies(state.path()), std::slice::from_ref(&path), "nothing half is left");
    assert_eq!(fs::read(&path).unwrap(), before, "the old copy is whole");

    // There is room again: the list comes once more, and so does its copy.
    feed.asked();
    station.clock.advance(Duration::from_secs(4000));
    station.sees("the list", |row| row.state == SourceState::Good).await;
    assert_eq!(feed.asked(), ["GET /list.txt If-None-Match: \"one\""], "what is in force is known");
    assert_eq!(station.held().await, ["192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32"]);
    assert!(String::from_utf8(fs::read(&path).unwrap()).unwrap().contains("192.0.2.3/32"));
}

#[tokio::test]
async fn a_file_of_this_host_waits_for_room_too_unless_there_was_nothing_before() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let list = folder.path().join("block.txt");
    fs::write(&list, TWO).unwrap();
    let config = format!("[[source]]\nkind = \"file\"\npath = {list:?}\ntable = \"block\"\n");
    let station = Station::start(&config, state.path(), T0);
    station.good().await;
    let path = copies(state.path()).remove(0);
    // No copy can be written here until it is gone.
    let obstacle = path.with_extension("new");
    fs::create_dir(&obstacle).unwrap();
    // As a full disk leaves it: cut off in the middle.
    fs::write(&list, "192.0.2.1\n").unwrap();
    assert_eq!(station.reload().await.outcome, "failed");
    assert_eq!(station.held().await, ["192.0.2.1/32", "198.51.100.0/24"]);
    fs::remove_dir(&obstacle).unwrap();
    station.clock.advance(Duration::from_secs(100));
    station.sees("the list of now", |row| row.entries == 1 && row.state == SourceState::Good).await;
    drop(station);

    // Nothing to be lost: it counts, and its copy is missing.
    let other = tempfile::tempdir().unwrap();
    let obstacle = other.path().join("lists/copies").join(obstacle.file_name().unwrap());
    fs::create_dir_all(&obstacle).unwrap();
    let station = Station::start(&config, other.path(), T0);
    let row = station.sees("the complaint", |row| row.copy_error.is_some()).await;
    assert!(row.copy_error.unwrap().contains("directory"), "says why");
    assert_eq!(station.held().await, ["192.0.2.1/32"]);
}

#[tokio::test]
async fn a_daemon_killed_in_the_middle_of_a_copy_begins_with_the_last_whole_one() {
    let (feed, state) = (Feed::start().await, tempfile::tempdir().unwrap());
    feed.says(Sent::text(TWO));
    let config = url_config(&feed, "");
    let station = Station::start(&config, state.path(), T0);
    station.good().await;
    drop(station);
    let path = copies(state.path()).remove(0);
    let whole = fs::read(&path).unwrap();
    let soon = T0.plus(Duration::from_secs(1));
    // Killed while the new one was being written: it lies beside, half.
    fs::write(path.with_extension("new"), &whole[..whole.len() / 2]).unwrap();
    let mut station = Station::start(&config, state.path(), soon);
    assert_eq!(station.first().await, ["192.0.2.1/32", "198.51.100.0/24"]);
    drop(station);
    // A disk that lost the second half of what it had promised: no half list is used, wherever it is cut.
    for end in (0..whole.len() - 1).step_by(13) {
        assert!(read(&whole[..end], &feed.url("/list.txt")).is_err(), "cut at {end}");
    }
    fs::write(&path, &whole[..whole.len() - 4]).unwrap();
    feed.says(Sent::nothing());
    let mut station = Station::start(&config, state.path(), soon);
    assert_eq!(station.first().await, [""; 0]);
}

#[tokio::test]
async fn a_source_that_left_the_configuration_leaves_the_tables_and_the_disk() {
    let (feed, state) = (Feed::start().await, tempfile::tempdir().unwrap());
    feed.says(Sent::text(TWO));
    let config = url_config(&feed, "");
    let station = Station::start(&config, state.path(), T0);
    station.good().await;
    drop(station);
    assert_eq!(copies(state.path()).len(), 1);
    let mut station = Station::start("", state.path(), T0);
    assert_eq!(station.first().await, [""; 0]);
    assert!(copies(state.path()).is_empty());
}

#[tokio::test]
async fn a_copy_from_elsewhere_is_not_the_copy_of_this_source() {
    let (feed, state) = (Feed::start().await, tempfile::tempdir().unwrap());
    feed.says(Sent::text(TWO));
    drop({
        let station = Station::start(&url_config(&feed, ""), state.path(), T0);
        station.good().await;
        station
    });
    feed.says(Sent::nothing());
    let moved = url_config(&feed, "").replace("/list.txt", "/other.txt");
    let mut station = Station::start(&moved, state.path(), T0);
    assert_eq!(station.first().await, [""; 0]);
}

#[tokio::test]
async fn entries_age_out_only_where_that_is_configured() {
    for (more, want) in [("", 2), ("expire_after = \"2h\"", 0)] {
        let (feed, state) = (Feed::start().await, tempfile::tempdir().unwrap());
        feed.says(Sent::text(TWO));
        let station = Station::start(&url_config(&feed, more), state.path(), T0);
        station.good().await;
        feed.says(Sent::nothing());
        for _ in 0..20 {
            let failed = station.row().await.last_failure;
            station.clock.advance(Duration::from_secs(600));
            let now = failed.map_or(T0, |at| at);
            station
                .sees("another try", |row| {
                    row.last_failure > Some(now) || row.next_run > Some(now.plus(Duration::from_secs(600)))
                })
                .await;
        }
        station.sees("its end", |row| row.entries == want).await;
        if want == 0 {
            let row = station.row().await;
            assert_eq!(row.state, SourceState::Aged);
            assert!(row.error.is_some());
            // A start does not bring back what is too old.
            let now = T0.plus(Duration::from_secs(12_000));
            drop(station);
            let mut station = Station::start(&url_config(&feed, more), state.path(), now);
            assert_eq!(station.first().await, [""; 0]);
            // A new list does.
            feed.says(Sent::text(TWO));
            station.reload().await;
            assert_eq!(station.held().await.len(), 2);
        }
    }
}

#[tokio::test]
async fn diff_says_what_would_change_and_changes_nothing() {
    let (feed, state) = (Feed::start().await, tempfile::tempdir().unwrap());
    feed.says(Sent::text(TWO));
    let station = Station::start(&url_config(&feed, "min_entries = 2"), state.path(), T0);
    station.good().await;
    feed.says(Sent::text(b"192.0.2.1\n2001:db8::1\n192.0.2.9\nnonsense\n"));
    let diff = station.lists.diff("feed").await.unwrap();
    assert_eq!((diff.entries_before, diff.entries_after, diff.refused_lines), (2, 3, 1));
    assert_eq!(diff.new, ["192.0.2.9/32", "2001:db8::1/128"]);
    assert_eq!((diff.gone, diff.would_be_refused), (vec!["198.51.100.0/24".to_owned()], None));
    assert_eq!(station.held().await, ["192.0.2.1/32", "198.51.100.0/24"]);

    feed.says(Sent::text(b"192.0.2.1\n"));
    let diff = station.lists.diff("feed").await.unwrap();
    assert!(diff.would_be_refused.unwrap().contains("at least min_entries = 2"));
    let unknown = station.lists.diff("fead").await.unwrap_err();
    assert!(unknown.to_string().contains("found source \"fead\", expected one of feed"), "{unknown}");
}

#[tokio::test]
async fn an_address_is_explained_by_every_source_that_names_it() {
    let (feed, state) = (Feed::start().await, tempfile::tempdir().unwrap());
    feed.says(Sent::text(b"192.0.2.0/24 ; SBL1\n192.0.2.7 ; SBL2\n"));
    let path = state.path().join("ours.txt");
    fs::write(&path, "192.0.2.7\n").unwrap();
    let config = format!(
        "[[source]]\nkind = \"file\"\nname = \"ours\"\npath = {path:?}\ntable = \"bypass\"\n{}",
        url_config(
            &feed,
            "format = \"drop\"
message = \"%A is listed as %N\""
        )
    );
    let station = Station::start(&config, state.path(), T0);
    let look = async {
        while station.lists.sources().await.unwrap().iter().any(|row| row.last_success.is_none()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("both are read");
    let said = station.lists.explain("192.0.2.7".parse().unwrap()).await.unwrap();
    assert_eq!(said.why, "bypass: 192.0.2.7/32 of ours in table bypass, which comes before tarpit");
    let named: Vec<String> =
        said.named.iter().map(|n| format!("{} {} {} {}", n.table, n.origin, n.entry, n.decides)).collect();
    assert_eq!(named, ["bypass ours 192.0.2.7/32 true", "block feed 192.0.2.7/32 true"]);
    assert_eq!(said.named[1].messages, ["192.0.2.7 is listed as SBL2, SBL1"]);
    assert_eq!(station.told("192.0.2.9").await, ["192.0.2.9 is listed as SBL1"]);
    assert_eq!(station.told("198.51.100.1").await, [""; 0]);
    let stranger = station.lists.explain("198.51.100.1".parse().unwrap()).await.unwrap();
    assert_eq!((stranger.action, stranger.named.len()), (None, 0));
}

#[tokio::test]
async fn a_source_brings_its_own_table_and_may_not_contradict_another() {
    let text =
        "[[source]]\nkind = \"command\"\nname = \"spamhaus\"\ncommand = [\"/bin/true\"]\naction = \"drop\"\n";
    let config: Config = toml::from_str(text).unwrap();
    assert_eq!(config.problems(), [""; 0]);
    let last = config.tables().pop().unwrap();
    assert_eq!((last.name.as_str(), last.action), ("spamhaus", crate::Action::Drop));
    for (more, want) in [
        ("table = \"block\"\n", "found action drop, expected tarpit"),
        ("interval = \"1s\"\n", "expected at least"),
        (
            "[[source]]\nkind = \"url\"\nurl = \"ftp://example.org/\"\ntable = \"block\"\n",
            "ftp is not fetched",
        ),
        (
            "[[source]]\nkind = \"url\"\nurl = \"https://a:b@example.org/\"\ntable = \"block\"\n",
            "found a user",
        ),
        (
            "[[source]]\nkind = \"command\"\nname = \"c\"\ncommand = [\"true\"]\ntable = \"block\"\n",
            "begins with /",
        ),
        ("[[source]]\nkind = \"file\"\npath = \"/x\"\n", "neither table nor action"),
        ("[[source]]\nkind = \"file\"\npath = \"/x\"\naction = \"drop\"\n", "found table name \"/x\""),
    ] {
        let config: Config = toml::from_str(&format!("{text}{more}")).unwrap();
        let problems = config.problems();
        assert!(problems.len() == 1 && problems[0].contains(want), "{more}: {problems:?}");
    }
}

proptest! {
    #[test]
    fn a_copy_reads_back_as_it_was_written(
        entries in prop::collection::vec((any::<u32>(), 0_u8..=32, any::<bool>(), prop::option::of(".{0,12}")), 0..30),
        six in prop::collection::vec((any::<u128>(), 0_u8..=128), 0..10),
        name in ".{0,20}",
        said in prop::option::of("(.|\n){1,20}"),
    ) {
        let (mut set, mut notes) = (PrefixSet::default(), NotesBuilder::default());
        for (bits, length, listed, note) in &entries {
            let net = ipnet::IpNet::new(std::net::Ipv4Addr::from(*bits).into(), *length).unwrap().trunc();
            set.push(net, if *listed { Sense::Listed } else { Sense::Hole });
            note.iter().for_each(|note| notes.push(net, note));
        }
        for (bits, length) in &six {
            let net = ipnet::IpNet::new(std::net::Ipv6Addr::from(*bits).into(), *length).unwrap();
            let net = crate::prefix::canonical(net);
            set.push(net, Sense::Listed);
            notes.push(net, "six");
        }
        set.sort();
        let validators = Validators { etag: said.clone(), modified: None };
        let reading = Reading {
            set, notes: notes.done(), message: said, bytes: 7, refused: 2, problems: vec!["a\nb".to_owned()],
            format: crate::Format::Nft, validators, partly: None,
        };
        let text = write(&name, "place\\", &reading);
        prop_assert_eq!(read(&text, "place\\").unwrap(), reading);
        prop_assert!(read(&text, "elsewhere").is_err());
    }

    #[test]
    fn any_bytes_are_a_copy_or_a_sentence(text: Vec<u8>, cut: usize) {
        let _ = read(&text, "x");
        let whole = write("n", "x", &Reading::default());
        let end = cut % whole.len();
        prop_assert!(read(&whole[..end], "x").is_err() || end + 1 == whole.len());
    }
}
