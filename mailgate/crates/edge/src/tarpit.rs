//! The tarpit: listed and trapped clients are answered one byte at a time, kindly, until they give up.
//!
//! Held connections have no task, no timer and no buffer of their own: a socket, a few words of state, and a place in
//! one timer wheel. Only those inside TLS have a task each, because a TLS session is large anyway.
//!
//! Bounds: `capacity` in all, and never so many that other sessions lack open files; `per_network` of one /24 or /64;
//! `tls_capacity` inside TLS; `pace` turns a second. When it is full the oldest listed client makes room, then the
//! oldest trapped one. None of this concerns unknown clients, who have places of their own.
//!
//! Start reading at `dialogue.rs`, then `stutter.rs`.

mod dialogue;
mod script;
mod stutter;
mod tls;
mod wheel;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mailgate_lists::TableName;
use mailgate_model::{Clock, Domain, SessionId, Timestamp};
use mailgate_net::Stream;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::dialogue::{Dialogue, Say};
use self::script::Script;
use crate::Answer;
use crate::config::TarpitConfig;
use crate::limits::{Networks, spare_files};
use crate::statistics::Counters;

/// Connections on their way to the wheel; more come only when the machine cannot keep up, and are closed.
const ARRIVALS: usize = 8192;
/// Silence after which a held connection is let go (spamd(8)).
const IDLE: Duration = Duration::from_secs(400);
/// Asked of the kernel for what we send: bytes that the client does not fetch.
const SEND_BUFFER: usize = 256;
/// Most input kept of a session that was read ahead before it was trapped: as much as was read at once.
const UNREAD_LIMIT: usize = 8192;

/// What lists say to those they hold. Joined to the lists in `wire.rs`.
pub trait Texts: Send + Sync + 'static {
    /// Every text of every list that holds `ip`, in the order of the lists, complete: the address is filled in, lines
    /// end with `\n`. Lists without a text are left out.
    fn messages(&self, ip: IpAddr) -> Answer<'_, Vec<(TableName, String)>>;
}

/// Why a client is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// These tables list it.
    Listed(Box<[TableName]>),
    /// It stepped into a trap.
    Trapped,
}

/// Who is held, and why.
#[derive(Debug)]
pub(crate) struct About {
    ip: IpAddr,
    session: SessionId,
    why: Why,
    since: Timestamp,
}

impl About {
    pub(crate) fn new(ip: IpAddr, session: SessionId, why: Why, since: Timestamp) -> Self {
        Self { ip, session, why, since }
    }
}

/// How far a session got before it came here.
#[derive(Debug)]
pub(crate) struct Held {
    /// `None` before the greeting.
    resumed: Option<Box<[u8]>>,
}

impl Held {
    /// Nothing was said yet.
    pub(crate) fn from_start() -> Self {
        Self { resumed: None }
    }

    /// RCPT was said and is not answered; `unread` is what came behind it.
    pub(crate) fn after_recipient(unread: &[u8]) -> Self {
        let end = unread.len().min(UNREAD_LIMIT);
        Self { resumed: Some(unread.get(..end).unwrap_or_default().into()) }
    }

    /// State, next words and unread input of the session.
    fn begin(self, tls: dialogue::Tls) -> (Dialogue, Say, Option<Box<[u8]>>) {
        match self.resumed {
            None => (Dialogue::new(tls), Say::Greeting, None),
            Some(unread) => (
                Dialogue::after_recipient(tls),
                Say::RecipientOk,
                Some(unread).filter(|unread| !unread.is_empty()),
            ),
        }
    }
}

/// What the tarpit is made of.
pub(crate) struct Parts {
    pub(crate) config: TarpitConfig,
    pub(crate) hostname: Domain,
    pub(crate) content_limit: usize,
    pub(crate) tls: Option<mailgate_net::Tls>,
    pub(crate) texts: Option<Arc<dyn Texts>>,
    /// Sessions with unknown clients that must find an open file.
    pub(crate) sessions: usize,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) statistics: Arc<Counters>,
    pub(crate) shutdown: CancellationToken,
}

/// The door of the tarpit.
#[derive(Clone)]
pub(crate) struct Tarpit {
    shared: Arc<Shared>,
    arrivals: mpsc::Sender<Arrival>,
}

/// What the wheel and the sessions inside TLS share.
struct Shared {
    config: TarpitConfig,
    script: Script,
    texts: Option<Arc<dyn Texts>>,
    networks: Networks,
    tls: Option<mailgate_net::Tls>,
    clock: Arc<dyn Clock>,
    statistics: Arc<Counters>,
    shutdown: CancellationToken,
    held_plain: AtomicUsize,
    held_tls: AtomicUsize,
}

struct Arrival {
    tcp: TcpStream,
    about: About,
    held: Held,
}

impl Tarpit {
    /// Starts the wheel; must be called inside a tokio runtime.
    pub(crate) fn start(parts: Parts) -> Self {
        let Parts { mut config, hostname, content_limit, tls, texts, sessions, .. } = parts;
        let Parts { clock, statistics, shutdown, .. } = parts;
        let room = spare_files(sessions);
        if config.capacity > room {
            tracing::warn!(
                target: "edge", event = "tarpit", capacity = config.capacity, room,
                "fewer connections are held than edge.tarpit.capacity says: this process may have too few open files (LimitNOFILE)"
            );
            config.capacity = room;
        }
        let shared = Arc::new(Shared {
            script: Script::new(&hostname, content_limit, &config),
            networks: Networks::new(config.per_network),
            texts,
            config,
            tls,
            clock,
            statistics,
            shutdown,
            held_plain: AtomicUsize::new(0),
            held_tls: AtomicUsize::new(0),
        });
        let (arrivals, incoming) = mpsc::channel(ARRIVALS);
        tokio::spawn(stutter::run(Arc::clone(&shared), incoming));
        Self { shared, arrivals }
    }

    /// Takes a connection. It is closed at once when the machine cannot keep up, or when too many of its network are held.
    pub(crate) fn hold(&self, stream: Stream, about: About, held: Held) {
        let (session, ip) = (about.session, about.ip);
        let refused = |reason: &str| {
            tracing::debug!(target: "edge", s = %session, event = "tarpit", ip = %ip, result = "shed", reason);
        };
        if !self.shared.networks.enter(ip) {
            self.shared.statistics.network_full();
            return refused("network");
        }
        self.shared.statistics.tarpitted();
        match stream {
            Stream::Plain(tcp) => {
                if self.arrivals.try_send(Arrival { tcp, about, held }).is_err() {
                    self.shared.statistics.shed();
                    self.shared.networks.leave(ip);
                    refused("busy");
                }
            }
            inside @ Stream::Tls(_) => tls::spawn_inside(&self.shared, inside, about, held),
        }
    }

    /// Connections held now.
    pub(crate) fn held(&self) -> usize {
        self.shared.held_plain.load(Ordering::Relaxed) + self.shared.held_tls.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Whether a further connection may begin TLS.
    fn tls_state(&self) -> dialogue::Tls {
        if self.tls.is_some() && self.held_tls.load(Ordering::Relaxed) < self.config.tls_capacity {
            dialogue::Tls::Offered
        } else {
            dialogue::Tls::Unavailable
        }
    }

    /// The last word to somebody, once the lists were asked.
    async fn last_word(&self, about: &About) -> String {
        let told = match &self.texts {
            Some(texts) if matches!(about.why, Why::Listed(_)) => texts.messages(about.ip).await,
            _ => Vec::new(),
        };
        self.script.last_word(about.ip, &about.why, &told)
    }

    /// Every held connection ends here.
    fn let_go(&self, about: &About, reason: &str, sent: u64) {
        self.networks.leave(about.ip);
        let why = match &about.why {
            Why::Listed(_) => "listed",
            Why::Trapped => "trapped",
        };
        let seconds = self.clock.now().since(about.since).as_secs();
        tracing::info!(
            target: "edge", s = %about.session, event = "tarpit", ip = %about.ip, result = "released", reason,
            why, seconds, sent
        );
    }
}

#[cfg(test)]
pub(crate) use stutter::VICTIM_SIZE;
