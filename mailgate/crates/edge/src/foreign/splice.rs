//! Bytes from the client to the MTA and back, as they come: nothing is read as SMTP here any more.

use std::pin::pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use mailgate_model::{Clock, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

/// Memory of one direction.
const BUFFER: usize = 8 * 1024;
/// How long the client may take to close after the MTA has closed.
const FAREWELL: Duration = Duration::from_secs(10);
/// Silence that ends a session when the daemon ends.
const IMPATIENCE: Duration = Duration::from_secs(2);

/// What went over the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Carried {
    /// Octets from the client.
    pub(super) up: u64,
    /// Octets to the client.
    pub(super) down: u64,
}

/// Carries bytes until the MTA closes, the client is gone, or both are silent for `idle`.
pub(super) async fn splice(
    client: impl AsyncRead + AsyncWrite,
    mta: impl AsyncRead + AsyncWrite,
    idle: Duration,
    clock: &dyn Clock,
    shutdown: &CancellationToken,
) -> Carried {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_mta, to_mta) = tokio::io::split(mta);
    let last = AtomicI64::new(clock.now().millis());
    let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
    let told = |count: &AtomicU64, n: usize| {
        count.fetch_add(n as u64, Ordering::Relaxed);
        last.store(clock.now().millis(), Ordering::Relaxed);
    };
    {
        let mut upward = pin!(carry(from_client, to_mta, |n| told(&up, n)));
        let mut downward = pin!(carry(from_mta, to_client, |n| told(&down, n)));
        let mut silence = pin!(silence(&last, idle, clock, shutdown));
        let mut client_done = false;
        loop {
            tokio::select! {
                () = &mut upward, if !client_done => client_done = true,
                () = &mut downward => {
                    if !client_done {
                        tokio::select! {
                            () = &mut upward => {}
                            () = clock.sleep(FAREWELL) => {}
                        }
                    }
                    break;
                }
                () = &mut silence => break,
            }
        }
    }
    Carried { up: up.into_inner(), down: down.into_inner() }
}

/// One direction, to its end; the end is passed on. Errors are ends.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, told: impl Fn(usize)) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(n) = from.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..n).filter(|bytes| !bytes.is_empty()) else { break };
        told(n);
        // TLS keeps what does not fill a record.
        if to.write_all(bytes).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}

/// Ends when nothing moved for `idle`, or briefly after the daemon was told to end.
async fn silence(last: &AtomicI64, idle: Duration, clock: &dyn Clock, shutdown: &CancellationToken) {
    let mut idle = idle;
    loop {
        let until = Timestamp::from_millis(last.load(Ordering::Relaxed)).plus(idle);
        if clock.now() >= until {
            return;
        }
        tokio::select! {
            () = clock.sleep_until(until) => {}
            () = shutdown.cancelled(), if idle > IMPATIENCE => idle = IMPATIENCE,
        }
    }
}
