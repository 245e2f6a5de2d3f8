//! The two directions of a connection with an unknown client, each with its limits of time.

use std::time::Duration;

use mailgate_model::Timestamp;
use mailgate_net::Stream;
use mailgate_proto::smtp::LineSplitter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{End, Session};
use crate::reply;

/// Read at once. What waits in our memory is at most this and one line.
const READ_SIZE: usize = 4096;

impl Session<'_> {
    /// Whether the client says something within `span`, although it is not its turn.
    pub(super) async fn hear(&mut self, span: Duration) -> Result<bool, End> {
        self.input.reserve(READ_SIZE);
        let mut limited = (&mut self.stream).take(READ_SIZE as u64);
        tokio::select! {
            biased;
            () = self.edge.shutdown.cancelled() => Ok(false),
            read = limited.read_buf(&mut self.input) => match read {
                Ok(0) => Err(End::Gone("closed by peer")),
                Ok(_) => Ok(true),
                Err(_) => Err(End::Gone("connection lost")),
            },
            () = self.edge.clock.sleep(span) => Ok(false),
        }
    }

    /// Until when the peer may keep us waiting, and why the session ends then.
    fn deadline(&self) -> Timestamp {
        self.edge.clock.now().plus(self.edge.config.limits.idle.duration()).min(self.ends)
    }

    pub(super) async fn read(&mut self) -> Result<(), End> {
        let deadline = self.deadline();
        self.input.reserve(READ_SIZE);
        let mut limited = (&mut self.stream).take(READ_SIZE as u64);
        tokio::select! {
            // In this order: who talks without a pause must not outlive the limits.
            biased;
            () = self.edge.shutdown.cancelled() => {
                self.say(&reply::SHUTTING_DOWN);
                Err(End::Close("shutdown"))
            }
            () = self.edge.clock.sleep_until(deadline) => {
                self.say(&reply::TIMEOUT);
                Err(End::Close("timeout"))
            }
            read = limited.read_buf(&mut self.input) => match read {
                Ok(0) => Err(End::Gone("closed by peer")),
                Ok(_) => Ok(()),
                Err(_) => Err(End::Gone("connection lost")),
            },
        }
    }

    /// Sends what was said, byte by byte while the session is young if the configuration wants that.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        let output = std::mem::take(&mut self.output);
        let deadline = self.deadline();
        let clock = &self.edge.clock;
        let interval = self.edge.config.tarpit.interval.duration();
        let (stream, stutter_until) = (&mut self.stream, self.stutter_until);
        let send = async {
            let mut rest = output.as_bytes();
            while clock.now() < stutter_until
                && let Some((byte, tail)) = rest.split_first()
            {
                clock.sleep(interval).await;
                stream.write_all(std::slice::from_ref(byte)).await?;
                stream.flush().await?;
                rest = tail;
            }
            stream.write_all(rest).await?;
            stream.flush().await
        };
        tokio::select! {
            sent = send => sent.map_err(|_| End::Gone("connection lost")),
            () = clock.sleep_until(deadline) => Err(End::Gone("timeout")),
            () = self.edge.shutdown.cancelled() => Err(End::Gone("shutdown")),
        }
    }

    /// Nothing that came in clear text is heard inside TLS. `None` when the connection is gone.
    pub(super) async fn start_tls(mut self) -> Option<Self> {
        if let Err(End::Gone(reason) | End::Close(reason)) = self.flush().await {
            self.log_end(reason);
            return None;
        }
        self.input.clear();
        self.lines = LineSplitter::commands();
        let (Some(tls), Stream::Plain(tcp)) = (&self.edge.tls, self.stream) else { return None };
        match tls.accept(tcp).await {
            Ok(stream) => {
                self.client.tls = stream.tls_facts();
                self.stream = stream;
                self.dialogue.tls_began();
                Some(self)
            }
            Err(error) => {
                tracing::debug!(
                    target: "edge", s = %self.session, event = "starttls", result = "failed", reason = %error
                );
                None
            }
        }
    }
}
