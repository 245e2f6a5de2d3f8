//! The words of mail that every station shares.
//!
//! **Purpose**: one type for each noun of the field, so that a check made once is carried by the type.
//! **In**: text from grammars and configuration. **Out**: values that cannot be malformed.
//! **Trust**: parses bytes of strangers; every constructor checks and none panics.
//! **Standards**: RFC 5321 (envelope), RFC 5322 (fields), RFC 3463 (enhanced status), RFC 3461 and 3464 (DSN),
//! RFC 6531 (internationalised addresses), RFC 5891 (A-labels).
//! **Failure**: constructors return an [`AddressError`] that says what was found and what was expected.
//! **Start reading at**: [`Envelope`], then [`Client`], then [`Outcome`].
//!
//! A crate of its own because Cargo holds a promise for it: no I/O, no runtime, no clock of its own.

mod address;
mod client;
mod clock;
mod envelope;
mod ids;
mod outcome;
mod reply;
mod span;
mod status;

pub use address::{Address, AddressError, Domain, ForwardPath, Host, LocalPart, ReversePath};
pub use client::{Client, FirstContact, Service, TlsFacts};
pub use clock::{Clock, ManualClock, Sleep, Timestamp};
pub use envelope::{DsnNotify, DsnReturn, Envelope, Recipient};
pub use ids::{IdGenerator, QueueId, SessionId};
pub use outcome::Outcome;
pub use reply::Reply;
pub use span::Span;
pub use status::{Permanence, Status};
