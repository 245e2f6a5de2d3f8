//! Step 5: one message stays one message, and what was said before TLS is forgotten.

use std::time::Duration;

use mailgate_tests::{ImapClient, Service, SmtpClient};

/// What other servers took for the end of data (CVE-2023-51764, -51765, -51766).
const ENDS: &[&str] =
    &["\n.\n", "\n.\r\n", "\r.\r\n", "\r.\r", "\r\n.\n", "\r\n.\r", "\r\n\0.\r\n", "\n\n.\r\n"];

#[test]
fn a_bare_cr_or_lf_never_ends_a_message() {
    let mut service = Service::start("").unwrap();
    let mut refused = 0;
    for (nth, end) in ENDS.iter().enumerate() {
        let mut client = service.mx().unwrap();
        let content = format!(
            "Subject: outer {nth}\r\n\r\nbody{end}MAIL FROM:<evil@example.org>\r\nRCPT TO:<bob@example.org>\r\n\
             DATA\r\nSubject: smuggled {nth}\r\n\r\nhello\r\n"
        );
        let reply = client.message("a@client.example", &["alice@example.org"], &content).unwrap();
        assert!(reply.code == 250 || reply.code / 100 == 5, "{end:?}: {reply}");
        refused += usize::from(reply.code != 250);
        // A server that saw two messages has more to say.
        client.set_patience(Duration::from_millis(100)).unwrap();
        let more = client.receive().unwrap_or_default();
        let more = String::from_utf8_lossy(&more);
        assert!(!more.contains("250") && !more.contains("354"), "{end:?}: it also said {more}");
    }
    service.drained(Duration::from_secs(20)).unwrap();
    service.serves("after-smuggling").unwrap();
    for message in service.daemon.mailboxes().unwrap() {
        let mut header = message.lines().take_while(|line| !line.is_empty());
        assert!(
            !header.any(|line| line.contains("smuggled")),
            "a message was smuggled:
{message}"
        );
        assert!(!message.contains("Return-Path: <evil@"), "a message was smuggled:\n{message}");
    }
    println!("{refused} of {} refused, the others stayed one message", ENDS.len());
}

#[test]
fn commands_in_the_packet_of_starttls_are_not_obeyed_afterwards() {
    let mut service = Service::start("").unwrap();
    for to in [service.ports.mx, service.ports.msa] {
        let mut client = SmtpClient::connect(to).unwrap();
        client.greet("client.example").unwrap();
        client.send(b"STARTTLS\r\nEHLO injected.example\r\nMAIL FROM:<evil@client.example>\r\n").unwrap();
        let reply = client.reply().unwrap();
        if reply.code / 100 == 5 {
            continue; // refused outright, as RFC 3207 §5 would have it just as well
        }
        assert_eq!(reply.code, 220, "{reply}");
        if client.secure("localhost").is_err() {
            continue; // the plain bytes were taken for TLS, and the session is over
        }
        client.set_patience(Duration::from_millis(300)).unwrap();
        assert!(client.receive().is_err(), "it answered what was injected: {}", client.transcript());
        client.set_patience(Duration::from_secs(20)).unwrap();
        // The next reply is that to the next command: nothing was kept.
        let ehlo = client.expect("EHLO client.example", "250").unwrap();
        assert!(ehlo.lines.len() > 1, "{ehlo}");
        client.expect("RCPT TO:<alice@example.org>", "503").unwrap();
    }
    let mut imap = ImapClient::connect(service.ports.imap).unwrap();
    imap.send(b"a STARTTLS\r\nb NOOP\r\n").unwrap();
    let line = imap.line().unwrap().unwrap_or_default();
    if line.starts_with("a OK") && imap.secure("localhost").is_ok() {
        imap.set_patience(Duration::from_millis(300)).unwrap();
        assert!(imap.receive().is_err(), "it answered what was injected: {}", imap.transcript());
    }
    service.serves("after-injection").unwrap();
}
