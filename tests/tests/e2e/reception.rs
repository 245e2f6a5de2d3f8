//! Steps 5 to 9 on loopback: who may hand in what.

use mailgate_tests::{DOMAIN, PASSWORD, Service, SmtpClient};

#[test]
fn unknown_recipients_are_refused_at_rcpt_and_known_ones_are_not() {
    let service = Service::start("").unwrap();
    let mut client = service.mx().unwrap();
    client.expect("MAIL FROM:<a@client.example>", "250").unwrap();
    client.expect("RCPT TO:<nobody@example.org>", "550").unwrap();
    client.expect("RCPT TO:<alice@example.org>", "250").unwrap();
    client.expect("RCPT TO:<alice+lists@example.org>", "250").unwrap();
}

#[test]
fn submission_wants_tls_then_a_password_and_the_right_sender() {
    let service = Service::start("").unwrap();
    let mut client = SmtpClient::connect(service.ports.msa).unwrap();
    let plain = client.greet("client.example").unwrap();
    assert!(!plain.text().contains("AUTH"), "AUTH is offered without TLS: {plain}");
    client.start_tls("localhost").unwrap();
    let secure = client.expect("EHLO client.example", "250").unwrap();
    assert!(secure.text().contains("AUTH PLAIN"), "{secure}");
    client.expect("MAIL FROM:<alice@example.org>", "530").unwrap();
    client.expect(&format!("AUTH PLAIN {}", plain_secret("wrong")), "535").unwrap();
    client.expect(&format!("AUTH PLAIN {}", plain_secret(PASSWORD)), "235").unwrap();
    let foreign = client.command("MAIL FROM:<bob@example.org>").unwrap();
    assert_eq!(foreign.code / 100, 5, "alice may not send as bob: {foreign}");
    client.expect("MAIL FROM:<alice@example.org>", "250").unwrap();
    client.expect("RCPT TO:<ann@example.net>", "250").unwrap();
}

fn plain_secret(password: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("\0alice@{DOMAIN}\0{password}"))
}
