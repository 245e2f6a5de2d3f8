//! What a frame says: Ethernet with up to two tags, IPv4, IPv6 with extension headers, the first bytes of TCP, UDP, ICMP.

use crate::frame::Frame;
use crate::reason::Reason;

const ETHERNET: usize = 14;
const TAG: usize = 4;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// ICMP (IANA protocol numbers).
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// ICMP of IPv6.
pub const ICMP6: u8 = 58;
/// Extension headers followed at most; honest packets have one or two (RFC 8200 §4.1 orders seven kinds).
pub const EXTENSIONS: usize = 6;

const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;

/// Hop-by-hop, routing, fragment, authentication, destination options, mobility, HIP, Shim6.
#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | 43 | FRAGMENT | AUTHENTICATION | 60 | 135 | 139 | 140)
}

/// TCP flags (RFC 9293 §3.1).
pub mod flags {
    #![expect(missing_docs, reason = "the names of the flags")]
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const PSH: u8 = 8;
    pub const ACK: u8 = 16;
    pub const URG: u8 = 32;
}

/// The family of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

/// An address as two halves in host order; IPv4 is mapped (RFC 4291 §2.5.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// First 64 bits.
    pub high: u64,
    /// Last 64 bits.
    pub low: u64,
}

impl Address {
    /// An IPv4 address.
    #[must_use]
    #[inline(always)]
    pub const fn from_v4(address: u32) -> Self {
        Self { high: 0, low: 0xffff << 32 | address as u64 }
    }

    /// The IPv4 address, when the family is that.
    #[must_use]
    #[inline(always)]
    pub const fn v4(self) -> u32 {
        self.low as u32
    }
}

/// Which part of a datagram this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// The first of several.
    First,
    /// A later one; it has no transport header.
    Later,
}

/// What a frame says. Numbers in host order; ports, kind and flags are 0 where there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// IPv4 or IPv6.
    pub family: Family,
    /// Where it says it comes from.
    pub source: Address,
    /// Where it goes.
    pub destination: Address,
    /// The protocol behind the extension headers (IANA protocol numbers).
    pub protocol: u8,
    /// Of TCP and UDP.
    pub source_port: u16,
    /// Of TCP and UDP.
    pub destination_port: u16,
    /// The type of an ICMP message.
    pub kind: u8,
    /// The flags of a TCP segment.
    pub flags: u8,
    /// Whether the transport header could be read.
    pub transport_read: bool,
    /// Which part of a datagram it is.
    pub fragment: Fragment,
    /// Where in the datagram the part begins, in units of eight bytes (RFC 791 §3.1).
    pub offset: u16,
    /// Where the IP header begins in the frame.
    pub network: u16,
    /// Where the transport header begins in the frame.
    pub transport: u16,
    /// Bytes of a TCP header.
    pub header: u16,
    /// Bytes of data behind the TCP header.
    pub payload: u16,
    /// Bytes of the datagram, as it says.
    pub length: u16,
}

impl Packet {
    /// Nothing yet.
    pub const EMPTY: Self = Self {
        family: Family::V4,
        source: Address { high: 0, low: 0 },
        destination: Address { high: 0, low: 0 },
        protocol: 0,
        source_port: 0,
        destination_port: 0,
        kind: 0,
        flags: 0,
        transport_read: false,
        fragment: Fragment::Whole,
        offset: 0,
        network: 0,
        transport: 0,
        header: 0,
        payload: 0,
        length: 0,
    };

    /// The first segment of a new TCP connection?
    #[must_use]
    #[inline(always)]
    pub const fn opens(&self) -> bool {
        self.protocol == TCP && self.flags & (flags::SYN | flags::ACK) == flags::SYN
    }
}

/// A number for an Ethernet type that is a tag: IEEE 802.1Q, 802.1ad, and the old QinQ number that switches still send.
#[inline(always)]
const fn is_tag(kind: u16) -> bool {
    kind == 0x8100 || kind == 0x88a8 || kind == 0x9100
}

/// Reads a frame.
///
/// # Errors
/// As [`read`].
pub fn parse<F: Frame>(frame: &F) -> Result<Packet, Reason> {
    let mut packet = Packet::EMPTY;
    read(frame, &mut packet)?;
    Ok(packet)
}

/// Reads a frame into `packet`, whose fields are unspecified when it fails. In the kernel `packet` lies in a map, for the
/// stack is small; so nothing that was written to it is read again here.
///
/// # Errors
/// [`Reason::NotIp`], [`Reason::Short`], [`Reason::BadHeader`] or [`Reason::Extensions`].
#[inline(always)]
pub fn read<F: Frame>(frame: &F, packet: &mut Packet) -> Result<(), Reason> {
    let mut kind = frame.be16(ETHERNET - 2).ok_or(Reason::Short)?;
    let mut at = ETHERNET;
    if is_tag(kind) {
        kind = frame.be16(at + TAG - 2).ok_or(Reason::Short)?;
        at += TAG;
        if is_tag(kind) {
            kind = frame.be16(at + TAG - 2).ok_or(Reason::Short)?;
            at += TAG;
        }
    }
    packet.network = at as u16;
    packet.transport_read = false;
    packet.source_port = 0;
    packet.destination_port = 0;
    packet.kind = 0;
    packet.flags = 0;
    packet.header = 0;
    packet.payload = 0;
    match kind {
        IPV4 => ipv4(frame, packet, at),
        IPV6 => frame.ipv6(packet, at),
        _ => Err(Reason::NotIp),
    }
}

#[inline(always)]
fn ipv4<F: Frame>(frame: &F, packet: &mut Packet, network: usize) -> Result<(), Reason> {
    // The last field first: behind it the whole fixed header is there.
    packet.destination = Address::from_v4(frame.be32(network + 16).ok_or(Reason::Short)?);
    packet.source = Address::from_v4(frame.be32(network + 12).ok_or(Reason::Short)?);
    packet.family = Family::V4;
    let [first, _] = frame.pair(network).ok_or(Reason::Short)?;
    let length = frame.be16(network + 2).ok_or(Reason::Short)?;
    let part = frame.be16(network + 6).ok_or(Reason::Short)?;
    let protocol = frame.byte(network + 9).ok_or(Reason::Short)?;
    let header = ((first & 15) as usize) * 4;
    if first >> 4 != 4 || header < 20 || (length as usize) < header {
        return Err(Reason::BadHeader);
    }
    let offset = part & 0x1fff;
    let fragment = match (offset, part & 0x2000 != 0) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    };
    packet.offset = offset;
    packet.length = length;
    transport(frame, packet, network + header, protocol, fragment, length - header as u16)
}

/// Reads an IPv6 packet whose header begins at `network`.
///
/// # Errors
/// As [`read`].
#[inline(always)]
pub fn ipv6<F: Frame>(frame: &F, packet: &mut Packet, network: usize) -> Result<(), Reason> {
    packet.destination.low = frame.be64(network + 32).ok_or(Reason::Short)?;
    packet.destination.high = frame.be64(network + 24).ok_or(Reason::Short)?;
    packet.source.low = frame.be64(network + 16).ok_or(Reason::Short)?;
    packet.source.high = frame.be64(network + 8).ok_or(Reason::Short)?;
    packet.family = Family::V6;
    let length = frame.be16(network + 4).ok_or(Reason::Short)?;
    let [first, _] = frame.pair(network).ok_or(Reason::Short)?;
    if first >> 4 != 6 {
        return Err(Reason::BadHeader);
    }
    let next = frame.byte(network + 6).ok_or(Reason::Short)?;
    packet.offset = 0;
    let (protocol, fragment, at) = extensions(frame, packet, next, network + 40)?;
    let behind = (at - network - 40) as u16;
    if length != 0 && length < behind {
        return Err(Reason::BadHeader);
    }
    packet.length = length.saturating_add(40);
    transport(frame, packet, at, protocol, fragment, length.saturating_sub(behind))
}

/// Protocol, part and place of what follows the extension headers.
#[inline(always)]
fn extensions<F: Frame>(
    frame: &F,
    packet: &mut Packet,
    first: u8,
    begin: usize,
) -> Result<(u8, Fragment, usize), Reason> {
    let (mut next, mut at, mut fragment) = (first, begin, Fragment::Whole);
    for n in 0..EXTENSIONS {
        if !is_extension(next) {
            return Ok((next, fragment, at));
        }
        // Hop-by-hop options come first or not at all (RFC 8200 §4.3).
        if next == HOP_BY_HOP && n != 0 {
            return Err(Reason::Extensions);
        }
        // Both bytes at once: the verifier learns nothing from a check of a single byte at a variable place.
        let [after, length] = frame.pair(at).ok_or(Reason::Short)?;
        if next == FRAGMENT {
            let part = frame.be16(at + 2).ok_or(Reason::Short)?;
            if part >> 3 != 0 {
                // What follows is the middle of something; its protocol is that of the first part.
                packet.offset = part >> 3;
                return Ok((after, Fragment::Later, at + 8));
            }
            if part & 1 != 0 {
                fragment = Fragment::First;
            }
        }
        let size = match next {
            FRAGMENT => 8,
            // Units of four, the first two not counted (RFC 4302 §2.2).
            AUTHENTICATION => (length as usize + 2) * 4,
            // Units of eight, the first not counted.
            _ => (length as usize + 1) * 8,
        };
        next = after;
        at = frame.place(at + size);
    }
    if is_extension(next) { Err(Reason::Extensions) } else { Ok((next, fragment, at)) }
}

/// Protocol, ports, type and flags of what begins at `at`; `room` is the bytes that the datagram has for it.
#[inline(always)]
fn transport<F: Frame>(
    frame: &F,
    packet: &mut Packet,
    at: usize,
    protocol: u8,
    fragment: Fragment,
    room: u16,
) -> Result<(), Reason> {
    packet.transport = at as u16;
    packet.protocol = protocol;
    packet.fragment = fragment;
    if matches!(fragment, Fragment::Later) {
        return Ok(());
    }
    // A first fragment that ends too soon is one thing, a frame that was cut another.
    let cut = if matches!(fragment, Fragment::First) { Ok(()) } else { Err(Reason::Short) };
    match protocol {
        TCP => {
            let Some([lengths, flags]) = frame.pair(at + 12) else { return cut };
            let Some(ports) = frame.be32(at) else { return cut };
            let header = ((lengths >> 4) as u16) * 4;
            if header < 20 || (header > room && matches!(fragment, Fragment::Whole)) {
                return Err(Reason::BadHeader);
            }
            packet.source_port = (ports >> 16) as u16;
            packet.destination_port = ports as u16;
            packet.flags = flags & 0x3f;
            packet.header = header;
            packet.payload = room.saturating_sub(header);
        }
        UDP => {
            let Some(ports) = frame.be32(at) else { return cut };
            packet.source_port = (ports >> 16) as u16;
            packet.destination_port = ports as u16;
        }
        ICMP | ICMP6 => {
            let Some([kind, _]) = frame.pair(at) else { return cut };
            packet.kind = kind;
        }
        _ => return Ok(()),
    }
    packet.transport_read = true;
    Ok(())
}
