//! The contract of a source, and what drives all of them.
//!
//! A source hands in whole sets; it never touches the merged tables, never decides precedence, and what goes wrong with it
//! leaves its last good set in force. [`Runner`] does the rest for every kind: when to look, when to fetch, what to do with
//! what came ([`take`]), the copy on disk ([`copy`]), and what is said of all that in `lists show`. A list of which no copy
//! can be kept is none: a restart would undo it without a word.

pub(crate) mod copy;
mod order;
mod plan;
pub(crate) mod reading;
mod runner;
mod take;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::Metadata;
use std::future::Future;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Duration;

use mailgate_model::Timestamp;
use tokio::sync::mpsc;

use crate::config::Keys;
use crate::merge::{Origin, TableIndex};
use crate::shared::Shared;

pub(crate) use copy::Copies;
pub(crate) use order::Order;
pub(crate) use plan::Plan;
pub(crate) use reading::{Bounds, Reading, Validators};
pub(crate) use runner::Runner;

/// How often files are looked at: two looks and the reading fit into a second.
pub(crate) const POLL: Duration = Duration::from_millis(400);

/// Where the sets of one source come from.
pub(crate) trait Source: Send + Sync + 'static {
    /// Where that is, for people, and to tell the copy of one list from that of another.
    fn place(&self) -> String;

    /// What its files look like now; `None` when it has none.
    fn look(&self) -> impl Future<Output = Option<Look>> + Send;

    /// Brings the whole set. `known` is what the last one came with; empty when all has to come.
    fn fetch(&mut self, known: &Validators) -> impl Future<Output = Result<Fetched, Failure>> + Send;
}

/// What files look like, or why that cannot be said.
pub(crate) type Look = Result<Signature, String>;

/// What tells one state of files from another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Signature(Vec<(OsString, Stamp)>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Signature {
    /// Takes one more file into account.
    pub(crate) fn push(&mut self, name: OsString, metadata: &Metadata) {
        let stamp = Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        self.0.push((name, stamp));
    }

    /// When the newest file was last changed.
    fn modified(&self) -> Option<Timestamp> {
        self.0.iter().map(|(_, stamp)| Timestamp::from_secs(stamp.modified.0)).max()
    }
}

/// What a fetch brought.
pub(crate) enum Fetched {
    /// A list.
    New(Box<Reading>),
    /// What was known still holds.
    Same,
}

/// Why a fetch brought nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// One sentence.
    pub(crate) said: String,
    pub(crate) kind: FailureKind,
    /// When the other side wants to be asked again.
    pub(crate) retry_after: Option<Duration>,
}

/// What kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// It could not be had.
    Absent,
    /// It was there and is no list: looking again before it changes makes no sense.
    Content,
    /// It is a list of which no copy can be kept: looking again makes sense when there may be room.
    Unkept,
}

impl Failure {
    /// It could not be had.
    pub(crate) fn absent(said: impl Into<String>) -> Self {
        Self { said: said.into(), kind: FailureKind::Absent, retry_after: None }
    }

    /// It was had, and is no list.
    pub(crate) fn content(said: impl Into<String>) -> Self {
        Self { said: said.into(), kind: FailureKind::Content, retry_after: None }
    }

    /// No copy of it can be kept.
    pub(crate) fn unkept(error: &std::io::Error) -> Self {
        let said = format!("its copy cannot be kept: {error}; the list of before stays until there is room");
        Self { said, kind: FailureKind::Unkept, retry_after: None }
    }
}

/// What became of one turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    Failed(Failure),
    Same,
    Taken(crate::merge::Difference),
}

/// What every source is started with.
pub(crate) struct Place {
    pub(crate) shared: Arc<Shared>,
    pub(crate) origin: Origin,
    pub(crate) table: TableIndex,
    pub(crate) keys: Keys,
    pub(crate) copies: Arc<Copies>,
    pub(crate) orders: mpsc::Receiver<Order>,
    /// What the copy on disk says, if there is one.
    pub(crate) known: Validators,
    /// When the last good set came, if it did.
    pub(crate) fetched: Option<Timestamp>,
}
