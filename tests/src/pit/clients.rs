//! The clients: each says what a spammer says, one command after each whole reply, and then waits.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;

/// Connections being made at once by one process.
const AT_ONCE: usize = 64;
/// Between two lines about how it goes.
const TELL: Duration = Duration::from_secs(5);
/// What a client says.
const WORDS: [&str; 3] =
    ["EHLO client.example\r\n", "MAIL FROM:<a@example.net>\r\n", "RCPT TO:<b@example.org>\r\n"];

#[derive(Default)]
struct Counts {
    open: AtomicU64,
    heard: AtomicU64,
}

/// A process full of clients: the address to connect to, their number, their own address. Does not end by itself.
///
/// # Errors
/// When not all can connect.
pub fn run(arguments: &[String]) -> Result<()> {
    let [to, count, source] = arguments else { anyhow::bail!("expected: address, number, own address") };
    let (to, count, source) = (to.parse()?, count.parse()?, source.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(all(to, count, source))
}

async fn all(to: SocketAddr, count: usize, source: IpAddr) -> Result<()> {
    let counts = Arc::new(Counts::default());
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut connecting = Vec::with_capacity(count);
    for _ in 0..count {
        let place = Arc::clone(&places).acquire_owned().await?;
        let counts = Arc::clone(&counts);
        connecting.push(tokio::spawn(async move {
            let stream = connect(to, source).await?;
            drop(place);
            counts.open.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                // However it ends, it is open no longer.
                let _ = talk(stream, &counts).await;
                counts.open.fetch_sub(1, Ordering::Relaxed);
            });
            anyhow::Ok(())
        }));
    }
    for connection in connecting {
        connection.await??;
    }
    tell("connected\n".to_owned())?;
    let mut pause = tokio::time::interval(TELL);
    loop {
        pause.tick().await;
        let [open, heard] = [&counts.open, &counts.heard].map(|count| count.load(Ordering::Relaxed));
        tell(format!("open {open} heard {heard}\n"))?;
    }
}

fn tell(line: String) -> Result<()> {
    let mut out = std::io::stdout();
    out.write_all(line.as_bytes())?;
    Ok(out.flush()?)
}

async fn connect(to: SocketAddr, source: IpAddr) -> Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(source, 0))?;
    socket.connect(to).await.with_context(|| format!("connecting from {source}"))
}

async fn talk(mut stream: TcpStream, counts: &Counts) -> Result<()> {
    let mut words = WORDS.iter();
    loop {
        // The last line of a reply has a space behind its code (RFC 5321 §4.2).
        let (mut at, mut is_last) = (0, false);
        loop {
            let byte = stream.read_u8().await?;
            counts.heard.fetch_add(1, Ordering::Relaxed);
            is_last |= at == 3 && byte == b' ';
            at += 1;
            if byte == b'\n' {
                if is_last {
                    break;
                }
                at = 0;
            }
        }
        if let Some(word) = words.next() {
            stream.write_all(word.as_bytes()).await?;
        }
    }
}
