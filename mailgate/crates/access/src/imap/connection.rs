//! One connection: commands in, responses out, each with its limits.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mailgate_model::{Clock, Timestamp, TlsFacts};
use mailgate_net::{Stream, Tls};
use mailgate_proto::imap::{Announced, Input, Limits, Misbehaved, Reader, Writer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::reply::{Bye, Reply};

/// Read at once.
const READ: usize = 8 * 1024;
/// Responses gathered before they leave.
const GATHERED: usize = 64 * 1024;
/// A client must take what was written within this.
const WRITE_LIMIT: Duration = Duration::from_secs(120);
/// A client must take our last word within this.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a session ends.
#[derive(Debug)]
pub(crate) enum End {
    /// We say why.
    Bye(Bye),
    /// The peer closed.
    Closed,
    /// The connection broke.
    Failed(io::Error),
    /// The peer does not take what it asked for.
    Stuck,
}

impl End {
    /// The word for the log.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Bye(bye) => format!("{bye:?}").to_lowercase(),
            Self::Closed => "closed-by-peer".to_owned(),
            Self::Failed(error) => format!("connection-lost: {error}"),
            Self::Stuck => "peer-does-not-read".to_owned(),
        }
    }
}

/// How long the server waits for the peer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// So long from the last octet.
    Silence(Duration),
    /// Up to this time.
    Until(Timestamp),
}

/// What came in.
#[derive(Debug)]
pub(crate) enum Received {
    /// A whole command or line.
    Command(Bytes),
    /// A literal is announced: allow or refuse it.
    Literal(Announced),
}

pub(crate) struct Connection {
    /// Absent only while a TLS handshake has it.
    stream: Option<Stream>,
    reader: Reader,
    buffer: Vec<u8>,
    pub(crate) out: Writer,
    clock: Arc<dyn Clock>,
    shutdown: CancellationToken,
}

impl Connection {
    pub(crate) fn new(stream: Stream, clock: Arc<dyn Clock>, shutdown: CancellationToken) -> Self {
        Self {
            stream: Some(stream),
            reader: Reader::new(Limits::default()),
            buffer: vec![0; READ],
            out: Writer::new(),
            clock,
            shutdown,
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.stream, Some(Stream::Tls(_)))
    }

    pub(crate) fn tls_facts(&self) -> Option<TlsFacts> {
        self.stream.as_ref().and_then(Stream::tls_facts)
    }

    /// What of the current command was read when a literal is announced.
    pub(crate) fn so_far(&self) -> &[u8] {
        self.reader.so_far()
    }

    pub(crate) fn allow(&mut self) {
        self.reader.allow();
    }

    pub(crate) fn refuse(&mut self) {
        self.reader.refuse();
    }

    /// Whether bytes came after the last command.
    pub(crate) fn has_pending(&self) -> bool {
        self.reader.has_pending()
    }

    /// The next command. What was written leaves before waiting.
    pub(crate) async fn receive(&mut self, patience: Patience) -> Result<Received, End> {
        loop {
            match self.reader.advance() {
                Ok(Input::Command(command)) => return Ok(Received::Command(command)),
                Ok(Input::Literal(literal)) => return Ok(Received::Literal(literal)),
                Ok(Input::Discarded) => {}
                Ok(Input::More) => {
                    self.flush().await?;
                    let (limit, late) = match patience {
                        Patience::Silence(span) => (self.clock.sleep(span), Bye::Autologout),
                        Patience::Until(time) => (self.clock.sleep_until(time), Bye::LoginLimit),
                    };
                    let shutdown = self.shutdown.clone();
                    tokio::select! {
                        biased;
                        () = shutdown.cancelled() => return Err(End::Bye(Bye::ShuttingDown)),
                        read = self.read() => read?,
                        () = limit => return Err(End::Bye(late)),
                    }
                }
                Err(Misbehaved::LineTooLong | Misbehaved::Literals) => {
                    return Err(End::Bye(Bye::LineTooLong));
                }
            }
        }
    }

    /// Reads what is there. Cancelling it loses nothing.
    async fn read(&mut self) -> Result<(), End> {
        let stream = self.stream.as_mut().ok_or(End::Closed)?;
        match stream.read(&mut self.buffer).await {
            Ok(0) => Err(End::Closed),
            Ok(count) => {
                self.reader.feed(self.buffer.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(error) => Err(End::Failed(error)),
        }
    }

    /// Writes what was gathered, when it is much.
    pub(crate) async fn drain(&mut self) -> Result<(), End> {
        if self.out.len() >= GATHERED { self.flush().await } else { Ok(()) }
    }

    /// Writes what was gathered.
    pub(crate) async fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        let bytes = self.out.take();
        self.write(&bytes).await
    }

    /// Writes gathered responses and then `bytes`, without copying them, in pieces that each have their time limit.
    pub(crate) async fn write_through(&mut self, bytes: &[u8]) -> Result<(), End> {
        self.flush().await?;
        self.write(bytes).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        let stream = self.stream.as_mut().ok_or(End::Closed)?;
        for piece in bytes.chunks(GATHERED) {
            tokio::select! {
                biased;
                written = stream.write_all(piece) => written.map_err(End::Failed)?,
                () = self.clock.sleep(WRITE_LIMIT) => return Err(End::Stuck),
            }
        }
        stream.flush().await.map_err(End::Failed)
    }

    /// An untagged response of our own words.
    pub(crate) fn untagged(&mut self, text: &str) {
        self.out.raw("* ").raw(text).end();
    }

    /// The result of a command.
    pub(crate) fn tagged(&mut self, tag: &str, reply: &Reply) {
        self.out.raw(tag).raw(" ").raw(reply.condition.word()).raw(" ");
        if let Some(code) = &reply.code {
            self.out.raw("[").raw(code).raw("] ");
        }
        self.out.text(reply.text).end();
    }

    /// `+ ` and a text of ours.
    pub(crate) fn continuation(&mut self, text: &str) {
        self.out.raw("+ ").raw(text).end();
    }

    /// The server's side of the handshake. What was read in the clear is gone.
    pub(crate) async fn start_tls(&mut self, tls: &Tls) -> Result<(), End> {
        self.flush().await?;
        self.reader = Reader::new(Limits::default());
        match self.stream.take() {
            Some(Stream::Plain(tcp)) => {
                self.stream = Some(tls.accept(tcp).await.map_err(End::Failed)?);
                Ok(())
            }
            other => {
                self.stream = other;
                Err(End::Closed)
            }
        }
    }

    /// Our last words, as far as the peer takes them.
    pub(crate) async fn close(mut self, end: &End) {
        if let End::Bye(bye) = end {
            self.out.raw("* BYE ").text(bye.text()).end();
        }
        let bytes = self.out.take();
        let Some(mut stream) = self.stream.take() else { return };
        let farewell = async {
            // Nobody is left to tell when this fails.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        };
        tokio::select! {
            () = farewell => {}
            () = self.clock.sleep(FAREWELL) => {}
        }
    }
}
