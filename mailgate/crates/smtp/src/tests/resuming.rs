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
