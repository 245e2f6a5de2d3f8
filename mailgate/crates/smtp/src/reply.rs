//! All replies of reception and submission. Those that the edge says too are in `mailgate_proto::smtp::reply`.

use mailgate_model::{Reply, Status};
use mailgate_proto::smtp::Flaw;
use mailgate_store::Receipt;

/// One row of the table that `docs/replies.md` is printed from.
#[derive(Debug, Clone)]
pub struct Row {
    /// The reply.
    pub reply: Reply,
    /// Where it comes from.
    pub source: &'static str,
}

macro_rules! replies {
    // The status is written with spaces: `5.1` would be read as one number.
    ($($name:ident: $code:literal $class:literal $subject:literal $detail:literal $text:literal, $source:literal;)*) => {
        $(#[doc = $source] pub(crate) const $name: Reply =
            Reply::new($code, Status::new($class, $subject, $detail), $text);)*
        /// All fixed replies and where they come from.
        pub const TABLE: &[Row] = &[$(Row { reply: $name, source: $source }),*];
    };
}

replies! {
    BYE: 221 2 0 0 "Bye", "RFC 5321 §4.1.1.10";
    HELP: 214 2 0 0 "EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY STARTTLS AUTH QUIT", "RFC 5321 §4.1.1.8";
    READY_FOR_TLS: 220 2 0 0 "Ready to start TLS", "RFC 3207 §4";
    IDENTIFIED: 235 2 7 0 "Authentication successful", "RFC 4954 §4";
    OK: 250 2 0 0 "Ok", "RFC 5321 §4.2.2";
    SENDER_OK: 250 2 1 0 "Sender ok", "RFC 5321 §4.1.1.2; IANA enhanced-status-codes 2.1.0";
    RECIPIENT_OK: 250 2 1 5 "Recipient ok", "RFC 5321 §4.1.1.3; IANA enhanced-status-codes 2.1.5";
    CHUNK_OK: 250 2 0 0 "Chunk received", "RFC 3030 §2";
    CANNOT_VERIFY: 252 2 5 2 "Cannot verify; try RCPT", "RFC 5321 §3.5.3, §7.3";
    IDLE: 421 4 4 2 "Timeout, closing", "RFC 5321 §4.5.3.2.7; IANA enhanced-status-codes 4.4.2";
    SHUTTING_DOWN: 421 4 3 2 "Shutting down, try again later", "RFC 5321 §3.8; IANA enhanced-status-codes 4.3.2";
    TOO_MANY_SESSIONS: 421 4 3 2 "Too many connections, try again later", "RFC 5321 §3.8; IANA enhanced-status-codes 4.3.2";
    TOO_MANY_ERRORS: 421 4 7 0 "Too many errors, closing", "RFC 5321 §3.8, §7.8";
    TOO_MANY_UNKNOWN: 421 4 7 0 "Too many unknown recipients, closing", "RFC 5321 §3.8, §7.8";
    TOO_MANY_FAILURES: 421 4 7 0 "Too many authentication failures, closing", "RFC 4954 §9";
    LOCAL_ERROR: 451 4 3 0 "Local error, try again later", "RFC 5321 §4.2.2; IANA enhanced-status-codes 4.3.0";
    OUT_OF_STORAGE: 452 4 3 1 "Out of storage, try again later", "RFC 5321 §4.2.2; IANA enhanced-status-codes 4.3.1";
    TOO_MANY_RECIPIENTS: 452 4 5 3 "Too many recipients; send the others in another transaction", "RFC 5321 §4.5.3.1.10";
    SASL_UNAVAILABLE: 454 4 7 0 "Cannot check credentials now, try again later", "RFC 4954 §6";
    SASL_LINE_TOO_LONG: 500 5 5 6 "Authentication exchange line too long", "RFC 4954 §6";
    SASL_CANCELLED: 501 5 7 0 "Authentication cancelled", "RFC 4954 §4";
    SASL_MALFORMED: 501 5 5 2 "Cannot decode the response", "RFC 4954 §4";
    NOT_IMPLEMENTED: 502 5 5 1 "Command not implemented", "RFC 5321 §4.2.4";
    NOTHING_AFTER_STARTTLS: 503 5 5 1 "Nothing may follow STARTTLS before the handshake, closing", "RFC 3207 §4; CVE-2011-0411";
    ALREADY_TLS: 503 5 5 1 "TLS is on already", "RFC 3207 §4.2";
    ALREADY_IDENTIFIED: 503 5 5 1 "Authenticated already", "RFC 4954 §4";
    SAY_EHLO: 503 5 5 1 "Say EHLO first", "RFC 5321 §4.1.4";
    SAY_MAIL: 503 5 5 1 "Say MAIL first", "RFC 5321 §4.1.4";
    SAY_RCPT: 503 5 5 1 "Say RCPT first", "RFC 5321 §4.1.1.4";
    IN_TRANSACTION: 503 5 5 1 "A transaction is open; finish it or say RSET", "RFC 5321 §4.1.4";
    IN_CHUNKS: 503 5 5 1 "BDAT was begun; go on with BDAT or say RSET", "RFC 3030 §2";
    UNKNOWN_MECHANISM: 504 5 5 4 "Mechanism not offered", "RFC 4954 §4";
    SAY_STARTTLS: 530 5 7 0 "Say STARTTLS first", "RFC 3207 §4";
    SAY_AUTH: 530 5 7 0 "Authentication required", "RFC 4954 §6";
    WRONG_CREDENTIALS: 535 5 7 8 "Credentials invalid", "RFC 4954 §6";
    NEEDS_TLS: 538 5 7 11 "Encryption required for this mechanism", "RFC 4954 §4; IANA enhanced-status-codes 5.7.11";
    NO_SUCH_USER: 550 5 1 1 "No such user here", "RFC 5321 §3.3; IANA enhanced-status-codes 5.1.1";
    RELAYING_DENIED: 550 5 7 1 "Relaying denied", "RFC 5321 §3.6.1, §7.9; IANA enhanced-status-codes 5.7.1";
    BARE_LINE_FEED: 550 5 6 0 "Message has a bare line feed; lines must end with CRLF", "RFC 5321 §2.3.8; CVE-2023-51764";
    BARE_CARRIAGE_RETURN: 550 5 6 0 "Message has a bare carriage return; lines must end with CRLF", "RFC 5321 §2.3.8; CVE-2023-51764";
    NUL: 550 5 6 0 "Message has a NUL octet", "RFC 5322 §3.5";
    LINE_TOO_LONG: 550 5 6 0 "Message has a line that is too long", "RFC 5321 §4.5.3.1.6";
    NO_AUTHOR: 550 5 6 0 "Message needs exactly one From field with an address", "RFC 5322 §3.6; RFC 6409 §8.1";
    DMARC_REJECT: 550 5 7 1 "Rejected by the DMARC policy of the author's domain", "RFC 7489 §10.3; RFC 9989 §5";
    MESSAGE_TOO_BIG: 552 5 3 4 "Message too big", "RFC 1870 §6.1, §6.3";
    NOT_YOUR_ADDRESS: 553 5 7 1 "This account may not send as that address", "RFC 6409 §6.1";
    NO_RECIPIENTS: 554 5 5 1 "No valid recipients", "RFC 5321 §4.1.1.4; RFC 2920 §3.1";
    LOOP: 554 5 4 6 "Too many Received fields: mail loop", "RFC 5321 §6.3; IANA enhanced-status-codes 5.4.6";
}

/// Go on with the content (RFC 5321 §4.1.1.4).
pub(crate) const GO_AHEAD: Reply = Reply::bare(354, "End data with <CR><LF>.<CR><LF>");

/// A SASL challenge, already in base64 (RFC 4954 §4).
pub(crate) const fn challenge(base64: &'static str) -> Reply {
    Reply::bare(334, base64)
}

/// Responsibility is taken: the only positive reply after content, and it wants the proof (RFC 5321 §4.2.5, §6.1).
pub(crate) fn accepted(receipt: &Receipt) -> Reply {
    Reply::new(250, Status::new(2, 0, 0), "").with_text(format!("Ok: queued as {}", receipt.id()))
}

/// Why content is refused after its end.
pub(crate) fn flawed(flaw: Flaw) -> Reply {
    match flaw {
        Flaw::BareCarriageReturn => BARE_CARRIAGE_RETURN,
        Flaw::BareLineFeed => BARE_LINE_FEED,
        Flaw::LineTooLong => LINE_TOO_LONG,
        Flaw::Nul => NUL,
        Flaw::TooBig => MESSAGE_TOO_BIG,
        _ => LOCAL_ERROR,
    }
}

/// The same reply with the address it is about in front.
pub(crate) fn about(reply: Reply, path: &impl std::fmt::Display) -> Reply {
    // Addresses in UTF-8 would need a client that said SMTPUTF8 (RFC 6531 §3.7.4.2): they are left out.
    let path = path.to_string();
    if !path.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return reply;
    }
    let text = format!("<{path}> {}", reply.text);
    reply.with_text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_of_code_and_status_agree_in_every_row() {
        for row in TABLE {
            let status = row.reply.status.unwrap();
            assert_eq!(u16::from(status.class), row.reply.code / 100, "{}", row.reply);
            assert!(
                !row.source.is_empty() && row.reply.text.is_ascii() && row.reply.text.len() < 100,
                "{}",
                row.reply
            );
        }
    }

    #[test]
    fn text_of_a_client_cannot_add_a_reply_line() {
        assert_eq!(about(NO_SUCH_USER, &"a\r\n250 ok").to_wire(), "550 5.1.1 No such user here\r\n");
        assert_eq!(about(NO_SUCH_USER, &"a@b.c").to_wire(), "550 5.1.1 <a@b.c> No such user here\r\n");
    }
}
