//! One SMTP connection as client: bytes out, replies in, each step with its time limit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use mailgate_model::Clock;
use mailgate_net::Stream;
use mailgate_proto::smtp::{Answer, AnswerReader, Misbehaved};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The first reply of a connection (RFC 5321 §4.5.3.2.1).
pub(super) const GREETING: Duration = Duration::from_secs(300);
/// MAIL, RCPT and, for want of another word, EHLO and STARTTLS (RFC 5321 §4.5.3.2.2, §4.5.3.2.3).
pub(super) const COMMAND: Duration = Duration::from_secs(300);
/// The go-ahead after DATA (RFC 5321 §4.5.3.2.4).
pub(super) const DATA_INITIATION: Duration = Duration::from_secs(120);
/// Each piece of the content (RFC 5321 §4.5.3.2.5).
pub(super) const DATA_BLOCK: Duration = Duration::from_secs(180);
/// The reply after the final dot (RFC 5321 §4.5.3.2.6).
pub(super) const DATA_TERMINATION: Duration = Duration::from_secs(600);
/// The reply to QUIT, which nobody needs.
const FAREWELL: Duration = Duration::from_secs(5);
/// Octets of content in one write, so that the limit per block means something on slow lines.
const BLOCK: usize = 64 * 1024;
/// Octets read at a time.
const READ: usize = 4096;

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The peer closed it. Usually because it is overloaded or does not like us.
    #[error("the connection was closed")]
    Closed,
    /// The system says so.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came is no SMTP reply.
    #[error("the reply is malformed: {0:?}")]
    Misbehaved(Misbehaved),
    /// The peer did not answer or take what we sent in time.
    #[error("no answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

pub(super) struct Wire {
    stream: Stream,
    input: BytesMut,
    answers: AnswerReader,
    clock: Arc<dyn Clock>,
}

impl Wire {
    pub(super) fn new(stream: Stream, clock: Arc<dyn Clock>) -> Self {
        Self { stream, input: BytesMut::new(), answers: AnswerReader::new(), clock }
    }

    /// Waits for the next reply. Its size is bounded by the reader.
    pub(super) async fn answer(&mut self, limit: Duration) -> Result<Answer, Broken> {
        let Self { stream, input, answers, clock } = self;
        within(clock, limit, async {
            loop {
                if let Some(answer) = answers.next_answer(input).map_err(Broken::Misbehaved)? {
                    return Ok(answer);
                }
                input.reserve(READ);
                if stream.read_buf(input).await? == 0 {
                    return Err(Broken::Closed);
                }
            }
        })
        .await
    }

    /// Sends commands, each ended by CRLF.
    pub(super) async fn send(&mut self, commands: &str) -> Result<(), Broken> {
        let Self { stream, clock, .. } = self;
        within(clock, COMMAND, async {
            stream.write_all(commands.as_bytes()).await?;
            Ok(stream.flush().await?)
        })
        .await
    }

    /// Sends one command and waits for its reply.
    pub(super) async fn ask(&mut self, command: &str, limit: Duration) -> Result<Answer, Broken> {
        self.send(command).await?;
        self.answer(limit).await
    }

    /// Sends a piece of content.
    pub(super) async fn send_content(&mut self, piece: &[u8]) -> Result<(), Broken> {
        let Self { stream, clock, .. } = self;
        for block in piece.chunks(BLOCK) {
            within(clock, DATA_BLOCK, async { Ok(stream.write_all(block).await?) }).await?;
        }
        Ok(())
    }

    /// Sends what is still buffered.
    pub(super) async fn flush(&mut self) -> Result<(), Broken> {
        let Self { stream, clock, .. } = self;
        within(clock, DATA_BLOCK, async { Ok(stream.flush().await?) }).await
    }

    /// Whether bytes are there that nobody asked for; before a TLS handshake that is an attack (CVE-2021-38371).
    pub(super) fn has_unread(&self) -> bool {
        !self.input.is_empty()
    }

    /// The stream, for the TLS handshake.
    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    /// `TLSv1.3 with TLS_AES_256_GCM_SHA384`, or `None` in the clear.
    pub(super) fn protection(&self) -> Option<String> {
        self.stream.tls_facts().map(|facts| format!("{} with {}", facts.version, facts.cipher))
    }

    /// Says goodbye and closes; nothing depends on the answer.
    pub(super) async fn quit(mut self) {
        let _ = self.ask("QUIT\r\n", FAREWELL).await;
        let clock = Arc::clone(&self.clock);
        let _ = within(&clock, FAREWELL, async { Ok(self.stream.shutdown().await?) }).await;
    }
}

/// Runs `work`, at most as long as `limit`.
pub(super) async fn within<T>(
    clock: &Arc<dyn Clock>,
    limit: Duration,
    work: impl Future<Output = Result<T, Broken>>,
) -> Result<T, Broken> {
    tokio::select! {
        biased;
        done = work => done,
        () = clock.sleep(limit) => Err(Broken::TimedOut(limit)),
    }
}
