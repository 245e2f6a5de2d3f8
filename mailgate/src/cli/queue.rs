//! `mailgate queue`: accepted messages that are not yet delivered.

use clap::Subcommand;
use mailgate_model::QueueId;

use super::{Question, Show};
use crate::admin::Call;

/// What can be done with the queue.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// One line per message.
    List,
    /// One message: envelope, attempts, last answers.
    Show {
        /// Queue id.
        #[arg(value_parser = queue_id)]
        id: QueueId,
    },
    /// Try again now.
    Flush {
        /// Queue id; without it everything.
        #[arg(value_parser = queue_id)]
        id: Option<QueueId>,
    },
    /// Keep a message and do not try it.
    Hold {
        /// Queue id.
        #[arg(value_parser = queue_id)]
        id: QueueId,
    },
    /// Try a held message again.
    Release {
        /// Queue id.
        #[arg(value_parser = queue_id)]
        id: QueueId,
    },
    /// Throw a message away without a DSN.
    Delete {
        /// Queue id.
        #[arg(value_parser = queue_id)]
        id: QueueId,
    },
}

fn queue_id(text: &str) -> Result<QueueId, String> {
    QueueId::try_from(text.to_owned())
}

impl Verb {
    pub(super) fn question(self) -> Question {
        let (call, show) = match self {
            Self::List => (
                Call::QueueList,
                Show::Table(&[
                    ("id", "QUEUE ID"),
                    ("arrived", "ARRIVED"),
                    ("size", "OCTETS"),
                    ("reverse_path", "REVERSE-PATH"),
                    ("example", "FIRST OPEN RECIPIENT"),
                    ("open", "OPEN"),
                    ("held", "HELD"),
                    ("next_attempt", "NEXT"),
                ]),
            ),
            Self::Show { id } => (Call::QueueShow { id }, Show::Card),
            Self::Flush { id } => (Call::QueueFlush { id }, Show::Card),
            Self::Hold { id } => (Call::QueueHold { id }, Show::Card),
            Self::Release { id } => (Call::QueueRelease { id }, Show::Card),
            Self::Delete { id } => (Call::QueueDelete { id }, Show::Card),
        };
        Question { call, show }
    }
}
