//! Where every connection to port 25 begins: classify the source, send it where it belongs.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use mailgate_lists::{Action, TableName};
use mailgate_model::{Client, Clock, Domain, FirstContact, SessionId};
use mailgate_net::{Limits, Places, Stream, Tls};
use mailgate_store::Greylist;
use mailgate_store::greylist::PeerKind;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::classify::{Layers, Refusal, Route, classify, said};
use crate::config::{Behind, Config, Mode};
use crate::greylist::{self, policy::Policy};
use crate::handoff::{Handoff, Handover};
use crate::reason::Reason;
use crate::reply;
use crate::statistics::{Counters, Statistics};
use crate::suspicion::{Inquiry, Surroundings, Tables, Zones};
use crate::tarpit::{self, About, Held, Tarpit, Texts, Why};
use crate::trap::{Recipients, TrapReason, Traps};
use mailgate_packet::PacketFilter;

/// What the edge is made of.
pub struct Parts {
    /// `[edge]`, checked with [`Config::problems`].
    pub config: Config,
    /// Our name in greetings; the same as reception's.
    pub hostname: Domain,
    /// Largest content in octets that reception takes, said with SIZE; the same as reception's.
    pub content_limit: usize,
    /// The memory of first contact.
    pub greylist: Greylist,
    /// What the DNS says of clients; without it only what they do counts.
    pub inquiry: Option<Arc<dyn Inquiry>>,
    /// Tables that others fill: their bypass counts less than what was seen here.
    pub feeds: Vec<TableName>,
    /// What the tables say of an address.
    pub filter: Arc<dyn PacketFilter>,
    /// Where connections go that deserve a real server.
    pub handoff: Arc<dyn Handoff>,
    /// For STARTTLS; without it, it is not offered.
    pub tls: Option<Tls>,
    /// Who knows which recipients exist; without it nobody is trapped for unknown ones.
    pub recipients: Option<Arc<dyn Recipients>>,
    /// What lists say to those they hold; without it they are told what `[edge.tarpit]` says.
    pub texts: Option<Arc<dyn Texts>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Ends sessions and the tarpit.
    pub shutdown: CancellationToken,
}

/// The edge: serves what connects to port 25.
pub struct Edge {
    pub(crate) config: Config,
    pub(crate) hostname: Domain,
    pub(crate) content_limit: usize,
    pub(crate) greylist: Greylist,
    pub(crate) filter: Arc<dyn PacketFilter>,
    pub(crate) handoff: Arc<dyn Handoff>,
    pub(crate) tls: Option<Tls>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) statistics: Arc<Counters>,
    pub(crate) tarpit: Tarpit,
    pub(crate) traps: Traps,
    pub(crate) policy: Policy,
    pub(crate) around: Option<Surroundings>,
    pub(crate) feeds: Vec<TableName>,
    pub(crate) outbound: OnceLock<mailgate_store::Outbound>,
    /// Room for contents that are read before their clients are judged.
    pub(crate) contents: Arc<Semaphore>,
    places: Arc<Places>,
}

impl Edge {
    /// Starts the tarpit and the sweep of the greylist. Must be called inside a tokio runtime.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { config, hostname, content_limit, greylist, filter, handoff, tls, .. } = parts;
        let Parts { inquiry, feeds, recipients, texts, clock, shutdown, .. } = parts;
        let statistics = Arc::new(Counters::default());
        let tarpit = Tarpit::start(tarpit::Parts {
            config: config.tarpit.clone(),
            hostname: hostname.clone(),
            content_limit,
            tls: tls.clone(),
            texts,
            sessions: config.limits.sessions,
            clock: Arc::clone(&clock),
            statistics: Arc::clone(&statistics),
            shutdown: shutdown.clone(),
        });
        tokio::spawn(greylist::sweep_forever(greylist.clone(), Arc::clone(&clock), shutdown.clone()));
        let traps = Traps::new(config.traps.clone(), recipients, Arc::clone(&clock));
        let (following, ended) = (traps.follow(), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = following => {}
                () = ended.cancelled() => {}
            }
        });
        let around = inquiry.map(|inquiry| Surroundings {
            zones: Arc::new(Zones::new(&config.suspicion.zones)),
            inquiry,
            clock: Arc::clone(&clock),
            budget: config.suspicion.budget.duration(),
        });
        if let Some(around) = around.as_ref().filter(|around| !around.zones.is_empty()) {
            let (zones, inquiry) = (Arc::clone(&around.zones), Arc::clone(&around.inquiry));
            tokio::spawn(zones.test_forever(inquiry, Arc::clone(&clock), shutdown.clone()));
        }
        if config.mode == Mode::Selective {
            greylist.limit_pending(config.greylist.selective.pending);
        }
        Arc::new(Self {
            policy: Policy::from(&config),
            around,
            feeds,
            outbound: OnceLock::new(),
            contents: Arc::new(Semaphore::new(greylist::CONTENTS)),
            places: Places::new(Limits {
                total: config.limits.sessions,
                per_source: config.limits.sessions_per_source,
            }),
            config,
            hostname,
            content_limit,
            greylist,
            filter,
            handoff,
            tls,
            clock,
            shutdown,
            statistics,
            tarpit,
            traps,
        })
    }

    /// Serves one connection: returns when it was refused, handed on or taken by the tarpit, and for an unknown client
    /// when its session here is over. Never fails: what a peer does is no error of ours.
    pub async fn serve(self: &Arc<Self>, tcp: TcpStream, client: Client, session: SessionId) {
        self.statistics.connections();
        let ip = client.ip();
        let (route, tables) = self.route(ip);
        tracing::debug!(target: "edge", s = %session, event = "connect", ip = %ip, route = ?route);
        match route {
            Route::Greylist => self.greet(tcp, client, session).await,
            Route::Reception(reason) => {
                if self.config.behind == Behind::Foreign
                    && matches!(reason, Reason::Passed | Reason::Admitted)
                {
                    // The kernel should have sent it on.
                    self.greylist.tell_again(ip);
                }
                self.hand_over(tcp, client, session, reason);
            }
            Route::Refuse(refusal) => self.refuse(tcp, session, refusal).await,
            Route::Tarpit(reason) => {
                self.statistics.reason(reason);
                let why = if reason == Reason::Trapped { Why::Trapped } else { Why::Listed(tables.into()) };
                tracing::info!(target: "edge", s = %session, event = "tarpit", ip = %ip, result = "held", reason = reason.word());
                let about = About::new(ip, session, why, self.clock.now());
                self.tarpit.hold(Stream::Plain(tcp), about, Held::from_start());
            }
        }
    }

    /// Where a connection from `ip` would go now, and the tables that list it.
    #[must_use]
    pub fn route(&self, ip: IpAddr) -> (Route, Vec<TableName>) {
        let ip = ip.to_canonical();
        let verdict = self.filter.verdict(ip);
        let (bypass, blocked) = said(&verdict, self.feeds());
        let standing = self.greylist.standing(ip);
        let local = self.config.local.iter().any(|network| network.contains(&ip));
        let grey = verdict.meanings.contains(&Action::Grey) || verdict.action == Some(Action::Grey);
        let layers = Layers { local, bypass, blocked, grey, standing: &standing, mode: self.config.mode };
        (classify(&layers), verdict.tables)
    }

    /// The tables that add to the suspicion of `ip`.
    pub(crate) fn tables(&self, ip: IpAddr) -> Tables {
        let verdict = self.filter.verdict(ip.to_canonical());
        let held = verdict.tables.into_iter().zip(verdict.meanings.iter().copied());
        let grey = verdict.meanings.contains(&Action::Grey) || verdict.action == Some(Action::Grey);
        Tables {
            score: held.filter(|(_, meaning)| *meaning == Action::Score).map(|(name, _)| name).collect(),
            grey,
        }
    }

    /// Counters since the start and sizes now.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics {
            greeting_now: self.places.taken(),
            held_now: self.tarpit.held(),
            greylist: self.greylist.counts(),
            reasons: self.statistics.found(),
            zones: self.around.as_ref().map(|around| around.zones.status()).unwrap_or_default(),
            ..self.statistics.read()
        }
    }

    async fn greet(self: &Arc<Self>, tcp: TcpStream, client: Client, session: SessionId) {
        let Ok(_place) = self.places.take(client.ip()) else {
            self.statistics.turned_away();
            self.statistics.reason(Reason::Limit);
            tracing::info!(target: "edge", s = %session, event = "connect", ip = %client.ip(), result = "refused", reason = "limit");
            return last_words(tcp, &reply::TOO_MANY_SESSIONS).await;
        };
        greylist::serve(self, Stream::Plain(tcp), client, session).await;
    }

    fn hand_over(&self, tcp: TcpStream, mut client: Client, session: SessionId, reason: Reason) {
        self.statistics.straight();
        self.went_straight(session, client.ip(), reason);
        client.contact = Some(FirstContact { identity: String::new(), words: reason.word().to_owned() });
        tracing::debug!(target: "edge", s = %session, event = "connect", ip = %client.ip(), result = "reception", reason = reason.word());
        self.handoff.hand_over(Handover {
            stream: Stream::Plain(tcp),
            client,
            session,
            greeted: false,
            helo: None,
            mail: None,
            rcpt: None,
            pending: bytes::BytesMut::new(),
        });
    }

    async fn refuse(&self, tcp: TcpStream, session: SessionId, refusal: Refusal) {
        self.statistics.refused();
        self.statistics.reason(refusal.reason());
        tracing::info!(target: "edge", s = %session, event = "connect", result = "refused", reason = refusal.reason().word());
        match refusal {
            Refusal::Drop => drop(tcp),
            Refusal::Reject => last_words(tcp, &reply::REFUSED).await,
        }
    }

    /// Traps the client; says whether it is trapped now, which it is not when the administrator passed it.
    pub(crate) fn trap(&self, ip: IpAddr, session: SessionId, recipient: &str, reason: TrapReason) -> bool {
        let network = self.traps.network(ip);
        let peer = self.greylist.trap_under(network, &self.traps.terms());
        self.statistics.trapped();
        let hours = peer.expires.since(self.clock.now()).as_secs() / 3600;
        tracing::info!(
            target: "edge", s = %session, event = "trap", ip = %ip, to = %recipient, result = "trapped",
            reason = reason.word(), times = self.greylist.times_trapped(network), hours
        );
        peer.kind == PeerKind::Trapped
    }
}

/// One reply and the end. A few bytes always fit into a fresh socket's buffer, so nobody keeps us waiting.
async fn last_words(mut tcp: TcpStream, reply: &mailgate_model::Reply) {
    // The peer may be gone already.
    let _ = tcp.write_all(reply.to_wire().as_bytes()).await;
    let _ = tcp.shutdown().await;
}
