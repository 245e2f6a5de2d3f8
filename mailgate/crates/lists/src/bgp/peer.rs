//! A session with one peer: sockets and time around [`Machine`], tables behind [`Rib`].

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mailgate_model::Timestamp;
use mailgate_net::{Source, dial};
use mailgate_proto::bgp::{
    Cease, Command, Event, Families, Framer, Machine, Notification, Parameters, State as SessionState, Update,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::rib::{Counts, Policy, Rib};
use crate::{Error, TableName};
use crate::admit::{self, Step};
use crate::config::BgpConfig;
use crate::merge::Origin;
use crate::rows::SourceState;
use crate::shared::{Kind, Shared, State, source_mut};

/// Bytes read at once: as much as a few hundred routes need, and the most that waits here unread.
const READ_LIMIT: usize = 64 * 1024;

/// Longest wait for a peer that does not read; what we send fits into any socket's buffer (RFC 9687 has eight
/// minutes for speakers that send much).
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// A peer that never says that its routes are complete is believed to be complete after this time.
const SETTLE: Duration = Duration::from_secs(120);

/// More steps than this are done off the runtime's threads.
const STEPS_INLINE: usize = 4096;

/// Identifies a speaker without IPv4 (the dummy address of RFC 7600 §4.8); it has to be unlike zero and, inside an
/// AS, unlike the peer's.
const NO_IDENTIFIER: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// What the peer is told when the daemon ends.
const FAREWELL: &str = "mailgate is shutting down";

/// Speaks with one peer until `shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, origin: Origin, config: BgpConfig, shutdown: CancellationToken) {
    // The only error is that the runtime is ending.
    let _ = Peer::new(shared, origin, config).run(shutdown).await;
}

struct Peer {
    shared: Arc<Shared>,
    origin: Origin,
    config: BgpConfig,
    machine: Machine,
    rib: Rib,
    framer: Framer,
    link: Link,
    /// Differences on their way to the tables.
    steps: Vec<Step>,
    /// When routes of a lost session age out.
    stale_until: Option<Timestamp>,
    /// When a session counts as complete.
    settled_at: Option<Timestamp>,
    is_up: bool,
    /// Since when.
    since: Timestamp,
    error: Option<String>,
}

/// TCP.
enum Link {
    Connecting(Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>),
    Down,
    Up(TcpStream),
}

/// What woke the task.
enum Woke {
    Connected(io::Result<TcpStream>),
    Read(io::Result<usize>),
    Stop,
    Tick,
}

impl Link {
    /// Waits for the connection or for bytes; for ever when there is nothing to wait for.
    async fn next(&mut self, buffer: &mut [u8]) -> Woke {
        match self {
            Self::Connecting(connecting) => Woke::Connected(connecting.await),
            Self::Down => std::future::pending().await,
            Self::Up(stream) => Woke::Read(stream.read(buffer).await),
        }
    }
}

impl Peer {
    fn new(shared: Arc<Shared>, origin: Origin, config: BgpConfig) -> Self {
        let policy = Policy::new(&config, |name| shared.lock().merged.index(name));
        let machine = Machine::new(Parameters {
            local_as: config.local_as,
            peer_as: config.peer_as,
            identifier: config.router_id.unwrap_or(NO_IDENTIFIER),
            hold_time: config.hold_time.duration(),
            retry_min: config.retry_min.duration(),
            retry_max: config.retry_max.duration(),
            families: Families { ipv4: true, ipv6: true },
            seed: RandomState::new().hash_one(config.peer),
        });
        let since = shared.clock.now();
        Self {
            shared,
            origin,
            config,
            machine,
            rib: Rib::new(policy),
            framer: Framer::default(),
            link: Link::Down,
            steps: Vec::new(),
            stale_until: None,
            settled_at: None,
            is_up: false,
            since,
            error: None,
        }
    }

    async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut buffer = vec![0; READ_LIMIT];
        self.happened(Event::Start).await;
        loop {
            self.publish().await?;
            let deadlines = [self.machine.deadline(), self.stale_until, self.settled_at];
            let next = deadlines.into_iter().flatten().min();
            let clock = Arc::clone(&self.shared.clock);
            let tick = async move {
                match next {
                    Some(at) => clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let woke = tokio::select! {
                () = shutdown.cancelled() => Woke::Stop,
                () = tick => Woke::Tick,
                woke = self.link.next(&mut buffer) => woke,
            };
            match woke {
                Woke::Connected(Ok(stream)) => self.connected(stream).await,
                Woke::Connected(Err(error)) => self.happened(Event::Closed(error.to_string())).await,
                Woke::Read(Ok(0)) => {
                    self.happened(Event::Closed("the peer closed the connection".into())).await
                }
                Woke::Read(Ok(count)) => self.read(buffer.get(..count).unwrap_or_default()).await,
                Woke::Read(Err(error)) => self.happened(Event::Closed(error.to_string())).await,
                Woke::Stop => {
                    self.happened(Event::Stop(FAREWELL)).await;
                    return self.publish().await;
                }
                Woke::Tick => self.tick().await,
            }
        }
    }

    async fn connected(&mut self, stream: TcpStream) {
        let local = stream.local_addr().map(|address| address.ip().to_canonical());
        if let (None, Ok(IpAddr::V4(address))) = (self.config.router_id, local) {
            self.machine.identify(address);
        }
        self.link = Link::Up(stream);
        self.happened(Event::Connected).await;
    }

    async fn read(&mut self, bytes: &[u8]) {
        self.framer.push(bytes);
        // Closing empties the framer, which ends the loop.
        loop {
            match self.framer.take() {
                Ok(Some(frame)) => self.happened(Event::Received(&frame)).await,
                Ok(None) => return,
                Err(misbehaved) => return self.happened(Event::Garbled(misbehaved)).await,
            }
        }
    }

    async fn tick(&mut self) {
        let now = self.shared.clock.now();
        let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        if due(self.stale_until) || due(self.settled_at) {
            self.stale_until = None;
            self.settled_at = None;
            self.rib.age_out(&mut self.steps);
        }
        if due(self.machine.deadline()) {
            self.happened(Event::Tick).await;
        }
    }

    /// Tells the machine and does what it says.
    async fn happened(&mut self, event: Event<'_>) {
        let now = self.shared.clock.now();
        let mut commands: VecDeque<Command> = self.machine.handle(event, now).into();
        while let Some(command) = commands.pop_front() {
            match command {
                Command::Close => {
                    self.link = Link::Down;
                    self.framer = Framer::default();
                }
                Command::Connect => {
                    let remote = SocketAddr::new(self.config.peer, self.config.port);
                    let source = source(self.config.local_address);
                    self.link = Link::Connecting(Box::pin(dial(remote, source)));
                }
                Command::Down(why) => self.down(why, now),
                Command::Established(_) => self.up(now),
                Command::Route(update) => {
                    if let Err(notification) = self.route(&update) {
                        commands.extend(self.machine.handle(Event::End(notification), now));
                    }
                }
                Command::Send(bytes) => {
                    if let Err(error) = self.send(&bytes).await {
                        commands.extend(self.machine.handle(Event::Closed(error.to_string()), now));
                    }
                }
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Link::Up(stream) = &mut self.link else { return Ok(()) };
        tokio::select! {
            sent = stream.write_all(bytes) => sent,
            () = self.shared.clock.sleep(WRITE_LIMIT) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn up(&mut self, now: Timestamp) {
        tracing::info!(target: "lists", event = "up", peer = %self.config.peer, asn = self.config.peer_as);
        self.rib.begin();
        self.settled_at = Some(now.plus(SETTLE));
        self.is_up = true;
        self.since = now;
        self.error = None;
    }

    fn down(&mut self, why: String, now: Timestamp) {
        if std::mem::take(&mut self.is_up) {
            self.since = now;
        }
        self.settled_at = None;
        if self.error.as_ref() != Some(&why) {
            tracing::warn!(target: "lists", event = "down", peer = %self.config.peer, reason = why);
        }
        self.error = Some(why);
        self.rib.begin();
        if !self.rib.is_empty() && self.stale_until.is_none() {
            self.stale_until = Some(now.plus(self.config.stale.duration()));
        }
    }

    fn route(&mut self, update: &Update) -> Result<(), Notification> {
        for fault in &update.faults {
            tracing::debug!(
                target: "lists", event = "fault", peer = %self.config.peer, attribute = fault.code,
                reason = fault.problem, treatment = ?fault.treatment
            );
        }
        if let Some(family) = update.ends_rib() {
            self.rib.end(family, &mut self.steps);
            if self.rib.counts().stale == 0 {
                self.stale_until = None;
                self.settled_at = None;
            }
            return Ok(());
        }
        self.rib.apply(update, &mut self.steps).map_err(|_| Notification::cease(Cease::MaximumPrefixes, ""))
    }

    /// Brings tables and rows up to date.
    async fn publish(&mut self) -> Result<(), Error> {
        let steps = std::mem::take(&mut self.steps);
        let seen = Seen {
            now: self.shared.clock.now(),
            state: self.machine.state(),
            messages: self.machine.messages(),
            since: self.since,
            counts: self.rib.counts().clone(),
            error: self.error.clone(),
        };
        let origin = self.origin;
        let is_long = steps.len() > STEPS_INLINE;
        let work = move |state: &mut State| take(state, origin, &steps, seen);
        if is_long { self.shared.with_blocking(work).await } else { self.shared.with(work).await }
    }
}

fn source(local: Option<IpAddr>) -> Source {
    match local {
        Some(IpAddr::V4(address)) => Source { v4: Some(address), v6: None },
        Some(IpAddr::V6(address)) => Source { v4: None, v6: Some(address) },
        None => Source::default(),
    }
}

/// How the peer is, for its rows.
struct Seen {
    now: Timestamp,
    state: SessionState,
    messages: (u64, u64),
    since: Timestamp,
    counts: Counts,
    error: Option<String>,
}

fn take(state: &mut State, origin: Origin, steps: &[Step], seen: Seen) {
    admit::offer_steps(state, origin, steps, seen.now);
    let names: Vec<_> = state.merged.tables().map(|(name, ..)| name.clone()).collect();
    let held: Vec<(TableName, usize)> = seen
        .counts
        .tables
        .iter()
        .filter_map(|(table, _)| {
            Some((names.get(usize::from(*table))?.clone(), state.merged.count(*table, origin)))
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    let Some(status) = source_mut(state, origin) else { return };
    let Counts { received, accepted, installed, stale, .. } = seen.counts;
    status.refused = received - accepted;
    // What the gate does not take is received and no more.
    let (refused, waiting) = (status.gate.refused(), status.gate.waiting());
    let accepted = accepted.saturating_sub(refused);
    let installed = installed.saturating_sub(refused + waiting);
    status.error.clone_from(&seen.error);
    if !steps.is_empty() {
        status.last_change = Some(seen.now);
    }
    status.state = match seen.state {
        SessionState::Established => SourceState::Good,
        _ if received > 0 => SourceState::Stale,
        _ if seen.error.is_some() => SourceState::Failed,
        _ => SourceState::Waiting,
    };
    let Kind::Bgp(row) = &mut status.kind else { return };
    (row.received_messages, row.sent_messages) = seen.messages;
    row.state = seen.state.name();
    row.since = seen.since;
    (row.received, row.accepted, row.installed, row.stale) = (received, accepted, installed, stale);
    row.tables = held;
    row.error = seen.error;
}
