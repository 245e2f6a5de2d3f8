//! Steps 5 to 13 with a message that is a bomb of parts.

use std::fmt::Write as _;
use std::time::Duration;

use mailgate_tests::Service;

use crate::large::GROWTH;

#[test]
fn a_message_of_20000_parts_is_delivered_and_read_over_imap_in_bounded_memory() {
    const PARTS: usize = 20_000;
    let mut service = Service::start("").unwrap();
    service.serves("before-parts").unwrap();
    let before = service.daemon.memory().unwrap();
    let mut content = String::from(
        "Subject: token-parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n",
    );
    for part in 0..PARTS {
        write!(content, "--b\r\nContent-Type: text/plain; name=\"{part}\"\r\n\r\npart {part}\r\n").unwrap();
    }
    content.push_str("--b--\r\n");
    let mut client = service.mx().unwrap();
    let reply = client.message("a@client.example", &["alice@example.org"], &content).unwrap();
    assert!(reply.code == 250 || reply.code / 100 == 5, "{reply}");
    if reply.code == 250 {
        service.drained(Duration::from_secs(30)).unwrap();
        let mut alice = service.alice().unwrap();
        alice.set_patience(Duration::from_secs(60)).unwrap();
        let structure = alice.expect("FETCH 2 (BODYSTRUCTURE RFC822.SIZE)").unwrap().concat();
        assert!(structure.contains("BODYSTRUCTURE ("), "{}", &structure[..structure.len().min(200)]);
        let whole = alice.expect("FETCH 2 BODY.PEEK[]").unwrap().concat();
        assert!(whole.contains("part 19999"), "the message is not whole: {} bytes", whole.len());
        alice.expect("FETCH 2 BODY.PEEK[20000]").unwrap();
        alice.expect("FETCH 2 BODY.PEEK[20001]").unwrap();
    }
    service.serves("after-parts").unwrap();
    let after = service.daemon.memory().unwrap();
    println!("{} bytes answered with {reply}; memory before {before:?}, after {after:?}", content.len());
    assert!(after.peak < before.peak + 4 * GROWTH, "before {before:?}, after {after:?}");
}
