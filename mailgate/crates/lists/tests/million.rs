//! A million prefixes from a file and by hand: that they arrive, whole, how long that takes and how much memory.
//!
//! `MAILGATE_LINES=5000000 cargo test --release -p mailgate-lists --test million -- --nocapture` says it for five.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod station;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Instant;

use mailgate_lists::{Change, How, Snapshot, TableName, parse_list};
use station::Station;

/// How many, unless the environment says otherwise.
const LINES: u32 = 1_000_000;

/// Bytes that an IPv4 entry of a file takes in the daemon.
const ENTRY: usize = 8;

/// Different addresses spread over all of IPv4: an odd factor permutes 32 bits.
fn lines(count: u32) -> String {
    let mut text = String::with_capacity(count as usize * 16);
    let spread = (0..u32::MAX).map(|n| Ipv4Addr::from(n.wrapping_mul(2_654_435_761)));
    // The gate refuses what would block the host itself.
    let foreign = spread.filter(|address| !address.is_loopback() && !address.is_link_local());
    for address in foreign.take(count as usize) {
        writeln!(text, "{address}").unwrap();
    }
    text
}

/// Resident memory of this process, now and at most, in MiB.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let of = |key: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
    };
    format!("{} MiB resident, {} at most", of("VmRSS:"), of("VmHWM:"))
}

/// From here on the most is counted anew.
fn forget_peak() {
    // Not everybody may; then the most is that of the whole run.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_lines_arrive_as_one_reload_and_a_changed_line_as_one_difference() {
    let count = std::env::var("MAILGATE_LINES").map_or(LINES, |lines| lines.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("million.txt");
    std::fs::write(&path, lines(count)).unwrap();
    forget_peak();
    println!("before: {}", resident());

    let began = Instant::now();
    let config =
        format!("[[source]]\nkind = \"file\"\npath = {:?}\ntable = \"block\"\n", path.to_str().unwrap());
    let mut station = Station::start(&config);
    let Some(batch) = station.batch().await else { panic!("no batch") };
    println!("{count} lines, from start to the reload for the edge: {:?}", began.elapsed());
    println!("while the edge holds the reload: {}", resident());
    let [Change::Reload(Snapshot { tables })] = &batch[..] else { panic!("expected one reload") };
    {
        let mut list = parse_list("million", lines(count).as_bytes());
        list.entries.sort_by_key(|entry| entry.prefix);
        assert_eq!((list.entries.len(), list.refused), (count as usize, 0));
        assert_eq!(*tables[1].entries, list.entries.into());
    }
    drop(batch);
    forget_peak();
    println!("afterwards: {}", resident());
    let row = station.lists.tables().await.unwrap().remove(1);
    assert_eq!((row.entries, row.memory), (count as usize, count as usize * ENTRY));

    let began = Instant::now();
    std::fs::write(&path, lines(count).replacen("0.0.0.0\n", "192.0.2.1\n", 1)).unwrap();
    let Some(batch) = station.batch().await else { panic!("no batch") };
    println!("from a changed line to two differences for the edge: {:?}; {}", began.elapsed(), resident());
    assert_eq!(batch.len(), 2, "{batch:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_entries_by_hand_are_replaced_and_survive() {
    let state = tempfile::tempdir().unwrap();
    let drop_table = TableName::parse("drop").unwrap();
    let start = || Station::start_in("", state.path());
    let mut station = start();
    station.batch().await.unwrap();
    let entries = parse_list("million", lines(LINES).as_bytes()).entries;
    let began = Instant::now();
    let done = station.lists.replace(&drop_table, entries.clone(), How::default()).await.unwrap();
    println!("a million entries by hand, on disk after {:?}; {}", began.elapsed(), resident());
    assert_eq!(done.added, LINES as usize);
    let began = Instant::now();
    let one = vec![mailgate_lists::parse_entry("192.0.2.1").unwrap().into()];
    station.lists.add(&drop_table, mailgate_lists::By::Hand, one, How::default()).await.unwrap();
    println!("one more on disk after {:?}", began.elapsed());
    drop(station);
    let began = Instant::now();
    let station = start();
    println!("read again in {:?}", began.elapsed());
    assert_eq!(station.lists.tables().await.unwrap()[2].entries, LINES as usize + 1);
}
