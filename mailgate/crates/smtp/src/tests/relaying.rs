//! Who may send where.

use super::fixture::*;

#[tokio::test]
async fn no_classic_form_relays() {
    let place = place_with(|config| config.mx.unknown_recipients = 1000).await;
    for (from, to, want) in [
        ("spam@client.example", "<victim@victim.example>", "550 5.7.1"),
        ("alice@example.org", "<victim@victim.example>", "550 5.7.1"),
        ("", "<victim@victim.example>", "550 5.7.1"),
        ("spam@[127.0.0.1]", "<victim@victim.example>", "550 5.7.1"),
        ("spam@mx.example.org", "<victim@victim.example>", "550 5.7.1"),
        ("spam@client.example", "<victim%victim.example@example.org>", "550 5.1.1"),
        ("spam@client.example", "<victim%victim.example@[127.0.0.1]>", "550 5.7.1"),
        ("spam@client.example", "<\"victim@victim.example\"@example.org>", "550 5.1.1"),
        ("spam@client.example", "<\"victim%victim.example\"@example.org>", "550 5.1.1"),
        ("spam@client.example", "<@example.org:victim@victim.example>", "550 5.7.1"),
        ("spam@client.example", "<@[127.0.0.1]:victim@victim.example>", "501 5.1.3"),
        ("spam@client.example", "<@example.org,@victim.example:victim@victim.example>", "550 5.7.1"),
        ("spam@client.example", "<victim.example!victim>", "501 5.1.3"),
        ("spam@client.example", "<victim.example!victim@example.org>", "550 5.1.1"),
        ("spam@client.example", "<victim.example!victim@[127.0.0.1]>", "550 5.7.1"),
        ("spam@client.example", "<example.org!victim@victim.example>", "550 5.7.1"),
        ("spam@client.example", "<victim@victim.example@example.org>", "501 5.1.3"),
        ("spam@client.example", "victim@victim.example", "501 5.1.3"),
        ("spam@client.example", "<\"victim@victim.example\">", "501 5.1.3"),
        ("spam@client.example", "<victim@[192.0.2.1]>", "550 5.7.1"),
        ("spam@client.example", "<victim@[IPv6:2001:db8::1]>", "550 5.7.1"),
        ("spam@client.example", "<alice@sub.example.org>", "550 5.7.1"),
        ("spam@client.example", "<alice@notexample.org>", "550 5.7.1"),
    ] {
        let mut peer = place.mx_greeted().await;
        peer.says(&format!("MAIL FROM:<{from}>"), "250 2.1.0").await;
        peer.says(&format!("RCPT TO:{to}"), want).await;
        peer.says("DATA", "554 5.5.1").await;
    }
    assert!(place.contents().await.is_empty());
}

#[tokio::test]
async fn local_recipients_are_taken_in_every_lawful_form() {
    let place = place().await;
    for to in [
        "<alice@example.org>",
        "<alice@EXAMPLE.ORG>",
        "<postmaster>",
        "<PostMaster>",
        "<\"alice\"@example.org>",
        "<@relay.example:alice@example.org>",
    ] {
        let mut peer = place.mx_greeted().await;
        peer.says("MAIL FROM:<>", "250 2.1.0").await;
        peer.says(&format!("RCPT TO:{to}"), "250 2.1.5").await;
    }
}

#[tokio::test]
async fn unknown_recipients_are_refused_at_rcpt_and_guessing_ends() {
    let place = place_with(|config| config.mx.unknown_recipients = 3).await;
    let mut peer = place.mx_greeted().await;
    peer.says("MAIL FROM:<a@client.example>", "250 2.1.0").await;
    for name in ["x", "y", "z"] {
        peer.says(&format!("RCPT TO:<{name}@example.org>"), "550 5.1.1").await;
    }
    peer.says("RCPT TO:<w@example.org>", "421 4.7.0").await;
    peer.sees_the_end().await;
}

#[tokio::test]
async fn aliases_are_expanded_and_nobody_gets_two() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.envelope("a@client.example", &["both@example.org", "alice@example.org", "alice@example.org"]).await;
    peer.data(CONTENT, "250 2.0.0").await;
    let listed = place.spool.list(10, None).await.unwrap();
    assert_eq!((listed.len(), listed[0].recipients), (1, 2));
}
