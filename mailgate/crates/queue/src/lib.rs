//! Responsibility: from the durable commit to delivered, relayed or reported.
//!
//! **Purpose**: try every recipient until it is delivered, relayed or finally failed, and report failure to the reverse-path.
//! **In**: the spool's rows. **Out**: [`Attempt`]s for [`Agent`]s, DSNs back into the spool.
//! **Trust**: content is opaque here; texts of remote hosts are cleaned before they enter a DSN.
//! **Standards**: RFC 5321 §4.5.4 (retries), RFC 3461 and 3464 (DSN), RFC 3463.
//! **Failure**: when in doubt transient; nothing leaves the spool without a recorded outcome per recipient.
//! **Start reading at**: `agent.rs`, then `scheduler.rs` (when), `work.rs` (one attempt and what follows), `dsn.rs`.
//!
//! A crate of its own because it is a station; it knows no agent and no protocol.

mod agent;
mod config;
mod dsn;
mod queue;
mod retry;
mod scheduler;
mod work;

pub use agent::{Agent, Attempt, Attempted, Destination, DsnDuty, Route};
pub use config::Config;
pub use mailgate_store::Error;
pub use queue::{Parts, Queue};
