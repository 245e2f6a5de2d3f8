//! One attempt from its lease to its record: load, let the agent try, decide what follows, report, record.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use mailgate_model::{Outcome, ReversePath, Status, Timestamp};
use mailgate_store::spool::{Lease, Loaded, Progress, RecipientRow, Recorded, Report, Selection, State};

use crate::retry::Next;
use crate::{Agent, Attempt, Attempted, Destination, DsnDuty, Error, Parts, dsn};

/// No attempt lasts longer. Agents have limits for each step; this one only frees what hangs all the same.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(4 * 3600);
/// Wait before a failed record is tried again, doubled up to the second value. The lease is kept meanwhile, for an
/// unrecorded delivery would be repeated.
const RECORD_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Wait before a message that could not be read (locked or failing disk) may be looked up again.
const LOAD_PAUSE: Duration = Duration::from_secs(30);

/// Leased recipients of one message with one destination.
pub(crate) struct Work {
    pub(crate) lease: Lease,
    pub(crate) octets: u64,
    /// `None` when there is no route.
    pub(crate) destination: Option<Destination>,
    /// The outcome when there is no route.
    pub(crate) verdict: Option<Outcome>,
}

/// Whether an attempt left something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nothing is left of the message.
    Finished,
    /// Something may be due, perhaps at once.
    Open,
}

/// One recipient with its outcome and what follows.
pub(crate) struct Settled {
    pub(crate) row: RecipientRow,
    pub(crate) outcome: Outcome,
    pub(crate) state: State,
    pub(crate) next_attempt: Timestamp,
    /// What the reverse-path is told of it.
    pub(crate) notice: Option<Notice>,
    pub(crate) delay_said: bool,
}

/// What a DSN says of a recipient (RFC 3464 §2.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Notice {
    Delayed,
    Delivered,
    Failed,
    Relayed,
}

impl Work {
    pub(crate) async fn run(self, parts: Arc<Parts>) -> Ended {
        let id = self.lease.id();
        let loaded = match parts.spool.load(&self.lease).await {
            Ok(Some(loaded)) => loaded,
            // Deleted, held or done since it was looked up.
            Ok(None) => return Ended::Finished,
            Err(error @ (Error::Corrupt(_) | Error::Missing(_))) => {
                // Trying again will not bring it back, and bouncing would be for our own fault: the operator decides.
                tracing::error!(target: "queue", q = %id, event = "load", result = "held", reason = %error);
                if let Err(error) = parts.spool.hold(Selection::Message(id)).await {
                    tracing::error!(target: "queue", q = %id, event = "hold", result = "deferred", reason = %error);
                    parts.clock.sleep(LOAD_PAUSE).await;
                }
                return Ended::Open;
            }
            Err(error) => {
                tracing::warn!(target: "queue", q = %id, event = "load", result = "deferred", reason = %error);
                parts.clock.sleep(LOAD_PAUSE).await;
                return Ended::Open;
            }
        };
        let answers = match self.verdict {
            Some(outcome) => {
                loaded.recipients.iter().map(|row| Attempted::new(row.number, outcome.clone())).collect()
            }
            None => attempt(&parts, self.destination.as_ref(), &self.lease, &loaded).await,
        };
        let settled = settle(&parts, &self.lease, &loaded, answers);
        settled.iter().for_each(|settled| log(&self.lease, settled));
        let reports = reports(&parts, &self.lease, &loaded, &settled);
        record(&parts, &self.lease, &settled, reports).await
    }
}

/// Lets the agent try; whatever it does, there is an answer.
async fn attempt(
    parts: &Parts,
    destination: Option<&Destination>,
    lease: &Lease,
    loaded: &Loaded,
) -> Vec<Attempted> {
    let agent: &dyn Agent = match destination {
        Some(Destination::Local) => parts.local.as_ref(),
        Some(Destination::Remote(_) | Destination::Via(_)) | None => parts.remote.as_ref(),
    };
    let attempt = Attempt {
        id: lease.id(),
        number: loaded.recipients.iter().map(|row| row.attempts).max().unwrap_or(0),
        envelope: loaded.envelope.clone(),
        indices: loaded.recipients.iter().map(|row| row.number).collect(),
        content: loaded.content.clone(),
    };
    let trying = AssertUnwindSafe(async { agent.attempt(attempt).await }).catch_unwind();
    tokio::select! {
        answers = trying => answers.unwrap_or_else(|_| {
            tracing::error!(target: "queue", q = %lease.id(), event = "attempt", reason = "the agent panicked");
            Vec::new()
        }),
        () = parts.clock.sleep(ATTEMPT_LIMIT) => {
            tracing::error!(target: "queue", q = %lease.id(), event = "attempt", reason = "the agent hangs");
            Vec::new()
        }
    }
}

/// Decides what follows for each recipient. One the agent forgot is deferred.
fn settle(parts: &Parts, lease: &Lease, loaded: &Loaded, answers: Vec<Attempted>) -> Vec<Settled> {
    let now = parts.clock.now();
    let mut answers: HashMap<u32, Attempted> =
        answers.into_iter().map(|answer| (answer.index, answer)).collect();
    let rows = loaded.recipients.iter().cloned();
    rows.map(|row| {
        let answer = answers.remove(&row.number).unwrap_or_else(|| {
            let detail = "the attempt ended without an outcome".to_owned();
            Attempted::new(
                row.number,
                Outcome::Deferred { status: Status::new(4, 3, 0), remote: None, detail },
            )
        });
        settle_one(parts, lease, loaded, row, answer, now)
    })
    .collect()
}

fn settle_one(
    parts: &Parts,
    lease: &Lease,
    loaded: &Loaded,
    row: RecipientRow,
    answer: Attempted,
    now: Timestamp,
) -> Settled {
    let notify = row.recipient.notify;
    let mut delay_said = row.delay_said;
    let mut next_attempt = now;
    let mut outcome = answer.outcome;
    let (state, notice) = match &outcome {
        Outcome::Delivered => (State::Delivered, notify.success.then_some(Notice::Delivered)),
        Outcome::Relayed { .. } => {
            let ours = notify.success && answer.duty == DsnDuty::Ours;
            (State::Relayed, ours.then_some(Notice::Relayed))
        }
        Outcome::Failed { .. } => (State::Failed, notify.failure.then_some(Notice::Failed)),
        Outcome::Deferred { remote, detail, .. } => {
            match parts.config.after_deferral(lease.id(), loaded.arrived, row.attempts.saturating_add(1), now)
            {
                Next::At(at) => {
                    next_attempt = at;
                    let warning = parts.config.delay_warning.duration();
                    let late = !warning.is_zero() && !delay_said && now.since(loaded.arrived) >= warning;
                    delay_said |= late;
                    (State::Queued, (late && notify.delay).then_some(Notice::Delayed))
                }
                Next::GiveUp => {
                    // RFC 3463 §3.5: X.4.7, delivery time expired; what the last attempt heard stays visible.
                    outcome = Outcome::Failed {
                        status: Status::new(5, 4, 7),
                        remote: remote.clone(),
                        detail: detail.clone(),
                    };
                    (State::Expired, notify.failure.then_some(Notice::Failed))
                }
            }
        }
    };
    Settled { row, outcome, state, next_attempt, notice, delay_said }
}

/// One DSN for each kind of notice, unless the reverse-path is null (RFC 5321 §4.5.5).
fn reports(parts: &Parts, lease: &Lease, loaded: &Loaded, settled: &[Settled]) -> Vec<Report> {
    let ReversePath::Address(reverse_path) = &loaded.envelope.reverse_path else { return Vec::new() };
    [Notice::Failed, Notice::Delayed, Notice::Delivered, Notice::Relayed]
        .into_iter()
        .filter_map(|notice| {
            let concerned: Vec<&Settled> =
                settled.iter().filter(|settled| settled.notice == Some(notice)).collect();
            if concerned.is_empty() {
                return None;
            }
            let id = parts.ids.queue_id(parts.clock.now());
            let subject = dsn::Subject {
                hostname: &parts.hostname,
                original: lease.id(),
                now: parts.clock.now(),
                arrived: loaded.arrived,
                expiry: parts.config.expiry(loaded.arrived),
                envelope: &loaded.envelope,
                content: &loaded.content,
            };
            tracing::info!(target: "queue", q = %lease.id(), event = "dsn", dsn = %id, to = %reverse_path,
                notice = ?notice, recipients = concerned.len());
            Some(dsn::write(id, reverse_path, notice, &subject, &concerned))
        })
        .collect()
}

/// Records until it succeeds or the queue is shut down.
async fn record(parts: &Parts, lease: &Lease, settled: &[Settled], reports: Vec<Report>) -> Ended {
    let progress: Vec<Progress> = settled
        .iter()
        .map(|settled| Progress {
            number: settled.row.number,
            state: settled.state,
            attempts: settled.row.attempts.saturating_add(1),
            next_attempt: settled.next_attempt,
            delay_said: settled.delay_said,
            outcome: settled.outcome.clone(),
        })
        .collect();
    let mut pause = RECORD_PAUSE.0;
    loop {
        match parts.spool.record(lease, progress.clone(), reports.clone()).await {
            Ok(Recorded::Finished) => {
                tracing::info!(target: "queue", q = %lease.id(), event = "finished");
                return Ended::Finished;
            }
            Ok(Recorded::Open) => return Ended::Open,
            Err(error @ Error::Conflict(_)) => {
                // Somebody else recorded it. The lease excludes that, so it is a bug; nothing is lost by going on.
                tracing::error!(target: "queue", q = %lease.id(), event = "record", result = "refused", reason = %error);
                return Ended::Open;
            }
            Err(error) => {
                tracing::error!(target: "queue", q = %lease.id(), event = "record", result = "deferred", reason = %error);
            }
        }
        tokio::select! {
            () = parts.clock.sleep(pause) => pause = pause.saturating_mul(2).min(RECORD_PAUSE.1),
            () = parts.shutdown.cancelled() => return Ended::Open,
        }
    }
}

fn log(lease: &Lease, settled: &Settled) {
    let (status, remote, detail) = match &settled.outcome {
        Outcome::Delivered => (None, None, ""),
        Outcome::Relayed { remote, detail } => (None, Some(remote.as_str()), detail.as_str()),
        Outcome::Deferred { status, remote, detail } | Outcome::Failed { status, remote, detail } => {
            (Some(status.to_string()), remote.as_deref(), detail.as_str())
        }
    };
    let result = if settled.state == State::Queued { "deferred" } else { settled.state.as_str() };
    tracing::info!(target: "queue", q = %lease.id(), event = "attempt", to = %settled.row.recipient.address,
        attempt = settled.row.attempts.saturating_add(1), result, status, remote, detail);
}
