//! A process of its own: the test uses up all file descriptors there are.

use std::fs::File;
use std::time::Duration;

use mailgate_model::Client;
use mailgate_net::{Limits, listen, serve};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const CLIENTS: usize = 20;

#[tokio::test]
async fn running_out_of_descriptors_delays_connections_and_loses_none() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 256.min(hard), hard).unwrap();
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(TcpStream::connect(address).await.unwrap());
    }
    let mut filler: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(filler.len() > 10, "the limit was reached by our own files");
    filler.truncate(filler.len() - 2);

    let shutdown = CancellationToken::new();
    let limits = Limits { total: CLIENTS, per_source: CLIENTS };
    let (served, mut count) = tokio::sync::mpsc::unbounded_channel();
    let server =
        tokio::spawn(serve(listener, limits, shutdown.clone(), move |mut tcp: TcpStream, _: Client| {
            let served = served.clone();
            async move {
                tcp.write_all(b"!").await.unwrap();
                served.send(()).unwrap();
                let _ = tcp.read(&mut [0]).await;
            }
        }));
    // Two descriptors are free; the third accept fails.
    for _ in 0..2 {
        tokio::time::timeout(Duration::from_secs(60), count.recv()).await.unwrap().unwrap();
    }
    assert!(File::open("/dev/null").is_err(), "no descriptor is left");
    drop(filler);
    for client in &mut clients {
        let mut byte = [0];
        tokio::time::timeout(Duration::from_secs(60), client.read_exact(&mut byte)).await.unwrap().unwrap();
    }
    drop(clients);
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(60), server).await.unwrap().unwrap();
}
