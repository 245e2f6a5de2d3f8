use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;

const MANY: Limits = Limits { total: 100, per_source: 100 };
const SOON: Duration = Duration::from_secs(60);

fn loopback() -> TcpListener {
    listen("127.0.0.1:0".parse().unwrap()).unwrap()
}

/// Reads until the other side closes.
async fn rest(tcp: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = timeout(SOON, tcp.read_to_end(&mut bytes)).await.expect("closed in time");
    bytes
}

#[tokio::test]
async fn sessions_learn_both_addresses_and_shutdown_waits_for_them() {
    let listener = loopback();
    let address = listener.local_addr().unwrap();
    let (started, mut clients) = mpsc::channel(1);
    let shutdown = CancellationToken::new();
    let served =
        tokio::spawn(serve(listener, MANY, shutdown.clone(), move |mut tcp: TcpStream, client: Client| {
            let started = started.clone();
            async move {
                started.send(client).await.unwrap();
                let mut byte = [0];
                tcp.read_exact(&mut byte).await.unwrap();
                tcp.write_all(&byte).await.unwrap();
            }
        }));
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let client = timeout(SOON, clients.recv()).await.unwrap().unwrap();
    assert_eq!((client.peer, client.local), (tcp.local_addr().unwrap(), address));
    shutdown.cancel();
    // Nobody is let in any more, but the session goes on to its own end.
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(SOON, refused).await.expect("the listener closes");
    assert!(!served.is_finished());
    tcp.write_all(b"x").await.unwrap();
    assert_eq!(rest(&mut tcp).await, b"x");
    timeout(SOON, served).await.expect("ends in time").unwrap();
}

#[tokio::test]
async fn above_the_limit_of_a_source_connections_are_closed_at_once() {
    let listener = loopback();
    let address = listener.local_addr().unwrap();
    let (started, mut sessions) = mpsc::channel(8);
    let started = Arc::new(started);
    let limits = Limits { total: 10, per_source: 1 };
    let shutdown = CancellationToken::new();
    let served = tokio::spawn(serve(listener, limits, shutdown.clone(), move |mut tcp: TcpStream, _| {
        let started = Arc::clone(&started);
        async move {
            started.send(()).await.unwrap();
            let mut byte = [0];
            let _ = tcp.read(&mut byte).await;
            started.send(()).await.unwrap();
        }
    }));
    let first = TcpStream::connect(address).await.unwrap();
    timeout(SOON, sessions.recv()).await.unwrap().unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(rest(&mut second).await, b"");
    // Another source still gets in.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(IpAddr::from([127, 0, 0, 2]), 0)).unwrap();
    let other = socket.connect(address).await.unwrap();
    timeout(SOON, sessions.recv()).await.unwrap().unwrap();
    // And a place given back can be taken again.
    drop((first, other));
    timeout(SOON, sessions.recv()).await.unwrap().unwrap();
    timeout(SOON, sessions.recv()).await.unwrap().unwrap();
    shutdown.cancel();
    timeout(SOON, served).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_session_that_panics_ends_alone() {
    let listener = loopback();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let served = tokio::spawn(serve(listener, MANY, shutdown.clone(), |mut tcp: TcpStream, _| async move {
        let mut byte = [0];
        tcp.read_exact(&mut byte).await.unwrap();
        assert_eq!(byte[0], b'x', "the bug of this test");
        tcp.write_all(b"ok").await.unwrap();
    }));
    let mut broken = TcpStream::connect(address).await.unwrap();
    broken.write_all(b"y").await.unwrap();
    assert_eq!(rest(&mut broken).await, b"");
    let mut sound = TcpStream::connect(address).await.unwrap();
    sound.write_all(b"x").await.unwrap();
    assert_eq!(rest(&mut sound).await, b"ok");
    shutdown.cancel();
    timeout(SOON, served).await.unwrap().unwrap();
}

#[tokio::test]
async fn running_out_of_descriptors_is_not_about_one_connection() {
    for (code, lone) in [
        (libc::EMFILE, false),
        (libc::ENFILE, false),
        (libc::ENOBUFS, false),
        (libc::ENOMEM, false),
        (libc::ECONNABORTED, true),
        (libc::EPROTO, true),
    ] {
        assert_eq!(is_of_one_connection(&io::Error::from_raw_os_error(code)), lone, "{code}");
    }
}

#[tokio::test]
async fn ipv4_and_ipv6_wildcards_share_a_port() {
    let v6 = match listen("[::]:0".parse().unwrap()) {
        Ok(v6) => v6,
        Err(error) => {
            println!("skipped: no IPv6 here: {error}");
            return;
        }
    };
    let port = v6.local_addr().unwrap().port();
    listen(SocketAddr::new(IpAddr::from([0, 0, 0, 0]), port)).unwrap();
}
