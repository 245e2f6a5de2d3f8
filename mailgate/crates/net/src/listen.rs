//! Sockets that wait for connections.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// How a listening socket is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections the kernel completes and holds until they are accepted. Default 1024; the kernel cuts it to
    /// `net.core.somaxconn`.
    pub backlog: i32,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 1024 }
    }
}

/// Binds and listens. A restart can take the port over at once (`SO_REUSEADDR`), and an IPv6 socket takes no IPv4
/// connections, so that `0.0.0.0` and `[::]` may be configured side by side. Must be called inside the runtime.
///
/// # Errors
/// What the system says: the port is taken, the address is not ours, or a port below 1024 without the right to it.
pub fn listen(address: SocketAddr, options: ListenOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    TcpListener::from_std(socket.into())
}
