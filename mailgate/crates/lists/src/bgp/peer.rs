//! A session with one peer: sockets and time around [`Machine`], tables behind [`Rib`].

mod loss;
mod order;
mod state;
mod tell;

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mailgate_model::Timestamp;
use mailgate_net::{Terms, dial_neighbour};
use mailgate_proto::bgp::{
    Asked, Cease, Command, Event, Families, Family, Machine, Notification, Parameters, Patience, Update, Way,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::mode;
use super::order::Order;
use super::outbox::{Outbox, Told};
use super::rib::Rib;
use super::wire::{Turn, Wires};
use crate::Error;
use crate::admit::Step;
use crate::config::BgpConfig;
use crate::merge::Origin;
use crate::shared::Shared;
use state::{Seen, take};

/// A peer that never says that its routes are complete is believed to be complete when it has sent none for this long.
const SETTLE: Duration = Duration::from_secs(120);

/// How often changed routes are saved.
const SAVE: Duration = Duration::from_secs(300);

/// More steps than this are done off the runtime's threads.
const STEPS_INLINE: usize = 4096;

/// Identifies a speaker without IPv4 (the dummy address of RFC 7600 §4.8); it has to be unlike zero and, inside an
/// AS, unlike the peer's.
const NO_IDENTIFIER: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// What the peer is told when the daemon ends.
const FAREWELL: &str = "mailgate is shutting down";

/// What a peer's task works with.
pub(super) struct Start {
    pub(super) shared: Arc<Shared>,
    pub(super) origin: Origin,
    pub(super) config: BgpConfig,
    pub(super) terms: Terms,
    /// Routes of before, and until when they may stay.
    pub(super) rib: Rib,
    pub(super) stale_until: Option<Timestamp>,
    pub(super) file: PathBuf,
    pub(super) door: mpsc::Receiver<TcpStream>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) outbox: Arc<Outbox>,
}

/// Speaks with one peer until `shutdown`.
pub(super) async fn run(start: Start, shutdown: CancellationToken) {
    // The only error is that the runtime is ending.
    let _ = Peer::new(start).run(shutdown).await;
}

struct Peer {
    shared: Arc<Shared>,
    origin: Origin,
    config: BgpConfig,
    terms: Terms,
    machine: Machine,
    rib: Rib,
    wires: Wires,
    file: PathBuf,
    door: mpsc::Receiver<TcpStream>,
    orders: mpsc::Receiver<Order>,
    outbox: Arc<Outbox>,
    told: Told,
    /// Whether the end of our routes has been said in this session.
    has_ended: bool,
    /// Families whose refresh waits for its closing mark.
    refreshing: Vec<Family>,
    /// Who has connected and is not yet let in.
    guest: Option<TcpStream>,
    /// Differences on their way to the tables.
    steps: Vec<Step>,
    /// When routes of a lost session age out.
    stale_until: Option<Timestamp>,
    /// When a session counts as complete.
    settled_at: Option<Timestamp>,
    /// When routes are saved, if they have changed.
    save_at: Option<Timestamp>,
    is_up: bool,
    /// Whether it has said in this session that all its routes are told.
    is_complete: bool,
    /// Routes that it has withdrawn in this session.
    withdrawn: usize,
    /// Since when.
    since: Timestamp,
    error: Option<String>,
    /// Whether the warning about too many prefixes was given.
    warned: bool,
    /// UPDATEs with malformed attributes (RFC 7606).
    faults: u64,
}

/// What woke the task.
enum Woke {
    Guest(TcpStream),
    Order(Order),
    Outbox,
    Stop,
    Tick,
    Turn(Turn),
}

impl Peer {
    fn new(start: Start) -> Self {
        let Start { shared, origin, config, terms, rib, stale_until, file, door, orders, outbox } = start;
        let machine = Machine::new(Parameters {
            local_as: config.local_as,
            peer_as: config.peer_as,
            identifier: config.router_id.unwrap_or(NO_IDENTIFIER),
            hold_time: config.hold_time.duration(),
            mode: mode(config.mode),
            patience: Patience {
                retry_min: config.retry_min.duration(),
                retry_max: config.retry_max.duration(),
                damping_min: config.damping_min.duration(),
                damping_max: config.damping_max.duration(),
            },
            families: Families::ALL,
            add_path: config.add_path,
            announces: config.announces,
            seed: RandomState::new().hash_one(config.peer),
        });
        let since = shared.clock.now();
        Self {
            shared,
            origin,
            config,
            terms,
            machine,
            rib,
            wires: Wires::default(),
            file,
            door,
            orders,
            outbox,
            told: Told::default(),
            has_ended: false,
            refreshing: Vec::new(),
            guest: None,
            steps: Vec::new(),
            stale_until,
            settled_at: None,
            save_at: None,
            is_up: false,
            is_complete: false,
            withdrawn: 0,
            since,
            error: None,
            warned: false,
            faults: 0,
        }
    }

    async fn run(mut self, shutdown: CancellationToken) -> Result<(), Error> {
        self.happened(Event::Start);
        loop {
            self.publish().await?;
            match self.woke(&shutdown).await {
                Woke::Turn(turn) => self.turned(turn),
                Woke::Guest(stream) => {
                    self.guest = Some(stream);
                    self.happened(Event::Accepted);
                    self.guest = None;
                }
                Woke::Order(order) => self.ordered(order),
                Woke::Outbox => {
                    self.told.is_behind = true;
                    self.announce();
                }
                Woke::Tick => self.tick().await,
                Woke::Stop => {
                    self.happened(Event::Stop(FAREWELL));
                    self.publish().await?;
                    self.save().await;
                    return Ok(());
                }
            }
        }
    }

    async fn woke(&mut self, shutdown: &CancellationToken) -> Woke {
        let deadlines = [self.machine.deadline(), self.stale_until, self.settled_at, self.save_at];
        let next = deadlines.into_iter().flatten().min();
        let clock = Arc::clone(&self.shared.clock);
        let tick = async move {
            match next {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let announces = self.config.announces;
        tokio::select! {
            () = shutdown.cancelled() => Woke::Stop,
            () = tick => Woke::Tick,
            Some(stream) = self.door.recv() => Woke::Guest(stream),
            Some(order) = self.orders.recv() => Woke::Order(order),
            () = self.outbox.changed.notified(), if announces => Woke::Outbox,
            turn = self.wires.next() => Woke::Turn(turn),
        }
    }

    fn turned(&mut self, turn: Turn) {
        match turn {
            Turn::Connected(Ok(stream)) => {
                self.wires.open(Way::Out, stream);
                self.identify(Way::Out);
                self.happened(Event::Connected);
            }
            Turn::Connected(Err(error)) => self.happened(Event::Closed(Way::Out, error.to_string())),
            Turn::Failed(way, why) => self.happened(Event::Closed(way, why)),
            Turn::Flushed(way) => {
                self.happened(Event::Flushed(way));
                self.announce();
            }
            Turn::Read(way) => self.read(way),
        }
    }

    /// Without one of its own, our identifier is the address we speak from.
    fn identify(&mut self, way: Way) {
        if let (None, Some(IpAddr::V4(address))) = (self.config.router_id, self.wires.local(way)) {
            self.machine.identify(address);
        }
    }

    fn read(&mut self, way: Way) {
        // Closing takes the framer away, which ends the loop.
        loop {
            let limit = self.machine.message_limit(way);
            let Some(framer) = self.wires.framer(way) else { return };
            framer.allow(limit);
            match framer.take() {
                Ok(Some(frame)) => self.happened(Event::Received(way, &frame)),
                Ok(None) => return,
                Err(misbehaved) => return self.happened(Event::Garbled(way, misbehaved)),
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
            self.is_complete = true;
        }
        if due(self.machine.deadline()) {
            self.happened(Event::Tick);
        }
        if due(self.save_at) {
            self.save().await;
        }
    }

    /// Tells the machine and does what it says.
    fn happened(&mut self, event: Event<'_>) {
        let now = self.shared.clock.now();
        let commands = self.machine.handle(event, now);
        self.obey(commands.into(), now);
    }

    fn obey(&mut self, mut commands: VecDeque<Command>, now: Timestamp) {
        while let Some(command) = commands.pop_front() {
            match command {
                Command::Accept => {
                    if let Some(stream) = self.guest.take() {
                        self.wires.open(Way::In, stream);
                    }
                }
                Command::Close(way) => {
                    if let Some(farewell) = self.wires.close(way, Arc::clone(&self.shared.clock)) {
                        tokio::spawn(farewell);
                    }
                }
                Command::Connect => {
                    let remote = SocketAddr::new(self.config.peer, self.config.port);
                    let (local, terms) = (self.config.local_address, self.terms.clone());
                    self.wires.dial(Box::pin(async move { dial_neighbour(remote, local, &terms).await }));
                }
                Command::Down(loss) => self.down(&loss, now),
                Command::Established(session) => self.up(session, now),
                Command::Refresh(family, asked) => self.refreshed(family, asked, now),
                Command::Route(update) => {
                    if let Err(notification) = self.route(&update, now) {
                        let after = self.config.max_prefix_restart.map(|span| span.duration());
                        commands.extend(self.machine.handle(Event::End(notification, after), now));
                    }
                }
                Command::Send(way, bytes) => self.wires.send(way, &bytes),
            }
        }
    }

    fn route(&mut self, update: &Update, now: Timestamp) -> Result<(), Notification> {
        for fault in &update.faults {
            self.faults += 1;
            tracing::debug!(
                target: "lists", event = "fault", peer = %self.config.peer, attribute = fault.code,
                reason = fault.problem, treatment = ?fault.treatment
            );
        }
        if let Some(family) = update.ends_rib() {
            self.complete(family, now);
            return Ok(());
        }
        if self.settled_at.is_some() {
            self.settled_at = Some(now.plus(SETTLE));
        }
        self.save_at.get_or_insert(now.plus(SAVE));
        self.withdrawn += update.all_withdrawn().count();
        let applied = self.rib.apply(update, &mut self.steps);
        self.warn();
        applied.map_err(|_| Notification::cease(Cease::MaximumPrefixes, ""))
    }

    /// All routes of a family are there.
    fn complete(&mut self, family: Family, now: Timestamp) {
        self.rib.end(family, &mut self.steps);
        self.is_complete = true;
        if self.rib.counts().stale == 0 {
            self.stale_until = None;
            self.settled_at = None;
        }
        self.save_at.get_or_insert(now.plus(SAVE));
    }

    /// Says once in a session that there are nearly too many prefixes.
    fn warn(&mut self) {
        let counts = self.rib.counts();
        let (fresh, limit) = (counts.received - counts.stale, u64::from(self.config.max_prefix));
        let part = limit * u64::from(self.config.max_prefix_warning) / 100;
        if !self.warned && fresh as u64 >= part.max(1) {
            self.warned = true;
            tracing::warn!(
                target: "lists", event = "nearly_too_many", peer = %self.config.peer, prefixes = fresh, limit,
                "one more than the limit ends the session; raise max_prefix if the feed has grown"
            );
        }
    }

    fn refreshed(&mut self, family: Family, asked: Asked, now: Timestamp) {
        match asked {
            Asked::Begins => {
                let only = Families::filter(|other| other == family);
                self.rib.begin(only);
                // A peer that never ends what it has begun (RFC 7313 §4.1).
                self.settled_at = Some(now.plus(SETTLE));
            }
            Asked::Ends => self.complete(family, now),
            Asked::Wanted => {
                let commands = self.machine.mark(family, Asked::Begins, now);
                self.obey(commands.into(), now);
                self.refreshing.push(family);
                self.told.begin();
                self.announce();
            }
        }
    }

    /// Brings tables and rows up to date.
    async fn publish(&mut self) -> Result<(), Error> {
        let steps = std::mem::take(&mut self.steps);
        let seen = Seen::of(self);
        let origin = self.origin;
        let is_long = steps.len() > STEPS_INLINE;
        let work = move |state: &mut crate::shared::State| take(state, origin, &steps, seen);
        if is_long { self.shared.with_blocking(work).await } else { self.shared.with(work).await }
    }

    fn name(&self) -> String {
        self.config.name.clone().unwrap_or_else(|| self.config.peer.to_string())
    }
}
