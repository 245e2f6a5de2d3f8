//! BGP-4: messages and their attributes, and the session of a leaf that receives many routes and announces few.
//!
//! RFC 4271 (BGP-4), RFC 4760 (other families), RFC 6793 (long AS numbers), RFC 1997 and 8092 (communities), RFC 7606
//! (what to do with malformed updates), RFC 9072 (long OPEN), RFC 8654 (long messages), RFC 9003 (shutdown text), RFC 4360
//! (extended communities), RFC 7911 (several paths), RFC 2918 and 7313 (refresh), RFC 4724 and 8538 (graceful restart), RFC
//! 9687 (send hold timer). Start reading at [`Message`], then [`Update`], then [`Machine`].

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
mod pack;
mod path;
#[cfg(test)]
mod properties;
mod update;

pub use attribute::{Aggregator, Attributes, Fault, MpReach, MpUnreach, NextHop, RawAttribute, Treatment};
pub use community::{Community, ExtendedCommunity, ExtendedKind, LargeCommunity};
pub use error::{Misbehaved, TooLong};
pub use frame::Framer;
pub use fsm::{Asked, Command, Event, Loss, Machine, Mode, Parameters, Patience, State, Way};
pub use message::{Families, Family, Message, Refresh, Relation, Restart, RouteRefresh, Session};
pub use nlri::Nlri;
pub use notification::{Cease, Notification};
pub use open::{Capability, Open};
pub use pack::{Advert, NextHops, announce, withdraw};
pub use path::{AS_TRANS, AsPath, AsWidth, Segment};
pub use update::{Origin, Update};

/// Longest message (RFC 4271 §4.1) where nothing else was agreed on.
pub const MESSAGE_LIMIT: usize = 4096;

/// Longest message where both sides can (RFC 8654 §3).
pub const EXTENDED_LIMIT: usize = 65_535;

/// Marker, length and type (RFC 4271 §4.1).
pub const HEADER_LENGTH: usize = 19;
