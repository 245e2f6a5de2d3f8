use std::sync::Arc;

use mailgate_model::{
    Address, DsnNotify, DsnReturn, IdGenerator, ManualClock, Outcome, Recipient, ReversePath, Status,
};

use super::*;

struct Bench {
    dir: tempfile::TempDir,
    clock: ManualClock,
    ids: IdGenerator,
    spool: Option<Spool>,
}

impl Bench {
    fn new() -> Self {
        let clock = ManualClock::at(Timestamp::from_secs(1_700_000_000));
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path().join("spool"), Arc::new(clock.clone())).unwrap();
        Self { dir, clock, ids: IdGenerator::new(1), spool: Some(spool) }
    }

    fn spool(&self) -> &Spool {
        self.spool.as_ref().unwrap()
    }

    fn id(&self) -> QueueId {
        self.ids.queue_id(self.clock.now())
    }

    /// What a crash and a restart do to the spool, seen from the disk.
    fn reopen(&mut self) {
        drop(self.spool.take());
        self.spool = Some(Spool::open(self.dir.path().join("spool"), Arc::new(self.clock.clone())).unwrap());
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.dir.path().join("spool/content"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    async fn commit(&self, to: &[&str], content: impl Into<Bytes>) -> QueueId {
        let id = self.id();
        let receipt = self.spool().commit(id, envelope(to), content.into()).await.unwrap();
        assert_eq!(receipt.id(), id);
        id
    }

    async fn due(&self) -> Vec<(QueueId, u32)> {
        let due = self.spool().due(self.clock.now(), 100, Vec::new()).await.unwrap();
        due.into_iter().map(|due| (due.id, due.number)).collect()
    }
}

fn envelope(to: &[&str]) -> Envelope {
    Envelope {
        reverse_path: ReversePath::Address(Address::parse("from@example.org").unwrap()),
        recipients: to.iter().map(|to| Recipient::plain(Address::parse(to).unwrap())).collect(),
        envid: Some("QQ+3D1".to_owned()),
        ret: Some(DsnReturn::Headers),
        smtputf8: true,
        eight_bit: true,
    }
}

fn large() -> Bytes {
    Bytes::from(vec![b'x'; ROW_LIMIT + 1])
}

fn progress(number: u32, state: State, outcome: Outcome) -> Progress {
    Progress { number, state, attempts: 1, next_attempt: Timestamp::default(), delay_said: false, outcome }
}

fn deferred() -> Outcome {
    Outcome::Deferred { status: Status::new(4, 2, 0), remote: None, detail: "later".into() }
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening_byte_for_byte() {
    let mut bench = Bench::new();
    for content in [Bytes::new(), Bytes::from_static(b"a\r\n\0\xff"), large()] {
        let id = bench.id();
        let mut envelope = envelope(&["a@b.example", "\"c d\"@[192.0.2.1]"]);
        envelope.recipients[1].notify = DsnNotify { success: true, failure: false, delay: true };
        envelope.recipients[1].orcpt = Some("rfc822;x+2By@z".to_owned());
        envelope.recipients[1].original = mailgate_model::ForwardPath::Postmaster;
        let _ = bench.spool().commit(id, envelope.clone(), content.clone()).await.unwrap();
        bench.reopen();
        let lease = bench.spool().lease(id, vec![0, 1]).unwrap();
        let loaded = bench.spool().load(&lease).await.unwrap().unwrap();
        assert_eq!(loaded.envelope, envelope);
        assert_eq!(loaded.content, content);
        assert_eq!(loaded.arrived, bench.clock.now());
    }
}

#[tokio::test]
async fn an_id_is_used_once_and_an_envelope_has_a_recipient() {
    let bench = Bench::new();
    let id = bench.commit(&["a@b.example"], "x").await;
    let again = bench.spool().commit(id, envelope(&["z@b.example"]), "y".into()).await;
    assert!(matches!(again, Err(Error::Conflict(_))));
    let none = bench.spool().commit(bench.id(), envelope(&[]), "y".into()).await;
    assert!(matches!(none, Err(Error::Conflict(_))));
    assert_eq!(bench.spool().content(id).await.unwrap().unwrap(), "x");
}

#[tokio::test]
async fn a_lease_is_had_once_and_ends_with_its_holder_or_the_process() {
    let mut bench = Bench::new();
    let id = bench.commit(&["a@b.example", "c@b.example"], "x").await;
    let lease = bench.spool().lease(id, vec![0]).unwrap();
    assert!(bench.spool().lease(id, vec![0, 1]).is_none());
    assert_eq!(bench.due().await, [(id, 1)]);
    drop(lease);
    assert_eq!(bench.due().await, [(id, 0), (id, 1)]);
    // The process dies with the lease held.
    std::mem::forget(bench.spool().lease(id, vec![0, 1]).unwrap());
    assert_eq!(bench.due().await, []);
    bench.reopen();
    assert_eq!(bench.due().await, [(id, 0), (id, 1)]);
}

#[tokio::test]
async fn a_second_process_is_kept_out() {
    let bench = Bench::new();
    let second = Spool::open(bench.dir.path().join("spool"), Arc::new(bench.clock.clone()));
    assert!(matches!(second, Err(Error::Busy(_))));
}

#[tokio::test]
async fn a_finished_message_leaves_history_and_nothing_else() {
    let bench = Bench::new();
    for content in [Bytes::from_static(b"x"), large()] {
        let id = bench.commit(&["a@b.example", "c@b.example"], content).await;
        let lease = bench.spool().lease(id, vec![0]).unwrap();
        let done = progress(0, State::Delivered, Outcome::Delivered);
        assert_eq!(bench.spool().record(&lease, vec![done], vec![]).await.unwrap(), Recorded::Open);
        let lease = bench.spool().lease(id, vec![1]).unwrap();
        let done = progress(1, State::Delivered, Outcome::Delivered);
        assert_eq!(bench.spool().record(&lease, vec![done], vec![]).await.unwrap(), Recorded::Finished);
        assert!(bench.files().is_empty());
        assert_eq!(bench.spool().totals().await.unwrap().messages, 0);
        assert!(bench.spool().content(id).await.unwrap().is_none());
        let Trace::Finished(finished) = bench.spool().trace(id).await.unwrap() else { panic!() };
        assert_eq!(finished.recipients.len(), 2);
        assert!(finished.recipients.iter().all(|row| row.outcome == Some(Outcome::Delivered)));
    }
}

#[tokio::test]
async fn a_report_is_committed_with_the_outcome_or_not_at_all() {
    let bench = Bench::new();
    let id = bench.commit(&["a@b.example"], "x").await;
    let failed = Outcome::Failed { status: Status::new(5, 1, 1), remote: None, detail: "no".into() };
    let report = |id, content| Report { id, envelope: envelope(&["from@example.org"]), content };
    let lease = bench.spool().lease(id, vec![0]).unwrap();

    // An id that exists makes the whole transaction fail.
    let clash = bench
        .spool()
        .record(&lease, vec![progress(0, State::Failed, failed.clone())], vec![report(id, "dsn".into())])
        .await;
    assert!(matches!(clash, Err(Error::Conflict(_))));
    assert!(matches!(bench.spool().trace(id).await.unwrap(), Trace::Queued(_)));

    let dsn = bench.id();
    let recorded = bench
        .spool()
        .record(&lease, vec![progress(0, State::Failed, failed)], vec![report(dsn, large())])
        .await;
    assert_eq!(recorded.unwrap(), Recorded::Finished);
    assert_eq!(bench.spool().content(dsn).await.unwrap().unwrap(), large());
    assert_eq!(bench.files(), [dsn.to_string()]);
}

#[tokio::test]
async fn recording_wants_the_lease_of_each_recipient() {
    let bench = Bench::new();
    let id = bench.commit(&["a@b.example", "c@b.example"], "x").await;
    let lease = bench.spool().lease(id, vec![0]).unwrap();
    let alien = progress(1, State::Delivered, Outcome::Delivered);
    assert!(matches!(bench.spool().record(&lease, vec![alien], vec![]).await, Err(Error::Conflict(_))));
}

#[tokio::test]
async fn files_without_message_are_swept_and_foreign_files_are_left() {
    let mut bench = Bench::new();
    let kept = bench.commit(&["a@b.example"], large()).await;
    let orphan = bench.id();
    let content = bench.dir.path().join("spool/content");
    // A crash in the middle of writing a file: part of it, and no row.
    std::fs::write(content.join(orphan.to_string()), "half of a mess").unwrap();
    std::fs::write(content.join("README"), "of somebody").unwrap();
    bench.reopen();
    assert_eq!(bench.files(), [kept.to_string(), "README".to_owned()]);
}

#[tokio::test]
async fn a_message_whose_file_is_gone_or_cut_is_held_and_not_dropped() {
    let mut bench = Bench::new();
    let gone = bench.commit(&["a@b.example"], large()).await;
    let cut = bench.commit(&["a@b.example"], large()).await;
    let whole = bench.commit(&["a@b.example"], large()).await;
    let content = bench.dir.path().join("spool/content");
    std::fs::remove_file(content.join(gone.to_string())).unwrap();
    std::fs::write(content.join(cut.to_string()), "short").unwrap();
    bench.reopen();
    assert_eq!(bench.due().await, [(whole, 0)]);
    assert_eq!(bench.spool().totals().await.unwrap().held, 2);
}

#[tokio::test]
async fn a_content_that_changed_its_size_while_running_is_corrupt() {
    let bench = Bench::new();
    let id = bench.commit(&["a@b.example"], large()).await;
    let path = bench.dir.path().join("spool/content").join(id.to_string());
    for content in [vec![b'y'; ROW_LIMIT], vec![b'y'; ROW_LIMIT * 3]] {
        std::fs::write(&path, content).unwrap();
        let lease = bench.spool().lease(id, vec![0]).unwrap();
        assert!(matches!(bench.spool().load(&lease).await, Err(Error::Corrupt(_))));
    }
}

#[tokio::test]
async fn due_goes_by_time_and_leaves_out_hosts_at_their_limit() {
    let bench = Bench::new();
    let first = bench.commit(&["a@slow.example", "a@quick.example"], "x").await;
    assert_eq!(bench.spool().next_due(bench.clock.now()).await.unwrap(), None);
    bench.clock.advance(std::time::Duration::from_secs(1));
    let second = bench.commit(&["b@quick.example"], "x").await;
    let due = bench.spool().due(bench.clock.now(), 100, vec!["slow.example".into()]).await.unwrap();
    assert_eq!(due.iter().map(|due| (due.id, due.number)).collect::<Vec<_>>(), [(first, 1), (second, 0)]);

    let later = bench.clock.now().plus(std::time::Duration::from_secs(300));
    let lease = bench.spool().lease(first, vec![0, 1]).unwrap();
    let put_off = |number| Progress { next_attempt: later, ..progress(number, State::Queued, deferred()) };
    bench.spool().record(&lease, vec![put_off(0), put_off(1)], vec![]).await.unwrap();
    drop(lease);
    assert_eq!(bench.due().await, [(second, 0)]);
    assert_eq!(bench.spool().next_due(bench.clock.now()).await.unwrap(), Some(later));
    bench.clock.advance(std::time::Duration::from_secs(300));
    assert_eq!(bench.due().await.len(), 3);
}

#[tokio::test]
async fn the_operator_holds_releases_retries_and_deletes() {
    let bench = Bench::new();
    let id = bench.commit(&["a@b.example", "c@d.example"], large()).await;
    let other = bench.commit(&["e@f.example"], "x").await;
    let spool = bench.spool();
    assert_eq!(spool.hold(Selection::Message(id)).await.unwrap(), 2);
    assert_eq!(bench.due().await, [(other, 0)]);
    assert_eq!(spool.release(Selection::Domain("d.example".parse().unwrap())).await.unwrap(), 1);
    assert_eq!(bench.due().await, [(id, 1), (other, 0)]);

    let lease = spool.lease(id, vec![1]).unwrap();
    assert!(matches!(spool.delete(id).await, Err(Error::Conflict(_))));
    // Held while an attempt runs: the attempt's "later" does not release it.
    spool.hold(Selection::All).await.unwrap();
    spool.record(&lease, vec![progress(1, State::Queued, deferred())], vec![]).await.unwrap();
    drop(lease);
    assert_eq!(bench.due().await, []);

    assert!(spool.delete(id).await.unwrap());
    assert!(!spool.delete(id).await.unwrap());
    assert!(bench.files().is_empty());
    let Trace::Finished(gone) = spool.trace(id).await.unwrap() else { panic!() };
    assert!(gone.recipients.iter().all(|row| row.state == State::Failed));

    let listed = spool.list(10, None).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id, listed[0].open, listed[0].held), (other, 1, 1));
    assert!(spool.list(10, Some(other)).await.unwrap().is_empty());
}

#[tokio::test]
async fn retry_makes_waiting_recipients_due_and_wakes_the_scheduler() {
    let bench = Bench::new();
    let id = bench.commit(&["a@b.example"], "x").await;
    bench.spool().arrivals().notified().await;
    let lease = bench.spool().lease(id, vec![0]).unwrap();
    let later = bench.clock.now().plus(std::time::Duration::from_secs(300));
    let put_off = Progress { next_attempt: later, ..progress(0, State::Queued, deferred()) };
    bench.spool().record(&lease, vec![put_off], vec![]).await.unwrap();
    drop(lease);
    assert_eq!(bench.due().await, []);
    assert_eq!(bench.spool().retry(Selection::All).await.unwrap(), 1);
    bench.spool().arrivals().notified().await;
    assert_eq!(bench.due().await, [(id, 0)]);
}

#[tokio::test]
async fn the_history_is_bounded_by_count_and_age() {
    let bench = Bench::new();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let id = bench.commit(&["a@b.example"], "x").await;
        bench.spool().delete(id).await.unwrap();
        bench.clock.advance(std::time::Duration::from_secs(60));
        ids.push(id);
    }
    let known = async |id| !matches!(bench.spool().trace(id).await.unwrap(), Trace::Unknown);
    assert_eq!(bench.spool().trim_history(3, std::time::Duration::from_secs(3600)).await.unwrap(), 2);
    assert!(!known(ids[1]).await && known(ids[2]).await);
    assert_eq!(bench.spool().trim_history(3, std::time::Duration::from_secs(90)).await.unwrap(), 2);
    assert!(!known(ids[3]).await && known(ids[4]).await);
}

#[tokio::test]
async fn what_cannot_be_committed_leaves_no_file_behind() {
    let bench = Bench::new();
    let taken = bench.commit(&["a@b.example"], "x").await;
    let refused = bench.spool().commit(taken, envelope(&["a@b.example"]), large()).await;
    assert!(refused.is_err());
    // The file is in doubt until the next transaction is durable.
    assert_eq!(bench.files(), [taken.to_string()]);
    bench.commit(&["a@b.example"], "x").await;
    assert!(bench.files().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_commits_share_transactions() {
    let bench = Arc::new(Bench::new());
    let before = bench.spool().commits();
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move { bench.commit(&["a@b.example"], vec![b'x'; 2000]).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(bench.spool().totals().await.unwrap().messages, 100);
    let groups = bench.spool().commits() - before;
    assert!(groups < 80, "100 messages took {groups} transactions");
}

#[tokio::test]
async fn an_outcome_is_recorded_once_and_its_report_sent_once() {
    let bench = Bench::new();
    let id = bench.commit(&["a@b.example", "c@b.example"], "x").await;
    let lease = bench.spool().lease(id, vec![0]).unwrap();
    let done = || progress(0, State::Delivered, Outcome::Delivered);
    let report =
        || Report { id: bench.id(), envelope: envelope(&["from@example.org"]), content: "dsn".into() };
    bench.spool().record(&lease, vec![done()], vec![report()]).await.unwrap();
    let again = bench.spool().record(&lease, vec![done()], vec![report()]).await;
    assert!(matches!(again, Err(Error::Conflict(_))));
    assert_eq!(bench.spool().totals().await.unwrap().messages, 2);
}

#[tokio::test]
async fn a_record_on_its_way_keeps_lease_and_lock_when_its_caller_is_gone() {
    let mut bench = Bench::new();
    let id = bench.commit(&["a@b.example"], "x").await;
    // The writer is held up, so that the record stays on its way.
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (entered, inside) = tokio::sync::oneshot::channel();
    let database = bench.spool().0.database.clone();
    let holder = tokio::spawn(async move {
        let hold = move |_: &Transaction<'_>| {
            let _ = entered.send(());
            let _ = released.recv_timeout(std::time::Duration::from_secs(10));
            Ok(())
        };
        database.write(hold).await
    });
    inside.await.unwrap();
    let lease = bench.spool().lease(id, vec![0]).unwrap();
    {
        let done = vec![progress(0, State::Delivered, Outcome::Delivered)];
        let mut record = Box::pin(bench.spool().record(&lease, done, vec![]));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(record.as_mut().poll(&mut context).is_pending());
    }
    drop(lease);
    assert!(bench.spool().lease(id, vec![0]).is_none(), "the lease went with the record");
    let path = bench.dir.path().join("spool");
    let clock = bench.clock.clone();
    // The spool's last handle goes; the database lives on in `holder`.
    drop(bench.spool.take());
    assert!(matches!(Spool::open(&path, Arc::new(clock)), Err(Error::Busy(_))));
    release.send(()).unwrap();
    holder.await.unwrap().unwrap();
    bench.reopen();
    assert!(matches!(bench.spool().trace(id).await.unwrap(), Trace::Finished(_)));
}
