//! Connections we open.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};

/// The address connections are opened from, for each family; `None` leaves it to the routing table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Source {
    /// For IPv4 peers.
    pub v4: Option<Ipv4Addr>,
    /// For IPv6 peers.
    pub v6: Option<Ipv6Addr>,
}

/// Opens a TCP connection. Without a limit of its own: the caller bounds the time.
///
/// # Errors
/// What the system says; also when the source address is not one of this host.
pub async fn dial(peer: SocketAddr, source: Source) -> io::Result<TcpStream> {
    let (socket, source) = match peer {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, source.v4.map(IpAddr::V4)),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, source.v6.map(IpAddr::V6)),
    };
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(peer).await?;
    // Dialogues are small writes that wait for answers: Nagle would add a round trip's delay to each.
    stream.set_nodelay(true)?;
    Ok(stream)
}
