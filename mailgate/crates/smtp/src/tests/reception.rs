//! Content, trace header, results, and what the 250 stands for.

use mailgate_model::{Address, Envelope, IdGenerator, Recipient, ReversePath};

use super::fixture::*;
use crate::config::Dmarc;

#[tokio::test]
async fn a_message_is_in_the_spool_with_results_and_trace_when_250_is_heard() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    let accepted = peer.data(CONTENT, "250 2.0.0 Ok: queued as ").await;
    let listed = place.spool.list(10, None).await.unwrap();
    assert!(accepted.lines[0].ends_with(&listed[0].id.to_string()));
    assert_eq!(listed[0].reverse_path.to_string(), "a@client.example");
    let content = place.content().await;
    assert!(content.starts_with("Authentication-Results: mx.example.org"), "{content}");
    let trace = &content[content.find("\r\nReceived: from client.example (").unwrap() + 2..];
    assert!(trace.contains("[127.0.0.1])\r\n\tby mx.example.org (mailgate) with ESMTP\r\n"), "{content}");
    assert!(trace.contains("\r\n\tfor <alice@example.org>;\r\n\t"), "{content}");
    assert!(content.ends_with(CONTENT));
}

#[tokio::test]
async fn several_recipients_do_not_learn_of_each_other() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.envelope("a@client.example", &["alice@example.org", "bob@example.org"]).await;
    peer.data(CONTENT, "250 2.0.0").await;
    assert!(!place.content().await.contains("alice"));
}

#[tokio::test]
async fn forged_results_in_our_name_are_removed_and_those_of_others_kept() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    let forged = "Authentication-Results: MX.example.org;\r\n\tdmarc=pass (forged)\r\n";
    let other = "Authentication-Results: other.example; spf=pass\r\n";
    peer.data(
        &format!("{forged}{other}authentication-results : mx.example.org 1; dkim=pass (forged)\r\n{CONTENT}"),
        "250",
    )
    .await;
    let content = place.content().await;
    assert!(!content.contains("forged"), "{content}");
    assert!(content.ends_with(&format!("{other}{CONTENT}")), "{content}");
}

#[tokio::test]
async fn a_dmarc_policy_of_reject_is_honoured_only_when_configured() {
    let content = "From: boss@strict.example\r\n\r\nbody\r\n";
    for (dmarc, want) in [(Dmarc::Mark, "250 2.0.0"), (Dmarc::Reject, "550 5.7.1")] {
        let place = place_with(|config| config.mx.dmarc = dmarc).await;
        let mut peer = place.mx_greeted().await;
        peer.envelope("a@client.example", &["alice@example.org"]).await;
        peer.data(content, want).await;
        assert_eq!(place.contents().await.len(), usize::from(dmarc == Dmarc::Mark));
    }
}

#[tokio::test]
async fn a_group_of_pipelined_commands_is_answered_in_order_and_in_one_piece() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    let group = "MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.org>\r\nRCPT TO:<nobody@example.org>\r\n\
                 RCPT TO:<bob@example.org>\r\nDATA\r\n";
    peer.sends(group).await;
    for want in ["250 2.1.0", "250 2.1.5", "550 5.1.1", "250 2.1.5", "354"] {
        peer.hears(want).await;
    }
    peer.sends(format!("{CONTENT}.\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n")).await;
    for want in ["250 2.0.0", "250 2.1.0", "250 2.1.5", "354"] {
        peer.hears(want).await;
    }
    peer.sends(format!("{CONTENT}.\r\nQUIT\r\n")).await;
    peer.hears("250 2.0.0").await;
    peer.hears("221 2.0.0").await;
    assert_eq!(place.contents().await.len(), 2);
}

#[tokio::test]
async fn two_transactions_sent_blindly_in_one_piece_are_two_messages() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    let one =
        format!("MAIL FROM:<a@client.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n{CONTENT}.\r\n");
    peer.sends(format!("{one}{one}")).await;
    for want in ["250 2.1.0", "250 2.1.5", "354", "250 2.0.0", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0"] {
        peer.hears(want).await;
    }
    assert_eq!(place.contents().await.len(), 2);
}

#[tokio::test]
async fn dots_are_unstuffed_and_an_empty_message_is_a_message() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    peer.data("..first\r\n\r\n..\r\n...x\r\n", "250").await;
    assert!(place.content().await.ends_with("\r\n.first\r\n\r\n.\r\n..x\r\n"));
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    peer.data("", "250").await;
    assert_eq!(place.contents().await.len(), 2);
}

#[tokio::test]
async fn chunks_are_joined_and_a_missing_last_accepts_nothing() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    peer.sends("BDAT 6\r\nA: b\r\nBDAT 4\r\n\r\nx").await;
    peer.hears("250 2.0.0").await;
    peer.sends("y").await;
    peer.hears("250 2.0.0").await;
    for line in ["MAIL FROM:<>", "RCPT TO:<bob@example.org>", "DATA"] {
        peer.says(line, "503 5.5.1").await;
    }
    peer.says("NOOP", "250 2.0.0").await;
    peer.says("BDAT 0 LAST", "250 2.0.0 Ok: queued").await;
    assert!(place.content().await.ends_with("A: b\r\n\r\nxy\r\n"));
    // A second one without LAST, and the client goes away.
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    peer.sends("BDAT 6\r\nA: b\r\n").await;
    peer.hears("250 2.0.0").await;
    peer.says("QUIT", "221").await;
    peer.sees_the_end().await;
    assert_eq!(place.contents().await.len(), 1);
}

#[tokio::test]
async fn chunks_of_a_refused_transaction_are_read_past() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.sends("BDAT 6\r\nQUIT\r\nNOOP\r\n").await;
    peer.hears("503 5.5.1").await;
    peer.hears("250 2.0.0").await;
    peer.says("MAIL FROM:<a@client.example>", "250").await;
    peer.says("RCPT TO:<nobody@example.org>", "550").await;
    peer.sends("BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n").await;
    peer.hears("554 5.5.1").await;
    peer.hears("250 2.0.0").await;
    peer.says("RCPT TO:<alice@example.org>", "250").await;
    peer.sends("BDAT 3\r\na\nbBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n").await;
    peer.hears("550 5.6.0").await;
    peer.hears("503 5.5.1").await;
    peer.hears("250 2.0.0").await;
    assert!(place.contents().await.is_empty());
}

#[tokio::test]
async fn wishes_for_reports_and_utf8_reach_the_spool() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.says("MAIL FROM:<ü@client.example> SMTPUTF8 BODY=8BITMIME RET=HDRS ENVID=QQ1", "250").await;
    peer.says("RCPT TO:<alice@example.org> NOTIFY=SUCCESS ORCPT=rfc822;alice@example.org", "250").await;
    peer.data("Subject: ü\r\n\r\nü\r\n", "250").await;
    let id = place.spool.list(1, None).await.unwrap()[0].id;
    let lease = place.spool.lease(id, vec![0]).unwrap();
    let envelope = place.spool.load(&lease).await.unwrap().unwrap().envelope;
    assert!(envelope.smtputf8 && envelope.eight_bit);
    assert_eq!(envelope.envid.as_deref(), Some("QQ1"));
    assert!(envelope.recipients[0].notify.success && !envelope.recipients[0].notify.failure);
    assert_eq!(envelope.recipients[0].orcpt.as_deref(), Some("rfc822;alice@example.org"));
    assert!(place.content().await.contains("with UTF8SMTP\r\n"));
}

#[tokio::test]
async fn a_mail_loop_is_refused() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    let hop = "Received: from a by b; Thu, 1 Jan 1970 00:00:00 +0000\r\n";
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    peer.data(&format!("{}{CONTENT}", hop.repeat(100)), "250").await;
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    peer.data(&format!("{}{CONTENT}", hop.repeat(101)), "554 5.4.6").await;
}

#[tokio::test]
async fn a_message_that_cannot_be_made_durable_is_deferred_and_the_next_one_taken() {
    let place = place().await;
    // The first id of the server is taken already.
    let taken = IdGenerator::new(1).queue_id(NOW);
    let envelope = Envelope {
        reverse_path: ReversePath::Null,
        recipients: vec![Recipient::plain(Address::parse("bob@example.org").unwrap())],
        envid: None,
        ret: None,
        smtputf8: false,
        eight_bit: false,
    };
    let _ = place.spool.commit(taken, envelope, "occupied\r\n".into()).await.unwrap();
    let mut peer = place.mx_greeted().await;
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    peer.data(CONTENT, "451 4.3.0").await;
    assert_eq!(place.content().await, "occupied\r\n");
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    peer.data(CONTENT, "250 2.0.0").await;
}

#[tokio::test]
async fn a_client_that_vanishes_inside_the_content_leaves_nothing() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    peer.says("DATA", "354").await;
    peer.sends(format!("{CONTENT}.\r")).await;
    peer.vanishes().await;
    assert!(place.contents().await.is_empty());
    assert!(place.server.budget.has_room_for(256 * 1024 * 1024), "its memory was given back");
}

#[tokio::test]
async fn first_contact_hears_of_accepted_messages_of_strangers_and_of_nothing_else() {
    let place = place().await;
    let mut peer = place.mx_greeted().await;
    peer.says("MAIL FROM:<a@client.example>", "250").await;
    peer.says("RCPT TO:<nobody@example.org>", "550").await;
    peer.says("RSET", "250").await;
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    peer.data("From: a@client.example\r\n\nbare\r\n", "550").await;
    assert!(place.accepted.0.lock().unwrap().is_empty());
    peer.envelope("a@client.example", &["alice@example.org"]).await;
    peer.data(CONTENT, "250 2.0.0").await;
    let mut alice = place.alice().await;
    alice.envelope("alice@example.org", &["bob@example.org"]).await;
    alice.data(&CONTENT.replace("a@client.example", "alice@example.org"), "250 2.0.0").await;
    let loopback: std::net::IpAddr = "127.0.0.1".parse().unwrap();
    assert_eq!(*place.accepted.0.lock().unwrap(), [loopback]);
}
