//! The two directions of one connection: lines in, replies out, each with its time limit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use mailgate_model::{Clock, Reply, Sleep};
use mailgate_net::Stream;
use mailgate_proto::smtp::{LineSplitter, Misbehaved};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

/// Read at once while waiting for commands: several pipelined commands, small enough for thousands of idle sessions.
const COMMAND_READ: usize = 4 * 1024;
/// Read at once while content comes.
const CONTENT_READ: usize = 64 * 1024;
/// After our last word the peer gets this long to take it.
const FAREWELL: Duration = Duration::from_secs(5);
/// And may send this many octets more, which are thrown away: closing with unread input would reset the connection and
/// could destroy our last word on its way.
const FAREWELL_OCTETS: usize = 1024 * 1024;

/// Why there is nobody to talk to any more.
#[derive(Debug)]
pub(crate) enum Gone {
    /// The peer closed.
    Closed,
    /// The connection broke.
    Failed(io::Error),
    /// We are shutting down.
    ShuttingDown,
    /// The peer let a limit pass.
    TimedOut,
}

impl Gone {
    /// The word for the log.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Closed => "closed-by-peer",
            Self::Failed(_) => "connection-lost",
            Self::ShuttingDown => "shutting-down",
            Self::TimedOut => "timeout",
        }
    }
}

/// A connection with its buffers.
pub(crate) struct Wire {
    /// Absent only while a TLS handshake has it.
    stream: Option<Stream>,
    input: BytesMut,
    output: Vec<u8>,
    lines: LineSplitter,
    clock: Arc<dyn Clock>,
}

impl Wire {
    /// With bytes that were read before.
    pub(crate) fn new(stream: Stream, pending: BytesMut, clock: Arc<dyn Clock>) -> Self {
        Self {
            stream: Some(stream),
            input: pending,
            output: Vec::new(),
            lines: LineSplitter::commands(),
            clock,
        }
    }

    /// Puts a reply in line; it leaves when we would otherwise wait for the peer, so that the replies to a group of
    /// pipelined commands leave together (RFC 2920 §3.2).
    pub(crate) fn reply(&mut self, reply: &Reply) {
        self.output.extend_from_slice(reply.to_wire().as_bytes());
    }

    /// The next command line, which must come whole within `limit`.
    pub(crate) async fn line(
        &mut self,
        limit: Duration,
        shutdown: &CancellationToken,
    ) -> Result<Result<BytesMut, Misbehaved>, Gone> {
        if let Some(line) = self.lines.next_line(&mut self.input) {
            return Ok(line);
        }
        self.flush(limit).await?;
        let mut sleep = self.clock.sleep(limit);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Err(Gone::ShuttingDown),
                read = self.read(COMMAND_READ, &mut sleep) => read?,
            }
            if let Some(line) = self.lines.next_line(&mut self.input) {
                return Ok(line);
            }
        }
    }

    /// The next answer to a SASL challenge (RFC 4954 §4).
    pub(crate) async fn sasl_line(
        &mut self,
        limit: Duration,
        shutdown: &CancellationToken,
    ) -> Result<Result<BytesMut, Misbehaved>, Gone> {
        self.lines.expect_sasl();
        let line = self.line(limit, shutdown).await;
        self.lines.expect_commands();
        line
    }

    /// What was read and not yet taken.
    pub(crate) fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Waits for more content: `idle` for this piece, `total` for the whole.
    pub(crate) async fn more(&mut self, idle: Duration, total: &mut Sleep) -> Result<(), Gone> {
        self.flush(idle).await?;
        let mut sleep = self.clock.sleep(idle);
        tokio::select! {
            biased;
            () = total => Err(Gone::TimedOut),
            read = self.read(CONTENT_READ, &mut sleep) => read,
        }
    }

    /// Gives the large buffer of a content back.
    pub(crate) fn shrink(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    /// Sends the replies in line.
    pub(crate) async fn flush(&mut self, limit: Duration) -> Result<(), Gone> {
        if self.output.is_empty() {
            return Ok(());
        }
        let stream = self.stream.as_mut().ok_or(Gone::Closed)?;
        let send = async {
            stream.write_all(&self.output).await?;
            stream.flush().await
        };
        tokio::select! {
            biased;
            sent = send => sent.map_err(Gone::Failed)?,
            () = self.clock.sleep(limit) => return Err(Gone::TimedOut),
        }
        self.output.clear();
        Ok(())
    }

    /// Says what is in line, closes our direction and lets the peer take it.
    pub(crate) async fn farewell(mut self) {
        let mut total = self.clock.sleep(FAREWELL);
        let clock = Arc::clone(&self.clock);
        let goodbye = async {
            self.flush(FAREWELL).await?;
            let stream = self.stream.as_mut().ok_or(Gone::Closed)?;
            stream.shutdown().await.map_err(Gone::Failed)?;
            let mut thrown_away = 0;
            while thrown_away < FAREWELL_OCTETS {
                self.input.clear();
                self.read(CONTENT_READ, &mut clock.sleep(FAREWELL)).await?;
                thrown_away += self.input.len();
            }
            Ok::<(), Gone>(())
        };
        // The session is over whether the peer listens or not.
        tokio::select! {
            biased;
            _ = goodbye => {}
            () = &mut total => {}
        }
    }

    /// Takes the connection out for a TLS handshake, without anything that was read before: what came in front of the
    /// handshake must not be taken for something said inside it (RFC 3207 §4.2, CVE-2011-0411).
    pub(crate) fn take(&mut self) -> Option<Stream> {
        self.input = BytesMut::new();
        self.lines = LineSplitter::commands();
        self.stream.take()
    }

    /// Puts the connection back after the handshake.
    pub(crate) fn put(&mut self, stream: Stream) {
        self.stream = Some(stream);
    }

    async fn read(&mut self, room: usize, sleep: &mut Sleep) -> Result<(), Gone> {
        let stream = self.stream.as_mut().ok_or(Gone::Closed)?;
        self.input.reserve(room);
        tokio::select! {
            biased;
            read = stream.read_buf(&mut self.input) => match read {
                Ok(0) => Err(Gone::Closed),
                Ok(_) => Ok(()),
                Err(error) => Err(Gone::Failed(error)),
            },
            () = sleep => Err(Gone::TimedOut),
        }
    }
}
