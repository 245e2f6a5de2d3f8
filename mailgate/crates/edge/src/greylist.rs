//! Greylisting (RFC 6647): who comes again after a while, as mail servers do, may speak to the server.
//!
//! Start reading at `decide.rs`, then `session.rs`.

mod contact;
mod decide;
mod dialogue;
mod expire;
mod letter;
pub mod policy;
mod session;
pub(crate) mod spamdb;
mod tuple;

pub use decide::{Keep, Timings, Waited, wait_or_pass};
pub(crate) use expire::sweep_forever;
pub(crate) use session::{CONTENTS, serve};
pub(crate) use tuple::network;
pub use tuple::{normalised_recipient, normalised_sender};
