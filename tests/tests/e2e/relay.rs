//! Step 6: no way to make an open relay of it.

use std::time::Duration;

use mailgate_tests::{Service, SmtpClient};

/// The forms that open relays were found by, as reverse-path and forward-path.
const ATTEMPTS: &[(&str, &str)] = &[
    ("spammer@client.example", "victim@example.net"),
    ("", "victim@example.net"),
    ("alice@example.org", "victim@example.net"),
    ("postmaster@example.org", "victim@example.net"),
    ("spammer@[127.0.0.1]", "victim@example.net"),
    ("spammer@localhost", "victim@example.net"),
    ("spammer@client.example", "@example.org:victim@example.net"),
    ("spammer@client.example", "@example.org,@example.net:victim@example.net"),
    ("spammer@client.example", "victim%example.net@example.org"),
    ("spammer@client.example", "victim%example.net@[127.0.0.1]"),
    ("spammer@client.example", "victim%example.net@localhost"),
    ("spammer@client.example", "example.net!victim@example.org"),
    ("spammer@client.example", "example.net!victim"),
    ("spammer@client.example", "\"victim@example.net\"@example.org"),
    ("spammer@client.example", "\"victim%example.net\"@example.org"),
    ("spammer@client.example", "\"victim@example.net\""),
    ("spammer@client.example", "victim@example.net@example.org"),
    ("spammer@client.example", "victim@example.org@example.net"),
    ("spammer@client.example", "victim@[192.0.2.1]"),
    ("spammer@client.example", "victim@[127.0.0.1]"),
    ("spammer@client.example", "victim@[IPv6:::1]"),
    ("spammer@client.example", "victim@[IPv6:2001:db8::1]"),
    ("spammer@client.example", "alice@EXAMPLE.ORG.example.net"),
    ("spammer@client.example", "alice@notexample.org"),
    ("spammer@client.example", "alice@sub.example.org"),
    ("spammer@client.example", "victim"),
];

#[test]
fn the_classic_relay_probes_are_all_refused_for_good() {
    let mut service = Service::start("").unwrap();
    for (reverse, forward) in ATTEMPTS {
        let mut client = service.mx().unwrap();
        let mail = client.command(&format!("MAIL FROM:<{reverse}>")).unwrap();
        if mail.code != 250 {
            assert_eq!(mail.code / 100, 5, "MAIL FROM:<{reverse}>: {mail}");
            continue;
        }
        let rcpt = client.command(&format!("RCPT TO:<{forward}>")).unwrap();
        assert_eq!(rcpt.code / 100, 5, "RCPT TO:<{forward}>: {rcpt}");
        let data = client.command("DATA").unwrap();
        assert_eq!(data.code / 100, 5, "DATA without a recipient: {data}");
    }
    service.serves("after-relay-probes").unwrap();
    service.drained(Duration::from_secs(60)).unwrap();
    println!("{} attempts refused", ATTEMPTS.len());
}

#[test]
fn submission_without_authentication_takes_nothing() {
    let service = Service::start("").unwrap();
    for recipient in ["victim@example.net", "alice@example.org"] {
        let mut client = SmtpClient::connect(service.ports.msa_tls).unwrap();
        client.greet_over_tls("localhost", "client.example").unwrap();
        let mail = client.command("MAIL FROM:<alice@example.org>").unwrap();
        assert_eq!(mail.code, 530, "{mail}");
        let rcpt = client.command(&format!("RCPT TO:<{recipient}>")).unwrap();
        assert_eq!(rcpt.code / 100, 5, "{rcpt}");
    }
}

#[test]
fn postmaster_without_a_domain_is_known_or_refused_but_never_relayed() {
    let service = Service::start("").unwrap();
    service.daemon.command(&["alias", "add", "postmaster@example.org", "alice@example.org"]).unwrap();
    let mut client = service.mx().unwrap();
    client.expect("MAIL FROM:<>", "250").unwrap();
    // RFC 5321 §4.5.1.
    client.expect("RCPT TO:<postmaster>", "250").unwrap();
    client.expect("RCPT TO:<Postmaster@example.org>", "250").unwrap();
}
