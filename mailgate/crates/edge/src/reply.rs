//! What the edge says. Greeting, EHLO and HELO, and complaints about grammar come from `mailgate_proto::smtp::reply`,
//! so that reception says the same; the others have the words of reception's own table, so that nobody sees which of
//! the two answers.

use std::time::Duration;

use mailgate_model::{Reply, Status};

use crate::config::LastWord;

/// Greeting of a refused source (RFC 5321 §3.1; IANA enhanced-status-codes 5.7.1).
pub(crate) const REFUSED: Reply =
    Reply::new(554, Status::new(5, 7, 1), "Your address may not send mail here");
/// Too many sessions, in all or with one address (RFC 5321 §3.8; IANA enhanced-status-codes 4.3.2).
pub(crate) const TOO_MANY_SESSIONS: Reply =
    Reply::new(421, Status::new(4, 3, 2), "Too many connections, try again later");
/// Our end (RFC 5321 §3.8; IANA enhanced-status-codes 4.3.2).
pub(crate) const SHUTTING_DOWN: Reply =
    Reply::new(421, Status::new(4, 3, 2), "Shutting down, try again later");
/// Silence (RFC 5321 §4.5.3.2.7; IANA enhanced-status-codes 4.4.2).
pub(crate) const TIMEOUT: Reply = Reply::new(421, Status::new(4, 4, 2), "Timeout, closing");
/// Too many commands, or too many we cannot follow (RFC 5321 §4.3.2; IANA enhanced-status-codes 4.7.0).
pub(crate) const TOO_MANY_MISTAKES: Reply = Reply::new(421, Status::new(4, 7, 0), "Too many errors, closing");
/// First line of a greeting in two parts: who is suspicious has to wait for the second one (RFC 5321 §4.3.1).
pub(crate) fn one_moment(greeting: &Reply) -> Reply {
    let text = format!("{}\n{}", greeting.text, greeting.text);
    greeting.clone().with_text(text)
}
/// Ours to NOOP and RSET (RFC 5321 §4.1.1.5, §4.1.1.9).
pub(crate) const OK: Reply = Reply::new(250, Status::new(2, 0, 0), "Ok");
/// To MAIL (RFC 5321 §4.1.1.2; IANA enhanced-status-codes 2.1.0).
pub(crate) const SENDER_OK: Reply = Reply::new(250, Status::new(2, 1, 0), "Sender ok");
/// To RCPT, in the tarpit and where the content is judged (RFC 5321 §4.1.1.3; IANA enhanced-status-codes 2.1.5).
pub(crate) const RECIPIENT_OK: Reply = Reply::new(250, Status::new(2, 1, 5), "Recipient ok");
/// To DATA, in the tarpit and where the content is judged (RFC 5321 §4.1.1.4).
pub(crate) const START_CONTENT: Reply = Reply::bare(354, "End data with <CR><LF>.<CR><LF>");
/// To QUIT (RFC 5321 §4.1.1.10).
pub(crate) const BYE: Reply = Reply::new(221, Status::new(2, 0, 0), "Bye");
/// To VRFY (RFC 5321 §3.5.3).
pub(crate) const CANNOT_VERIFY: Reply = Reply::new(252, Status::new(2, 5, 2), "Cannot verify; try RCPT");
/// To HELP (RFC 5321 §4.1.1.8).
pub(crate) const HELP: Reply =
    Reply::new(214, Status::new(2, 0, 0), "EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY STARTTLS AUTH QUIT");
/// To what we know and do not do (RFC 5321 §4.2.4).
pub(crate) const NOT_IMPLEMENTED: Reply = Reply::new(502, Status::new(5, 5, 1), "Command not implemented");
/// To a command nobody knows, in the tarpit, where no line is kept (RFC 5321 §4.2.4).
pub(crate) const UNKNOWN_COMMAND: Reply = Reply::new(500, Status::new(5, 5, 1), "Command not recognized");
/// To MAIL before HELO or EHLO (RFC 5321 §4.1.4).
pub(crate) const HELO_FIRST: Reply = Reply::new(503, Status::new(5, 5, 1), "Say EHLO first");
/// To RCPT, DATA or BDAT before MAIL (RFC 5321 §3.3).
pub(crate) const MAIL_FIRST: Reply = Reply::new(503, Status::new(5, 5, 1), "Say MAIL first");
/// To a second MAIL (RFC 5321 §4.1.4).
pub(crate) const MAIL_AGAIN: Reply =
    Reply::new(503, Status::new(5, 5, 1), "A transaction is open; finish it or say RSET");
/// To DATA and BDAT when no recipient was accepted (RFC 5321 §3.3, RFC 2920 §3.1).
pub(crate) const NO_RECIPIENTS: Reply = Reply::new(554, Status::new(5, 5, 1), "No valid recipients");
/// To MAIL with a SIZE above ours (RFC 1870 §6.1).
pub(crate) const TOO_LARGE: Reply = Reply::new(552, Status::new(5, 3, 4), "Message too big");
/// To STARTTLS (RFC 3207 §4).
pub(crate) const START_TLS: Reply = Reply::new(220, Status::new(2, 0, 0), "Ready to start TLS");
/// To STARTTLS with something behind it (RFC 3207 §4; CVE-2011-0411).
pub(crate) const NOTHING_AFTER_STARTTLS: Reply =
    Reply::new(503, Status::new(5, 5, 1), "Nothing may follow STARTTLS before the handshake, closing");
/// To STARTTLS inside TLS (RFC 3207 §4).
pub(crate) const TLS_AGAIN: Reply = Reply::new(503, Status::new(5, 5, 1), "TLS is on already");
/// To STARTTLS without a certificate, or with too many sessions inside TLS (RFC 3207 §4).
pub(crate) const NO_TLS: Reply = Reply::new(454, Status::new(4, 7, 0), "TLS not available");

/// To RCPT of an unknown client (RFC 6647 §5.1; IANA enhanced-status-codes 4.7.1). The hint is rounded up, so that
/// who waits exactly so long passes.
pub(crate) fn deferred(wait: Duration) -> Reply {
    let seconds = wait.as_millis().div_ceil(1000).max(1);
    // The second form of the hint is for programs (draft-santos-smtpgrey, expired); who does not know it skips it.
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let hint = format!("retry={hours:02}:{minutes:02}:{rest:02}");
    Reply::new(451, Status::new(4, 7, 1), "")
        .with_text(format!("greylisted, try again in {seconds} seconds; {hint}"))
}

/// To a further RCPT of a message whose content is judged: the sender comes with it in another transaction at once (RFC
/// 5321 §4.5.3.1.10; IANA enhanced-status-codes 4.5.3).
pub(crate) const ONE_AT_A_TIME: Reply =
    Reply::new(452, Status::new(4, 5, 3), "One recipient at a time until you are known");
/// To RCPT of a client that has passed and cannot go on in this session (RFC 6647 §5.1; IANA enhanced-status-codes
/// 4.7.1).
pub(crate) const COME_AGAIN: Reply =
    Reply::new(451, Status::new(4, 7, 1), "You are known now, connect again and you are served at once");
/// The server behind us does not answer, or does not want this connection (RFC 5321 §3.8; IANA
/// enhanced-status-codes 4.3.2).
pub(crate) const UNAVAILABLE: Reply =
    Reply::new(421, Status::new(4, 3, 2), "Service not available for a moment, connect again");

/// The last word of the tarpit: the messages of everything that lists the client (spamd(8)).
pub(crate) fn last_word(word: LastWord, messages: &str) -> Reply {
    let text = messages.trim_end_matches('\n');
    match word {
        LastWord::Transient => Reply::new(450, Status::new(4, 7, 1), "").with_text(text),
        LastWord::Permanent => Reply::new(550, Status::new(5, 7, 1), "").with_text(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_is_rounded_up() {
        let text = |millis| deferred(Duration::from_millis(millis)).to_wire();
        assert_eq!(text(1_499_001), "451 4.7.1 greylisted, try again in 1500 seconds; retry=00:25:00\r\n");
        assert_eq!(text(1_500_000), "451 4.7.1 greylisted, try again in 1500 seconds; retry=00:25:00\r\n");
        assert_eq!(text(0), "451 4.7.1 greylisted, try again in 1 seconds; retry=00:00:01\r\n");
    }

    #[test]
    fn a_last_word_of_two_lists_has_two_lines() {
        let reply = last_word(LastWord::Permanent, "one\ntwo\n");
        assert_eq!(reply.to_wire(), "550-5.7.1 one\r\n550 5.7.1 two\r\n");
    }
}
