//! Garbage on every port: the daemon ends the session, not itself.

use std::time::Duration;

use mailgate_tests::{Dialogue, Service};

#[test]
fn garbage_on_every_port_ends_the_session_and_not_the_daemon() {
    let mut service = Service::start("").unwrap();
    service.serves("before-garbage").unwrap();
    let before = service.daemon.memory().unwrap();
    let ports = service.ports;
    let floods = garbage();
    for to in [ports.mx, ports.msa, ports.msa_tls, ports.imap, ports.imap_tls] {
        for bytes in &floods {
            let mut client = Dialogue::connect(to).unwrap();
            client.set_patience(Duration::from_millis(200)).unwrap();
            let _ = client.send(bytes);
            // It may answer, close or wait for more; it may not die.
            while client.receive().is_ok_and(|answer| !answer.is_empty()) {}
        }
        assert!(service.daemon.is_alive(), "after garbage on {to}: {}", service.daemon.log());
    }
    control_socket(&service, &floods);
    service.serves("after-garbage").unwrap();
    let log = service.daemon.log();
    assert!(!log.contains("panicked"), "{log}");
    let after = service.daemon.memory().unwrap();
    println!("memory before {before:?}, after {after:?}");
    assert!(after.peak < before.peak + 48, "before {before:?}, after {after:?}");
}

fn control_socket(service: &Service, floods: &[Vec<u8>]) {
    use std::io::{Read as _, Write as _};
    for bytes in floods {
        let mut control = std::os::unix::net::UnixStream::connect(service.folder().join("control")).unwrap();
        control.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        control.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let _ = control.write_all(bytes);
        let mut answer = [0; 1024];
        while control.read(&mut answer).is_ok_and(|length| length > 0) {}
    }
}

fn garbage() -> Vec<Vec<u8>> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut floods = vec![
        (0..8192).flat_map(|_| random()).collect::<Vec<u8>>(),
        vec![0; 65536],
        vec![0xFF; 65536],
        b"\r\n".repeat(10_000),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03".to_vec(),
        b"a LOGIN {99999999999999999999}\r\n".to_vec(),
        b"a LOGIN {2147483647+}\r\nxxxx".to_vec(),
        b"a APPEND INBOX {4294967295}\r\n".to_vec(),
        b"BDAT 18446744073709551616 LAST\r\n".to_vec(),
        b"EHLO x\r\nMAIL FROM:<a@b.example> SIZE=99999999999999999999\r\nRCPT TO:<>\r\nBDAT 5\r\nab".to_vec(),
    ];
    let mut parentheses = b"a FETCH 1 ".to_vec();
    parentheses.extend(b"(".repeat(100_000));
    parentheses.extend(b"\r\n");
    floods.push(parentheses);
    floods
}
