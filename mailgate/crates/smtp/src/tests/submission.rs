//! Ports 587 and 465.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mailgate_proto::smtp::Offered;

use super::fixture::*;

const MESSAGE: &str = "From: Alice <alice@example.org>\r\nTo: x@client.example\r\nBcc: secret@client.example\r\nSubject: x\r\n\r\nbody\r\n";

#[tokio::test]
async fn before_tls_nothing_is_offered_and_nothing_taken() {
    let place = place().await;
    let mut peer = place.msa().await;
    peer.hears("220").await;
    let offered = Offered::from_answer(&peer.says("EHLO client.example", "250").await);
    assert!(offered.starttls && offered.mechanisms.is_empty());
    peer.says(&plain("alice@example.org", PASSWORD), "538 5.7.11").await;
    peer.says("AUTH LOGIN", "538 5.7.11").await;
    peer.says("MAIL FROM:<alice@example.org>", "530 5.7.0 Say STARTTLS").await;
    let mut peer = peer.starttls(&place).await;
    let offered = Offered::from_answer(&peer.says("EHLO client.example", "250").await);
    assert_eq!(offered.mechanisms, ["PLAIN", "LOGIN"]);
    peer.says("MAIL FROM:<alice@example.org>", "530 5.7.0 Authentication").await;
    peer.says(&plain("alice@example.org", PASSWORD), "235 2.7.0").await;
    peer.says("MAIL FROM:<alice@example.org>", "250 2.1.0").await;
}

#[tokio::test]
async fn plain_and_login_work_with_and_without_an_initial_response() {
    let place = place().await;
    let credentials = STANDARD.encode(format!("\0alice@example.org\0{PASSWORD}"));
    let (login, password) = (STANDARD.encode("alice@example.org"), STANDARD.encode(PASSWORD));
    for exchange in [
        vec![("AUTH PLAIN", "334"), (&*credentials, "235")],
        vec![("auth login", "334 VXNlcm5hbWU6"), (&login, "334 UGFzc3dvcmQ6"), (&password, "235")],
        vec![(&*format!("AUTH LOGIN {login}"), "334 UGFzc3dvcmQ6"), (&password, "235")],
    ] {
        let mut peer = place.submissions().await;
        for (line, want) in exchange {
            peer.says(line, want).await;
        }
        peer.says("AUTH PLAIN", "503 5.5.1").await;
        peer.says("MAIL FROM:<alice@example.org>", "250").await;
        peer.says("AUTH PLAIN", "503 5.5.1").await;
    }
}

#[tokio::test]
async fn malformed_exchanges_are_refused_and_do_not_disturb_the_session() {
    let place = place().await;
    let mut peer = place.submissions().await;
    peer.says("AUTH CRAM-MD5", "504 5.5.4").await;
    peer.says("AUTH PLAIN !!!", "501 5.5.2").await;
    peer.says("AUTH PLAIN =", "501 5.5.2").await;
    peer.says("AUTH PLAIN", "334").await;
    peer.says("*", "501 5.7.0").await;
    peer.says("AUTH PLAIN", "334").await;
    peer.says(&"A".repeat(20_000), "500 5.5.6").await;
    peer.says(&format!("NOOP {}", "A".repeat(5000)), "500 5.5.2").await;
    peer.says(&plain("alice@example.org", PASSWORD), "235").await;
}

#[tokio::test]
async fn wrong_passwords_end_the_session() {
    let place = place().await;
    let mut peer = place.submissions().await;
    peer.says(&plain("alice@example.org", "wrong"), "535 5.7.8").await;
    peer.says(&plain("nobody@example.org", "wrong"), "535 5.7.8").await;
    peer.says(&plain("alice@example.org", "wrong again"), "421 4.7.0").await;
    peer.sees_the_end().await;
}

#[tokio::test]
async fn a_message_is_completed_cleaned_and_signed() {
    let place = place().await;
    let mut peer = place.alice().await;
    peer.envelope("alice@example.org", &["far@client.example", "bob@example.org"]).await;
    peer.data(MESSAGE, "250 2.0.0").await;
    let content = place.content().await;
    assert!(content.starts_with("Received: from client.example"), "{content}");
    assert!(content.contains("with ESMTPSA\r\n") && !content.contains("secret"), "{content}");
    assert!(content.contains("\r\nDate: Sat, 21 Nov 2026 "), "{content}");
    assert!(content.contains("\r\nMessage-ID: <") && content.contains("@mx.example.org>\r\n"), "{content}");
    assert!(content.contains("\r\nDKIM-Signature: ") && content.contains("d=example.org"), "{content}");
    assert!(content.find("DKIM-Signature").unwrap() < content.find("Date: ").unwrap());
    assert!(!content.contains("Authentication-Results"));
}

#[tokio::test]
async fn what_was_signed_verifies_when_it_comes_back() {
    let place = place().await;
    let mut peer = place.alice().await;
    peer.envelope("alice@example.org", &["far@client.example"]).await;
    peer.data(MESSAGE, "250 2.0.0").await;
    let signed = place.content().await;
    let mut peer = place.mx_greeted().await;
    peer.envelope("alice@example.org", &["bob@example.org"]).await;
    peer.data(&signed, "250 2.0.0").await;
    let again = place.contents().await.pop().unwrap();
    assert!(again.starts_with("Authentication-Results: mx.example.org"), "{again}");
    assert!(again.contains("dkim=pass"), "{again}");
    let tampered = signed.replace("body", "hody");
    peer.envelope("alice@example.org", &["bob@example.org"]).await;
    peer.data(&tampered, "250 2.0.0").await;
    let third = place.contents().await.pop().unwrap();
    assert!(third.contains("dkim=") && !third.contains("dkim=pass"), "{third}");
}

#[tokio::test]
async fn a_date_and_a_message_id_that_are_there_stay() {
    let place = place().await;
    let mut peer = place.alice().await;
    peer.envelope("alice@example.org", &["far@client.example"]).await;
    peer.data(&format!("Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-Id: <x@y>\r\n{MESSAGE}"), "250")
        .await;
    let content = place.content().await;
    let count = |name: &str| content.to_lowercase().matches(&format!("\r\n{name}:")).count();
    assert_eq!((count("date"), count("message-id")), (1, 1), "{content}");
}

#[tokio::test]
async fn nobody_sends_as_another_in_envelope_or_header() {
    let place = place().await;
    let mut peer = place.alice().await;
    peer.says("MAIL FROM:<bob@example.org>", "553 5.7.1").await;
    peer.says("MAIL FROM:<boss@client.example>", "553 5.7.1").await;
    for (header, want) in [
        ("From: bob@example.org\r\n", "553 5.7.1"),
        ("From: alice@example.org, bob@example.org\r\n", "553 5.7.1"),
        ("From: \"alice@example.org\" <bob@example.org>\r\n", "553 5.7.1"),
        ("From: alice@example.org\r\nFrom: bob@example.org\r\n", "550 5.6.0"),
        ("Subject: nobody\r\n", "550 5.6.0"),
        ("From: alice@example.org\r\n", "250"),
    ] {
        peer.envelope("alice@example.org", &["far@client.example"]).await;
        peer.data(&format!("{header}\r\nbody\r\n"), want).await;
    }
    // A notification has no reverse-path (RFC 8098 §3).
    peer.envelope("", &["far@client.example"]).await;
    peer.data(MESSAGE, "250").await;
}

#[tokio::test]
async fn unknown_local_recipients_are_refused_in_submission_too() {
    let place = place().await;
    let mut peer = place.alice().await;
    peer.says("MAIL FROM:<alice@example.org>", "250").await;
    peer.says("RCPT TO:<nobody@example.org>", "550 5.1.1").await;
}

#[tokio::test]
async fn identity_does_not_survive_starttls() {
    let place = place_with(|config| config.msa.auth_require_tls = false).await;
    let mut peer = place.msa().await;
    peer.hears("220").await;
    peer.says("EHLO client.example", "250").await;
    peer.says(&plain("alice@example.org", PASSWORD), "235").await;
    let mut peer = peer.starttls(&place).await;
    peer.says("EHLO client.example", "250").await;
    peer.says("MAIL FROM:<alice@example.org>", "530 5.7.0").await;
}
