//! What the filter itself answers: the segment that came in, the segment that goes back, and its headers.
//!
//! Nothing here keeps state or touches a frame: the programs write what these functions compute, the tests compare it.

mod bucket;
mod keyed;
pub mod setting;
mod tarpit;

pub use bucket::{Rate, take};
pub use keyed::{Key, hash};
pub use tarpit::{FRESH_EPOCHS, Greeting, Move, epoch, hold, isn};

use crate::frame::Frame;
use crate::packet::{Address, Family, Fragment, Packet, flags};
use crate::scrub::is_martian;

/// The bytes of a TCP header without options.
pub const TCP_HEADER: u32 = 20;
/// Time to live and hop limit of replies (RFC 1700's recommendation, as Linux sends).
const HOPS: u32 = 64;

/// What an answer program did with a frame; the index in the map of these counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Answered {
    /// A RST was sent.
    Reset,
    /// The tarpit answered a SYN.
    Offered,
    /// The tarpit saw a valid acknowledgment of its SYN-ACK and sent the banner: a connection is held.
    Greeted,
    /// A probe, data or FIN of a held connection was answered with a closed window.
    Held,
    /// An acknowledgment of a held connection that asks for nothing.
    Quiet,
    /// The peer of the tarpit gave up with a RST.
    GaveUp,
    /// Not a segment of a connection that the tarpit holds: a forged acknowledgment, or one from before the key changed.
    Forged,
    /// To an address that is not this host's, or to a group: not ours to answer.
    NotOurs,
    /// A kernel socket talks to this peer: left to it.
    Established,
    /// Over the cap on replies: dropped.
    Capped,
    /// The driver gave no room for the reply, or the frame could not be read again: dropped.
    Unsent,
    /// A SYN answered with a cookie of the kernel.
    Cookie,
    /// A SYN left to the kernel: no listener, or it wants no cookies now.
    Declined,
}

impl Answered {
    /// All, with the words for people.
    pub const ALL: [(Self, &'static str); 13] = [
        (Self::Reset, "reset-sent"),
        (Self::Offered, "tarpit-offered"),
        (Self::Greeted, "tarpit-greeted"),
        (Self::Held, "tarpit-held"),
        (Self::Quiet, "tarpit-quiet"),
        (Self::GaveUp, "tarpit-gave-up"),
        (Self::Forged, "tarpit-forged"),
        (Self::NotOurs, "answer-not-ours"),
        (Self::Established, "answer-established"),
        (Self::Capped, "answer-capped"),
        (Self::Unsent, "answer-unsent"),
        (Self::Cookie, "cookie-sent"),
        (Self::Declined, "cookie-declined"),
    ];

    /// Size of the map: more than there are, so that a new one does not change its shape.
    pub const ROOM: u32 = 32;
}

/// A TCP segment that came in (RFC 9293 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Its first octet.
    pub sequence: u32,
    /// What it acknowledges, when it does.
    pub acknowledgment: u32,
    /// See [`flags`].
    pub flags: u8,
    /// Octets of data.
    pub payload: u32,
}

impl Segment {
    /// The segment of a packet that [`crate::packet::parse`] read as TCP.
    #[must_use]
    #[inline(always)]
    pub fn of<F: Frame>(frame: &F, packet: &Packet) -> Option<Self> {
        let at = packet.transport as usize;
        Some(Self {
            sequence: frame.be32(at + 4)?,
            acknowledgment: frame.be32(at + 8)?,
            flags: packet.flags,
            payload: packet.payload as u32,
        })
    }

    /// The length in sequence numbers: SYN and FIN take one each (RFC 9293 §3.4).
    #[must_use]
    #[inline(always)]
    pub const fn length(&self) -> u32 {
        self.payload + (self.flags & flags::SYN != 0) as u32 + (self.flags & flags::FIN != 0) as u32
    }
}

/// The segment that goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Its first octet.
    pub sequence: u32,
    /// What it acknowledges; 0 without [`flags::ACK`].
    pub acknowledgment: u32,
    /// See [`flags`].
    pub flags: u8,
    /// Octets that the peer may send; unscaled.
    pub window: u16,
}

/// The RST to a segment for which there is no connection (RFC 9293 §3.5.2, group 1); none for a RST.
#[must_use]
#[inline(always)]
pub const fn reset(segment: &Segment) -> Option<Reply> {
    if segment.flags & flags::RST != 0 {
        return None;
    }
    Some(if segment.flags & flags::ACK != 0 {
        Reply { sequence: segment.acknowledgment, acknowledgment: 0, flags: flags::RST, window: 0 }
    } else {
        let acknowledgment = segment.sequence.wrapping_add(segment.length());
        Reply { sequence: 0, acknowledgment, flags: flags::RST | flags::ACK, window: 0 }
    })
}

/// May a packet like this be answered at all? Never to or from a group, loopback or nobody, never to itself: a reply
/// there would go to somebody else, to many, or round in circles. Nor is a part of a packet answered.
#[must_use]
#[inline(always)]
pub fn may_answer(packet: &Packet) -> bool {
    let Address { high, low } = packet.source;
    let (to_group, from_nobody) = match packet.family {
        Family::V4 => (packet.destination.v4() >> 28 >= 14, packet.source.v4() == 0),
        Family::V6 => (packet.destination.high >> 56 == 0xff, high == 0 && low == 0),
    };
    let to_itself = high == packet.destination.high && low == packet.destination.low;
    let is_whole = matches!(packet.fragment, Fragment::Whole);
    is_whole && !to_group && !from_nobody && !to_itself && !is_martian(packet)
}

/// What follows the fixed TCP header of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Body {
    /// One word of options.
    pub option: Option<u32>,
    /// Octets of data.
    pub bytes: u32,
    /// Sum of the data as 16-bit words in network order, an odd last octet padded with zero (RFC 1071).
    pub sum: u32,
}

impl Body {
    /// Octets of the TCP header and everything behind it.
    #[must_use]
    #[inline(always)]
    pub const fn segment_bytes(&self) -> u32 {
        TCP_HEADER + if self.option.is_some() { 4 } else { 0 } + self.bytes
    }
}

/// The maximum segment size as an option (RFC 9293 §3.7.1).
#[must_use]
#[inline(always)]
pub const fn mss_option(mss: u16) -> u32 {
    2 << 24 | 4 << 16 | mss as u32
}

/// The one's complement of the sum of words of 32 bits that was collected in 64 (RFC 1071 §2).
#[inline(always)]
const fn checksum(sum: u64) -> u32 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    !(sum as u32) & 0xffff
}

/// The IPv4 header of a reply to `packet` that carries `bytes` behind it; words in host order. Never a fragment, so the
/// identification is free (RFC 6864 §4.1).
#[must_use]
#[inline(always)]
pub const fn ipv4(packet: &Packet, bytes: u32) -> [u32; 5] {
    const DO_NOT_FRAGMENT: u32 = 0x4000;
    let first = 0x4500 << 16 | (20 + bytes);
    let third = HOPS << 24 | (crate::packet::TCP as u32) << 16;
    let (source, destination) = (packet.destination.v4(), packet.source.v4());
    let sum = first as u64 + DO_NOT_FRAGMENT as u64 + third as u64 + source as u64 + destination as u64;
    [first, DO_NOT_FRAGMENT, third | checksum(sum), source, destination]
}

/// The IPv6 header of a reply to `packet` that carries `bytes` behind it; words in host order.
#[must_use]
#[inline(always)]
pub const fn ipv6(packet: &Packet, bytes: u32) -> [u32; 10] {
    let (from, to) = (packet.destination, packet.source);
    [
        6 << 28,
        bytes << 16 | (crate::packet::TCP as u32) << 8 | HOPS,
        (from.high >> 32) as u32,
        from.high as u32,
        (from.low >> 32) as u32,
        from.low as u32,
        (to.high >> 32) as u32,
        to.high as u32,
        (to.low >> 32) as u32,
        to.low as u32,
    ]
}

/// The TCP header of a reply to `packet`, with its checksum over pseudo header and body; words in host order. An option
/// of `body` follows it.
#[must_use]
#[inline(always)]
pub const fn tcp(packet: &Packet, reply: &Reply, body: &Body) -> [u32; 5] {
    let ports = (packet.destination_port as u32) << 16 | packet.source_port as u32;
    let (words, option) = match body.option {
        Some(option) => (6, option),
        None => (5, 0),
    };
    let fourth = words << 28 | (reply.flags as u32) << 16 | reply.window as u32;
    let addresses = match packet.family {
        Family::V4 => packet.source.v4() as u64 + packet.destination.v4() as u64,
        Family::V6 => halves(packet.source) + halves(packet.destination),
    };
    let sum = addresses
        + crate::packet::TCP as u64
        + body.segment_bytes() as u64
        + ports as u64
        + reply.sequence as u64
        + reply.acknowledgment as u64
        + fourth as u64
        + option as u64
        + body.sum as u64;
    [ports, reply.sequence, reply.acknowledgment, fourth, checksum(sum) << 16]
}

#[inline(always)]
const fn halves(address: Address) -> u64 {
    (address.high >> 32) + (address.high & 0xffff_ffff) + (address.low >> 32) + (address.low & 0xffff_ffff)
}

#[cfg(test)]
mod tests;
