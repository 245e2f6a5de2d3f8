//! A connection with a peer: who calls whom, and what is said on it until it ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use mailgate_net::{Fingerprint, Stream};
use mailgate_proto::edgesync::{FRAME_LIMIT, Frame, Misbehaved, Refusal, Scope, Session, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::Peer;
use crate::sync::config::{PeerConfig, Trust};
use crate::sync::{Shared, UNWRITTEN_LIMIT};

/// How long a connection may take to come about.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// Between two tries to connect: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often we say that we live.
const ALIVE: Duration = Duration::from_secs(10);
/// Silence after which a peer is gone.
const SILENCE: Duration = Duration::from_secs(35);
/// Octets made ready at once; the rest is made when these have gone.
const READY: usize = 64 * 1024;
/// Octets read at once.
const READ_SIZE: usize = 16 * 1024;
/// How long the last word may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a connection ended.
enum Ended {
    Shutdown,
    Replaced,
    Silent,
    Io(io::Error),
    Misbehaved(Misbehaved),
}

impl Shared {
    /// A connection that came.
    pub(in crate::sync) async fn welcome(self: Arc<Self>, tcp: TcpStream) {
        let from = tcp.peer_addr().map(|peer| peer.to_string()).unwrap_or_default();
        match self.pinned.accept(tcp).await {
            Ok((stream, key)) => {
                let found = self.peers.iter().position(|peer| peer.config.key == key);
                if let Some(number) = found {
                    self.talk(number, stream, key < self.own).await;
                }
            }
            Err(error) => {
                tracing::info!(target: "edge", event = "sync", %from, result = "refused", reason = %error);
            }
        }
    }

    /// Connects to a peer whenever there is no connection, until shutdown.
    pub(in crate::sync) async fn dial(self: Arc<Self>, number: usize) {
        let Some(peer) = self.peers.get(number) else { return };
        let Some(address) = peer.config.address else { return };
        let mut pause = RETRY.0;
        loop {
            if !peer.is_connected() {
                let attempt = async {
                    let tcp = mailgate_net::dial(address, mailgate_net::Source::default()).await?;
                    self.pinned.connect(tcp).await
                };
                let dialled = tokio::select! {
                    () = self.shutdown.cancelled() => return,
                    () = self.clock.sleep(DIAL_LIMIT) => Err(io::ErrorKind::TimedOut.into()),
                    dialled = attempt => dialled,
                };
                match dialled {
                    Ok((stream, key)) if key == peer.config.key => {
                        pause = RETRY.0;
                        self.talk(number, stream, self.own < key).await;
                    }
                    Ok((_, key)) => {
                        peer.note(format!("at {address} is another host of ours, with key {key}"))
                    }
                    Err(error) => peer.note(format!("{address}: {error}")),
                }
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = self.clock.sleep(pause) => {}
            }
            pause = if peer.is_connected() { RETRY.0 } else { (pause * 2).min(RETRY.1) };
        }
    }

    fn settings(&self, config: &PeerConfig, knows: (u64, u64), key: &Fingerprint) -> Settings {
        let scope = |trust: Trust| match trust {
            Trust::Full => Scope::All,
            Trust::Traps => Scope::Traps,
        };
        Settings {
            name: self.hostname.as_str().to_owned(),
            takes: scope(config.trust),
            gives: scope(config.gives.unwrap_or(config.trust)),
            skew: i64::try_from(self.config.clock_skew.duration().as_millis()).unwrap_or(i64::MAX),
            // One of the two; it does not matter which.
            compares: self.own < *key,
            knows,
        }
    }

    async fn talk(&self, number: usize, mut stream: Stream, is_preferred: bool) {
        let Some(peer) = self.peers.get(number) else { return };
        let end = self.shutdown.child_token();
        let Some((place, knows)) = peer.take_place(is_preferred, self.clock.now(), &end) else {
            return self.last_word(&mut stream, Refusal::Twice).await;
        };
        peer.fold();
        let mut session = Session::new(self.settings(&peer.config, knows, &peer.config.key));
        tracing::info!(target: "edge", event = "sync", peer = %peer.config.name, result = "connected");
        let ended = self.converse(peer, &mut session, &mut stream, &end).await;
        let (reason, word) = match &ended {
            Ended::Shutdown => ("we end".to_owned(), Some(Refusal::Goodbye)),
            Ended::Replaced => ("another connection took its place".to_owned(), Some(Refusal::Twice)),
            Ended::Silent => (format!("nothing heard for {} s", SILENCE.as_secs()), None),
            Ended::Io(error) => (error.to_string(), None),
            Ended::Misbehaved(Misbehaved::Refused(Refusal::Goodbye)) => ("it was stopped".to_owned(), None),
            Ended::Misbehaved(Misbehaved::Refused(Refusal::Clock)) => {
                ("it says that our clock is too far from its own; see edge.sync.clock_skew".to_owned(), None)
            }
            Ended::Misbehaved(misbehaved @ Misbehaved::Refused(_)) => (misbehaved.to_string(), None),
            Ended::Misbehaved(misbehaved) => (misbehaved.to_string(), Some(misbehaved.refusal())),
        };
        if let Some(word) = word {
            self.last_word(&mut stream, word).await;
        }
        tracing::info!(target: "edge", event = "sync", peer = %peer.config.name, result = "disconnected", reason);
        peer.leave_place(place, self.clock.now());
        if !matches!(ended, Ended::Replaced) {
            peer.state().error = reason;
        }
    }

    async fn last_word(&self, stream: &mut Stream, word: Refusal) {
        let mut out = Vec::new();
        Frame::Refuse(word).put(&mut out);
        let say = async {
            // The peer may be gone already.
            let _ = stream.write_all(&out).await;
            let _ = stream.shutdown().await;
        };
        tokio::select! {
            () = say => {}
            () = self.clock.sleep(FAREWELL) => {}
        }
    }

    async fn converse(
        &self,
        peer: &Peer,
        session: &mut Session,
        stream: &mut Stream,
        end: &CancellationToken,
    ) -> Ended {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
        let mut news = self.news.subscribe();
        let mut unwritten = 0;
        let mut is_flushed = true;
        let mut heard = self.clock.now();
        let mut tick = heard.plus(ALIVE);
        let mut compare = heard.plus(self.config.compare_every.duration());
        loop {
            if output.is_empty() {
                self.make_ready(session, &mut output);
            }
            peer.state().now = session.progress().clone();
            input.reserve(READ_SIZE);
            let mut limited = (&mut reader).take(READ_SIZE as u64);
            tokio::select! {
                () = end.cancelled() => {
                    return if self.shutdown.is_cancelled() { Ended::Shutdown } else { Ended::Replaced };
                }
                read = limited.read_buf(&mut input) => match read {
                    Ok(0) => return Ended::Io(io::ErrorKind::UnexpectedEof.into()),
                    Ok(octets) => {
                        heard = self.clock.now();
                        peer.state().bytes.1 += octets as u64;
                        match self.take_in(session, &mut input) {
                            Ok(applied) => unwritten += applied,
                            Err(misbehaved) => return Ended::Misbehaved(misbehaved),
                        }
                    }
                    Err(error) => return Ended::Io(error),
                },
                written = send(&mut writer, &output), if !output.is_empty() || !is_flushed => match written {
                    Ok(octets) => {
                        is_flushed = output.is_empty();
                        output.advance(octets);
                        peer.state().bytes.0 += octets as u64;
                    }
                    Err(error) => return Ended::Io(error),
                },
                changed = news.changed() => if changed.is_err() { return Ended::Shutdown },
                () = self.clock.sleep_until(tick) => {
                    tick = self.clock.now().plus(ALIVE);
                    session.stay_alive();
                    if self.clock.now() >= compare {
                        compare = self.clock.now().plus(self.config.compare_every.duration());
                        if self.own < peer.config.key {
                            session.compare();
                        }
                    }
                }
            }
            if self.clock.now().since(heard) >= SILENCE {
                return Ended::Silent;
            }
            if unwritten >= UNWRITTEN_LIMIT {
                unwritten = 0;
                // It is not read meanwhile; a database that fails is told elsewhere.
                let _ = self.greylist.flush().await;
            }
        }
    }

    fn make_ready(&self, session: &mut Session, output: &mut BytesMut) {
        let mut ready = Vec::new();
        let mut replica = self.replica();
        while ready.len() < READY
            && let Some(frame) = session.output(&mut replica, self.now())
        {
            frame.put(&mut ready);
        }
        output.extend_from_slice(&ready);
    }

    /// Says how many changes were made.
    fn take_in(&self, session: &mut Session, input: &mut BytesMut) -> Result<usize, Misbehaved> {
        let mut count = 0;
        while let Some(frame) = Frame::take(input)? {
            let mut replica = self.replica();
            let changes = session.input(frame, &mut replica, self.now())?;
            changes.iter().for_each(|applied| self.apply(&mut replica, applied));
            count += changes.len();
            drop(replica);
        }
        debug_assert!(input.len() <= FRAME_LIMIT + 4);
        if count > 0 {
            // Traps that friends told are of our log.
            let end = self.replica().log_end();
            self.news.send_if_modified(|known| std::mem::replace(known, end) != end);
        }
        Ok(count)
    }
}

/// Writes some of `output`, or flushes when there is none; may be dropped before it is done.
async fn send(writer: &mut (impl AsyncWrite + Unpin), output: &[u8]) -> io::Result<usize> {
    if output.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(output).await {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        written => written,
    }
}
