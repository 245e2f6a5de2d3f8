//! Rows and values: how the words of mail are kept in columns.

use mailgate_model::{
    Address, DsnNotify, DsnReturn, ForwardPath, Outcome, QueueId, Recipient, ReversePath, Timestamp,
};
use rusqlite::Row;
use serde::{Deserialize, Serialize};

use crate::Error;

/// Where one recipient stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// In a mailbox of ours.
    Delivered,
    /// Given up after the queue's lifetime; reported.
    Expired,
    /// Refused for good, or deleted by the operator; reported unless deleted.
    Failed,
    /// Waits for the operator.
    Held,
    /// Tried at its next attempt.
    Queued,
    /// Another MTA took responsibility.
    Relayed,
}

impl State {
    /// The word in the database and in listings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Held => "held",
            Self::Queued => "queued",
            Self::Relayed => "relayed",
        }
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Delivered | Self::Expired | Self::Failed | Self::Relayed => true,
            Self::Held | Self::Queued => false,
        }
    }

    fn parse(text: &str) -> Result<Self, Error> {
        [Self::Delivered, Self::Expired, Self::Failed, Self::Held, Self::Queued, Self::Relayed]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| Error::Corrupt(format!("state {text:?}")))
    }
}

/// One recipient of a queued message, as `queue show` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientRow {
    /// Index in the accepted envelope.
    pub number: u32,
    /// Address and DSN wishes.
    pub recipient: Recipient,
    /// Where it stands.
    pub state: State,
    /// Attempts so far.
    pub attempts: u32,
    /// When it is tried again; means nothing once `state` is final.
    pub next_attempt: Timestamp,
    /// Whether a delay was reported to the reverse-path.
    pub delay_said: bool,
    /// When the last outcome came, or the arrival.
    pub changed: Timestamp,
    /// The last outcome; `None` before the first attempt.
    pub outcome: Option<Outcome>,
}

/// Columns that [`RecipientRow::read`] wants, in its order.
pub(super) const RECIPIENT_COLUMNS: &str =
    "number, address, original, notify, orcpt, state, attempts, next_attempt, delay_said, changed, outcome";

impl RecipientRow {
    pub(super) fn read(row: &Row<'_>) -> Result<Self, Error> {
        let outcome: Option<String> = row.get(10)?;
        Ok(Self {
            number: row.get(0)?,
            recipient: Recipient {
                address: address(&row.get::<_, String>(1)?)?,
                original: ForwardPath::try_from(row.get::<_, String>(2)?)
                    .map_err(|error| Error::Corrupt(error.to_string()))?,
                notify: notify_from(row.get(3)?),
                orcpt: row.get(4)?,
            },
            state: State::parse(&row.get::<_, String>(5)?)?,
            attempts: row.get(6)?,
            next_attempt: Timestamp::from_millis(row.get(7)?),
            delay_said: row.get(8)?,
            changed: Timestamp::from_millis(row.get(9)?),
            outcome: outcome
                .map(|json| serde_json::from_str(&json))
                .transpose()
                .map_err(|error| Error::Corrupt(format!("outcome: {error}")))?,
        })
    }
}

pub(super) fn id_from(bits: i64) -> QueueId {
    QueueId::from_bits(bits.cast_unsigned())
}

pub(super) fn address(text: &str) -> Result<Address, Error> {
    Address::parse(text).map_err(|error| Error::Corrupt(error.to_string()))
}

pub(super) fn reverse_path(text: String) -> Result<ReversePath, Error> {
    ReversePath::try_from(text).map_err(|error| Error::Corrupt(error.to_string()))
}

pub(super) fn json<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Unreachable(error.to_string()))
}

pub(super) fn ret_text(ret: DsnReturn) -> &'static str {
    match ret {
        DsnReturn::Full => "full",
        DsnReturn::Headers => "headers",
    }
}

pub(super) fn ret_from(text: Option<String>) -> Option<DsnReturn> {
    text.map(|text| if text == "full" { DsnReturn::Full } else { DsnReturn::Headers })
}

pub(super) fn notify_bits(notify: DsnNotify) -> i64 {
    i64::from(notify.success) | i64::from(notify.failure) << 1 | i64::from(notify.delay) << 2
}

fn notify_from(bits: i64) -> DsnNotify {
    DsnNotify { success: bits & 1 != 0, failure: bits & 2 != 0, delay: bits & 4 != 0 }
}
