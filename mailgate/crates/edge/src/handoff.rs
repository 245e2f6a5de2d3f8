//! How a connection goes on to a real server without the peer noticing.

use bytes::BytesMut;
use mailgate_model::{Client, SessionId};
use mailgate_net::Stream;
use mailgate_proto::smtp::Offered;

/// A connection on its way to reception, with everything the edge already said on the server's behalf.
///
/// Two shapes. *Untouched*: `greeted` is false, nothing was sent, the server begins with its greeting. *In the middle
/// of a session*: the edge has sent greeting and the replies to EHLO and MAIL; the server takes `helo` and `mail` as
/// said, answers neither, and goes on with `pending`, whose first line is the RCPT that made the client qualify.
/// If the server would have refused `mail`, it gives that refusal as its reply to the first pending RCPT. With `rcpt`,
/// that RCPT and DATA were answered as well and `pending` begins with the content: the server answers neither, and gives
/// its answer, or the refusal of any of them, after the content.
#[derive(Debug)]
pub struct Handover {
    /// The connection, plain or already inside TLS.
    pub stream: Stream,
    /// What is known of the peer.
    pub client: Client,
    /// The session's id, kept through the hand-over so that the log tells one story.
    pub session: SessionId,
    /// Whether greeting (and EHLO, MAIL as far as present) were already answered.
    pub greeted: bool,
    /// The accepted HELO or EHLO line, without CRLF.
    pub helo: Option<String>,
    /// The accepted MAIL line, without CRLF.
    pub mail: Option<String>,
    /// The accepted RCPT line, without CRLF, where the content has begun; it is the only recipient.
    pub rcpt: Option<String>,
    /// Bytes read from the peer and not yet answered.
    pub pending: BytesMut,
}

/// Takes a connection that deserves a real server. Joined to `smtp` in `wire.rs`.
pub trait Handoff: Send + Sync + 'static {
    /// Takes over at once; must not block. Serving goes on in a task of the server's own.
    fn hand_over(&self, handover: Handover);

    /// Whether a session can go on there in its middle. When not, a client that qualifies hears that it may come again,
    /// and its next connection is handed over untouched.
    fn takes_sessions(&self) -> bool {
        true
    }

    /// What the server offers after EHLO, if it offers not the same as the edge.
    fn offers(&self) -> Option<Offered> {
        None
    }
}
