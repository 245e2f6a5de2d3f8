//! The foreign MTA, as its client: lines out, answers in.

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use mailgate_net::Source;
use mailgate_proto::smtp::{Answer, AnswerReader, Misbehaved};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Read at once. The reader of answers bounds what waits.
const READ_SIZE: usize = 4096;

/// Why a session could not be handed over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// It closed the connection.
    #[error("it closed the connection")]
    Closed,
    /// Nobody listens there, usually.
    #[error("no connection to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// What it said is no SMTP.
    #[error("what it said is no reply: {0}")]
    Misbehaved(Misbehaved),
    /// It answered something else than the dialogue needs.
    #[error("it answered {0:?} to {1}")]
    Refused(String, &'static str),
    /// From our address it relays for everybody, and it would take strangers for us.
    #[error(
        "it would relay for strangers, because it takes them for us (it answered {0:?} to a foreign recipient)"
    )]
    Relays(String),
    /// It took too long.
    #[error("it did not answer within {0} s")]
    Slow(u64),
    /// XCLIENT is not offered to us, or not with ADDR.
    #[error("it does not offer XCLIENT with ADDR to us")]
    NoXclient,
}

impl From<Misbehaved> for Trouble {
    fn from(misbehaved: Misbehaved) -> Self {
        Self::Misbehaved(misbehaved)
    }
}

/// A connection to it.
#[derive(Debug)]
pub(super) struct Mta {
    tcp: TcpStream,
    input: BytesMut,
    answers: AnswerReader,
}

impl Mta {
    /// The first of `addresses` that answers.
    pub(super) async fn connect(addresses: &[SocketAddr]) -> Result<Self, Trouble> {
        let mut trouble = Trouble::Closed;
        for address in addresses {
            match mailgate_net::dial(*address, Source::default()).await {
                Ok(tcp) => return Ok(Self { tcp, input: BytesMut::new(), answers: AnswerReader::new() }),
                Err(error) => trouble = Trouble::Connect(*address, error),
            }
        }
        Err(trouble)
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        Ok(self.tcp.write_all(bytes).await?)
    }

    /// The next whole answer.
    pub(super) async fn answer(&mut self) -> Result<Answer, Trouble> {
        loop {
            if let Some(answer) = self.answers.next_answer(&mut self.input)? {
                return Ok(answer);
            }
            self.input.reserve(READ_SIZE);
            if (&mut self.tcp).take(READ_SIZE as u64).read_buf(&mut self.input).await? == 0 {
                return Err(Trouble::Closed);
            }
        }
    }

    /// Sends a line (without its CRLF) and waits for the answer.
    pub(super) async fn ask(&mut self, line: &str) -> Result<Answer, Trouble> {
        self.send(format!("{line}\r\n").as_bytes()).await?;
        self.answer().await
    }

    /// Asks for something that is answered with 2xx if all is well.
    pub(super) async fn want(&mut self, line: &str, what: &'static str) -> Result<Answer, Trouble> {
        succeeded(self.ask(line).await?, what)
    }

    /// The greeting.
    pub(super) async fn greeting(&mut self) -> Result<Answer, Trouble> {
        succeeded(self.answer().await?, "the connection")
    }

    /// Goodbye; whether it hears that does not matter.
    pub(super) async fn quit(mut self) {
        let _ = self.ask("QUIT").await;
    }

    /// The socket, and what it said that was not read as an answer.
    pub(super) fn into_parts(self) -> (TcpStream, BytesMut) {
        (self.tcp, self.input)
    }
}

fn succeeded(answer: Answer, what: &'static str) -> Result<Answer, Trouble> {
    if answer.is_success() { Ok(answer) } else { Err(Trouble::Refused(answer.one_line(), what)) }
}
