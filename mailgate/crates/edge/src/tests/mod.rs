//! The edge on loopback, with a clock that stands still and a reception that only takes note.

mod admin;
mod greylist;
mod tarpit;
pub(crate) mod world;
