//! TCP segments with real checksums, written and read back by code that shares nothing with the filter's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// Where segments go, unless they say otherwise.
pub(crate) const OURS4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub(crate) const OURS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1);

/// A segment with all around it; a SYN from port 4000 to port 25 unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) tags: Vec<u16>,
    /// From the second station to the first.
    pub(crate) returned: bool,
    /// The frame goes to all stations.
    pub(crate) to_group: bool,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) ports: (u16, u16),
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) data: Vec<u8>,
    /// Extension headers of IPv6, or words of IPv4 options.
    pub(crate) extensions: u8,
    /// Bytes behind the datagram.
    pub(crate) padding: usize,
}

impl Segment {
    pub(crate) fn from(source: &str) -> Self {
        let source: IpAddr = source.parse().expect("an address");
        Self {
            tags: Vec::new(),
            returned: false,
            to_group: false,
            source,
            destination: if source.is_ipv4() { OURS4.into() } else { OURS6.into() },
            ports: (4000, 25),
            sequence: 0,
            acknowledgment: 0,
            flags: SYN,
            window: 0,
            options: Vec::new(),
            data: Vec::new(),
            extensions: 0,
            padding: 0,
        }
    }

    /// An empty segment back to where this one came from, with its tags.
    pub(crate) fn answered(&self) -> Self {
        Self {
            tags: self.tags.clone(),
            returned: !self.returned,
            source: self.destination,
            destination: self.source,
            ports: (self.ports.1, self.ports.0),
            ..Self::from("192.0.2.0")
        }
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if self.returned {
            frame.rotate_left(6);
        }
        if self.to_group {
            frame[..6].fill(0xff);
        }
        for tag in &self.tags {
            frame.extend(tag.to_be_bytes());
            frame.extend([0, 42]);
        }
        let segment = self.segment();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([8, 0]);
                let mut header = vec![0x45 + self.extensions, 0];
                let length = 20 + usize::from(self.extensions) * 4 + segment.len();
                header.extend((length as u16).to_be_bytes());
                header.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend(vec![1; usize::from(self.extensions) * 4]);
                let sum = complement(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                frame.extend(header);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                let length = usize::from(self.extensions) * 8 + segment.len();
                frame.extend((length as u16).to_be_bytes());
                frame.extend([if self.extensions == 0 { 6 } else { 60 }, 64]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                for left in (0..self.extensions).rev() {
                    frame.extend([if left == 0 { 6 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
                }
            }
            _ => panic!("two families"),
        }
        frame.extend(segment);
        frame.extend(vec![0; self.padding]);
        frame
    }

    fn segment(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.ports.0.to_be_bytes());
        bytes.extend(self.ports.1.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgment.to_be_bytes());
        bytes.extend([(5 + self.options.len() as u8 / 4) << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(&self.options);
        bytes.extend(&self.data);
        let sum = complement(&[pseudo(self.source, self.destination, bytes.len()), bytes.clone()].concat());
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// Reads a frame of ours back; everything in it is checked, also that it ends where it says.
pub(crate) fn read(frame: &[u8]) -> Segment {
    let returned = frame[..12] == [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    assert!(returned || frame[..12] == [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], "stations {:x?}", &frame[..12]);
    let mut tags = Vec::new();
    let mut at = 12;
    while matches!(be16(&frame[at..]), 0x8100 | 0x88a8) {
        tags.push(be16(&frame[at..]));
        assert_eq!(frame[at + 2..at + 4], [0, 42], "the tag's number stays");
        at += 4;
    }
    let ip = &frame[at + 2..];
    let (source, destination, segment): (IpAddr, IpAddr, &[u8]) = match be16(&frame[at..]) {
        0x0800 => {
            assert_eq!((ip[0], ip[6], ip[9]), (0x45, 0x40, 6), "no options, not to be fragmented, TCP");
            assert_eq!(complement(&ip[..20]), 0, "the checksum of IPv4");
            assert_eq!(usize::from(be16(&ip[2..])), ip.len(), "the length of IPv4");
            let address = |at: usize| Ipv4Addr::from_octets(ip[at..at + 4].try_into().expect("four"));
            (address(12).into(), address(16).into(), &ip[20..])
        }
        0x86dd => {
            assert_eq!((ip[0] >> 4, ip[6]), (6, 6), "version, TCP");
            assert_eq!(usize::from(be16(&ip[4..])) + 40, ip.len(), "the length of IPv6");
            let address = |at: usize| Ipv6Addr::from_octets(ip[at..at + 16].try_into().expect("sixteen"));
            (address(8).into(), address(24).into(), &ip[40..])
        }
        other => panic!("type {other:x}"),
    };
    let pseudo = pseudo(source, destination, segment.len());
    assert_eq!(complement(&[&pseudo, segment].concat()), 0, "the checksum of TCP");
    let header = usize::from(segment[12] >> 4) * 4;
    Segment {
        tags,
        returned,
        to_group: false,
        source,
        destination,
        ports: (be16(segment), be16(&segment[2..])),
        sequence: be32(&segment[4..]),
        acknowledgment: be32(&segment[8..]),
        flags: segment[13],
        window: be16(&segment[14..]),
        options: segment[20..header].to_vec(),
        data: segment[header..].to_vec(),
        extensions: 0,
        padding: 0,
    }
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn pseudo(source: IpAddr, destination: IpAddr, length: usize) -> Vec<u8> {
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    [octets(source), octets(destination), (length as u32).to_be_bytes().to_vec(), vec![0, 0, 0, 6]].concat()
}

/// RFC 1071, the plain way.
fn complement(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let sum: u32 = bytes.chunks(2).map(word).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) as u16 + (sum >> 16) as u16)
}
