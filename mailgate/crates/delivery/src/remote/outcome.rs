//! From replies and failures to outcomes.

use mailgate_model::{Outcome, Permanence, Status};
use mailgate_proto::smtp::Answer;

/// Octets of a remote text that are kept; enough for every explanation, and ten thousand queued recipients stay small.
const DETAIL_LIMIT: usize = 500;

/// The outcome that a reply to a command means for a recipient; positive replies out of place are the peer's fault
/// and transient.
pub(super) fn from_answer(answer: &Answer, remote: &str) -> Outcome {
    let remote = Some(remote.to_owned());
    let detail = clean(&answer.one_line());
    match answer.permanence() {
        Some(Permanence::Permanent) => {
            Outcome::Failed { status: answer.status.unwrap_or(Status::new(5, 0, 0)), remote, detail }
        }
        Some(Permanence::Transient) => {
            Outcome::Deferred { status: answer.status.unwrap_or(Status::new(4, 0, 0)), remote, detail }
        }
        // RFC 3463 §3.6: X.5.0, other protocol status.
        None => Outcome::Deferred { status: Status::new(4, 5, 0), remote, detail },
    }
}

/// A transient failure of ours or of the way.
pub(super) fn deferred(status: Status, remote: Option<&str>, detail: &str) -> Outcome {
    Outcome::Deferred { status, remote: remote.map(str::to_owned), detail: clean(detail) }
}

/// A permanent failure that we state ourselves.
pub(super) fn failed(status: Status, remote: Option<&str>, detail: &str) -> Outcome {
    Outcome::Failed { status, remote: remote.map(str::to_owned), detail: clean(detail) }
}

/// One bounded line without control characters.
pub(super) fn clean(text: &str) -> String {
    let mut cleaned = String::new();
    for c in text.chars() {
        if cleaned.len() + c.len_utf8() > DETAIL_LIMIT {
            break;
        }
        cleaned.push(if c.is_control() { ' ' } else { c });
    }
    cleaned
}
