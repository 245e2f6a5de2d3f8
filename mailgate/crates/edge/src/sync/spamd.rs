//! The datagrams of spamd(8): what we see is told, what others see counts here as if we had seen it.
//!
//! A grey event is an attempt made now, by our clock, as spamd takes it; white and trapped last as long as the sender
//! said, from now. What comes by datagram is not told on by datagram, so that nothing goes round in circles.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use ipnet::IpNet;
use mailgate_model::{ForwardPath, ReversePath};
use mailgate_net::Group;
use mailgate_proto::edgesync::{Kind, State};
use mailgate_proto::spamdsync::{Authenticator, DATAGRAM_LIMIT, Datagram, Event, Guard, TAG_LENGTH, encode};
use mailgate_store::greylist::feed::{News, Source, told_by};
use mailgate_store::greylist::{Identity, Origin, Peer, PeerKind, Said, Standing};
use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::{SPAMD_PORT, SpamdConfig};
use crate::Edge;
use crate::greylist::normalised_recipient;

/// The group of spamd(8).
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 1, 240);
/// Events that wait to be sent; more are lost, as datagrams may be.
const WAITING_LIMIT: usize = 10_000;
/// A trap that is told lasts so long at most, as the longest of ours.
const TRAPPED_LIMIT: Duration = Duration::from_secs(7 * 86_400);
/// A pass that is told lasts so long at most.
const PASSED_LIMIT: Duration = Duration::from_secs(400 * 86_400);
/// Largest key file that is read.
const KEY_LIMIT: u64 = 1024 * 1024;

/// HMAC-SHA1, which the protocol wants; no reason to use it anywhere else.
struct Secret(hmac::Key);

impl Secret {
    /// The key of spamd: the SHA1 of the file in hexadecimal; nothing at all without a file.
    fn of(file: Option<&[u8]>) -> Self {
        let hex: String = file.map_or_else(String::new, |file| {
            let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, file);
            digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
        });
        Self(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, hex.as_bytes()))
    }
}

impl Authenticator for Secret {
    fn tag(&self, datagram: &[u8]) -> [u8; TAG_LENGTH] {
        let mut tag = [0; TAG_LENGTH];
        tag.iter_mut().zip(hmac::sign(&self.0, datagram).as_ref()).for_each(|(place, byte)| *place = *byte);
        tag
    }

    fn is_genuine(&self, datagram: &[u8], tag: &[u8; TAG_LENGTH]) -> bool {
        hmac::verify(&self.0, datagram, tag).is_ok()
    }
}

/// What the datagrams did since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
    forged: AtomicU64,
    malformed: AtomicU64,
    stale: AtomicU64,
    events: AtomicU64,
}

/// How datagrams of spamd(8) go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SpamdStatus {
    /// Datagrams sent, one for each target.
    pub sent: u64,
    /// Datagrams taken.
    pub received: u64,
    /// Datagrams refused: not with our key, or not from a target where there is none.
    pub forged: u64,
    /// Datagrams refused: no datagrams of spamd's version 1.
    pub malformed: u64,
    /// Datagrams refused: they came before, or their time is too far from ours.
    pub stale: u64,
    /// Events taken.
    pub events: u64,
}

impl Counters {
    pub(super) fn status(&self) -> SpamdStatus {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SpamdStatus {
            sent: read(&self.sent),
            received: read(&self.received),
            forged: read(&self.forged),
            malformed: read(&self.malformed),
            stale: read(&self.stale),
            events: read(&self.events),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Both directions.
pub(super) struct Spamd {
    socket: UdpSocket,
    secret: Secret,
    is_keyed: bool,
    targets: Vec<SocketAddrV4>,
    window: Duration,
    edge: Arc<Edge>,
    counters: Arc<Counters>,
    counter: AtomicU32,
}

impl Spamd {
    pub(super) fn open(config: &SpamdConfig, edge: Arc<Edge>) -> Result<Self, String> {
        let file = config.key_file.as_deref();
        let read = |file: &std::path::Path| {
            let size = std::fs::metadata(file)?.len();
            if size > KEY_LIMIT { Err(std::io::ErrorKind::FileTooLarge.into()) } else { std::fs::read(file) }
        };
        let key = file
            .map(|file| read(file).map_err(|error| format!("{}: {error}", file.display())))
            .transpose()?;
        let group =
            config.multicast.clone().map(|interface| Group { address: GROUP, interface, hops: config.hops });
        let mut targets: Vec<SocketAddrV4> = config.targets.iter().map(|target| target.0).collect();
        targets.extend(group.as_ref().map(|_| SocketAddrV4::new(GROUP, SPAMD_PORT)));
        Ok(Self {
            socket: mailgate_net::datagrams(config.listen, group.as_ref())
                .map_err(|error| error.to_string())?,
            secret: Secret::of(key.as_deref()),
            is_keyed: key.is_some(),
            targets,
            window: config.window.duration(),
            edge,
            counters: Arc::default(),
            counter: AtomicU32::new(0),
        })
    }

    pub(super) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    #[cfg(test)]
    pub(super) fn secret(&self) -> &dyn Authenticator {
        &self.secret
    }

    /// Sends what is given to it and takes what comes, until shutdown.
    pub(super) fn start(self, tasks: &TaskTracker, shutdown: &CancellationToken) -> mpsc::Sender<News> {
        let (tell, told) = mpsc::channel(WAITING_LIMIT);
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.send(told) => {}
                () = self.receive() => {}
            }
        });
        tell
    }

    async fn send(&self, mut told: mpsc::Receiver<News>) {
        while let Some(news) = told.recv().await {
            let Some(event) = self.event(&news) else { continue };
            let Some(datagram) = encode(&event, self.counter.fetch_add(1, Ordering::Relaxed), &self.secret)
            else {
                continue;
            };
            for target in &self.targets {
                match self.socket.send_to(&datagram, target).await {
                    Ok(_) => count(&self.counters.sent),
                    Err(error) => {
                        tracing::debug!(target: "edge", event = "sync", to = %target, result = "failed", %error);
                    }
                }
            }
        }
        // Who told us is gone; what comes in counts all the same.
        std::future::pending::<()>().await;
    }

    /// What spamd would say of it; it knows single IPv4 addresses only, and no deletion.
    pub(super) fn event(&self, news: &News) -> Option<Event> {
        let body = news.body.filter(|body| !body.is_over(self.edge.clock.now().millis()))?;
        let at = u32::try_from(self.edge.clock.now().secs()).ok()?;
        let expires = u32::try_from(body.expires / 1000).unwrap_or(u32::MAX);
        let client = news.key.parts().next()?;
        let host = |text: &str| match text.parse::<IpNet>().ok()? {
            IpNet::V4(network) if network.prefix_len() == 32 => Some(network.addr()),
            _ => None,
        };
        match (news.key.kind, body.state) {
            // That of a message stands beside the one of its client, which is told.
            (Kind::TUPLE, State::Grey) if !matches!(client.parse(), Ok(Identity::Message(_))) => {
                let Said { ip, helo, reverse_path, forward_path } = news.said.as_ref()?;
                let Some(IpAddr::V4(ip)) = *ip else { return None };
                let (from, to) = (format!("<{reverse_path}>"), format!("<{forward_path}>"));
                Some(Event::Grey { at, ip, from, to, helo: helo.clone() })
            }
            (Kind::NETWORK, State::Passed) => Some(Event::White { at, expires, ip: host(client)? }),
            (Kind::NETWORK, State::Trapped) => Some(Event::Trapped { at, expires, ip: host(client)? }),
            _ => None,
        }
    }

    async fn receive(&self) {
        let mut guard = Guard::new(self.window);
        let mut buffer = vec![0; DATAGRAM_LIMIT + 1];
        loop {
            let (length, from) = match self.socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(target: "edge", event = "sync", result = "failed", %error);
                    self.edge.clock.sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            self.heard(buffer.get(..length).unwrap_or_default(), from.ip(), &mut guard);
        }
    }

    pub(super) fn heard(&self, bytes: &[u8], from: IpAddr, guard: &mut Guard) {
        // Without a key the address is all there is to go by.
        let is_target = self.targets.iter().any(|target| IpAddr::V4(*target.ip()) == from);
        if !self.is_keyed && !is_target {
            return count(&self.counters.forged);
        }
        let datagram = match Datagram::decode(bytes, &self.secret) {
            Ok(datagram) => datagram,
            Err(mailgate_proto::spamdsync::Misbehaved::Forged) => return count(&self.counters.forged),
            Err(_) => return count(&self.counters.malformed),
        };
        if let Err(stale) = guard.admit(&datagram, self.edge.clock.now()) {
            tracing::debug!(target: "edge", event = "sync", %from, result = "refused", reason = %stale);
            return count(&self.counters.stale);
        }
        count(&self.counters.received);
        for event in datagram.events {
            count(&self.counters.events);
            told_by(Source::Datagram, || self.take(event));
        }
    }

    fn take(&self, event: Event) {
        match event {
            Event::Grey { ip, from, to, helo, .. } => self.attempt(ip, &from, &to, helo),
            Event::White { at, expires, ip } => {
                let lasts = Duration::from_secs(u64::from(expires.saturating_sub(at))).min(PASSED_LIMIT);
                self.pass(ip, lasts);
            }
            Event::Trapped { at, expires, ip } => {
                let lasts = Duration::from_secs(u64::from(expires.saturating_sub(at))).min(TRAPPED_LIMIT);
                self.edge.greylist.trap(IpNet::from(IpAddr::V4(ip)), lasts);
            }
        }
    }

    /// A client tried at the other host.
    fn attempt(&self, ip: Ipv4Addr, from: &str, to: &str, helo: String) {
        let bare = |path: &str| path.trim().trim_start_matches('<').trim_end_matches('>').to_owned();
        let (Ok(reverse), Ok(forward)) = (ReversePath::try_from(bare(from)), ForwardPath::try_from(bare(to)))
        else {
            return;
        };
        let ip = IpAddr::V4(ip);
        if self.edge.greylist.standing(ip) != Standing::Unknown {
            return;
        }
        if self.edge.greylist.is_trap(&normalised_recipient(&forward.to_string())) {
            self.edge.greylist.trap(IpNet::from(ip), self.edge.config.traps.trapped_for.duration());
            return;
        }
        let (reverse_path, forward_path) = (reverse.to_string(), forward.to_string());
        self.edge.tried_elsewhere(&Said { ip: Some(ip), helo, reverse_path, forward_path });
    }

    /// A client passed at the other host. A trap stays one, and nothing is shortened.
    fn pass(&self, ip: Ipv4Addr, lasts: Duration) {
        let now = self.edge.clock.now();
        let network = IpNet::from(IpAddr::V4(ip));
        let known = match self.edge.greylist.standing(IpAddr::V4(ip)) {
            Standing::Trapped(..) => return,
            Standing::Passed(found, peer) if found == network => Some(peer),
            Standing::Passed(..) | Standing::Unknown => None,
        };
        let peer = Peer {
            kind: PeerKind::Passed,
            origin: Origin::Learned,
            first: known.map_or(now, |peer| peer.first),
            pass: known.map_or(now, |peer| peer.pass),
            expires: known.map_or(now, |peer| peer.expires).max(now.plus(lasts)),
            blocked: known.map_or(0, |peer| peer.blocked),
            passed: known.map_or(0, |peer| peer.passed),
        };
        self.edge.greylist.learn(network, peer);
    }
}
