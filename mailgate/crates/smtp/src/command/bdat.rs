//! BDAT (RFC 3030 §2).

use bytes::Buf as _;
use mailgate_proto::smtp::ChunkReceiver;

use crate::reply;
use crate::session::{Next, Session};
use crate::transaction::{Intake, Spoiled, State};
use crate::wire::Gone;

/// A chunk announced larger than this is not even read past: the session is closed.
const CHUNK_LIMIT: u64 = 1024 * 1024 * 1024;

impl Session {
    /// Takes one chunk. Its octets are taken from the stream whatever the answer is (RFC 3030 §2).
    pub(crate) async fn bdat(&mut self, size: u64, last: bool) -> Result<Next, Gone> {
        if size > CHUNK_LIMIT {
            return Ok(Next::Close(reply::MESSAGE_TOO_BIG));
        }
        let (transaction, mut intake, refusal) = match std::mem::take(&mut self.state) {
            State::RcptGiven(transaction) => (Some(transaction), Box::new(self.intake()), None),
            State::Chunks(transaction, intake) => (Some(transaction), intake, None),
            State::MailGiven(transaction) => {
                self.state = State::MailGiven(transaction);
                (None, Box::new(self.intake()), Some(reply::NO_RECIPIENTS))
            }
            State::Greeted => {
                let refusal = self.owed.clone().unwrap_or(reply::SAY_MAIL);
                (None, Box::new(self.intake()), Some(refusal))
            }
        };
        self.take_chunk(size, refusal.is_none().then_some(&mut *intake)).await?;
        let Some(transaction) = transaction else {
            return Ok(Next::Say(refusal.unwrap_or(reply::SAY_MAIL)));
        };
        if last {
            self.wire.shrink();
            return Ok(Next::Say(self.accept(transaction, *intake).await));
        }
        // Refused early: the chunks that follow are answered as out of order, as RFC 3030 §2 wants after a failure.
        Ok(Next::Say(match intake.spoiled() {
            Some(Spoiled::Exhausted) => reply::OUT_OF_STORAGE,
            Some(Spoiled::Flaw(flaw)) => reply::flawed(flaw),
            None => {
                self.state = State::Chunks(transaction, intake);
                reply::CHUNK_OK
            }
        }))
    }

    /// Reads `size` octets into `intake`, or past them.
    async fn take_chunk(&mut self, size: u64, mut intake: Option<&mut Intake>) -> Result<(), Gone> {
        let mut chunk = ChunkReceiver::new(size);
        let idle = self.server.parts.config.timeouts.content.duration();
        let mut total = self.message_time();
        while !chunk.is_complete() {
            let step = match &mut intake {
                Some(intake) => intake.chunk(&mut chunk, self.wire.input()),
                None => chunk.skip(self.wire.input()),
            };
            self.wire.input().advance(step.consumed);
            if !step.ended {
                self.wire.more(idle, &mut total).await?;
            }
        }
        Ok(())
    }
}
