//! The content of a client that is not judged before it was seen (`decide = "data"`): its first octets are read and
//! judged. Who qualifies goes on with them at the server, which gives the answer; else the rest is thrown away and the
//! answer is "later". Nothing here ever says that a message was taken.

use bytes::BytesMut;
use mailgate_proto::smtp::{Content, ContentLimits, DataDecoder, Flaw};
use mailgate_store::greylist::{Said, Standing};
use tokio::sync::OwnedSemaphorePermit;

use super::{End, Pending, Session};
use crate::greylist::dialogue::Reaction;
use crate::greylist::letter::{HEAD, Letter};
use crate::reply;
use crate::suspicion::Gathered;

/// Contents kept at once: with [`HEAD`] and its decoded copy some 50 MB. Beyond it recipients are judged at RCPT.
pub(crate) const CONTENTS: usize = 256;

/// A recipient whose client is judged after the content; heard that it is accepted, and is the only one of its message, so
/// that whatever the server says of it can be said after the content.
pub(super) struct PutOff {
    /// The RCPT line.
    pub(super) line: String,
    pub(super) said: Said,
    pub(super) gathered: Option<Gathered>,
    pub(super) _place: OwnedSemaphorePermit,
}

/// A content as it comes in.
struct Incoming {
    decoder: DataDecoder,
    /// Keeps nothing; the decoder only finds the end.
    nothing: Content,
    octets: u64,
}

impl Incoming {
    fn new() -> Self {
        let mut nothing = Content::new(ContentLimits { size: 0, line: 0 });
        nothing.abandon(Flaw::TooBig);
        Self { decoder: DataDecoder::new(), nothing, octets: 0 }
    }

    /// The content's part of the input, and whether it ended with that.
    fn take(&mut self, input: &mut BytesMut) -> (BytesMut, bool) {
        let step = self.decoder.push(input, &mut self.nothing);
        self.octets = self.octets.saturating_add(step.consumed as u64);
        (input.split_to(step.consumed), step.ended)
    }
}

impl Session<'_> {
    /// DATA: reads and judges the content of the recipient that was put off; without one there is nobody to send to.
    pub(super) async fn data(&mut self) -> Result<(), End> {
        let Some(put_off) = self.put_off.take() else {
            return self.react(Reaction::Say(reply::NO_RECIPIENTS));
        };
        self.say(&reply::START_CONTENT);
        let mut incoming = Incoming::new();
        let (head, ended) = self.head(&mut incoming).await?;
        match self.edge.greylist.standing(self.client.ip()) {
            // A parallel session of the same client qualified, or the administrator said so.
            Standing::Passed(..) => {
                return self.qualified_or_again(put_off.line, head, incoming, ended).await;
            }
            // The tarpit takes its next connection: what it would say first here, a client takes for the answer to its
            // message.
            Standing::Trapped(..) => {
                self.rest(incoming, ended).await?;
                self.say(&reply::UNAVAILABLE);
                return Err(End::Close("trapped"));
            }
            Standing::Unknown => {}
        }
        let PutOff { line, said, gathered, _place } = put_off;
        let letter = Letter::of(&head, said.reverse_path.is_empty());
        let Some(wait) = self.judged(&said, gathered, Some(&letter)) else {
            return self.qualified_or_again(line, head, incoming, ended).await;
        };
        drop((head, _place));
        self.rest(incoming, ended).await?;
        self.dialogue.content_ended();
        self.react(Reaction::Say(reply::deferred(wait)))
    }

    /// The first octets of the content, at most [`HEAD`] and one read, and whether that is all of it.
    async fn head(&mut self, incoming: &mut Incoming) -> Result<(BytesMut, bool), End> {
        let mut head = BytesMut::new();
        loop {
            let (part, ended) = incoming.take(&mut self.input);
            head.unsplit(part);
            if ended || head.len() >= HEAD {
                return Ok((head, ended));
            }
            self.flush().await?;
            self.read().await?;
        }
    }

    /// Throws away what is left of the content.
    async fn rest(&mut self, mut incoming: Incoming, ended: bool) -> Result<(), End> {
        let mut ended = ended;
        while !ended {
            self.flush().await?;
            self.read().await?;
            ended = incoming.take(&mut self.input).1;
            if incoming.octets > self.dialogue.size_limit() {
                self.say(&reply::TOO_LARGE);
                return Err(End::Close("content too large"));
            }
        }
        Ok(())
    }

    /// The message goes on at the server, or if no session can, its sender hears that it may come again.
    async fn qualified_or_again(
        &mut self,
        line: String,
        head: BytesMut,
        incoming: Incoming,
        ended: bool,
    ) -> Result<(), End> {
        if self.edge.handoff.takes_sessions() {
            return self.qualified_with(line, head);
        }
        drop(head);
        self.rest(incoming, ended).await?;
        self.dialogue.content_ended();
        self.react(Reaction::Say(reply::COME_AGAIN))
    }

    fn qualified_with(&mut self, line: String, head: BytesMut) -> Result<(), End> {
        let mut content = head;
        content.unsplit(self.input.split());
        Err(End::HandOver(Pending { rcpt: Some(line), bytes: content }))
    }
}
