//! Prefixes on the wire: a length in bits, then as many bytes as that needs (RFC 4271 §4.3); before each of them a path
//! identifier where both sides have agreed on several paths (RFC 7911 §3).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Family;
use super::cursor::Cursor;

/// A prefix as it is announced or withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nlri {
    /// The prefix; host bits are zero.
    pub prefix: IpNet,
    /// Which of several paths (RFC 7911 §3); zero where there is one.
    pub path: u32,
}

impl From<IpNet> for Nlri {
    fn from(prefix: IpNet) -> Self {
        Self { prefix, path: 0 }
    }
}

impl From<Ipv4Net> for Nlri {
    fn from(net: Ipv4Net) -> Self {
        IpNet::V4(net).into()
    }
}

/// Reads prefixes to the end; bits beyond the length are of no meaning and cleared. `None` when a length is too
/// large or bytes are missing.
pub(super) fn read(family: Family, bytes: &[u8], with_path: bool) -> Option<Vec<Nlri>> {
    let mut cursor = Cursor::new(bytes);
    // A host takes a byte more than its address: room for hosts is room enough in nearly all messages.
    let least = if family == Family::Ipv4Unicast { 5 } else { 17 };
    let mut prefixes = Vec::with_capacity(bytes.len() / least);
    while !cursor.is_empty() {
        let path = if with_path { cursor.u32()? } else { 0 };
        let prefix = match family {
            Family::Ipv4Unicast => IpNet::V4(read_v4(&mut cursor)?),
            Family::Ipv6Unicast => IpNet::V6(read_v6(&mut cursor)?),
        };
        prefixes.push(Nlri { prefix, path });
    }
    Some(prefixes)
}

fn read_v4(cursor: &mut Cursor<'_>) -> Option<Ipv4Net> {
    let length = cursor.u8()?;
    let octets = octets::<4>(cursor, length)?;
    Ipv4Net::new(Ipv4Addr::from(octets), length).ok().map(|net| net.trunc())
}

fn read_v6(cursor: &mut Cursor<'_>) -> Option<Ipv6Net> {
    let length = cursor.u8()?;
    let octets = octets::<16>(cursor, length)?;
    Ipv6Net::new(Ipv6Addr::from(octets), length).ok().map(|net| net.trunc())
}

fn octets<const N: usize>(cursor: &mut Cursor<'_>, length: u8) -> Option<[u8; N]> {
    let mut octets = [0; N];
    let count = usize::from(length).div_ceil(8);
    octets.get_mut(..count)?.copy_from_slice(cursor.take(count)?);
    Some(octets)
}

pub(super) fn write(bytes: &mut Vec<u8>, nlri: Nlri, with_path: bool) {
    if with_path {
        bytes.extend(nlri.path.to_be_bytes());
    }
    match nlri.prefix {
        IpNet::V4(net) => write_octets(bytes, net.prefix_len(), &net.network().octets()),
        IpNet::V6(net) => write_octets(bytes, net.prefix_len(), &net.network().octets()),
    }
}

fn write_octets(bytes: &mut Vec<u8>, length: u8, octets: &[u8]) {
    bytes.push(length);
    bytes.extend(octets.iter().take(usize::from(length).div_ceil(8)));
}
