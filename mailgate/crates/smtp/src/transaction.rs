//! One mail transaction: MAIL, RCPT, content (RFC 5321 §3.3).

use mailgate_model::{Envelope, ForwardPath, Recipient};
use mailgate_proto::smtp::{
    Body, ChunkReceiver, Content, ContentLimits, DataDecoder, Flaw, Mail, Rcpt, Step,
};

use crate::budget::Share;
use crate::relay::Permit;

/// How far the transaction is.
#[derive(Debug, Default)]
pub(crate) enum State {
    /// No MAIL yet.
    #[default]
    Greeted,
    /// MAIL was accepted.
    MailGiven(Transaction),
    /// At least one RCPT was accepted.
    RcptGiven(Transaction),
    /// At least one BDAT was accepted, and none with LAST (RFC 3030 §2).
    Chunks(Transaction, Box<Intake>),
}

/// What was said so far.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) mail: Mail,
    recipients: Vec<Recipient>,
    said: usize,
}

impl Transaction {
    /// After MAIL.
    pub(crate) fn new(mail: Mail) -> Self {
        Self { mail, recipients: Vec::new(), said: 0 }
    }

    /// How many RCPT commands were accepted.
    pub(crate) fn said(&self) -> usize {
        self.said
    }

    /// Adds a recipient; the permit is used up. A target that is there already is not added again, so that two aliases of
    /// one account make one message.
    pub(crate) fn admit(&mut self, permit: Permit, rcpt: &Rcpt) {
        self.said += 1;
        for address in permit.into_targets() {
            if self.recipients.iter().any(|recipient| recipient.address == address) {
                continue;
            }
            self.recipients.push(Recipient {
                address,
                original: rcpt.path.clone(),
                notify: rcpt.notify.unwrap_or_default(),
                orcpt: rcpt.orcpt.clone(),
            });
        }
    }

    /// The recipient as said, when only one was.
    pub(crate) fn only_recipient(&self) -> Option<&ForwardPath> {
        self.recipients.first().filter(|_| self.said == 1).map(|recipient| &recipient.original)
    }

    /// The envelope for the queue.
    pub(crate) fn into_envelope(self) -> Envelope {
        Envelope {
            reverse_path: self.mail.path,
            recipients: self.recipients,
            envid: self.mail.envid,
            ret: self.mail.ret,
            smtputf8: self.mail.charset == mailgate_proto::smtp::Charset::Utf8,
            eight_bit: self.mail.body == Body::EightBitMime,
        }
    }
}

/// A content on its way in, and the memory it holds.
#[derive(Debug)]
pub(crate) struct Intake {
    content: Content,
    share: Share,
    exhausted: bool,
}

/// Why a content that has come in whole is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoiled {
    /// The memory for contents ran out; it was thrown away.
    Exhausted,
    /// It is no mail.
    Flaw(Flaw),
}

impl Intake {
    /// Empty, within `limits`, holding memory of `share`.
    pub(crate) fn new(limits: ContentLimits, share: Share) -> Self {
        Self { content: Content::new(limits), share, exhausted: false }
    }

    /// Takes what DATA brought.
    pub(crate) fn data(&mut self, decoder: &mut DataDecoder, input: &[u8]) -> Step {
        let step = decoder.push(input, &mut self.content);
        self.cover();
        step
    }

    /// Takes what BDAT brought.
    pub(crate) fn chunk(&mut self, chunk: &mut ChunkReceiver, input: &[u8]) -> Step {
        let step = chunk.push(input, &mut self.content);
        self.cover();
        step
    }

    /// Why it will not be taken, as far as is known yet.
    pub(crate) fn spoiled(&self) -> Option<Spoiled> {
        if self.exhausted { Some(Spoiled::Exhausted) } else { self.content.flaw().map(Spoiled::Flaw) }
    }

    /// The whole content and the memory it holds until it is in the queue.
    pub(crate) fn finish(self) -> Result<(bytes::Bytes, Share), Spoiled> {
        if self.exhausted {
            return Err(Spoiled::Exhausted);
        }
        self.content.finish().map(|content| (content, self.share)).map_err(Spoiled::Flaw)
    }

    /// Twice: the content, and the copy with the trace header in front.
    fn cover(&mut self) {
        if !self.share.cover(self.content.len() * 2) {
            self.exhausted = true;
            self.content.abandon(Flaw::TooBig);
            self.share.release();
        }
    }
}
