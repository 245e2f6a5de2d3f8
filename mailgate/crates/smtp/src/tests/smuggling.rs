//! Nothing inside one message is ever taken for another (CVE-2023-51764, CVE-2023-51765, CVE-2023-51766).

use super::fixture::*;

const HIDDEN: &str = "MAIL FROM:<evil@client.example>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nFrom: evil@client.example\r\n\r\nsmuggled\r\n.\r\n";

#[tokio::test]
async fn false_ends_of_data_give_one_refusal_and_no_message() {
    for (false_end, want) in [
        ("\n.\n", "550 5.6.0 Message has a bare line feed"),
        ("\n.\r\n", "550 5.6.0 Message has a bare line feed"),
        ("\r.\r\n", "550 5.6.0 Message has a bare carriage return"),
        ("\r\n.\r", "550 5.6.0 Message has a bare carriage return"),
        ("\r\n.\n", "550 5.6.0 Message has a bare line feed"),
        ("\r.\r", "550 5.6.0 Message has a bare carriage return"),
        ("\r\n\0.\r\n", "550 5.6.0 Message has a NUL"),
        ("\r\n.\0\r\n", "550 5.6.0 Message has a NUL"),
    ] {
        let place = place().await;
        let mut peer = place.mx_greeted().await;
        peer.envelope("a@client.example", &["alice@example.org"]).await;
        peer.says("DATA", "354").await;
        // The end in the hidden part is the real one.
        peer.sends(format!("From: a@client.example\r\n\r\nbody{false_end}{HIDDEN}")).await;
        peer.hears(want).await;
        peer.says("NOOP", "250 2.0.0").await;
        assert!(place.contents().await.is_empty(), "{}", false_end.escape_debug());
    }
}

#[tokio::test]
async fn a_dotted_end_in_chunks_is_content() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    let content = format!("From: a@client.example\r\n\r\nbody\r\n.\r\n{HIDDEN}");
    peer.sends(format!("BDAT {} LAST\r\n{content}", content.len())).await;
    peer.hears("250 2.0.0").await;
    assert!(place.content().await.ends_with(&content));
}

#[tokio::test]
async fn a_command_after_a_bare_line_feed_is_not_performed() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.sends("MAIL FROM:<a@client.example\nRSET\r\nNOOP\r\n").await;
    peer.hears("500 5.5.2").await;
    peer.sees_the_end().await;
}

#[tokio::test]
async fn a_command_after_a_bare_carriage_return_is_not_performed() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.sends("NOOP\rVRFY\r\nNOOP\r\n").await;
    peer.hears("500 5.5.2").await;
    peer.hears("250 2.0.0").await;
}
