//! From a content that is in to a message that is durable: what MX and MSA have in common.

mod msa;
mod mx;

use std::ops::Range;

use mailgate_model::{Envelope, QueueId, Reply, Service};

use crate::fields::{self, Fields};
use crate::received::{Hello, Trace};
use crate::server::Accepted;
use crate::session::Session;
use crate::transaction::{Intake, Spoiled, Transaction};
use crate::{Error, reply};

/// A content on its way to the spool.
pub(crate) struct Draft {
    /// The name it will have in the queue.
    pub(crate) id: QueueId,
    /// The content as it came.
    pub(crate) content: bytes::Bytes,
    /// Places of fields that must not go on, in order.
    pub(crate) removed: Vec<Range<usize>>,
    /// Our `Received` field.
    pub(crate) trace: String,
}

/// What the spool gets.
pub(crate) struct Prepared {
    id: QueueId,
    content: Vec<u8>,
}

impl Draft {
    /// `added`, then the content without the removed fields; room for `spare` octets is left.
    fn assemble(&self, added: &str, spare: usize) -> Vec<u8> {
        let mut whole = Vec::with_capacity(added.len() + self.content.len() + spare);
        whole.extend_from_slice(added.as_bytes());
        let mut at = 0;
        for place in &self.removed {
            whole.extend_from_slice(self.content.get(at..place.start).unwrap_or_default());
            at = place.end;
        }
        whole.extend_from_slice(self.content.get(at..).unwrap_or_default());
        whole
    }
}

impl Session {
    /// Answers for a content that has come in whole: 250 only with a receipt of the spool.
    pub(crate) async fn accept(&mut self, transaction: Transaction, intake: Intake) -> Reply {
        let (content, share) = match intake.finish() {
            Ok(taken) => taken,
            Err(Spoiled::Exhausted) => {
                tracing::warn!(target: "smtp", s = %self.id, event = "content", result = "deferred", reason = "content-memory");
                return reply::OUT_OF_STORAGE;
            }
            Err(Spoiled::Flaw(flaw)) => return self.refuse(&flaw.to_string(), reply::flawed(flaw)),
        };
        let hops = Fields::of(&content).filter(|field| field.is("Received")).count();
        if hops > self.server.parts.config.received {
            return self.refuse("loop", reply::LOOP);
        }
        let prepared = match self.service {
            Service::Msa => Box::pin(self.submit(&transaction, content)).await,
            Service::Mx | Service::Imap => Box::pin(self.receive(&transaction, content)).await,
        };
        let reply = match prepared {
            Ok(prepared) => self.commit(prepared, transaction.into_envelope()).await,
            Err(reply) => reply,
        };
        // Until here the memory counted.
        drop(share);
        reply
    }

    /// Fields of others that claim to be our own verdict go, wherever the message comes from (RFC 8601 §5).
    fn draft(&self, transaction: &Transaction, content: bytes::Bytes) -> Draft {
        let parts = &self.server.parts;
        let now = parts.clock.now();
        let id = parts.ids.queue_id(now);
        let trace = Trace {
            client: &self.client,
            hello: self.hello.unwrap_or(Hello::Helo),
            charset: transaction.mail.charset,
            hostname: &parts.hostname,
            id,
            only_recipient: transaction.only_recipient(),
            now,
        };
        let trace = trace.field();
        let removed = Fields::of(&content)
            .filter(|field| {
                field.is("Authentication-Results")
                    && fields::claims_to_be(field.value, parts.hostname.as_str())
            })
            .map(|field| field.place)
            .collect();
        Draft { id, content, removed, trace }
    }

    async fn commit(&mut self, prepared: Prepared, envelope: Envelope) -> Reply {
        let Prepared { id, content } = prepared;
        let (size, recipients) = (content.len(), envelope.recipients.len());
        let from = envelope.reverse_path.to_string();
        let message_id = Fields::of(&content)
            .find(|field| field.is("Message-ID"))
            .map(|field| String::from_utf8_lossy(field.value).trim().to_owned());
        let submitted = self.submitted(&envelope, &content).await;
        match self.server.parts.spool.commit(id, envelope, content.into()).await {
            Ok(receipt) => {
                self.counts.messages += 1;
                self.counts.idle = 0;
                if self.service == Service::Mx {
                    self.server.parts.learn.accepted(&Accepted {
                        client: &self.client,
                        session: self.id,
                        queue_id: id,
                        message_id: message_id.as_deref().unwrap_or_default(),
                    });
                }
                if let Some(submitted) = submitted {
                    self.server.parts.learn.submitted(&submitted);
                }
                tracing::info!(target: "smtp", s = %self.id, event = "accepted", q = %receipt.id(), from, recipients, size);
                reply::accepted(&receipt)
            }
            Err(error) => self.failed("commit", &Error::Spool(error)),
        }
    }

    fn refuse(&self, reason: &str, reply: Reply) -> Reply {
        tracing::info!(target: "smtp", s = %self.id, event = "content", result = "rejected", reason);
        reply
    }
}
