//! A million prefixes from a file: that they arrive, whole, and how long that takes.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod station;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Instant;

use mailgate_lists::{Change, Snapshot, parse_list};
use station::Station;

/// Different addresses spread over all of IPv4: an odd factor permutes 32 bits.
fn million() -> String {
    let mut text = String::with_capacity(16_000_000);
    for n in 0..1_000_000_u32 {
        writeln!(text, "{}", Ipv4Addr::from(n.wrapping_mul(2_654_435_761))).unwrap();
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_lines_arrive_as_one_reload_and_a_changed_line_as_one_difference() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("million.txt");
    let text = million();

    let began = Instant::now();
    let mut list = parse_list("million", text.as_bytes());
    list.entries.sort_by_key(|entry| entry.prefix);
    println!("parsing and sorting 1,000,000 lines: {:?}", began.elapsed());
    assert_eq!((list.entries.len(), list.refused), (1_000_000, 0));

    std::fs::write(&path, &text).unwrap();
    let began = Instant::now();
    let config =
        format!("[[source]]\nkind = \"file\"\npath = {:?}\ntable = \"block\"\n", path.to_str().unwrap());
    let mut station = Station::start(&config);
    let Some(batch) = station.batch().await else { panic!("no batch") };
    println!("from start to the reload for the edge: {:?}", began.elapsed());
    let [Change::Reload(Snapshot { tables })] = &batch[..] else { panic!("expected one reload") };
    assert_eq!(*tables[1].entries, list.entries);

    let began = Instant::now();
    std::fs::write(&path, text.replacen("0.0.0.0\n", "192.0.2.1\n", 1)).unwrap();
    let Some(batch) = station.batch().await else { panic!("no batch") };
    println!("from a changed line to two differences for the edge: {:?}", began.elapsed());
    assert_eq!(batch.len(), 2, "{batch:?}");
}
