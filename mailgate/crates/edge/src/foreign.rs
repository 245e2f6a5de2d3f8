//! In front of an MTA of another house, which stays as it is: sessions of clients that qualify go on there.
//!
//! The kernel gives the MTA's port to us for unknown and listed sources only; who is known reaches it directly. So this
//! is the way of a client's first message. The edge has answered on the MTA's behalf so far; here that dialogue is
//! said again to the MTA, after the MTA was told whose it is, and then bytes are carried as they come. An MTA that
//! cannot be told would take every client for a program of its own host, and many relay for those: then nothing is handed
//! over, and the client, which is known by then, reaches the MTA directly with its next connection.
//!
//! Start reading at [`Foreign`], then `present.rs`.

pub mod config;
mod mta;
mod present;
mod probe;
mod splice;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use mailgate_model::{Clock, Domain};
use mailgate_net::{LookupError, Resolver, Reverse};
use mailgate_proto::smtp::{Answer, Content, ContentLimits, DataDecoder, Flaw, Offered};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::config::{Address, ForeignConfig, Way};
use self::mta::{Mta, Trouble};
use self::probe::Known;
use crate::handoff::{Handoff, Handover};
use crate::reply;

/// From the decision to the MTA's last answer before bytes are carried. A client grants five minutes to RCPT (RFC 5321
/// §4.5.3.2.3), an MTA that tests early talkers greets after some seconds.
const INTRODUCTION: Duration = Duration::from_secs(60);
/// Begins the content, between the edge and the MTA.
const DATA: &str = "DATA";
/// Octets of a content nobody wants that are read at once.
const SWALLOWED: usize = 16 * 1024;
/// How long a client may take to fetch a refusal.
const FAREWELL: Duration = Duration::from_secs(10);

/// What the hand-over is made of.
pub struct Parts {
    /// `[edge.foreign]`, checked with [`Config::problems`](crate::Config::problems).
    pub config: ForeignConfig,
    /// Our name, said to the MTA.
    pub hostname: Domain,
    /// The port at which the MTA receives, for a look at what it offers.
    pub port: u16,
    /// Looks up the client's name, which XCLIENT tells.
    pub resolver: Resolver,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Waited for at shutdown.
    pub tasks: TaskTracker,
    /// Ends silent sessions soon.
    pub shutdown: CancellationToken,
}

/// The hand-over to the MTA behind the edge; clones share it.
#[derive(Clone)]
pub struct Foreign(Arc<Inner>);

struct Inner {
    parts: Parts,
    places: Semaphore,
    known: RwLock<Known>,
    carried: AtomicU64,
    failed: AtomicU64,
}

/// The MTA behind the edge, as `mailgate status` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ForeignStatus {
    /// The configured address.
    pub address: String,
    /// How sessions are handed over now: `xclient`, `proxy`, `plain` or `defer`.
    pub handover: &'static str,
    /// Why not in a better way, or why the MTA was not reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Sessions carried now.
    pub sessions_now: usize,
    /// Sessions that went on at the MTA since the start.
    pub carried: u64,
    /// Sessions that could not; their clients were told to connect again.
    pub failed: u64,
}

/// A session that the MTA has taken, and what is still to be said to both sides.
struct Resumed {
    mta: Mta,
    /// The client sends a content that the MTA does not want: it is thrown away, and then the client hears why.
    unwanted: bool,
    to_client: String,
    to_mta: BytesMut,
}

impl Foreign {
    /// Begins to look at the MTA. Must be called inside a tokio runtime.
    #[must_use]
    pub fn start(parts: Parts) -> Self {
        let this = Self(Arc::new(Inner {
            places: Semaphore::new(parts.config.sessions),
            known: RwLock::default(),
            carried: AtomicU64::default(),
            failed: AtomicU64::default(),
            parts,
        }));
        this.0.parts.tasks.spawn(probe::forever(this.clone()));
        this
    }

    /// How things stand.
    #[must_use]
    pub fn status(&self) -> ForeignStatus {
        let Inner { parts, places, carried, failed, .. } = &*self.0;
        let known = self.known();
        ForeignStatus {
            address: parts.config.address.to_string(),
            handover: known.way.map_or("defer", way_word),
            reason: known.reason,
            sessions_now: parts.config.sessions.saturating_sub(places.available_permits()),
            carried: carried.load(Ordering::Relaxed),
            failed: failed.load(Ordering::Relaxed),
        }
    }

    fn known(&self) -> Known {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn learn(&self, known: Known) {
        *self.0.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    fn addresses(&self, port: u16) -> Vec<SocketAddr> {
        match self.0.parts.config.address {
            Address::Auto => vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()],
            Address::At(address) => vec![address],
        }
    }

    /// One connection, to its end.
    async fn carry(&self, handover: Handover) {
        let Inner { parts, places, carried, failed, .. } = &*self.0;
        let session = handover.session;
        let clock = &*parts.clock;
        let ready = match places.try_acquire() {
            Ok(place) => self.resume(&handover).await.map(|resumed| (place, resumed)).map_err(Some),
            Err(_) => Err(None),
        };
        let (place, resumed) = match ready {
            Ok(ready) => ready,
            Err(trouble) => {
                failed.fetch_add(1, Ordering::Relaxed);
                let reason = trouble.as_ref().map_or("too many sessions".to_owned(), Trouble::to_string);
                tracing::warn!(target: "edge", s = %session, event = "hand-over", result = "failed", %reason);
                return last_words(handover, clock).await;
            }
        };
        carried.fetch_add(1, Ordering::Relaxed);
        tracing::info!(target: "edge", s = %session, event = "hand-over", ip = %handover.client.ip(), result = "carried");
        let Resumed { mta, unwanted, to_client, to_mta } = resumed;
        let (mut tcp, from_mta) = mta.into_parts();
        let mut client = handover.stream;
        let begin = async {
            let to_mta = if unwanted { unwanted_content(&mut client, to_mta).await? } else { to_mta };
            client.write_all(to_client.as_bytes()).await?;
            client.write_all(&from_mta).await?;
            client.flush().await?;
            tcp.write_all(&to_mta).await
        };
        let begun = tokio::select! {
            begun = begin => begun.is_ok(),
            () = clock.sleep(parts.config.idle.duration()) => false,
        };
        if begun {
            let idle = parts.config.idle.duration();
            let octets = splice::splice(client, tcp, idle, clock, &parts.shutdown).await;
            tracing::debug!(target: "edge", s = %session, event = "close", up = octets.up, down = octets.down);
        }
        drop(place);
    }

    /// Brings the MTA to where the session is, within [`INTRODUCTION`].
    async fn resume(&self, handover: &Handover) -> Result<Resumed, Trouble> {
        let clock = &self.0.parts.clock;
        tokio::select! {
            resumed = self.introduce(handover) => resumed,
            () = clock.sleep(INTRODUCTION) => Err(Trouble::Slow(INTRODUCTION.as_secs())),
        }
    }

    async fn introduce(&self, handover: &Handover) -> Result<Resumed, Trouble> {
        let Some(way) = self.known().way else { return Err(Trouble::NoXclient) };
        let client = &handover.client;
        let mut mta = Mta::connect(&self.addresses(client.local.port())).await?;
        if way == Way::Proxy {
            mta.send(&present::proxy_header(Some((client.peer, client.local)))).await?;
        }
        let mut greeting = mta.greeting().await?;
        if way == Way::Xclient {
            let answer = mta.want(&format!("EHLO {}", self.0.parts.hostname), "EHLO").await?;
            let Some(offered) = present::xclient_offer(&answer) else {
                self.learn(Known::without_xclient(&answer));
                return Err(Trouble::NoXclient);
            };
            let names = self.names(handover).await;
            greeting = mta.want(&present::xclient(client, &names, &offered), "XCLIENT").await?;
        }
        if handover.greeted {
            replay(mta, handover).await
        } else {
            Ok(Resumed { mta, unwanted: false, to_client: greeting.to_wire(), to_mta: BytesMut::new() })
        }
    }

    async fn names(&self, handover: &Handover) -> Result<Reverse, LookupError> {
        self.0.parts.resolver.reverse(handover.client.ip()).await
    }
}

/// Says again what the edge has answered already. A refusal becomes the answer to the first command that was not
/// answered yet, or to the content that the client is sending; what follows is then up to the client and the MTA.
async fn replay(mut mta: Mta, handover: &Handover) -> Result<Resumed, Trouble> {
    let data = handover.rcpt.as_ref().map(|_| DATA);
    let lines = [handover.helo.as_deref(), handover.mail.as_deref(), handover.rcpt.as_deref(), data];
    for line in lines.into_iter().flatten() {
        let answer = mta.ask(line).await?;
        let goes_on = if line == DATA { answer.class() == 3 } else { answer.is_success() };
        match (goes_on, data) {
            (true, _) => {}
            (false, None) => return Ok(refused(mta, &answer, &handover.pending)),
            (false, Some(_)) => {
                // The transaction is over for the client; one that the MTA has half open would surprise both.
                mta.want("RSET", "RSET").await?;
                let to_mta = handover.pending.clone();
                return Ok(Resumed { mta, unwanted: true, to_client: answer.to_wire(), to_mta });
            }
        }
    }
    Ok(Resumed { mta, unwanted: false, to_client: String::new(), to_mta: handover.pending.clone() })
}

/// Throws away a content, of which `begun` came in already; what follows it, as far as it came in.
async fn unwanted_content(
    client: &mut (impl AsyncRead + Unpin),
    begun: BytesMut,
) -> std::io::Result<BytesMut> {
    let mut input = begun;
    let mut nothing = Content::new(ContentLimits { size: 0, line: 0 });
    nothing.abandon(Flaw::TooBig);
    let mut decoder = DataDecoder::new();
    loop {
        let step = decoder.push(&input, &mut nothing);
        input.advance(step.consumed);
        if step.ended {
            return Ok(input);
        }
        input.reserve(SWALLOWED);
        if client.take(SWALLOWED as u64).read_buf(&mut input).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn refused(mta: Mta, answer: &Answer, pending: &[u8]) -> Resumed {
    let rest = pending.windows(2).position(|two| two == b"\r\n").and_then(|at| pending.get(at + 2..));
    Resumed {
        mta,
        unwanted: false,
        to_client: answer.to_wire(),
        to_mta: BytesMut::from(rest.unwrap_or_default()),
    }
}

/// The client is known now, and its next connection does not come by here.
async fn last_words(handover: Handover, clock: &dyn Clock) {
    let mut client = handover.stream;
    let words = async {
        client.write_all(reply::UNAVAILABLE.to_wire().as_bytes()).await?;
        client.shutdown().await
    };
    tokio::select! {
        // The peer may be gone already.
        _ = words => {}
        () = clock.sleep(FAREWELL) => {}
    }
}

const fn way_word(way: Way) -> &'static str {
    match way {
        Way::Xclient | Way::Auto => "xclient",
        Way::Proxy => "proxy",
        Way::Plain => "plain",
        Way::Defer => "defer",
    }
}

impl Handoff for Foreign {
    fn hand_over(&self, handover: Handover) {
        let this = self.clone();
        self.0.parts.tasks.spawn(async move { this.carry(handover).await });
    }

    fn takes_sessions(&self) -> bool {
        self.known().way.is_some()
    }

    fn offers(&self) -> Option<Offered> {
        Some(self.known().offered)
    }
}
