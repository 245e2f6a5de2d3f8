//! Frames, built layer by layer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A frame under construction: what was put in last is outermost.
#[derive(Clone)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
    /// Number of the protocol that `bytes` begins with.
    protocol: u8,
    ethertype: u16,
}

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

impl Frame {
    /// A TCP SYN to `port`.
    pub(crate) fn tcp(port: u16) -> Self {
        let mut bytes = vec![0; 20];
        bytes[..2].copy_from_slice(&40_000_u16.to_be_bytes());
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        bytes[12] = 5 << 4;
        bytes[13] = 2;
        Self { bytes, protocol: TCP, ethertype: 0 }
    }

    /// A UDP datagram to `port`.
    pub(crate) fn udp(port: u16) -> Self {
        let mut bytes = vec![0; 12];
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        Self { bytes, protocol: UDP, ethertype: 0 }
    }

    /// An ICMP message of this type; ICMPv6 from 128 on.
    pub(crate) fn icmp(kind: u8) -> Self {
        let bytes = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        Self { bytes, protocol: if kind < 128 { 1 } else { 58 }, ethertype: 0 }
    }

    /// Some bytes of another protocol.
    pub(crate) fn protocol(number: u8) -> Self {
        Self { bytes: vec![0; 16], protocol: number, ethertype: 0 }
    }

    /// Other flags than SYN, in a segment of TCP.
    pub(crate) fn flags(mut self, flags: u8) -> Self {
        self.bytes[13] = flags;
        self
    }

    /// An extension header of IPv6 before what is there; `rest` follows its first byte.
    pub(crate) fn extension(mut self, kind: u8, rest: &[u8]) -> Self {
        let mut bytes = vec![self.protocol];
        bytes.extend(rest);
        bytes.append(&mut self.bytes);
        Self { bytes, protocol: kind, ..self }
    }

    /// An IP header, with options (IPv4, whole words) and the fragment field.
    pub(crate) fn ip(self, source: &str) -> Self {
        self.ip_with(source, &[], 0)
    }

    pub(crate) fn ip_with(mut self, source: &str, options: &[u8], fragment: u16) -> Self {
        let mut header = match source.parse().expect("an address") {
            IpAddr::V4(source) => {
                let mut header = vec![0_u8; 20];
                header[0] = 0x40 | (5 + options.len() / 4) as u8;
                let total = (20 + options.len() + self.bytes.len()) as u16;
                header[2..4].copy_from_slice(&total.to_be_bytes());
                header[6..8].copy_from_slice(&fragment.to_be_bytes());
                header[8] = 64;
                header[9] = self.protocol;
                header[12..16].copy_from_slice(&source.octets());
                header[16..].copy_from_slice(&Ipv4Addr::new(198, 51, 100, 1).octets());
                header.extend(options);
                self.ethertype = 0x0800;
                header
            }
            IpAddr::V6(source) => {
                let mut header = vec![0_u8; 40];
                header[0] = 0x60;
                header[4..6].copy_from_slice(&(self.bytes.len() as u16).to_be_bytes());
                header[6] = self.protocol;
                header[7] = 64;
                header[8..24].copy_from_slice(&source.octets());
                header[24..].copy_from_slice(&Ipv6Addr::new(0x2001, 0xdb8, 0, 0xff, 0, 0, 0, 1).octets());
                self.ethertype = 0x86dd;
                header
            }
        };
        header.append(&mut self.bytes);
        Self { bytes: header, ..self }
    }

    /// A tag: 802.1Q (0x8100), 802.1ad (0x88a8) and so on.
    pub(crate) fn tag(mut self, kind: u16) -> Self {
        let mut bytes = vec![0, 42];
        bytes.extend(self.ethertype.to_be_bytes());
        bytes.append(&mut self.bytes);
        Self { bytes, ethertype: kind, ..self }
    }

    /// The Ethernet header; the frame is complete.
    pub(crate) fn ethernet(self) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        bytes.extend(self.ethertype.to_be_bytes());
        bytes.extend(self.bytes);
        bytes
    }
}
