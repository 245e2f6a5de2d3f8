//! Connections between neighbours who know each other: signed segments, and a limit on how far packets may have come.
//!
//! TCP MD5 (RFC 2385), TCP-AO (RFC 5925, Linux 6.7 with `CONFIG_TCP_AO`), and the TTL check of RFC 5082.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SetStruct;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Longest key, in bytes: `TCP_MD5SIG_MAXKEYLEN` and `TCP_AO_MAXKEYLEN` of Linux.
pub const KEY_LIMIT: usize = 80;

/// What both ends know and nobody else should. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// A key of 1 to [`KEY_LIMIT`] bytes; `None` of another length.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        (1..=KEY_LIMIT).contains(&bytes.len()).then_some(Self(bytes))
    }

    fn padded(&self) -> ([u8; KEY_LIMIT], u8) {
        let mut padded = [0; KEY_LIMIT];
        for (place, byte) in padded.iter_mut().zip(&self.0) {
            *place = *byte;
        }
        (padded, u8::try_from(self.0.len().min(KEY_LIMIT)).unwrap_or(0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// How segments are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// RFC 5925.
    Ao {
        /// The key.
        key: Key,
        /// The number of the key in segments that we send.
        send_id: u8,
        /// The number of the key in segments that the neighbour sends.
        receive_id: u8,
        /// How it is made from the key.
        algorithm: AoAlgorithm,
    },
    /// RFC 2385.
    Md5(Key),
}

/// How TCP-AO signs (RFC 5926).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AoAlgorithm {
    /// AES-128-CMAC-96.
    AesCmac,
    /// HMAC-SHA-1-96.
    #[default]
    HmacSha1,
}

/// How far a neighbour may be away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hops {
    /// At most so many hops, which both ends check (RFC 5082): packets leave with TTL 255 and must not have lost more than
    /// these. 1 to 254; a neighbour on the same link is one hop away.
    Checked(u8),
    /// Packets of ours get no further than so many hops, 1 to 255.
    Reach(u8),
    /// As the system does it.
    #[default]
    System,
}

/// What a connection with one neighbour has to be like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Terms {
    /// How segments are signed, if they are.
    pub signature: Option<Signature>,
    /// How far the neighbour may be away.
    pub hops: Hops,
}

/// Connects to a neighbour. Without a limit of its own: the caller bounds the time.
///
/// # Errors
/// What the system says; also when it cannot sign.
pub async fn dial_neighbour(peer: SocketAddr, local: Option<IpAddr>, terms: &Terms) -> io::Result<TcpStream> {
    let socket = if peer.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(local) = local {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    if let Some(signature) = &terms.signature {
        sign(&socket, peer.ip(), signature)?;
    }
    limit(&socket, peer.ip(), terms.hops)?;
    let stream = socket.connect(peer).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Makes a listener take segments of this neighbour only when they are signed, and answer so that a neighbour that checks
/// TTLs hears it. To be called for each neighbour.
///
/// # Errors
/// What the system says; also when it cannot sign.
pub fn expect_neighbour(listener: &TcpListener, peer: IpAddr, terms: &Terms) -> io::Result<()> {
    if let Some(signature) = &terms.signature {
        sign(listener, peer, signature)?;
    }
    // The check itself has to wait for the connection: on the listener it would be one for all neighbours.
    match terms.hops {
        Hops::Checked(_) => limit(listener, peer, Hops::Reach(255)),
        Hops::Reach(_) | Hops::System => Ok(()),
    }
}

/// Makes an accepted connection as a neighbour's has to be; the signature is inherited from the listener.
///
/// # Errors
/// What the system says.
pub fn welcome_neighbour(stream: &TcpStream, peer: IpAddr, terms: &Terms) -> io::Result<()> {
    stream.set_nodelay(true)?;
    limit(stream, peer, terms.hops)
}

fn limit(socket: &impl AsFd, peer: IpAddr, hops: Hops) -> io::Result<()> {
    let (ttl, least) = match hops {
        Hops::System => return Ok(()),
        Hops::Reach(hops) => (u32::from(hops), None),
        // What leaves with 255 and passes a router for each hop after the first arrives with 256 - hops at least.
        Hops::Checked(hops) => (255, Some(256 - i32::from(hops.max(1)))),
    };
    let fd = socket.as_fd();
    let reference = SockRef::from(&fd);
    if peer.is_ipv4() {
        reference.set_ttl_v4(ttl)?;
    } else {
        reference.set_unicast_hops_v6(ttl)?;
    }
    let Some(least) = least else { return Ok(()) };
    let set = if peer.is_ipv4() {
        setsockopt(socket, MinTtl, &least)
    } else {
        setsockopt(socket, MinHopCount, &least)
    };
    Ok(set?)
}

fn sign(socket: &impl AsFd, peer: IpAddr, signature: &Signature) -> io::Result<()> {
    let length = if peer.is_ipv4() { 32 } else { 128 };
    let (set, what) = match signature {
        Signature::Md5(key) => {
            let (key, key_length) = key.padded();
            let given = Md5Given {
                address: address(peer),
                flags: 0,
                prefix_length: 0,
                key_length: key_length.into(),
                interface: 0,
                key,
            };
            (setsockopt(socket, Md5, &given), "TCP MD5 (RFC 2385)")
        }
        Signature::Ao { key, send_id, receive_id, algorithm } => {
            let (key, key_length) = key.padded();
            let given = AoGiven {
                address: address(peer),
                algorithm: algorithm.name(),
                interface: 0,
                choice: 0,
                reserved: 0,
                prefix_length: length,
                send_id: *send_id,
                receive_id: *receive_id,
                mac_length: 12,
                key_flags: 0,
                key_length,
                key,
            };
            (setsockopt(socket, Ao, &given), "TCP-AO (RFC 5925, Linux 6.7 with CONFIG_TCP_AO)")
        }
    };
    set.map_err(|errno| {
        let error = io::Error::from(errno);
        io::Error::new(error.kind(), format!("this kernel does not sign by {what}: {error}"))
    })
}

impl AoAlgorithm {
    fn name(self) -> [u8; 64] {
        let name = match self {
            Self::AesCmac => "cmac(aes128)",
            Self::HmacSha1 => "hmac(sha1)",
        };
        let mut padded = [0; 64];
        for (place, byte) in padded.iter_mut().zip(name.bytes()) {
            *place = byte;
        }
        padded
    }
}

/// `sockaddr_storage` with an address and no port.
fn address(peer: IpAddr) -> Address {
    let (family, at, octets) = match peer {
        IpAddr::V4(address) => (libc::AF_INET, 4, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, 8, address.octets().to_vec()),
    };
    let mut bytes = [0; 128];
    let family = u16::try_from(family).unwrap_or_default().to_ne_bytes();
    for (place, byte) in bytes.iter_mut().zip(family) {
        *place = byte;
    }
    for (place, byte) in bytes.iter_mut().skip(at).zip(octets) {
        *place = byte;
    }
    Address(bytes)
}

/// `struct __kernel_sockaddr_storage`.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Address([u8; 128]);

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct Md5Given {
    address: Address,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: i32,
    key: [u8; KEY_LIMIT],
}

/// `struct tcp_ao_add` of linux/tcp.h.
#[repr(C, align(8))]
struct AoGiven {
    address: Address,
    algorithm: [u8; 64],
    interface: i32,
    /// Bits: use it now, ask for it.
    choice: u32,
    reserved: u16,
    prefix_length: u8,
    send_id: u8,
    receive_id: u8,
    mac_length: u8,
    key_flags: u8,
    key_length: u8,
    key: [u8; KEY_LIMIT],
}

/// `TCP_AO_ADD_KEY` of linux/tcp.h.
const TCP_AO_ADD_KEY: libc::c_int = 38;

#[derive(Clone, Copy)]
struct Md5;
nix::setsockopt_impl!(Md5, libc::IPPROTO_TCP, libc::TCP_MD5SIG, Md5Given, SetStruct<'_, Md5Given>);

#[derive(Clone, Copy)]
struct Ao;
nix::setsockopt_impl!(Ao, libc::IPPROTO_TCP, TCP_AO_ADD_KEY, AoGiven, SetStruct<'_, AoGiven>);

#[derive(Clone, Copy)]
struct MinTtl;
nix::setsockopt_impl!(MinTtl, libc::IPPROTO_IP, libc::IP_MINTTL, i32, SetStruct<'_, i32>);

#[derive(Clone, Copy)]
struct MinHopCount;
nix::setsockopt_impl!(MinHopCount, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, i32, SetStruct<'_, i32>);

#[cfg(test)]
mod tests;
