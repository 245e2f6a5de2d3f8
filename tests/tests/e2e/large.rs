//! Step 5 with more than anybody needs: memory stays bounded and the daemon answers.

use std::net::SocketAddr;
use std::time::Duration;

use mailgate_tests::{Dialogue, Service};

const MIB: usize = 1024 * 1024;

/// What a probe may add to the daemon's memory at most, in MiB: less than what was sent, by far.
pub(crate) const GROWTH: u64 = 48;

#[test]
fn a_line_of_100_mb_is_refused_on_every_port_and_not_kept() {
    let mut service = Service::start("").unwrap();
    service.serves("before-long-lines").unwrap();
    let before = service.daemon.memory().unwrap();
    for (name, to, preamble) in [
        ("SMTP command", service.ports.mx, ""),
        ("submission command", service.ports.msa, ""),
        ("IMAP command", service.ports.imap, ""),
        (
            "SMTP content",
            service.ports.mx,
            "EHLO x.example\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n",
        ),
    ] {
        let sent = pour(to, preamble, 100 * MIB);
        println!("{name}: {} MiB went out before the end", sent / MIB);
        assert!(service.daemon.is_alive(), "{name}: {}", service.daemon.log());
    }
    service.serves("after-long-lines").unwrap();
    let after = service.daemon.memory().unwrap();
    println!("memory before {before:?}, after {after:?}");
    assert!(after.peak < before.peak + GROWTH, "before {before:?}, after {after:?}");
}

/// Sends so many bytes without a line end, or until the server has enough; how many went out.
fn pour(to: SocketAddr, preamble: &str, bytes: usize) -> usize {
    let mut client = Dialogue::connect(to).unwrap();
    client.line().unwrap();
    for line in preamble.split_inclusive("\r\n") {
        client.send(line.as_bytes()).unwrap();
        loop {
            let reply = client.line().unwrap().unwrap_or_default();
            if reply.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
    }
    client.set_patience(Duration::from_secs(20)).unwrap();
    let block = vec![b'x'; 64 * 1024];
    let mut sent = 0;
    while sent < bytes && client.send(&block).is_ok() {
        sent += block.len();
    }
    let _ = client.send(b"\r\n.\r\n");
    // Whatever it says (500, 552, BAD, BYE) or does (close): it must do it soon.
    let _ = client.receive();
    sent
}
