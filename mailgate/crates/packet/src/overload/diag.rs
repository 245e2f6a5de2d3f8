//! The kernel's TCP sockets, over netlink: listed with what they carry, and ended (sock_diag(7), inet_diag).

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use mailgate_common::limit::Counted;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, sendto, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const F_REQUEST: u16 = 1;
const F_ACK: u16 = 4;
const F_DUMP: u16 = 0x300;
const TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// linux/inet_diag.h: what a request may ask for, and what an answer may carry.
const REQ_STORAGES: u16 = 2;
const REQ_STORAGE_MAP: u16 = 1;
const STORAGES: u16 = 20;
const STORAGE: u16 = 1;
const STORAGE_MAP_ID: u16 = 2;
const STORAGE_VALUE: u16 = 3;
/// Bits of a nested attribute's type that are not its type.
const TYPE_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

/// The state LISTEN.
const LISTENING: u32 = 1 << 10;
/// Every state but LISTEN, CLOSE, TIME_WAIT and NEW_SYN_RECV: connections with a peer that finished its handshake.
const CONNECTED: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;

/// Size of a netlink header, of `struct inet_diag_sockid`, and of what comes before that in an answer.
const HEADER: usize = 16;
const ID: usize = 48;
const ANSWER: usize = 72;

/// Bytes of answers taken at once; the kernel fills 32 KiB at most.
const BUFFER: usize = 1 << 16;
/// Longest silence of the kernel within an answer.
const PATIENCE_SECS: i64 = 5;

/// A connection, as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The peer; IPv4 is never mapped here.
    pub source: IpAddr,
    /// The peer's port.
    pub source_port: u16,
    /// Our address.
    pub local: IpAddr,
    /// Our port.
    pub local_port: u16,
    /// The socket's cookie; 0 means any.
    pub cookie: u64,
}

/// The map in which sockets carry what they were counted for.
#[derive(Debug, Clone, Copy)]
pub struct Storage<'a> {
    /// The map.
    pub map: BorrowedFd<'a>,
    /// Its id.
    pub id: u32,
}

impl Storage<'_> {
    /// The attribute that asks for it.
    fn request(self) -> Vec<u8> {
        let fd = self.map.as_raw_fd().cast_unsigned();
        nested(REQ_STORAGES | NESTED, &nested(REQ_STORAGE_MAP, &fd.to_ne_bytes()))
    }

    /// What it holds, in the attributes of a socket.
    fn of(self, found: &[u8]) -> Option<Counted> {
        let (_, storages) = attributes(found).find(|(kind, _)| *kind == STORAGES)?;
        attributes(storages).filter(|(kind, _)| *kind == STORAGE).find_map(|(_, inside)| {
            let value_of =
                |wanted| attributes(inside).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
            let ours = word(value_of(STORAGE_MAP_ID)?, 0)? == self.id;
            ours.then(|| value_of(STORAGE_VALUE).and_then(Counted::from_bytes)).flatten()
        })
    }
}

/// A netlink socket for the network namespace in which it was opened.
#[derive(Debug)]
pub struct Diag {
    socket: OwnedFd,
    sequence: u32,
}

impl Diag {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel has no sock_diag.
    pub fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            Some(SockProtocol::NetlinkSockDiag),
        )?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECS))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// What the storage holds for each connection; nothing before kernel 5.7.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn counted(&mut self, storage: Storage<'_>, mut each: impl FnMut(Counted)) -> io::Result<()> {
        self.dump(CONNECTED, &storage.request(), &mut |_, attributes| {
            if let Some(counted) = storage.of(attributes) {
                each(counted);
            }
        })
    }

    /// Ends all connections from others to us that `which` chooses; how many there were. Their programs get an error,
    /// their peers a reset. Those that we made ourselves are left alone: as such count the ones that were not counted
    /// and whose local port nobody listens on.
    ///
    /// # Errors
    /// Those of the kernel; `EOPNOTSUPP` when it was built without `INET_DIAG_DESTROY`.
    pub fn destroy_where(
        &mut self,
        storage: Storage<'_>,
        which: &mut dyn FnMut(&Ends) -> bool,
    ) -> io::Result<usize> {
        let mut served = HashSet::new();
        self.dump(LISTENING, &[], &mut |ends, _| {
            served.insert(ends.local_port);
        })?;
        let mut chosen = Vec::new();
        self.dump(CONNECTED, &storage.request(), &mut |ends, attributes| {
            let to_us = served.contains(&ends.local_port) || storage.of(attributes).is_some();
            if to_us && which(&ends) {
                chosen.push(ends);
            }
        })?;
        let mut ended = 0;
        for ends in chosen {
            ended += usize::from(self.destroy(&ends)?);
        }
        Ok(ended)
    }

    /// Ends one connection; `false` when it is not there any more.
    ///
    /// # Errors
    /// As [`destroy_where`](Self::destroy_where).
    pub fn destroy(&mut self, ends: &Ends) -> io::Result<bool> {
        let family = if ends.local.is_ipv4() { AF_INET } else { AF_INET6 };
        let mut body = head(family, CONNECTED);
        body.extend(id(ends));
        self.send(SOCK_DESTROY, F_REQUEST | F_ACK, &body)?;
        let mut done = Ok(());
        self.receive(&mut |kind, body| {
            if kind == NLMSG_ERROR {
                done = errno(body);
            }
            kind == NLMSG_ERROR
        })?;
        match done {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lists the sockets in these states: ends, and the attributes of each.
    fn dump(&mut self, states: u32, extra: &[u8], each: &mut dyn FnMut(Ends, &[u8])) -> io::Result<()> {
        for family in [AF_INET, AF_INET6] {
            self.dump_family(family, states, extra, each)?;
        }
        Ok(())
    }

    fn dump_family(
        &mut self,
        family: u8,
        states: u32,
        extra: &[u8],
        each: &mut dyn FnMut(Ends, &[u8]),
    ) -> io::Result<()> {
        let mut body = head(family, states);
        body.extend([0; ID]);
        body.extend(extra);
        self.send(SOCK_DIAG_BY_FAMILY, F_REQUEST | F_DUMP, &body)?;
        let mut failed = Ok(());
        self.receive(&mut |kind, body| match kind {
            NLMSG_DONE => true,
            NLMSG_ERROR => {
                failed = errno(body);
                true
            }
            _ => {
                if let Some(ends) = read_ends(body) {
                    each(ends, body.get(ANSWER..).unwrap_or_default());
                }
                false
            }
        })?;
        failed
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(body);
        sendto(self.socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        Ok(())
    }

    /// Gives each answer to the last request (its type and body) to `take`, until that says `true`.
    fn receive(&mut self, take: &mut dyn FnMut(u16, &[u8]) -> bool) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let (size, from) = recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer)?;
            // Only the kernel answers; its port is 0.
            if from.is_none_or(|from| from.pid() != 0) {
                continue;
            }
            let mut rest = buffer.get(..size).unwrap_or_default();
            while let (Some(length), Some(kind), Some(sequence)) =
                (word(rest, 0), half(rest, 4), word(rest, 8))
            {
                let length = length as usize;
                let Some(body) = rest.get(HEADER..length) else { break };
                // What an earlier, broken off request left is passed over.
                if sequence == self.sequence && take(kind, body) {
                    return Ok(());
                }
                rest = rest.get(aligned(length)..).unwrap_or_default();
            }
        }
    }
}

const fn aligned(length: usize) -> usize {
    (length + 3) & !3
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// `struct inet_diag_req_v2` up to the socket's id.
fn head(family: u8, states: u32) -> Vec<u8> {
    let mut body = vec![family, TCP, 0, 0];
    body.extend(states.to_ne_bytes());
    body
}

/// `struct inet_diag_sockid`: ours first, ports and addresses in network order.
fn id(ends: &Ends) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ID);
    bytes.extend(ends.local_port.to_be_bytes());
    bytes.extend(ends.source_port.to_be_bytes());
    for address in [ends.local, ends.source] {
        match address {
            IpAddr::V4(address) => {
                bytes.extend(address.octets());
                bytes.extend([0; 12]);
            }
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    bytes.extend(0_u32.to_ne_bytes());
    let cookie = if ends.cookie == 0 { u64::MAX } else { ends.cookie };
    bytes.extend((cookie as u32).to_ne_bytes());
    bytes.extend(((cookie >> 32) as u32).to_ne_bytes());
    bytes
}

/// The ends in a `struct inet_diag_msg`.
fn read_ends(body: &[u8]) -> Option<Ends> {
    let family = *body.first()?;
    let port = |at: usize| Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| -> Option<IpAddr> {
        if family == AF_INET {
            let octets: [u8; 4] = body.get(at..at + 4)?.try_into().ok()?;
            return Some(octets.into());
        }
        let octets: [u8; 16] = body.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::from(octets).to_canonical())
    };
    Some(Ends {
        local_port: port(4)?,
        source_port: port(6)?,
        local: address(8)?,
        source: address(24)?,
        cookie: u64::from(word(body, 44)?) | u64::from(word(body, 48)?) << 32,
    })
}

/// One attribute with its padding.
fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(aligned(bytes.len()), 0);
    bytes
}

/// The attributes one after the other: type and value.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (usize::from(half(rest, 0)?), half(rest, 2)?);
        let value = rest.get(4..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind & TYPE_MASK, value))
    })
}

/// The result in a netlink error; 0 is none.
fn errno(body: &[u8]) -> io::Result<()> {
    match word(body, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::other("the kernel's answer is cut off")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_lists_a_connection_of_ours_by_its_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_ours, source) = listener.accept().unwrap();
        let mut found = Vec::new();
        let mut diag = Diag::open().unwrap();
        diag.dump(CONNECTED, &[], &mut |ends, _| found.push(ends)).unwrap();
        let local = peer.peer_addr().unwrap();
        let ends =
            found.iter().find(|ends| ends.source_port == source.port() && ends.local_port == local.port());
        let ends = ends.unwrap();
        assert_eq!((ends.source, ends.local), (source.ip(), local.ip()));
        assert_ne!(ends.cookie, 0);

        let mut listening = Vec::new();
        diag.dump(LISTENING, &[], &mut |ends, _| listening.push(ends.local_port)).unwrap();
        assert!(listening.contains(&local.port()), "and the listener, asked again on the same socket");
    }

    #[test]
    fn answers_cut_anywhere_say_nothing_and_do_not_loop() {
        let inside =
            [nested(STORAGE_MAP_ID, &7_u32.to_ne_bytes()), nested(STORAGE_VALUE, &[3; Counted::SIZE])];
        let whole = nested(STORAGES, &nested(STORAGE, &inside.concat()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let storage = |id| Storage { map: std::os::fd::AsFd::as_fd(&listener), id };
        assert_eq!(storage(7).of(&whole), Counted::from_bytes(&[3; Counted::SIZE]));
        assert_eq!(storage(8).of(&whole), None, "the map of another instance");
        for length in 0..whole.len() {
            assert_eq!(storage(7).of(&whole[..length]), None, "{length} bytes");
            assert_eq!(read_ends(&[AF_INET6; ANSWER][..length.min(51)]), None);
        }
        assert_eq!(attributes(&[0; 64]).count(), 0, "a length of nothing ends the walk");
    }
}
