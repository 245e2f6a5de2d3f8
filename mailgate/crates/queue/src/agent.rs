//! The joint between the queue and those who deliver.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use mailgate_model::{Envelope, Outcome, QueueId};

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
#[derive(Debug, Clone)]
pub struct Attempted {
    /// Index of the recipient in the accepted envelope.
    pub index: u32,
    /// How it ended.
    pub outcome: Outcome,
}

/// Performs attempts. One implementation for mailboxes of ours, one for remote MTAs.
pub trait Agent: Send + Sync + 'static {
    /// Tries once and says for every index how it ended; never forgets one. A local agent must be idempotent: the
    /// same id and index delivered twice (after a crash between delivery and record) end in one message.
    fn attempt(&self, attempt: Attempt) -> Pin<Box<dyn Future<Output = Vec<Attempted>> + Send + '_>>;
}
