//! Commits per second of the spool, alone and in company: `cargo bench -p mailgate-store --bench spool [folder]`.
//!
//! The folder must be on the disk that is meant; `/tmp` is often memory. Prints messages per second and transactions
//! (each one fsync of the WAL) per message.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and stops when anything fails")]

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mailgate_model::{Clock, Envelope, IdGenerator, ManualClock, Recipient, ReversePath, Timestamp};
use mailgate_store::Spool;

/// Octets of one message: what smtp-source and the peers' figures use.
const SIZES: [usize; 2] = [4096, 100 * 1024];
const COMMITTERS: [usize; 4] = [1, 10, 100, 400];

fn main() {
    let folder =
        std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_else(|| ".".into());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!(
        "{:>8} {:>10} {:>9} {:>9} {:>14}",
        "octets", "committers", "messages", "per s", "groups/message"
    );
    for size in SIZES {
        for committers in COMMITTERS {
            let messages = if size > 64 * 1024 { 400 } else { 4000 }.max(committers * 2)
                / if committers == 1 { 4 } else { 1 };
            runtime.block_on(run(&folder, size, committers, messages));
        }
    }
}

async fn run(folder: &str, size: usize, committers: usize, messages: usize) {
    let dir = tempfile::tempdir_in(folder).unwrap();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(i64::try_from(wall.as_secs()).unwrap())));
    let spool = Spool::open(dir.path(), clock.clone()).unwrap();
    let ids = Arc::new(IdGenerator::new(1));
    let content = Bytes::from(vec![b'x'; size]);
    let before = spool.commits();
    let start = Instant::now();
    let tasks: Vec<_> = (0..committers)
        .map(|_| {
            let (spool, ids, content, clock) =
                (spool.clone(), Arc::clone(&ids), content.clone(), clock.clone());
            tokio::spawn(async move {
                for _ in 0..messages / committers {
                    let id = ids.queue_id(clock.now());
                    let _ = spool.commit(id, envelope(), content.clone()).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let done = messages / committers * committers;
    let seconds = start.elapsed().as_secs_f64();
    let groups = spool.commits() - before;
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let (rate, share) = (done as f64 / seconds, groups as f64 / done as f64);
    println!("{size:>8} {committers:>10} {done:>9} {rate:>9.0} {share:>14.3}");
}

fn envelope() -> Envelope {
    Envelope {
        reverse_path: ReversePath::Address("sender@example.org".parse().unwrap()),
        recipients: vec![Recipient::plain("user@example.com".parse().unwrap())],
        envid: None,
        ret: None,
        smtputf8: false,
        eight_bit: false,
    }
}
