//! The edge on loopback, with a clock that stands still and a reception that only takes note.

mod admin;
mod content;
pub(crate) mod dns;
mod greylist;
mod parity;
mod selective;
mod tarpit;
pub(crate) mod world;
