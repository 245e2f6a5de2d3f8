//! 1. From the lists to the filter.

use std::sync::Arc;
use std::time::Duration;

use mailgate_lists::Change;
use mailgate_model::{Clock, Permanence};
use mailgate_packet::PacketFilter;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Wait before changes that failed are tried again, doubled up to the second value.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Gives the changes of the lists to the filter, on threads that may wait: a reload of a million entries takes a while.
/// The receiver hears when the first ones are in force, or failed for the first time; `applied` hears of each batch
/// whether it is in force, or never will be.
pub(super) fn pump(
    mut changes: mpsc::Receiver<Vec<Change>>,
    applied: impl Fn(bool) + Send + 'static,
    filter: Arc<dyn PacketFilter>,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
) -> oneshot::Receiver<()> {
    let (ready, is_ready) = oneshot::channel();
    let mut ready = Some(ready);
    tokio::spawn(async move {
        while let Some(mut batch) = changes.recv().await {
            // The filter keeps single changes that failed and takes them up with the next call, even an empty one; a
            // reload it forgets, and without its tables later changes would mean nothing. What comes meanwhile waits.
            let reload = batch.iter().rev().find(|change| matches!(change, Change::Reload(_))).cloned();
            let mut pause = PAUSE.0;
            loop {
                let outcome = apply(&filter, batch).await;
                if let Some(ready) = ready.take() {
                    // Nobody waits any more after the patience is over.
                    let _ = ready.send(());
                }
                if let Some(is_in_force) = outcome {
                    applied(is_in_force);
                    break;
                }
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = clock.sleep(pause) => pause = pause.saturating_mul(2).min(PAUSE.1),
                }
                batch = reload.iter().cloned().collect();
            }
        }
    });
    is_ready
}

/// Whether the changes are in force; `None` when they have to be tried again.
async fn apply(filter: &Arc<dyn PacketFilter>, batch: Vec<Change>) -> Option<bool> {
    let count = batch.len();
    let filter = Arc::clone(filter);
    let applied: Result<mailgate_packet::Applied, mailgate_packet::Error> = match tokio::task::spawn_blocking(
        move || filter.apply(batch),
    )
    .await
    {
        Ok(applied) => applied,
        Err(error) => {
            tracing::error!(target: "edge", event = "tables", changes = count, %error, "a bug; not in force");
            return Some(false);
        }
    };
    match applied {
        Ok(applied) => {
            tracing::info!(target: "edge", event = "tables", changes = count, entries = applied.entries);
            Some(true)
        }
        // The verdicts of before stay in force.
        Err(error) => {
            tracing::error!(target: "edge", event = "tables", changes = count, %error, "not in force");
            (error.permanence() == Permanence::Permanent).then_some(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use mailgate_lists::{Action, Entry, Snapshot, Table, TableName};
    use mailgate_model::ManualClock;
    use mailgate_packet::{Applied, Error, Memory, Status, Verdict};

    use super::*;

    /// Fails some times first.
    struct Failing(AtomicU32, Memory);

    impl PacketFilter for Failing {
        fn apply(&self, changes: Vec<Change>) -> Result<Applied, Error> {
            let failing = |left: u32| left.checked_sub(1);
            if self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, failing).is_ok() {
                return Err(Error::Interface("a test".to_owned()));
            }
            self.1.apply(changes)
        }
        fn verdict(&self, source: std::net::IpAddr) -> Verdict {
            self.1.verdict(source)
        }
        fn set_listeners(
            &self,
            _: mailgate_packet::Listeners,
            _: mailgate_packet::Listeners,
        ) -> Result<(), Error> {
            Ok(())
        }
        fn status(&self) -> Status {
            self.1.status()
        }
        fn detach(&self) -> Result<(), Error> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn tables_whose_first_reload_failed_come_into_force_and_with_them_what_came_later() {
        let clock = ManualClock::default();
        let memory = Memory::new(Arc::new(clock.clone()), "a test".to_owned());
        let filter: Arc<dyn PacketFilter> = Arc::new(Failing(AtomicU32::new(2), memory));
        let (sender, receiver) = mpsc::channel(4);
        let told = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&told);
        let applied = move |is_in_force: bool| {
            assert!(is_in_force);
            count.fetch_add(1, Ordering::Relaxed);
        };
        let stop = CancellationToken::new();
        let ready = pump(receiver, applied, Arc::clone(&filter), Arc::new(clock.clone()), stop);
        let name = TableName::parse("block").unwrap();
        let entry = |text: &str| Entry { prefix: text.parse().unwrap(), negated: false, expires: None };
        let entries = Arc::new(vec![entry("192.0.2.1/32")].into());
        let table = Table { name: name.clone(), action: Action::Drop, entries };
        sender.send(vec![Change::Reload(Snapshot { tables: vec![table] })]).await.unwrap();
        sender.send(vec![Change::Add(name, entry("192.0.2.2/32"))]).await.unwrap();
        ready.await.unwrap();
        assert_eq!(filter.verdict("192.0.2.1".parse().unwrap()).action, None);
        let later = "192.0.2.2".parse().unwrap();
        let patience = tokio::time::timeout(Duration::from_secs(10), async {
            while filter.verdict(later).action != Some(Action::Drop) || told.load(Ordering::Relaxed) < 2 {
                clock.advance(PAUSE.0);
                tokio::task::yield_now().await;
            }
        });
        patience.await.unwrap();
        assert_eq!(filter.verdict("192.0.2.1".parse().unwrap()).action, Some(Action::Drop));
    }
}
