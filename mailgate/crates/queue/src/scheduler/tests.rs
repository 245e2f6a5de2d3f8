use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use mailgate_model::{
    Address, Clock, DsnNotify, Envelope, IdGenerator, ManualClock, Recipient, ReversePath, Span, Status,
};
use mailgate_store::Spool;
use mailgate_store::spool::{Selection, State, Trace};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{Agent, Attempt, Attempted, Config, DsnDuty, Queue, Route};

/// Everything bounded: no condition of a test is waited for longer than this.
const PATIENCE: Duration = Duration::from_secs(20);

type Answer = Box<dyn FnMut(&Attempt, u32, &Address) -> Outcome + Send>;

/// Answers by a rule and remembers what it was asked.
struct Scripted {
    answer: Mutex<Answer>,
    seen: Mutex<Vec<(Timestamp, Attempt)>>,
    clock: ManualClock,
    running: AtomicUsize,
    most: AtomicUsize,
    /// When closed, attempts wait for a permit each.
    gate: Option<tokio::sync::Semaphore>,
}

impl Agent for Scripted {
    fn attempt(&self, attempt: Attempt) -> Pin<Box<dyn Future<Output = Vec<Attempted>> + Send + '_>> {
        Box::pin(async move {
            let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(running, Ordering::SeqCst);
            self.seen.lock().unwrap().push((self.clock.now(), attempt.clone()));
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            tokio::task::yield_now().await;
            self.running.fetch_sub(1, Ordering::SeqCst);
            let mut answer = self.answer.lock().unwrap();
            let pairs = attempt.indices.iter().zip(&attempt.envelope.recipients);
            pairs
                .map(|(index, recipient)| {
                    Attempted::new(*index, answer(&attempt, *index, &recipient.address))
                })
                .collect()
        })
    }
}

/// `local.example` is ours, `lost.example` has no route, the rest is remote.
struct Map;

impl Route for Map {
    fn route<'a>(
        &'a self,
        host: &'a Host,
    ) -> Pin<Box<dyn Future<Output = Result<Destination, Outcome>> + Send + 'a>> {
        Box::pin(async move {
            match host.to_string().as_str() {
                "local.example" | "example.org" => Ok(Destination::Local),
                "lost.example" => Err(deferred()),
                _ => Ok(Destination::Remote(host.clone())),
            }
        })
    }
}

struct Bench {
    dir: tempfile::TempDir,
    clock: ManualClock,
    ids: Arc<IdGenerator>,
    spool: Option<Spool>,
    local: Arc<Scripted>,
    remote: Arc<Scripted>,
    config: Config,
    queue: Option<(Queue, CancellationToken)>,
}

fn scripted(clock: &ManualClock, gate: Option<usize>, answer: Answer) -> Arc<Scripted> {
    Arc::new(Scripted {
        answer: Mutex::new(answer),
        seen: Mutex::default(),
        clock: clock.clone(),
        running: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        gate: gate.map(tokio::sync::Semaphore::new),
    })
}

fn deferred() -> Outcome {
    Outcome::Deferred { status: Status::new(4, 2, 0), remote: None, detail: "later".into() }
}

fn failed() -> Outcome {
    Outcome::Failed { status: Status::new(5, 1, 1), remote: None, detail: "never".into() }
}

fn relayed() -> Outcome {
    Outcome::Relayed { remote: "mx.b.example".into(), detail: "250 ok".into() }
}

impl Bench {
    fn new(answer: impl FnMut(&Attempt, u32, &Address) -> Outcome + Send + 'static) -> Self {
        Self::gated(None, answer)
    }

    fn gated(
        gate: Option<usize>,
        answer: impl FnMut(&Attempt, u32, &Address) -> Outcome + Send + 'static,
    ) -> Self {
        let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
        let dir = tempfile::tempdir().unwrap();
        Self {
            spool: Some(Spool::open(dir.path(), Arc::new(clock.clone())).unwrap()),
            dir,
            ids: Arc::new(IdGenerator::new(1)),
            local: scripted(&clock, None, Box::new(|_, _, _| Outcome::Delivered)),
            remote: scripted(&clock, gate, Box::new(answer)),
            clock,
            config: Config { jitter_percent: 0, ..Config::default() },
            queue: None,
        }
    }

    fn spool(&self) -> &Spool {
        self.spool.as_ref().unwrap()
    }

    fn queue(&self) -> &Queue {
        &self.queue.as_ref().unwrap().0
    }

    fn start(&mut self) {
        let shutdown = CancellationToken::new();
        let queue = Queue::start(Parts {
            spool: self.spool().clone(),
            route: Arc::new(Map),
            local: self.local.clone(),
            remote: self.remote.clone(),
            config: self.config.clone(),
            clock: Arc::new(self.clock.clone()),
            hostname: "mx.example.com".parse().unwrap(),
            ids: Arc::clone(&self.ids),
            shutdown: shutdown.clone(),
        });
        self.queue = Some((queue, shutdown));
    }

    async fn stop(&mut self) {
        let (queue, shutdown) = self.queue.take().unwrap();
        shutdown.cancel();
        bounded(queue.stopped()).await;
    }

    async fn commit(&self, to: &[&str]) -> QueueId {
        self.commit_with(to, |_| ()).await
    }

    async fn commit_with(&self, to: &[&str], change: impl FnOnce(&mut Envelope)) -> QueueId {
        let mut envelope = Envelope {
            reverse_path: ReversePath::Address("sender@example.org".parse().unwrap()),
            recipients: to.iter().map(|to| Recipient::plain(to.parse().unwrap())).collect(),
            envid: None,
            ret: None,
            smtputf8: false,
            eight_bit: false,
        };
        change(&mut envelope);
        let id = self.ids.queue_id(self.clock.now());
        let content = Bytes::from_static(b"Subject: x\r\n\r\nbody\r\n");
        self.spool().commit(id, envelope, content).await.unwrap().id()
    }

    /// Waits until the queue has nothing to do at this moment.
    async fn idle(&self) -> Option<Timestamp> {
        bounded(self.queue().idle()).await.unwrap()
    }

    /// Lets time pass to the next attempt, and through it.
    async fn next(&self) -> Timestamp {
        let next = self.idle().await.expect("something waits");
        self.clock.advance(next.since(self.clock.now()));
        self.idle().await;
        next
    }

    /// Contents of the DSNs delivered to the sender.
    fn reports(&self) -> Vec<String> {
        let seen = self.local.seen.lock().unwrap();
        let mut ids = HashSet::new();
        // A local agent is idempotent: after a crash between delivery and record it sees the same id again.
        let reports = seen.iter().filter(|(_, attempt)| {
            attempt.envelope.reverse_path == ReversePath::Null && ids.insert(attempt.id)
        });
        reports.map(|(_, attempt)| String::from_utf8(attempt.content.to_vec()).unwrap()).collect()
    }

    async fn states(&self, id: QueueId) -> Vec<State> {
        let rows = match self.spool().trace(id).await.unwrap() {
            Trace::Queued(shown) => shown.recipients,
            Trace::Finished(finished) => finished.recipients,
            Trace::Unknown => panic!("{id} is unknown"),
        };
        rows.into_iter().map(|row| row.state).collect()
    }
}

async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("the queue does not come to rest")
}

#[tokio::test]
async fn recipients_of_one_destination_share_an_attempt() {
    let mut bench = Bench::new(|_, _, _| relayed());
    let id = bench.commit(&["a@b.example", "x@local.example", "c@b.example", "d@e.example"]).await;
    bench.start();
    assert_eq!(bench.idle().await, None);
    let mut groups: Vec<_> =
        bench.remote.seen.lock().unwrap().iter().map(|(_, attempt)| attempt.indices.clone()).collect();
    groups.sort();
    assert_eq!(groups, [vec![0, 2], vec![3]]);
    assert_eq!(bench.states(id).await, [State::Relayed, State::Delivered, State::Relayed, State::Relayed]);
    assert!(bench.reports().is_empty());
}

#[tokio::test]
async fn many_recipients_are_split_by_the_limit() {
    let mut bench = Bench::new(|_, _, _| relayed());
    bench.config.recipients_per_attempt = 100;
    let to: Vec<_> = (0..250).map(|n| format!("u{n}@b.example")).collect();
    bench.commit(&to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    bench.start();
    assert_eq!(bench.idle().await, None);
    let mut sizes: Vec<_> = bench.remote.seen.lock().unwrap().iter().map(|(_, a)| a.indices.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [50, 100, 100]);
}

#[tokio::test]
async fn an_arrival_is_tried_at_once_and_a_deferral_at_its_time() {
    let mut bench = Bench::new(|attempt, _, _| if attempt.number < 3 { deferred() } else { relayed() });
    bench.start();
    assert_eq!(bench.idle().await, None);
    let start = bench.clock.now();
    let id = bench.commit(&["a@b.example"]).await;
    bench.idle().await;
    for _ in 0..3 {
        bench.next().await;
    }
    assert_eq!(bench.states(id).await, [State::Relayed]);
    let seen = bench.remote.seen.lock().unwrap();
    let minutes: Vec<_> = seen.iter().map(|(at, _)| at.since(start).as_secs() / 60).collect();
    assert_eq!(minutes, [0, 5, 15, 35]);
}

#[tokio::test]
async fn delay_is_said_once_and_failure_when_the_lifetime_ends() {
    let mut bench = Bench::new(|_, _, _| deferred());
    let id = bench.commit(&["a@b.example", "quiet@b.example"]).await;
    let never = DsnNotify { success: false, failure: false, delay: false };
    let silent = bench.commit_with(&["z@b.example"], |envelope| envelope.recipients[0].notify = never).await;
    bench.start();
    let start = bench.clock.now();
    while bench.idle().await.is_some() {
        bench.next().await;
    }
    assert_eq!(bench.states(id).await, [State::Expired, State::Expired]);
    assert_eq!(bench.states(silent).await, [State::Expired]);
    assert_eq!(bench.clock.now().since(start), bench.config.lifetime.duration());
    let reports = bench.reports();
    let actions: Vec<_> =
        reports.iter().map(|report| report.matches("\r\nAction: delayed").count()).collect();
    assert_eq!(actions, [2, 0], "{reports:?}");
    assert_eq!(reports[1].matches("\r\nAction: failed\r\nStatus: 5.4.7").count(), 2);
    assert!(reports.iter().all(|report| !report.contains("z@b.example")));
}

#[tokio::test]
async fn success_is_reported_when_asked_unless_the_next_mta_does() {
    struct Passing;
    impl Agent for Passing {
        fn attempt(&self, attempt: Attempt) -> Pin<Box<dyn Future<Output = Vec<Attempted>> + Send + '_>> {
            let answer = |index| Attempted { index, outcome: relayed(), duty: DsnDuty::PassedOn };
            Box::pin(async move { attempt.indices.into_iter().map(answer).collect() })
        }
    }
    for (passing, wanted) in [(false, 2), (true, 1)] {
        let mut bench = Bench::new(|_, _, _| relayed());
        let wish = |envelope: &mut Envelope| {
            let asked = DsnNotify { success: true, failure: true, delay: true };
            envelope.recipients[0].notify = asked;
            envelope.recipients[1].notify = asked;
        };
        bench.commit_with(&["a@b.example", "x@local.example", "y@local.example"], wish).await;
        bench.start();
        if passing {
            bench.stop().await;
            bench.spool().retry(Selection::All).await.unwrap();
            let id = bench.commit_with(&["a@c.example", "x@local.example"], wish).await;
            let shutdown = CancellationToken::new();
            let queue = Queue::start(Parts {
                spool: bench.spool().clone(),
                route: Arc::new(Map),
                local: bench.local.clone(),
                remote: Arc::new(Passing),
                config: bench.config.clone(),
                clock: Arc::new(bench.clock.clone()),
                hostname: "mx.example.com".parse().unwrap(),
                ids: Arc::clone(&bench.ids),
                shutdown: shutdown.clone(),
            });
            bench.queue = Some((queue, shutdown));
            bench.idle().await;
            assert_eq!(bench.states(id).await, [State::Relayed, State::Delivered]);
            let about_c = bench.reports().iter().filter(|report| report.contains("a@c.example")).count();
            assert_eq!(about_c, 0);
            continue;
        }
        bench.idle().await;
        let reports = bench.reports();
        assert_eq!(reports.len(), wanted, "{reports:?}");
        assert_eq!(reports.iter().filter(|r| r.contains("Action: relayed")).count(), 1);
        assert_eq!(reports.iter().filter(|r| r.contains("Action: delivered")).count(), 1);
        assert!(reports.iter().all(|report| !report.contains("y@local.example")));
    }
}

#[tokio::test]
async fn nobody_answers_the_null_reverse_path() {
    let mut bench = Bench::new(|_, _, _| failed());
    let id = bench.commit_with(&["a@b.example"], |envelope| envelope.reverse_path = ReversePath::Null).await;
    bench.start();
    assert_eq!(bench.idle().await, None);
    assert_eq!(bench.states(id).await, [State::Failed]);
    assert_eq!(bench.spool().totals().await.unwrap().messages, 0);
    assert!(bench.reports().is_empty());
}

#[tokio::test]
async fn a_dsn_that_cannot_be_delivered_makes_no_dsn() {
    let mut bench = Bench::new(|_, _, _| failed());
    let remote = ReversePath::Address("gone@b.example".parse().unwrap());
    bench.commit_with(&["a@b.example"], |envelope| envelope.reverse_path = remote).await;
    bench.start();
    assert_eq!(bench.idle().await, None);
    assert_eq!(bench.spool().totals().await.unwrap().messages, 0);
    assert_eq!(bench.remote.seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn limits_hold_and_a_slow_destination_does_not_stop_the_others() {
    let mut bench = Bench::gated(Some(0), |_, _, _| relayed());
    bench.config.attempts = 8;
    bench.config.attempts_per_destination = 3;
    // More than a window of messages to the slow one, before the one to the other.
    for _ in 0..WINDOW + 50 {
        bench.commit(&["a@slow.example"]).await;
    }
    bench.clock.advance(Duration::from_secs(1));
    let quick = bench.commit(&["x@local.example"]).await;
    let other = bench.commit(&["x@other.example"]).await;
    bench.start();
    let local = Arc::clone(&bench.local);
    let remote = Arc::clone(&bench.remote);
    bounded(async {
        while local.seen.lock().unwrap().is_empty() || remote.seen.lock().unwrap().len() < 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let hosts: Vec<_> = remote.seen.lock().unwrap().iter().map(|(_, a)| a.id).collect();
    assert!(hosts.contains(&other));
    assert_eq!(remote.running.load(Ordering::SeqCst), 4, "3 to the slow destination, 1 to the other");
    remote.gate.as_ref().unwrap().add_permits(WINDOW + 100);
    assert_eq!(bench.idle().await, None);
    assert_eq!(bench.states(quick).await, [State::Delivered]);
    assert!(remote.most.load(Ordering::SeqCst) <= 4);
    assert_eq!(bench.spool().totals().await.unwrap().messages, 0);
}

#[tokio::test]
async fn contents_in_memory_are_bounded_but_one_always_goes() {
    let mut bench = Bench::new(|_, _, _| relayed());
    bench.config.memory = 1;
    for n in 0..10 {
        bench.commit(&[&format!("a@d{n}.example")]).await;
    }
    bench.start();
    assert_eq!(bench.idle().await, None);
    assert_eq!(bench.remote.most.load(Ordering::SeqCst), 1);
    assert_eq!(bench.remote.seen.lock().unwrap().len(), 10);
}

#[tokio::test]
async fn an_agent_that_panics_or_forgets_defers() {
    struct Bad(AtomicUsize);
    impl Agent for Bad {
        fn attempt(&self, _: Attempt) -> Pin<Box<dyn Future<Output = Vec<Attempted>> + Send + '_>> {
            Box::pin(async move {
                assert!(self.0.fetch_add(1, Ordering::SeqCst) > 0, "on purpose");
                Vec::new()
            })
        }
    }
    let mut bench = Bench::new(|_, _, _| relayed());
    let id = bench.commit(&["a@b.example"]).await;
    let shutdown = CancellationToken::new();
    let queue = Queue::start(Parts {
        spool: bench.spool().clone(),
        route: Arc::new(Map),
        local: bench.local.clone(),
        remote: Arc::new(Bad(AtomicUsize::new(0))),
        config: bench.config.clone(),
        clock: Arc::new(bench.clock.clone()),
        hostname: "mx.example.com".parse().unwrap(),
        ids: Arc::clone(&bench.ids),
        shutdown: shutdown.clone(),
    });
    bench.queue = Some((queue, shutdown));
    for attempts in 1..=2 {
        bench.idle().await;
        let Trace::Queued(shown) = bench.spool().trace(id).await.unwrap() else { panic!("not queued") };
        assert_eq!(shown.recipients[0].attempts, attempts);
        bench.clock.advance(Duration::from_secs(300 * 4));
    }
}

#[tokio::test]
async fn what_has_no_route_is_deferred_and_expires_with_a_report() {
    let mut bench = Bench::new(|_, _, _| relayed());
    bench.config.lifetime = Span::from_secs(3600);
    let id = bench.commit(&["a@lost.example", "b@b.example"]).await;
    bench.start();
    bench.idle().await;
    assert_eq!(bench.states(id).await, [State::Queued, State::Relayed]);
    while bench.idle().await.is_some() {
        bench.next().await;
    }
    assert_eq!(bench.states(id).await, [State::Expired, State::Relayed]);
    assert_eq!(bench.reports().len(), 1);
}

#[tokio::test]
async fn the_operator_flushes_holds_and_releases() {
    let mut bench = Bench::new(|attempt, _, _| if attempt.number == 0 { deferred() } else { relayed() });
    let id = bench.commit(&["a@b.example"]).await;
    bench.start();
    bench.idle().await;
    assert_eq!(bench.queue().hold(Selection::All).await.unwrap(), 1);
    bench.clock.advance(Duration::from_secs(86_400 * 9));
    assert_eq!(bench.queue().flush(Selection::All).await.unwrap(), 0);
    assert_eq!(bench.idle().await, None);
    assert_eq!(bench.states(id).await, [State::Held]);
    assert_eq!(bench.queue().release(Selection::Message(id)).await.unwrap(), 1);
    assert_eq!(bench.idle().await, None);
    assert_eq!(bench.states(id).await, [State::Relayed]);
}

#[tokio::test]
async fn flush_does_not_wait_for_the_time() {
    let mut bench = Bench::new(|attempt, _, _| if attempt.number == 0 { deferred() } else { relayed() });
    let id = bench.commit(&["a@b.example"]).await;
    bench.start();
    bench.idle().await;
    assert_eq!(bench.queue().flush(Selection::Message(id)).await.unwrap(), 1);
    assert_eq!(bench.idle().await, None);
    assert_eq!(bench.states(id).await, [State::Relayed]);
}

#[tokio::test]
async fn shutdown_lets_running_attempts_end_and_records_them() {
    let mut bench = Bench::gated(Some(0), |_, _, _| relayed());
    let id = bench.commit(&["a@b.example"]).await;
    bench.start();
    let remote = Arc::clone(&bench.remote);
    bounded(async {
        while remote.seen.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (queue, shutdown) = bench.queue.take().unwrap();
    shutdown.cancel();
    remote.gate.as_ref().unwrap().add_permits(1);
    bounded(queue.stopped()).await;
    assert_eq!(bench.states(id).await, [State::Relayed]);
}

#[tokio::test]
async fn shutdown_drops_what_hangs_and_it_is_due_again() {
    let mut bench = Bench::gated(Some(0), |_, _, _| relayed());
    let id = bench.commit(&["a@b.example"]).await;
    bench.start();
    let remote = Arc::clone(&bench.remote);
    bounded(async {
        while remote.seen.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (queue, shutdown) = bench.queue.take().unwrap();
    shutdown.cancel();
    let stopped = tokio::spawn(async move { queue.stopped().await });
    bounded(async {
        while !stopped.is_finished() {
            bench.clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(bench.states(id).await, [State::Queued]);
    let due = bench.spool().due(bench.clock.now(), 10, Vec::new()).await.unwrap();
    assert_eq!(due.len(), 1);
}

/// A small generator, so that a failing seed can be run again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Random outcomes, panics, hangs and restarts in the middle of attempts: every recipient ends delivered, or failed with a
/// report that names it.
#[tokio::test]
async fn no_recipient_is_ever_lost_under_random_outcomes_and_restarts() {
    for seed in 0..12_u64 {
        one_random_life(seed).await;
    }
}

async fn one_random_life(seed: u64) {
    let mut dice = Dice(seed);
    let outcomes = Arc::new(Mutex::new(HashMap::<(QueueId, u32), Vec<&'static str>>::new()));
    let log = Arc::clone(&outcomes);
    let mut inner = Dice(seed ^ 0xdead_beef);
    let mut bench = Bench::new(move |attempt, index, _| {
        let (word, outcome) = match inner.below(10) {
            0..=4 => ("deferred", deferred()),
            5..=6 => ("failed", failed()),
            _ => ("relayed", relayed()),
        };
        log.lock().unwrap().entry((attempt.id, index)).or_default().push(word);
        outcome
    });
    bench.config.lifetime = Span::from_secs(3600);
    let mut accepted = Vec::new();
    for life in 0..6 {
        bench.start();
        for _ in 0..5 {
            let count = 1 + dice.below(4);
            let to: Vec<_> =
                (0..count).map(|n| format!("u{}x{n}@d{}.example", accepted.len(), dice.below(3))).collect();
            let id = bench.commit(&to.iter().map(String::as_str).collect::<Vec<_>>()).await;
            accepted.push((id, to));
            for _ in 0..dice.below(20) {
                tokio::task::yield_now().await;
            }
            bench.clock.advance(Duration::from_secs(dice.below(400)));
        }
        if life < 5 {
            // The process dies wherever it is: tasks vanish, nothing is told.
            let (queue, _) = bench.queue.take().unwrap();
            queue.abort().await;
            drop(queue);
            drop(bench.spool.take());
            bench.spool = Some(
                bounded(async {
                    loop {
                        // Aborted tasks let go of the old spool when the runtime comes round to them.
                        match Spool::open(bench.dir.path(), Arc::new(bench.clock.clone())) {
                            Err(crate::Error::Busy(_)) => tokio::task::yield_now().await,
                            opened => break opened.unwrap(),
                        }
                    }
                })
                .await,
            );
        }
    }
    while bench.idle().await.is_some() {
        bench.next().await;
    }
    assert_eq!(bench.spool().totals().await.unwrap().messages, 0, "seed {seed}");
    let reports = bench.reports();
    let outcomes = outcomes.lock().unwrap().clone();
    for (id, to) in &accepted {
        let states = bench.states(*id).await;
        assert_eq!(states.len(), to.len(), "seed {seed}");
        for ((index, state), address) in (0_u32..).zip(&states).zip(to) {
            let heard = outcomes.get(&(*id, index)).cloned().unwrap_or_default();
            match state {
                State::Relayed => assert!(heard.contains(&"relayed"), "seed {seed} {address}"),
                State::Failed | State::Expired => {
                    let named = reports
                        .iter()
                        .filter(|report| report.contains(&format!("; {address}\r\nAction: failed")));
                    assert_eq!(named.count(), 1, "seed {seed} {address} {heard:?}");
                }
                other => panic!("seed {seed}: {address} is {other:?}"),
            }
        }
    }
}
