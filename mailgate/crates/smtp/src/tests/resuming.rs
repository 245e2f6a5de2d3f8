//! Sessions that the edge began.

use super::fixture::*;

#[tokio::test]
async fn the_first_word_is_the_reply_to_the_pending_recipient() {
    let place = place().await;
    let mut peer = place
        .resumed(
            Some("EHLO client.example"),
            Some("MAIL FROM:<a@client.example>"),
            "RCPT TO:<alice@example.org>\r\n",
        )
        .await;
    peer.hears("250 2.1.5").await;
    peer.data(CONTENT, "250 2.0.0").await;
    assert!(place.content().await.contains("\r\nReceived: from client.example ("));
    peer.envelope("b@client.example", &["bob@example.org"]).await;
    peer.says("QUIT", "221").await;
}

#[tokio::test]
async fn a_mail_that_is_refused_after_all_is_answered_at_each_recipient() {
    let place = place().await;
    let mut peer = place
        .resumed(
            Some("EHLO client.example"),
            Some("MAIL FROM:<a@client.example> SIZE=999999999"),
            "RCPT TO:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n",
        )
        .await;
    for _ in 0..3 {
        peer.hears("552 5.3.4").await;
    }
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    peer.data(CONTENT, "250 2.0.0").await;
}

#[tokio::test]
async fn a_session_without_mail_or_with_half_a_line_goes_on() {
    let place = place().await;
    let mut peer = place.resumed(Some("HELO client.example"), None, "MAIL FROM:<a@clie").await;
    peer.sends("nt.example>\r\n").await;
    peer.hears("250 2.1.0").await;
    peer.says("RCPT TO:<alice@example.org>", "250").await;
    peer.data(CONTENT, "250").await;
    assert!(place.content().await.contains("with SMTP\r\n"));
    let mut silent = place.resumed(None, None, "NOOP\r\n").await;
    silent.hears("250 2.0.0").await;
    silent.says("MAIL FROM:<>", "503 5.5.1").await;
}

#[tokio::test]
async fn starttls_works_after_a_resume() {
    let place = place().await;
    let mut peer = place.resumed(Some("EHLO client.example"), None, "").await;
    peer.says("NOOP", "250").await;
    let mut peer = peer.starttls(&place).await;
    peer.says("EHLO client.example", "250").await;
}

/// A session that the edge began up to the content.
async fn in_content(place: &Place, mail: &str, rcpt: &str, pending: &str) -> Peer {
    place.resumed_behind(Some("EHLO client.example"), Some(mail), Some(rcpt), pending).await
}

#[tokio::test]
async fn a_content_that_the_edge_began_to_read_is_taken_whole_and_answered_once() {
    let place = place().await;
    let mut peer =
        in_content(&place, "MAIL FROM:<a@client.example>", "RCPT TO:<alice@example.org>", "Subject: x\r\n\r")
            .await;
    peer.sends("\n..dot\r\n.\r\nNOOP\r\n").await;
    peer.hears("250 2.0.0").await;
    peer.hears("250 2.0.0").await;
    assert!(place.content().await.ends_with("Subject: x\r\n\r\n.dot\r\n"));
    peer.envelope("b@client.example", &["bob@example.org"]).await;
    peer.says("QUIT", "221").await;
}

#[tokio::test]
async fn what_reception_refuses_is_refused_after_the_content_and_none_of_it_is_a_command() {
    let place = place().await;
    let content = "Subject: x\r\n\r\nRSET\r\nQUIT\r\n.\r\n";
    for (mail, rcpt, code) in [
        ("MAIL FROM:<a@client.example>", "RCPT TO:<nobody@example.org>", "550 5.1.1"),
        ("MAIL FROM:<a@client.example>", "RCPT TO:<x@elsewhere.example>", "550 5.7.1"),
        ("MAIL FROM:<a@client.example> SIZE=999999999", "RCPT TO:<alice@example.org>", "552 5.3.4"),
        ("MAIL FROM:<a@client.example>", "RCPT TO:<no address", "501"),
    ] {
        let mut peer = in_content(&place, mail, rcpt, content).await;
        peer.hears(code).await;
        // The transaction is over and the session is not.
        peer.envelope("a@client.example", &["alice@example.org"]).await;
    }
    assert!(place.contents().await.is_empty());
}
