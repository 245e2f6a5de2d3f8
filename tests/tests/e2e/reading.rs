//! Steps 5 to 13 on loopback: in by SMTP, read by IMAP. Needs no rights.

use std::process::Command;
use std::time::Duration;

use mailgate_tests::{DOMAIN, PASSWORD, Service, find, run, until};

#[test]
fn mail_comes_in_and_is_read_over_imap() {
    let mut service = Service::start("").unwrap();
    service.serves("token-path").unwrap();
    let mut alice = service.alice().unwrap();
    let text = alice.expect("FETCH 1 (BODY[] ENVELOPE BODYSTRUCTURE)").unwrap().concat();
    assert!(text.contains("token-path"), "{text}");
    assert!(text.contains("Authentication-Results: mx.example.org"), "{text}");
    assert!(text.contains("ENVELOPE (") && text.contains("BODYSTRUCTURE ("), "{text}");
}

#[test]
fn swaks_sends_and_curl_reads_what_it_sent() {
    let (Some(swaks), Some(curl)) = (find("swaks"), find("curl")) else {
        return mailgate_tests::skip("swaks or curl is not installed");
    };
    let service = Service::start("").unwrap();
    let mut send = Command::new(swaks);
    send.args(["--server", &service.ports.mx.to_string(), "--tls-optional"]).args([
        "--from",
        "you@client.example",
        "--to",
        "alice@example.org",
        "--h-Subject",
        "token-swaks",
    ]);
    run(send, Duration::from_secs(30)).unwrap().success().unwrap();
    service.drained(Duration::from_secs(20)).unwrap();
    let mut read = Command::new(curl);
    read.args(["--silent", "--show-error", "--insecure", "--user", &format!("alice@{DOMAIN}:{PASSWORD}")])
        .arg(format!("imaps://{}/INBOX;MAILINDEX=1", service.ports.imap_tls));
    let text = run(read, Duration::from_secs(30)).unwrap().success().unwrap();
    assert!(text.contains("Subject: token-swaks"), "{text}");
}

#[test]
fn a_message_moved_to_junk_lowers_who_sent_it_and_moved_back_raises_it() {
    let mut service = Service::start("[edge]\nlocal = []\n").unwrap();
    for token in ["token-one", "token-two"] {
        service.serves(token).unwrap();
    }
    let has = |messages: u64| {
        let mut last = None;
        let counted = until("the sender's standing", Duration::from_secs(20), || {
            let known = last.insert(service.daemon.json(&["grey", "identities", "127.0.0.0/24"]).ok()?);
            (known.get(0)?.get("messages")? == messages).then_some(())
        });
        counted.unwrap_or_else(|error| {
            panic!("{error}: {messages}; last answer: {last:?}\n{}", service.daemon.log())
        });
    };
    has(2);
    let mut alice = service.alice().unwrap();
    alice.expect("MOVE 1 Junk").unwrap();
    has(1);
    alice.expect("SELECT Junk").unwrap();
    alice.expect("MOVE 1 INBOX").unwrap();
    has(2);
    alice.expect("SELECT INBOX").unwrap();
    alice.expect("COPY 1:* Junk").unwrap();
    let why = until("both messages called junk", Duration::from_secs(20), || {
        let why = service.daemon.command(&["why", "127.0.0.1"]).ok()?;
        (why.matches("  junk").count() == 2).then_some(why)
    });
    why.unwrap_or_else(|error| panic!("{error}\n{}", service.daemon.command(&["why", "127.0.0.1"]).unwrap()));
}
