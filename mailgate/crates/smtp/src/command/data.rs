//! DATA (RFC 5321 §4.1.1.4).

use bytes::Buf as _;
use mailgate_proto::smtp::{self, Command, ContentLimits, DataDecoder};

use crate::reply;
use crate::session::{Next, Session};
use crate::transaction::{Intake, State};
use crate::wire::Gone;

impl Session {
    /// Takes content up to its real end, and answers for it.
    pub(crate) async fn data(&mut self) -> Result<Next, Gone> {
        let transaction = match std::mem::take(&mut self.state) {
            State::RcptGiven(transaction) => transaction,
            State::Greeted => return Ok(Next::Say(self.owed.take().unwrap_or(reply::SAY_MAIL))),
            // The transaction stays open: a pipelining client may have a recipient left (RFC 2920 §3.1).
            State::MailGiven(transaction) => {
                self.state = State::MailGiven(transaction);
                return Ok(Next::Say(reply::NO_RECIPIENTS));
            }
            chunks @ State::Chunks(..) => {
                self.state = chunks;
                return Ok(Next::Say(reply::IN_CHUNKS));
            }
        };
        self.wire.reply(&reply::GO_AHEAD);
        let intake = self.take_data().await?;
        Ok(Next::Say(self.accept(transaction, intake).await))
    }

    /// Takes the content behind a RCPT and a DATA that the edge has answered for us. What we would have refused is refused
    /// after the content, where a client hears it all the same.
    pub(crate) async fn begun(&mut self, line: &str) -> Result<Next, Gone> {
        let said = match Command::parse(line.as_bytes(), self.charset()) {
            Ok(Command::Rcpt(rcpt)) => Box::pin(self.rcpt(rcpt)).await,
            Ok(_) => Next::Say(reply::SAY_MAIL),
            Err(misbehaved) => Next::Say(smtp::reply::refusal(&misbehaved)),
        };
        let intake = self.take_data().await?;
        self.owed = None;
        match std::mem::take(&mut self.state) {
            State::RcptGiven(transaction) => Ok(Next::Say(self.accept(transaction, intake).await)),
            State::Greeted | State::MailGiven(_) | State::Chunks(..) => Ok(said),
        }
    }

    async fn take_data(&mut self) -> Result<Intake, Gone> {
        let mut intake = self.intake();
        let mut decoder = DataDecoder::new();
        let idle = self.server.parts.config.timeouts.content.duration();
        let mut total = self.message_time();
        loop {
            let step = intake.data(&mut decoder, self.wire.input());
            self.wire.input().advance(step.consumed);
            if step.ended {
                self.wire.shrink();
                return Ok(intake);
            }
            self.wire.more(idle, &mut total).await?;
        }
    }

    /// For a content that begins.
    pub(crate) fn intake(&self) -> Intake {
        let config = &self.server.parts.config;
        let limits = ContentLimits { size: config.message_size, line: config.line_length };
        Intake::new(limits, self.server.budget.share())
    }

    /// Ends when a whole content takes too long.
    pub(crate) fn message_time(&self) -> mailgate_model::Sleep {
        self.server.parts.clock.sleep(self.server.parts.config.timeouts.message.duration())
    }
}
