//! Message authentication: what can be proved about where a message comes from.
//!
//! **Purpose**: check iprev, SPF, DKIM and DMARC of received mail, and sign what leaves.
//! **In**: client facts, envelope, content; the DNS. **Out**: one `Authentication-Results` field, `DKIM-Signature` fields.
//! **Trust**: content is a stranger's; only header fields are parsed, never MIME. Signing keys are read from the records.
//! **Standards**: RFC 8601, RFC 7208 (SPF), RFC 6376, 8301, 8463 (DKIM), RFC 7489 and 9989 (DMARC).
//! **Failure**: a DNS that does not answer is `temperror` and never a rejection; all checks together have a time limit.
//! **Start reading at**: `verify.rs`, then `sign.rs`.
//!
//! A crate of its own because it fences mail-auth, whose types appear in no signature here.

mod error;
mod sign;
mod verify;

pub use error::Error;
pub use sign::{Algorithm, KeyRow, Signer};
pub use verify::{Verdict, Verified, Verifier};
