//! Listening and accepting, with limits.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use mailgate_model::Client;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::places::{Limits, Places};

/// Connections the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 1024;
/// Pause after the process ran out of descriptors or memory: accepting again at once would spin.
const PAUSE: Duration = Duration::from_millis(250);
/// Silence after which the kernel asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(120);
/// Pause between those questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Questions without an answer after which the connection is gone: about four minutes after the last word.
const KEEPALIVE_RETRIES: u32 = 4;

/// Listens at `address`. IPv6 sockets take IPv6 only, so that both families can listen on one port.
///
/// # Errors
/// As the system says, with the address in the text.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let told =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).map_err(told)?;
    socket.set_reuse_address(true).map_err(told)?;
    if address.is_ipv6() {
        socket.set_only_v6(true).map_err(told)?;
    }
    socket.set_nonblocking(true).map_err(told)?;
    socket.bind(&address.into()).map_err(told)?;
    socket.listen(BACKLOG).map_err(told)?;
    TcpListener::from_std(socket.into()).map_err(told)
}

/// Accepts until `shutdown`, giving each connection to `serve` in a task of its own, then waits for those tasks, which
/// should watch the same token; who does not want to wait drops the future, and the tasks go on. Connections above a
/// limit are closed at once. A task that panics ends alone and is logged.
pub async fn serve<F, R>(listener: TcpListener, limits: Limits, shutdown: CancellationToken, serve: F)
where
    F: Fn(TcpStream, Client) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let places = Places::new(limits);
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::warn!(target: "net", event = "accept", %error, "pausing for a moment");
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(PAUSE) => continue,
                }
            }
        };
        let Ok(local) = tcp.local_addr() else { continue };
        let client = Client::new(peer, local);
        let place = match places.take(client.ip()) {
            Ok(place) => place,
            Err(full) => {
                tracing::info!(target: "net", event = "refused", peer = %client.ip(), local = %local, reason = %full);
                continue;
            }
        };
        prepare(&tcp);
        let peer = client.peer;
        let served = serve(tcp, client);
        tasks.spawn(async move {
            let _place = place;
            if AssertUnwindSafe(served).catch_unwind().await.is_err() {
                tracing::error!(target: "net", event = "session", %peer, result = "panicked", "a bug; other sessions go on");
            }
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// Errors of the connection that was about to be accepted, not of the listener (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::TimedOut
    ) || matches!(
        error.raw_os_error(),
        Some(libc::EPROTO | libc::ENOPROTOOPT | libc::EHOSTDOWN | libc::ENONET | libc::EOPNOTSUPP)
    )
}

/// Replies are small and awaited: no delay. Both options are a courtesy; a socket without them works.
fn prepare(tcp: &TcpStream) {
    let _ = tcp.set_nodelay(true);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    let _ = SockRef::from(tcp).set_tcp_keepalive(&keepalive);
}

#[cfg(test)]
mod tests;
