//! Responsibility: from the durable commit to delivered, relayed or reported.
//!
//! **Purpose**: try every recipient until it is delivered, relayed or finally failed, and report failure to the reverse-path.
//! **In**: the spool's rows. **Out**: [`Attempt`]s for [`Agent`]s, DSNs back into the spool.
//! **Trust**: content is opaque here; texts of remote hosts are cleaned before they enter a DSN.
//! **Standards**: RFC 5321 §4.5.4 (retries), RFC 3461 and 3464 (DSN), RFC 3463.
//! **Failure**: when in doubt transient; nothing leaves the spool without a recorded outcome per recipient.
//! **Start reading at**: `scheduler.rs`, then `agent.rs`.
//!
//! A crate of its own because it is a station; it knows no agent and no protocol.

mod agent;

pub use agent::{Agent, Attempt, Attempted};
