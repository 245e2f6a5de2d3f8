//! The joint between the queue and those who deliver.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use mailgate_model::{Envelope, Host, Outcome, QueueId};

/// One try for some recipients of one message, all of the same destination.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The message.
    pub id: QueueId,
    /// How many attempts came before for these recipients.
    pub number: u32,
    /// The envelope; `recipients` holds only those to try now.
    pub envelope: Envelope,
    /// Index of each of those recipients in the accepted envelope, in the same order.
    pub indices: Vec<u32>,
    /// The content with its trace header, CRLF line ends.
    pub content: Bytes,
}

/// What became of one recipient of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempted {
    /// Index of the recipient in the accepted envelope.
    pub index: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Who reports a success.
    pub duty: DsnDuty,
}

impl Attempted {
    /// An outcome whose success, if it is one, we report ourselves.
    #[must_use]
    pub fn new(index: u32, outcome: Outcome) -> Self {
        Self { index, outcome, duty: DsnDuty::Ours }
    }
}

/// Who sends the DSN that `NOTIFY=SUCCESS` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DsnDuty {
    /// We do.
    Ours,
    /// The next MTA: it offers DSN and was told the wish (RFC 3461 §5.2.2).
    PassedOn,
}

/// Where a recipient's host leads. Recipients of one message with the same destination share an attempt, and the
/// limit per destination counts attempts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// To mailboxes of ours.
    Local,
    /// To the MTA responsible for a domain or at an address literal.
    Remote(Host),
    /// To a configured next hop, `host:port`, whatever the domain.
    Via(String),
}

/// Says where hosts lead. Joined to accounts and static routes by `delivery`.
pub trait Route: Send + Sync + 'static {
    /// The destination of recipients at `host`, or the outcome of an attempt that cannot begin.
    fn route<'a>(
        &'a self,
        host: &'a Host,
    ) -> Pin<Box<dyn Future<Output = Result<Destination, Outcome>> + Send + 'a>>;
}

/// Performs attempts. One implementation for mailboxes of ours, one for remote MTAs.
pub trait Agent: Send + Sync + 'static {
    /// Tries once and says for every index how it ended; never forgets one. A local agent must be idempotent: the
    /// same id and index delivered twice (after a crash between delivery and record) end in one message.
    fn attempt(&self, attempt: Attempt) -> Pin<Box<dyn Future<Output = Vec<Attempted>> + Send + '_>>;
}
