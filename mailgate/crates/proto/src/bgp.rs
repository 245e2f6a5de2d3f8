//! BGP-4: messages and their attributes, and the session of a leaf that receives routes and announces none.
//!
//! RFC 4271 (BGP-4), RFC 4760 (other families), RFC 6793 (long AS numbers), RFC 1997 and 8092 (communities), RFC 7606
//! (what to do with malformed updates), RFC 9072 (long OPEN), RFC 9003 (shutdown text). Start reading at [`Message`],
//! then [`Update`], then [`Machine`].

mod attribute;
mod community;
mod cursor;
mod error;
mod frame;
mod fsm;
mod message;
mod nlri;
mod notification;
mod open;
mod path;
#[cfg(test)]
mod properties;
mod update;

pub use attribute::{Aggregator, Attributes, Fault, MpReach, MpUnreach, NextHop, RawAttribute, Treatment};
pub use community::{Community, LargeCommunity};
pub use error::{Misbehaved, TooLong};
pub use frame::Framer;
pub use fsm::{Command, Event, Machine, Parameters, State};
pub use message::{Families, Family, Message, Relation, RouteRefresh, Session};
pub use notification::{Cease, Notification};
pub use open::{Capability, Open};
pub use path::{AS_TRANS, AsPath, AsWidth, Segment};
pub use update::{Origin, Update};

/// Longest message (RFC 4271 §4.1); we do not offer longer ones (RFC 8654).
pub const MESSAGE_LIMIT: usize = 4096;

/// Marker, length and type (RFC 4271 §4.1).
pub const HEADER_LENGTH: usize = 19;
