//! Who is connected to the ports of administration now: asked of the kernel over netlink (sock_diag(7)), which looks
//! through its table of connections and tells only those of one port and state.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP` (linux/netlink.h).
const DUMP: u16 = 0x1 | 0x300;
/// `NLMSG_ERROR`, `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// `1 << TCP_ESTABLISHED`.
const ESTABLISHED: u32 = 1 << 1;
/// The kernel answers within milliseconds; a second of silence is a failure.
const PATIENCE: i64 = 1;
/// Connections told at most; nobody administers a host by more, and a flood must not fill the table of the protected.
pub(super) const PEER_LIMIT: usize = 512;

/// A connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    /// The other end.
    pub(super) ip: IpAddr,
    /// The kernel's number of the socket, never used twice.
    pub(super) cookie: u64,
}

/// Established TCP connections to these local ports, of both families; loopback is left out.
///
/// # Errors
/// When the kernel has no sock_diag or does not answer.
pub(super) fn connected(ports: impl Iterator<Item = u16>) -> io::Result<Vec<Peer>> {
    let asked = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    setsockopt(&asked, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
    let mut peers = Vec::new();
    for port in ports {
        for family in [libc::AF_INET, libc::AF_INET6] {
            dump(&asked, family as u8, port, &mut peers)?;
        }
    }
    Ok(peers)
}

/// One question and its answer.
fn dump(asked: &OwnedFd, family: u8, port: u16, peers: &mut Vec<Peer>) -> io::Result<()> {
    send(asked.as_raw_fd(), &question(family, port), MsgFlags::empty())?;
    let mut buffer = vec![0_u8; 32 * 1024];
    loop {
        let read = recv(asked.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = buffer.get(..read).unwrap_or_default();
        while let Some(message) = next(&mut rest)? {
            match message {
                Message::Socket(body) => peers.extend(peer(body).filter(|_| peers.len() < PEER_LIMIT)),
                Message::End => return Ok(()),
            }
        }
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn question(family: u8, port: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(72);
    bytes.extend(72_u32.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, libc::IPPROTO_TCP as u8, 0, 0]);
    bytes.extend(ESTABLISHED.to_ne_bytes());
    bytes.extend(port.to_be_bytes());
    bytes.resize(72, 0);
    bytes
}

/// What came of a question.
enum Message<'a> {
    /// `struct inet_diag_msg`.
    Socket(&'a [u8]),
    /// All were told.
    End,
}

/// Takes one message off.
fn next<'a>(rest: &mut &'a [u8]) -> io::Result<Option<Message<'a>>> {
    let word = |at: usize| Some(u32::from_ne_bytes(rest.get(at..at + 4)?.try_into().ok()?));
    let Some((length, kind)) = word(0).zip(word(4)) else { return Ok(None) };
    let (length, kind) = (length as usize, kind as u16);
    let Some(body) = rest.get(HEADER..length) else {
        return Err(io::Error::other("sock_diag: a message that is cut off"));
    };
    let message = match kind {
        DONE => Message::End,
        ERROR => {
            let errno = body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
            return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
        }
        _ => Message::Socket(body),
    };
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Ok(Some(message))
}

/// The other end of `struct inet_diag_msg`: family at 0, destination at 24, cookie at 44.
fn peer(body: &[u8]) -> Option<Peer> {
    let ip: IpAddr = match i32::from(*body.first()?) {
        libc::AF_INET => Ipv4Addr::from(*body.get(24..)?.first_chunk::<4>()?).into(),
        libc::AF_INET6 => Ipv6Addr::from(*body.get(24..)?.first_chunk::<16>()?).into(),
        _ => return None,
    };
    let cookie = u64::from_ne_bytes(*body.get(44..)?.first_chunk()?);
    let ip = ip.to_canonical();
    (!ip.is_loopback()).then_some(Peer { ip, cookie })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_message_is_read_and_loopback_left_out() {
        let mut body = vec![0_u8; 72];
        body[0] = libc::AF_INET6 as u8;
        body[24..40].copy_from_slice(&Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets());
        body[44] = 7;
        let want =
            Peer { ip: "192.0.2.1".parse().unwrap(), cookie: u64::from_ne_bytes([7, 0, 0, 0, 0, 0, 0, 0]) };
        assert_eq!(peer(&body), Some(want));
        body[24..40].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        assert_eq!(peer(&body), None);
        assert_eq!(peer(&body[..51]), None, "cut off");
    }

    #[test]
    fn the_kernel_answers_and_tells_no_connection_of_loopback() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let _held = TcpStream::connect(at).unwrap();
        assert_eq!(connected([at.port()].into_iter()).unwrap(), []);
    }

    #[test]
    fn errors_of_the_kernel_and_torn_messages_are_errors() {
        let mut torn: &[u8] = &[200, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(next(&mut torn).is_err());
        let mut refused = Vec::from(20_u32.to_ne_bytes());
        refused.extend(ERROR.to_ne_bytes());
        refused.extend([0; 10]);
        refused.extend((-libc::EPERM).to_ne_bytes());
        let error = next(&mut refused.as_slice()).err().unwrap();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
}
