//! What `kill -9` leaves of the spool. The test starts itself as a child that commits as fast as it can and says each id
//! it has a receipt for; the parent kills it at some moment and opens what is left.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test stops when anything fails")]

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use mailgate_model::{Clock, Envelope, IdGenerator, ManualClock, QueueId, Recipient, ReversePath, Timestamp};
use mailgate_store::Spool;
use mailgate_store::spool::{Progress, ROW_LIMIT, State, Trace};

/// Names the child's spool; its presence makes a process the child.
const CHILD: &str = "MAILGATE_TEST_KILL_CHILD";
const START: Timestamp = Timestamp::from_secs(1_700_000_000);

fn envelope() -> Envelope {
    Envelope {
        reverse_path: ReversePath::Null,
        recipients: vec![Recipient::plain("user@example.com".parse().unwrap())],
        envid: None,
        ret: None,
        smtputf8: false,
        eight_bit: false,
    }
}

/// Its own id is the content, padded to a row or a file by turns.
fn content(id: QueueId) -> Bytes {
    let size = if id.bits().is_multiple_of(3) { ROW_LIMIT + 1 } else { 500 };
    id.to_string().into_bytes().into_iter().cycle().take(size).collect()
}

/// Commits on several tasks, finishes every fifth message, and says what is durable.
async fn child(dir: &Path, seed: u32) {
    let clock = Arc::new(ManualClock::at(START));
    let spool = Spool::open(dir, clock.clone()).unwrap();
    let ids = Arc::new(IdGenerator::new(seed));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (spool, ids, clock) = (spool.clone(), Arc::clone(&ids), clock.clone());
            tokio::spawn(async move {
                // Never that many: the parent kills first.
                for _ in 0..u32::MAX {
                    let id = ids.queue_id(clock.now());
                    let receipt = spool.commit(id, envelope(), content(id)).await.unwrap();
                    say("committed", receipt.id());
                    if id.bits().is_multiple_of(5) {
                        let lease = spool.lease(id, vec![0]).unwrap();
                        let outcome = mailgate_model::Outcome::Delivered;
                        let done = Progress {
                            number: 0,
                            state: State::Delivered,
                            attempts: 1,
                            next_attempt: START,
                            delay_said: false,
                            outcome,
                        };
                        spool.record(&lease, vec![done], Vec::new()).await.unwrap();
                        say("finished", id);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

fn say(what: &str, id: QueueId) {
    let mut out = std::io::stdout().lock();
    // The parent may be gone; then the kill comes next.
    let _ = writeln!(out, "\n{what} {id}");
    let _ = out.flush();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_receipt_survives_kill_9_and_nothing_half_is_left() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let seed = std::process::id().wrapping_mul(100_003);
        return child(Path::new(&dir), seed).await;
    }
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut committed = HashSet::new();
    let mut finished = HashSet::new();
    for round in 1..=6_usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "every_receipt_survives_kill_9_and_nothing_half_is_left"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut heard = 0;
        for line in lines.map_while(Result::ok) {
            match line.split_once(' ') {
                Some(("committed", id)) => {
                    heard += usize::from(committed.insert(QueueId::parse(id).unwrap()))
                }
                Some(("finished", id)) => drop(finished.insert(QueueId::parse(id).unwrap())),
                _ => {}
            }
            // After that many it dies, wherever it is; the rest of the pipe is read to its end.
            if heard == round * 40 {
                child.kill().unwrap();
                heard += 1;
            }
        }
        child.wait().unwrap();
        assert!(heard > round * 40, "the child ended by itself in round {round}");
        check(dir.path(), &committed, &finished).await;
    }
}

async fn check(dir: &Path, committed: &HashSet<QueueId>, finished: &HashSet<QueueId>) {
    let spool = Spool::open(dir, Arc::new(ManualClock::at(START))).unwrap();
    for id in committed {
        match spool.trace(*id).await.unwrap() {
            Trace::Queued(_) => {
                assert!(!finished.contains(id), "{id} was finished and is back");
                assert_eq!(spool.content(*id).await.unwrap().unwrap(), content(*id), "{id}");
            }
            // It may have been finished just before the child could say so.
            Trace::Finished(_) => assert!(id.bits().is_multiple_of(5), "{id}"),
            Trace::Unknown => panic!("{id} had its receipt and is lost"),
        }
    }
    assert_eq!(spool.totals().await.unwrap().held, 0, "a row without its file");
    let files: HashSet<QueueId> = std::fs::read_dir(dir.join("content"))
        .unwrap()
        .map(|entry| QueueId::parse(entry.unwrap().file_name().to_str().unwrap()).unwrap())
        .collect();
    for id in files {
        assert!(matches!(spool.trace(id).await.unwrap(), Trace::Queued(_)), "{id} is an orphan file");
    }
}
