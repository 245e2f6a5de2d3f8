//! What kill -9 leaves: a process of our own records as fast as a busy server does, is killed at some moment, and what it
//! said it had recorded is compared with what is there.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::*;

/// Set for the process that is killed: the database to fill.
const VICTIM: &str = "MAILGATE_TEST_GREYLIST_VICTIM";
/// Where it begins to count.
const FROM: &str = "MAILGATE_TEST_GREYLIST_FROM";
/// What may be lost.
const LOSS: Duration = Duration::from_millis(100);

fn numbered(n: u32) -> Tuple {
    let client = IpNet::from(IpAddr::from(std::net::Ipv4Addr::from_bits(n)));
    Tuple { client: client.into(), reverse_path: "a".into(), forward_path: "b".into() }
}

/// Not a test of its own: what the killed process does. Every third attempt is a second one of a tuple already known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_that_is_killed_while_it_records() {
    let (Ok(path), Ok(from)) = (std::env::var(VICTIM), std::env::var(FROM)) else { return };
    let list = Greylist::open(path, Arc::new(ManualClock::at(START))).await.unwrap();
    for n in from.parse::<u32>().unwrap()..u32::MAX {
        list.attempt(&numbered(n), &said("a", "b"), |_| Next::Defer(grey(START)));
        if n % 3 == 0 {
            let again = Grey { blocked: 2, ..grey(START) };
            list.attempt(&numbered(n), &said("a", "b"), |_| Next::Defer(again));
        }
        println!("recorded {n}");
        if n % 4 == 0 {
            tokio::task::yield_now().await;
            // Without a pause this loop alone would fill a processor; some 6000 attempts a second are a busy server.
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

/// One life of the process: when it said what.
fn live_and_die(path: &Path, from: u32, lines: usize) -> (HashMap<u32, Instant>, Instant) {
    let name = "greylist::tests::killed::process_that_is_killed_while_it_records";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(VICTIM, path)
        .env(FROM, from.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = HashMap::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // The first line of the harness may stand before ours.
        if let Some((_, number)) = line.unwrap().split_once("recorded ") {
            said.insert(number.parse().unwrap(), Instant::now());
        }
        if said.len() == lines {
            child.kill().unwrap();
            break;
        }
    }
    let killed = Instant::now();
    child.wait().unwrap();
    assert_eq!(said.len(), lines, "the other process must have worked");
    (said, killed)
}

/// Starts a process that records, kills it, and looks at what is left; the tuples lost that were recorded more than 100 ms
/// before the end, and how many were recorded so early.
async fn round(path: &Path, from: u32, lines: usize) -> (usize, usize) {
    let (said, killed) = live_and_die(path, from, lines);
    let list = Greylist::open(path, Arc::new(ManualClock::at(START))).await.unwrap();
    let sound = list.0.writer.database().read(|connection| {
        Ok(connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))?)
    });
    assert_eq!(sound.await.unwrap(), "ok");
    let early: Vec<u32> = said.iter().filter(|(_, at)| killed - **at > LOSS).map(|(n, _)| *n).collect();
    let lost = early.iter().filter(|n| list.state(&numbered(**n)).is_none()).count();
    for n in 0..from {
        assert!(list.state(&numbered(n)).is_some(), "{n} survived an earlier end and is lost now");
        let blocked = if n % 3 == 0 { 2 } else { 1 };
        assert_eq!(list.state(&numbered(n)).unwrap().blocked, blocked, "an earlier state of {n}");
    }
    (lost, early.len())
}

/// Rounds that must lose nothing that is older.
const KEPT: usize = 5;

/// On a machine so busy that the writer's thread gets no time, the 100 ms cannot be kept by anybody; so a round that lost
/// more may be tried again, few times. That the database is sound, and that what survived once stays, holds in every one.
#[tokio::test]
async fn kill_9_at_any_moment_loses_at_most_the_last_100_ms_and_never_corrupts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("greylist.db");
    let (mut from, mut tries, mut kept) = (0, Vec::new(), 0);
    // Moments without a pattern: after a first line, inside batches, after write-backs of the log.
    let moments = [1, 977, 3_001, 8_111, 2_503, 499, 12_007];
    for (round_number, lines) in moments.into_iter().chain(moments).enumerate() {
        if round_number >= moments.len() && kept >= KEPT {
            break;
        }
        let (lost, early) = round(&path, from, lines).await;
        // The next life begins behind all that this one may have recorded.
        let list = Greylist::open(&path, Arc::new(ManualClock::at(START))).await.unwrap();
        let there = (from..).take_while(|n| list.state(&numbered(*n)).is_some()).count();
        // The last may have been recorded once where twice was meant; it begins anew.
        from += u32::try_from(there).unwrap().saturating_sub(1);
        tries.push((lost, early));
        kept += usize::from(lost == 0);
    }
    assert!(tries.iter().any(|(_, early)| *early > 1000), "somebody lived long enough: {tries:?}");
    assert!(kept >= KEPT, "(lost, recorded more than 100 ms before the end): {tries:?}");
}
