//! Which recipients are tried now.
//!
//! Memory holds a bounded window of due recipients (already leased), never the queue. Destinations at their limit are
//! left out of the next window by host, so that a million messages to one slow host do not hide the one to another.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mailgate_model::{Host, Outcome, QueueId, Timestamp};
use mailgate_store::spool::{Due, Lease};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::queue::Idle;
use crate::work::{Ended, Work};
use crate::{Destination, Error, Parts};

/// Due recipients looked up at a time.
const WINDOW: usize = 500;
/// Groups that wait for room at their destination; further ones give their lease back and are looked up again.
const PARKED_LIMIT: usize = 4 * WINDOW;
/// Hosts left out of a window at most; beyond, the scheduler waits for an attempt to end instead.
const BLOCKED_LIMIT: usize = 1000;
/// After the database failed, it is asked again this much later.
const FAILURE_PAUSE: Duration = Duration::from_secs(30);
/// How often the history is trimmed, and how often an idle scheduler looks whether the clock was set.
const HOUSEKEEPING: Duration = Duration::from_secs(600);

pub(crate) struct Scheduler {
    parts: Arc<Parts>,
    idle: watch::Sender<Idle>,
    ready: VecDeque<Ready>,
    /// What was ready while its destination was at its limit.
    parked: HashMap<Destination, VecDeque<Ready>>,
    parked_count: usize,
    running: JoinSet<Ended>,
    claims: HashMap<tokio::task::Id, Claim>,
    busy: HashMap<Destination, usize>,
    /// Hosts whose destination is at its limit.
    blocked: HashMap<Host, Destination>,
    octets: u64,
    /// Whether the database may have due rows that are neither ready nor blocked.
    more: bool,
    /// When something that is not due yet will be.
    wake: Timestamp,
    trimmed: Timestamp,
}

/// A group that waits for its turn within the window.
struct Ready {
    work: Work,
    /// The hosts of its recipients.
    hosts: HashSet<Host>,
}

/// What a running attempt takes up.
struct Claim {
    destination: Option<Destination>,
    octets: u64,
}

impl Scheduler {
    pub(crate) fn new(parts: Parts, idle: watch::Sender<Idle>) -> Self {
        Self {
            parts: Arc::new(parts),
            idle,
            ready: VecDeque::new(),
            parked: HashMap::new(),
            parked_count: 0,
            running: JoinSet::new(),
            claims: HashMap::new(),
            busy: HashMap::new(),
            blocked: HashMap::new(),
            octets: 0,
            more: true,
            wake: Timestamp::default(),
            trimmed: Timestamp::default(),
        }
    }

    pub(crate) async fn run(mut self) {
        let parts = Arc::clone(&self.parts);
        while !parts.shutdown.is_cancelled() {
            let wake = match self.fill().await {
                Ok(wake) => wake,
                Err(error) => {
                    tracing::error!(target: "queue", event = "schedule", result = "deferred", reason = %error);
                    self.more = true;
                    parts.clock.now().plus(FAILURE_PAUSE)
                }
            };
            tokio::select! {
                () = parts.shutdown.cancelled() => break,
                () = parts.spool.arrivals().notified() => self.more = true,
                () = parts.clock.sleep_until(wake) => self.more = true,
                Some(ended) = self.running.join_next_with_id() => {
                    self.free(ended);
                    while let Some(ended) = self.running.try_join_next_with_id() {
                        self.free(ended);
                    }
                }
            }
            self.idle.send_replace(Idle::Busy);
        }
        self.stop().await;
    }

    /// Starts all that may start now; says when to look again even if nothing happens.
    async fn fill(&mut self) -> Result<Timestamp, Error> {
        let now = self.parts.clock.now();
        // An attempt may have ended in the same moment in which something became due.
        self.more |= now >= self.wake;
        while self.running.len() < self.parts.config.attempts && !self.parts.shutdown.is_cancelled() {
            let Some(ready) = self.ready.pop_front() else {
                if !self.more || self.blocked.len() > BLOCKED_LIMIT {
                    break;
                }
                self.look_up(now).await?;
                continue;
            };
            if let Some(full) =
                ready.work.destination.clone().filter(|destination| self.is_at_limit(destination))
            {
                self.park(full, ready);
                continue;
            }
            if !self.running.is_empty()
                && self.octets.saturating_add(ready.work.octets) > self.parts.config.memory
            {
                self.ready.push_front(ready);
                break;
            }
            self.start(ready.work);
        }
        if now.since(self.trimmed) >= HOUSEKEEPING {
            self.trimmed = now;
            let config = &self.parts.config;
            self.parts.spool.trim_history(config.history_count, config.history_age.duration()).await?;
        }
        let next = self.parts.spool.next_due(now).await?;
        if self.running.is_empty() && self.ready.is_empty() && !self.more {
            self.idle.send_replace(Idle::Until(next));
        }
        let housekeeping = now.plus(HOUSEKEEPING);
        self.wake = next.map_or(housekeeping, |next| next.min(housekeeping));
        Ok(self.wake)
    }

    /// Fetches the next window and groups it by message and destination.
    async fn look_up(&mut self, now: Timestamp) -> Result<(), Error> {
        let except = self.blocked.keys().map(ToString::to_string).collect();
        let due = self.parts.spool.due(now, WINDOW, except).await?;
        self.more = due.len() >= WINDOW;
        let mut routes = HashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        let mut open: HashMap<(QueueId, Routed, u32), usize> = HashMap::new();
        for due in due {
            let host = due.address.host().clone();
            let routed = match routes.entry(host) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let routed = Routed::from(self.parts.route.route(new.key()).await);
                    new.insert(routed)
                }
            };
            // Recipients with a different number of attempts keep their own curve.
            let key = (due.id, routed.clone(), due.attempts);
            match open.get(&key).and_then(|at| groups.get_mut(*at)) {
                Some(group) if group.due.len() < self.parts.config.recipients_per_attempt => {
                    group.due.push(due)
                }
                _ => {
                    open.insert(key, groups.len());
                    groups.push(Group { routed: routed.clone(), due: vec![due] });
                }
            }
        }
        for group in groups {
            let Some(first) = group.due.first() else { continue };
            let (id, octets) = (first.id, first.size);
            let indices = group.due.iter().map(|due| due.number).collect();
            // Somebody else has one of them (the operator deletes it): it is theirs.
            let Some(lease) = self.parts.spool.lease(id, indices) else { continue };
            self.ready.push_back(group.ready(lease, octets));
        }
        Ok(())
    }

    /// Keeps a group until its destination has room; no more of its hosts are looked up meanwhile.
    fn park(&mut self, destination: Destination, ready: Ready) {
        self.blocked.extend(ready.hosts.iter().map(|host| (host.clone(), destination.clone())));
        if self.parked_count < PARKED_LIMIT {
            self.parked_count += 1;
            self.parked.entry(destination).or_default().push_back(ready);
        }
    }

    /// After an attempt ended: the next group for that destination is ready; when none is parked, its hosts are looked up
    /// again.
    fn unpark(&mut self, destination: &Destination) {
        if let Some(parked) = self.parked.get_mut(destination)
            && let Some(ready) = parked.pop_front()
        {
            self.parked_count -= 1;
            self.ready.push_front(ready);
            return;
        }
        self.parked.remove(destination);
        let before = self.blocked.len();
        self.blocked.retain(|_, blocked| blocked != destination);
        self.more |= self.blocked.len() != before;
    }

    fn is_at_limit(&self, destination: &Destination) -> bool {
        let limit = match destination {
            Destination::Local => self.parts.config.attempts_local,
            Destination::Remote(_) | Destination::Via(_) => self.parts.config.attempts_per_destination,
        };
        self.busy.get(destination).is_some_and(|busy| *busy >= limit)
    }

    fn start(&mut self, work: Work) {
        if let Some(destination) = &work.destination {
            *self.busy.entry(destination.clone()).or_default() += 1;
        }
        self.octets = self.octets.saturating_add(work.octets);
        let claim = Claim { destination: work.destination.clone(), octets: work.octets };
        let task = self.running.spawn(work.run(Arc::clone(&self.parts)));
        self.claims.insert(task.id(), claim);
    }

    /// Gives back what an ended attempt took up.
    fn free(&mut self, ended: Result<(tokio::task::Id, Ended), JoinError>) {
        let id = match ended {
            Ok((id, ended)) => {
                self.more |= ended == Ended::Open;
                id
            }
            Err(error) => {
                tracing::error!(target: "queue", event = "panic", reason = %error);
                self.more = true;
                error.id()
            }
        };
        let Some(claim) = self.claims.remove(&id) else { return };
        self.octets = self.octets.saturating_sub(claim.octets);
        let Some(destination) = claim.destination else { return };
        if let Some(busy) = self.busy.get_mut(&destination) {
            *busy = busy.saturating_sub(1);
            if *busy == 0 {
                self.busy.remove(&destination);
            }
        }
        self.unpark(&destination);
    }

    /// Lets running attempts end for a while, then drops them: what they did not record is tried again next time.
    async fn stop(mut self) {
        self.ready.clear();
        self.parked.clear();
        let grace = self.parts.clock.sleep(self.parts.config.shutdown_grace.duration());
        tokio::pin!(grace);
        loop {
            tokio::select! {
                () = &mut grace => break,
                ended = self.running.join_next() => if ended.is_none() { break },
            }
        }
        let dropped = self.running.len();
        self.running.shutdown().await;
        tracing::info!(target: "queue", event = "stopped", dropped);
    }
}

/// A route's answer that can be a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Routed {
    To(Destination),
    No(Box<NoRoute>),
}

#[derive(Debug, Clone)]
struct NoRoute(Outcome);

impl PartialEq for NoRoute {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for NoRoute {}
impl std::hash::Hash for NoRoute {
    /// All alike: `eq` decides, and there are few.
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl From<Result<Destination, Outcome>> for Routed {
    fn from(answer: Result<Destination, Outcome>) -> Self {
        match answer {
            Ok(destination) => Self::To(destination),
            Err(outcome) => Self::No(Box::new(NoRoute(outcome))),
        }
    }
}

struct Group {
    routed: Routed,
    due: Vec<Due>,
}

impl Group {
    fn ready(self, lease: Lease, octets: u64) -> Ready {
        let hosts = self.due.into_iter().map(|due| due.address.host().clone()).collect();
        let (destination, verdict) = match self.routed {
            Routed::To(destination) => (Some(destination), None),
            Routed::No(no) => (None, Some(no.0)),
        };
        Ready { work: Work { lease, octets, destination, verdict }, hosts }
    }
}

#[cfg(test)]
mod tests;
