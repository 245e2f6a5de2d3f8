//! Datagrams to single hosts and to a multicast group.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// A multicast group on one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The group.
    pub address: Ipv4Addr,
    /// The interface by which it is reached. Example: `eth0`.
    pub interface: String,
    /// Hops that a datagram may make; 1 does not leave the link.
    pub hops: u8,
}

/// A socket for datagrams at `address`, a member of `group`. What we send to the group does not come back.
///
/// # Errors
/// As the system says, with the address or interface in the text.
pub fn datagrams(address: SocketAddrV4, group: Option<&Group>) -> io::Result<UdpSocket> {
    let told = |error: io::Error| io::Error::new(error.kind(), format!("no datagrams at {address}: {error}"));
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).map_err(told)?;
    socket.set_reuse_address(true).map_err(told)?;
    socket.set_nonblocking(true).map_err(told)?;
    socket.bind(&address.into()).map_err(told)?;
    if let Some(group) = group {
        let told = |error: io::Error| {
            io::Error::new(error.kind(), format!("no multicast on {}: {error}", group.interface))
        };
        let index = if_nametoindex(group.interface.as_str()).map_err(|error| told(error.into()))?;
        let own =
            own_address(&group.interface).ok_or_else(|| told(io::ErrorKind::AddrNotAvailable.into()))?;
        socket.join_multicast_v4_n(&group.address, &InterfaceIndexOrAddress::Index(index)).map_err(told)?;
        socket.set_multicast_if_v4(&own).map_err(told)?;
        socket.set_multicast_ttl_v4(group.hops.into()).map_err(told)?;
        socket.set_multicast_loop_v4(false).map_err(told)?;
    }
    UdpSocket::from_std(socket.into()).map_err(told)
}

fn own_address(interface: &str) -> Option<Ipv4Addr> {
    getifaddrs().ok()?.filter(|one| one.interface_name == interface).find_map(|one| {
        let address = one.address?;
        address.as_sockaddr_in().map(|address| address.ip())
    })
}
