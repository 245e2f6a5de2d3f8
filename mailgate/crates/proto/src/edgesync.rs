//! How MXs of one owner, or of friends, keep one memory of first contact: records that merge the same way in any order,
//! and a protocol over a reliable stream that brings them to the other side and proves that both have the same.
//!
//! A [`Record`] is the state of one key. Its [`Stamp`] rises with every change that takes something back (a deletion, a
//! command of the administrator, a window that begins anew): of two stamps the later one wins whole (last writer wins,
//! with a hybrid logical clock). Under one stamp two states are joined: the earlier beginning, the later end, the higher
//! counts, and trapped before passed. So every order, repetition and delay of records comes to the same end.
//!
//! [`Replica`] holds all records and is told of what happens here; one [`Session`] per connection says what is to be sent
//! and takes what comes. Neither waits, reads a clock or opens anything. Start reading at [`Record::join`], then
//! [`Session`].

mod frame;
mod record;
mod replica;
mod session;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use frame::{Frame, Hello, Misbehaved, Refusal};
pub use record::{Body, Key, Kind, Origin, Record, Stamp, State};
pub use replica::{Applied, Counts, Mark, Replica};
pub use session::{Progress, Scope, Session, Settings};

/// Octets of one frame behind its length; what we send stays below.
pub const FRAME_LIMIT: usize = 64 * 1024;
/// Octets of the text of a key: two paths of RFC 5321 §4.5.3.1.3, a client, and room.
pub const KEY_LIMIT: usize = 1100;
/// A state may last so long and not longer: 400 days. A trap address has no end.
pub const LASTS_LIMIT: i64 = 400 * 86_400_000;
/// The end of what has none.
pub const NEVER: i64 = i64::MAX;
/// For how long at most a deletion is remembered: 90 days. Who was away for longer may bring back what was deleted.
pub const DELETION_LIMIT: i64 = 90 * 86_400_000;
