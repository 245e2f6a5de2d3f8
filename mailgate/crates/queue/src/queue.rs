//! The queue as the rest of the program sees it.

use std::sync::Arc;

use mailgate_model::{Clock, Domain, IdGenerator, QueueId, Timestamp};
use mailgate_store::Spool;
use mailgate_store::spool::{Listed, Selection, Totals, Trace};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::scheduler::Scheduler;
use crate::{Agent, Config, Error, Route};

/// What the queue is made of.
#[derive(Clone)]
pub struct Parts {
    /// Where messages are.
    pub spool: Spool,
    /// Says where hosts lead.
    pub route: Arc<dyn Route>,
    /// Delivers to mailboxes of ours.
    pub local: Arc<dyn Agent>,
    /// Relays to other MTAs.
    pub remote: Arc<dyn Agent>,
    /// `[queue]`.
    pub config: Config,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Our name in DSNs.
    pub hostname: Domain,
    /// Ids of DSNs.
    pub ids: Arc<IdGenerator>,
    /// Ends the queue; see [`Queue::stopped`].
    pub shutdown: CancellationToken,
}

/// A running queue; clones speak to the same one.
#[derive(Clone)]
pub struct Queue {
    spool: Spool,
    clock: Arc<dyn Clock>,
    idle: watch::Receiver<Idle>,
    task: Arc<tokio::sync::Mutex<Option<JoinHandle<()>>>>,
}

/// Whether the scheduler has anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Attempts run or rows are being looked up.
    Busy,
    /// Nothing runs and nothing is due; until then, if anything waits.
    Until(Option<Timestamp>),
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Queue").field(&self.spool).finish()
    }
}

impl Queue {
    /// Starts the scheduler on the current runtime. It works until `parts.shutdown` is cancelled; then it starts no
    /// more attempts and gives the running ones `shutdown_grace`.
    #[must_use]
    pub fn start(parts: Parts) -> Self {
        let (idle_sender, idle) = watch::channel(Idle::Busy);
        let (spool, clock) = (parts.spool.clone(), Arc::clone(&parts.clock));
        let task = tokio::spawn(Scheduler::new(parts, idle_sender).run());
        Self { spool, clock, idle, task: Arc::new(tokio::sync::Mutex::new(Some(task))) }
    }

    /// Messages in order of arrival, at most `limit`, beginning after `after`.
    ///
    /// # Errors
    /// What the store says; so for all the others.
    pub async fn list(&self, limit: u32, after: Option<QueueId>) -> Result<Vec<Listed>, Error> {
        self.spool.list(limit, after).await
    }

    /// Everything known of one id, queued or finished.
    ///
    /// # Errors
    /// What the store says.
    pub async fn show(&self, id: QueueId) -> Result<Trace, Error> {
        self.spool.trace(id).await
    }

    /// Sums over the queue.
    ///
    /// # Errors
    /// What the store says.
    pub async fn totals(&self) -> Result<Totals, Error> {
        self.spool.totals().await
    }

    /// Tries what is selected now instead of at its time; says how many recipients.
    ///
    /// # Errors
    /// What the store says.
    pub async fn flush(&self, which: Selection) -> Result<usize, Error> {
        let count = self.spool.retry(which).await?;
        tracing::info!(target: "queue", event = "flush", recipients = count);
        Ok(count)
    }

    /// Keeps what is selected from being tried or given up; says how many recipients.
    ///
    /// # Errors
    /// What the store says.
    pub async fn hold(&self, which: Selection) -> Result<usize, Error> {
        let count = self.spool.hold(which).await?;
        tracing::info!(target: "queue", event = "hold", recipients = count);
        Ok(count)
    }

    /// Ends a hold; due at once. Says how many recipients.
    ///
    /// # Errors
    /// What the store says.
    pub async fn release(&self, which: Selection) -> Result<usize, Error> {
        let count = self.spool.release(which).await?;
        tracing::info!(target: "queue", event = "release", recipients = count);
        Ok(count)
    }

    /// Deletes a message without a DSN; `false` when there is none of that id.
    ///
    /// # Errors
    /// [`Error::Conflict`] while an attempt runs.
    pub async fn delete(&self, id: QueueId) -> Result<bool, Error> {
        let deleted = self.spool.delete(id).await?;
        tracing::info!(target: "queue", q = %id, event = "delete", deleted);
        Ok(deleted)
    }

    /// Waits until nothing runs and nothing is due; returns when the next attempt will be, if any waits.
    ///
    /// # Errors
    /// [`Error::Closed`] when the queue has stopped.
    pub async fn idle(&self) -> Result<Option<Timestamp>, Error> {
        let mut idle = self.idle.clone();
        loop {
            let state = *idle.borrow_and_update();
            if let Idle::Until(next) = state
                && next.is_none_or(|next| next > self.clock.now())
                && self.spool.due(self.clock.now(), 1, Vec::new()).await?.is_empty()
            {
                return Ok(next);
            }
            idle.changed().await.map_err(|_| Error::Closed)?;
        }
    }

    /// Waits until the scheduler has ended after `shutdown`; all outcomes it heard of are recorded then.
    pub async fn stopped(&self) {
        if let Some(task) = self.task.lock().await.take()
            && let Err(error) = task.await
        {
            tracing::error!(target: "queue", event = "stopped", reason = %error);
        }
    }

    /// What a crash does: every task vanishes where it is.
    #[cfg(test)]
    pub(crate) async fn abort(&self) {
        if let Some(task) = self.task.lock().await.take() {
            task.abort();
            let _ = task.await;
        }
    }
}
