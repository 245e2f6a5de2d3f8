//! Prefixes on the wire: a length in bits, then as many bytes as that needs (RFC 4271 §4.3).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Family;
use super::cursor::Cursor;

/// Reads prefixes to the end; bits beyond the length are of no meaning and cleared. `None` when a length is too
/// large or bytes are missing.
pub(super) fn read(family: Family, bytes: &[u8]) -> Option<Vec<IpNet>> {
    let mut cursor = Cursor::new(bytes);
    let mut prefixes = Vec::new();
    while !cursor.is_empty() {
        prefixes.push(match family {
            Family::Ipv4Unicast => IpNet::V4(read_v4(&mut cursor)?),
            Family::Ipv6Unicast => IpNet::V6(read_v6(&mut cursor)?),
        });
    }
    Some(prefixes)
}

/// The same for the IPv4 fields of UPDATE.
pub(super) fn read_all_v4(bytes: &[u8]) -> Option<Vec<Ipv4Net>> {
    let mut cursor = Cursor::new(bytes);
    let mut prefixes = Vec::new();
    while !cursor.is_empty() {
        prefixes.push(read_v4(&mut cursor)?);
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

pub(super) fn write(bytes: &mut Vec<u8>, prefix: IpNet) {
    match prefix {
        IpNet::V4(net) => write_octets(bytes, net.prefix_len(), &net.network().octets()),
        IpNet::V6(net) => write_octets(bytes, net.prefix_len(), &net.network().octets()),
    }
}

fn write_octets(bytes: &mut Vec<u8>, length: u8, octets: &[u8]) {
    bytes.push(length);
    bytes.extend(octets.iter().take(usize::from(length).div_ceil(8)));
}
