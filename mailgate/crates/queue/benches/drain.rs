//! Messages per second from spool to done, with agents that cost nothing: `cargo bench -p mailgate-queue --bench drain
//! [folder]`. The folder must be on the disk that is meant.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench prints, and stops when anything fails")]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use mailgate_model::{Clock, Envelope, Host, IdGenerator, Outcome, Recipient, ReversePath};
use mailgate_net::SystemClock;
use mailgate_queue::{Agent, Attempt, Attempted, Config, Destination, Parts, Queue, Route};
use mailgate_store::Spool;

const MESSAGES: usize = 5000;
const OCTETS: usize = 4096;

struct Free;

impl Agent for Free {
    fn attempt(&self, attempt: Attempt) -> Pin<Box<dyn Future<Output = Vec<Attempted>> + Send + '_>> {
        let done = attempt.indices.iter().map(|index| Attempted::new(*index, Outcome::Delivered)).collect();
        Box::pin(std::future::ready(done))
    }
}

impl Route for Free {
    fn route<'a>(
        &'a self,
        _: &'a Host,
    ) -> Pin<Box<dyn Future<Output = Result<Destination, Outcome>> + Send + 'a>> {
        Box::pin(std::future::ready(Ok(Destination::Local)))
    }
}

fn main() {
    let folder =
        std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_else(|| ".".into());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("{:>8} {:>9} {:>9} {:>14}", "attempts", "messages", "per s", "groups/message");
    for attempts_local in [1, 16, 100] {
        runtime.block_on(run(&folder, attempts_local));
    }
}

async fn run(folder: &str, attempts_local: usize) {
    let dir = tempfile::tempdir_in(folder).unwrap();
    let clock = Arc::new(SystemClock);
    let spool = Spool::open(dir.path(), clock.clone()).unwrap();
    let ids = Arc::new(IdGenerator::new(1));
    let commits: Vec<_> = (0..MESSAGES)
        .map(|_| {
            let (spool, id) = (spool.clone(), ids.queue_id(clock.now()));
            tokio::spawn(async move {
                let envelope = Envelope {
                    reverse_path: ReversePath::Null,
                    recipients: vec![Recipient::plain("user@example.com".parse().unwrap())],
                    envid: None,
                    ret: None,
                    smtputf8: false,
                    eight_bit: false,
                };
                let _ = spool.commit(id, envelope, vec![b'x'; OCTETS].into()).await.unwrap();
            })
        })
        .collect();
    for commit in commits {
        commit.await.unwrap();
    }
    let before = spool.commits();
    let start = Instant::now();
    let queue = Queue::start(Parts {
        spool: spool.clone(),
        route: Arc::new(Free),
        local: Arc::new(Free),
        remote: Arc::new(Free),
        config: Config { attempts_local, ..Config::default() },
        clock,
        hostname: "mx.example.com".parse().unwrap(),
        ids,
        shutdown: tokio_util::sync::CancellationToken::new(),
    });
    queue.idle().await.unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let groups = spool.commits() - before;
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let (rate, share) = (MESSAGES as f64 / seconds, groups as f64 / MESSAGES as f64);
    println!("{attempts_local:>8} {MESSAGES:>9} {rate:>9.0} {share:>14.3}");
}
