//! Delivery to mailboxes of ours.
//!
//! Reception has expanded aliases already; what still is an alias here is a DSN to one, or an alias made since. It is
//! committed anew for whom the alias leads to, and is done itself.

use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use mailgate_model::{Address, Clock, DsnNotify, Envelope, IdGenerator, Outcome, QueueId, Recipient, Status};
use mailgate_queue::{Agent, Attempt, Attempted};
use mailgate_store::mailboxes::Mailboxes;
use mailgate_store::{Error, Spool};

use crate::{Directory, Found};

/// Recipients of one message delivered at the same time: enough to share fsyncs, few enough that one message to
/// everybody leaves the disk to others.
const PARALLEL: usize = 8;
/// Where messages go.
const INBOX: &str = "INBOX";

/// Delivers into Maildir++, once per message and recipient however often it is tried.
#[derive(Clone)]
pub struct LocalAgent {
    directory: Arc<dyn Directory>,
    mailboxes: Mailboxes,
    spool: Spool,
    ids: Arc<IdGenerator>,
    clock: Arc<dyn Clock>,
}

impl LocalAgent {
    /// `spool` and `ids` are for what an alias leads to.
    #[must_use]
    pub fn new(
        directory: Arc<dyn Directory>,
        mailboxes: Mailboxes,
        spool: Spool,
        ids: Arc<IdGenerator>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { directory, mailboxes, spool, ids, clock }
    }

    async fn deliver(&self, attempt: &Attempt, index: u32, recipient: &Recipient) -> Outcome {
        let address = &recipient.address;
        if was_delivered_to(&attempt.content, address) {
            // RFC 3463 §3.5: X.4.6, routing loop.
            return failed(Status::new(5, 4, 6), "mail loops: it was delivered to this address before");
        }
        match self.directory.find(address).await {
            Ok(Found::Account(maildir)) => {
                let head = format!(
                    "Return-Path: <{}>\r\nDelivered-To: {address}\r\n",
                    attempt.envelope.reverse_path
                );
                let content = attempt.content.clone();
                let stored =
                    self.mailboxes.deliver_below(&maildir, INBOX, attempt.id, index, &head, content).await;
                stored.map_or_else(
                    |error| unavailable(attempt.id, address, &error),
                    |delivery| {
                        tracing::debug!(target: "delivery", q = %attempt.id, event = "deliver", to = %address, ?delivery);
                        Outcome::Delivered
                    },
                )
            }
            Ok(Found::Elsewhere(targets)) => self.expand(attempt, recipient, targets).await,
            // RFC 3463 §3.2: X.1.1, bad destination mailbox address.
            Ok(Found::Nobody) => failed(Status::new(5, 1, 1), "there is no such address here"),
            Err(reason) => {
                tracing::warn!(target: "delivery", q = %attempt.id, event = "deliver", to = %address, result = "deferred", reason);
                deferred(Status::new(4, 3, 0), "the table of accounts cannot be read at the moment")
            }
        }
    }

    /// Commits the message anew for whom an alias leads to (RFC 5321 §3.9.1: the reverse-path stays). Twice at worst,
    /// when the daemon dies between this commit and the record of the outcome.
    async fn expand(&self, attempt: &Attempt, recipient: &Recipient, targets: Vec<Address>) -> Outcome {
        if targets.is_empty() {
            return failed(Status::new(5, 1, 1), "the alias leads to nobody");
        }
        let id = self.ids.queue_id(self.clock.now());
        // Success is reported for the alias, which is done; the other wishes go along (RFC 3461 §5.2.7).
        let notify = DsnNotify { success: false, ..recipient.notify };
        let forward = |address: Address| Recipient { address, notify, ..recipient.clone() };
        let envelope =
            Envelope { recipients: targets.into_iter().map(forward).collect(), ..attempt.envelope.clone() };
        // Lets the loop check above see an alias that leads to itself.
        let content = with_head(&format!("Delivered-To: {}\r\n", recipient.address), &attempt.content);
        match self.spool.commit(id, envelope, content).await {
            Ok(receipt) => {
                tracing::info!(target: "delivery", q = %attempt.id, event = "expand", to = %recipient.address, onward = %receipt.id());
                Outcome::Delivered
            }
            Err(error) => unavailable(attempt.id, &recipient.address, &error),
        }
    }
}

impl Agent for LocalAgent {
    fn attempt(&self, attempt: Attempt) -> Pin<Box<dyn Future<Output = Vec<Attempted>> + Send + '_>> {
        Box::pin(async move {
            let pairs: Vec<(u32, Recipient)> =
                attempt.indices.iter().copied().zip(attempt.envelope.recipients.iter().cloned()).collect();
            let attempt = &attempt;
            stream::iter(pairs)
                .map(|(index, recipient)| async move {
                    Attempted::new(index, self.deliver(attempt, index, &recipient).await)
                })
                .buffer_unordered(PARALLEL)
                .collect()
                .await
        })
    }
}

fn with_head(head: &str, content: &Bytes) -> Bytes {
    let mut whole = BytesMut::with_capacity(head.len() + content.len());
    whole.extend_from_slice(head.as_bytes());
    whole.extend_from_slice(content);
    whole.freeze()
}

/// Our own fault, so transient; paths and causes stay in the log.
fn unavailable(id: QueueId, address: &Address, error: &Error) -> Outcome {
    tracing::warn!(target: "delivery", q = %id, event = "deliver", to = %address, result = "deferred", reason = %error);
    match error {
        // RFC 3463 §3.4: X.3.1, mail system full.
        Error::Full(_) => deferred(Status::new(4, 3, 1), "the mail system is full at the moment"),
        _ => deferred(Status::new(4, 3, 0), "the mailbox cannot be written at the moment"),
    }
}

fn deferred(status: Status, detail: &str) -> Outcome {
    Outcome::Deferred { status, remote: None, detail: detail.to_owned() }
}

fn failed(status: Status, detail: &str) -> Outcome {
    Outcome::Failed { status, remote: None, detail: detail.to_owned() }
}

/// Whether a Delivered-To field of the header section names this address.
fn was_delivered_to(content: &[u8], address: &Address) -> bool {
    let mut wanted = String::from("delivered-to:");
    // Writing into a String cannot fail.
    let _ = write!(wanted, "{}", address.to_string().to_lowercase());
    let end = content.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(content.len());
    let header = content.get(..end).unwrap_or(content);
    header.split(|byte| *byte == b'\n').any(|line| {
        let has_name = line.get(..13).is_some_and(|name| name.eq_ignore_ascii_case(b"delivered-to:"));
        has_name && {
            let text: String = String::from_utf8_lossy(line).chars().filter(|c| !c.is_whitespace()).collect();
            text.to_lowercase() == wanted
        }
    })
}

#[cfg(test)]
pub(crate) mod tests;
