//! Greeting, EHLO, STARTTLS, the order of commands.

use std::time::Duration;

use mailgate_proto::smtp::Offered;

use super::fixture::*;

#[tokio::test]
async fn the_greeting_and_the_offer_are_those_of_port_25() {
    let place = place().await;
    let mut peer = place.mx().await;
    assert_eq!(peer.hears("220").await.lines, ["mx.example.org ESMTP mailgate"]);
    let offered = Offered::from_answer(&peer.says("EHLO client.example", "250").await);
    assert!(offered.pipelining && offered.eight_bit && offered.smtputf8 && offered.chunking && offered.dsn);
    assert!(offered.starttls && offered.enhanced_status && offered.mechanisms.is_empty());
    assert_eq!(offered.size, Some(52_428_800));
    assert_eq!(peer.says("HELO client.example", "250").await.lines, ["mx.example.org"]);
    peer.says("QUIT", "221 2.0.0").await;
    peer.sees_the_end().await;
}

#[tokio::test]
async fn commands_out_of_order_are_refused() {
    let place = place().await;
    let mut peer = place.mx().await;
    peer.hears("220").await;
    peer.says("MAIL FROM:<a@client.example>", "503 5.5.1").await;
    peer.says("RCPT TO:<alice@example.org>", "503 5.5.1").await;
    peer.says("DATA", "503 5.5.1").await;
    peer.says("EHLO client.example", "250").await;
    peer.says("RCPT TO:<alice@example.org>", "503 5.5.1").await;
    peer.says("MAIL FROM:<a@client.example>", "250 2.1.0").await;
    peer.says("MAIL FROM:<a@client.example>", "503 5.5.1").await;
    peer.says("DATA", "554 5.5.1").await;
    peer.says("RCPT TO:<alice@example.org>", "250 2.1.5").await;
    peer.says("RSET", "250 2.0.0").await;
    peer.says("DATA", "503 5.5.1").await;
    peer.says("VRFY alice", "252 2.5.2").await;
    peer.says("EXPN all", "502 5.5.1").await;
    peer.says("LHLO x", "502 5.5.1").await;
    peer.says("AUTH PLAIN", "502 5.5.1").await;
    peer.says("HELP", "214 2.0.0").await;
    peer.says("NOOP", "250 2.0.0").await;
}

#[tokio::test]
async fn starttls_forgets_what_was_said_and_marks_the_trace() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    let mut peer = peer.starttls(&place).await;
    peer.says("MAIL FROM:<a@client.example>", "503 5.5.1").await;
    let offered = Offered::from_answer(&peer.says("EHLO client.example", "250").await);
    assert!(!offered.starttls);
    peer.says("STARTTLS", "503 5.5.1").await;
    peer.says("RCPT TO:<alice@example.org>", "503 5.5.1").await;
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    peer.data(CONTENT, "250 2.0.0").await;
    assert!(place.content().await.contains("with ESMTPS\r\n"));
}

#[tokio::test]
async fn commands_in_front_of_the_tls_handshake_are_never_performed() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.sends("STARTTLS\r\nMAIL FROM:<evil@client.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n")
        .await;
    peer.hears("503 5.5.1").await;
    peer.sees_the_end().await;
    assert!(place.contents().await.is_empty());
}

#[tokio::test]
async fn octets_between_starttls_and_the_handshake_break_the_handshake() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.says("STARTTLS", "220 2.0.0").await;
    peer.sends("EHLO evil\r\nMAIL FROM:<evil@client.example>\r\n").await;
    // Nothing but a TLS alert may come back.
    use tokio::io::AsyncReadExt as _;
    let mut back = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), peer.stream.read_to_end(&mut back)).await;
    assert!(read.is_ok(), "the server waits");
    assert!(back.first().is_none_or(|byte| *byte == 21), "{}", back.escape_ascii());
}

#[tokio::test]
async fn a_silent_client_is_told_and_left() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.sends("MAIL FR").await;
    let waiting = async {
        // The server's timer starts when it waits; moving the clock again and again finds it there.
        loop {
            place.clock.advance(Duration::from_secs(60));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = waiting => {}
        _ = peer.hears("421 4.4.2") => {}
    }
    peer.sees_the_end().await;
}

#[tokio::test]
async fn at_shutdown_waiting_clients_hear_goodbye() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    place.shutdown.cancel();
    peer.hears("421 4.3.2").await;
    peer.sees_the_end().await;
}

#[tokio::test]
async fn one_session_too_many_hears_so() {
    let place = place_with(|config| config.sessions = 1).await;
    let _first = place.mx_greeted().await;
    let mut second = place.mx().await;
    second.hears("421 4.3.2").await;
    second.sees_the_end().await;
}
