//! The tarpit in the kernel: which segment answers which, without remembering a connection.
//!
//! What we must know of a connection stands in our own initial sequence number, which the peer gives back with every
//! acknowledgment: the time it was made (seven bits), two bits of the peer's initial sequence number, and 23 bits that
//! only the holder of the key can compute from addresses, ports and the rest. The kernel's own SYN cookies would do for
//! the handshake, but end after two minutes; a peer is held for hours and each of its probes must be told from a forgery.
//!
//! The window is closed from the SYN-ACK on. A peer that was never offered a window probes it for as long as it is
//! answered; one whose offered window is taken back times out as if its data were lost.

use super::{Key, Reply, Segment, hash};
use crate::packet::{Family, Packet, flags};

/// A unit of time in sequence numbers: 2^36 ns, 68.7 s.
const EPOCH_SHIFT: u32 = 36;
const EPOCHS: u32 = 1 << 7;
const PROOF_BITS: u32 = 23;
const PEER_MASK: u32 = 3;
/// A handshake is complete within this many epochs, else it gets no banner; the probes of held peers have no age.
pub const FRESH_EPOCHS: u32 = 1;

/// What is said to peers that completed the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Greeting {
    /// Bytes of the banner; 0 for none.
    pub bytes: u32,
    /// Its sum: see [`super::Body::sum`].
    pub sum: u32,
}

/// What the tarpit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// SYN-ACK: no larger than the SYN, since its source may be forged.
    Offer(Reply),
    /// The banner: the peer proved that it is where it says.
    Greet(Reply),
    /// An acknowledgment of nothing new, with a closed window.
    Hold(Reply),
    /// Nothing: the peer acknowledged what we sent.
    Quiet,
    /// Nothing: the peer gave up.
    GaveUp,
    /// Nothing: no segment of a connection that we hold.
    Forged,
}

/// The epoch at `now`, nanoseconds of the monotonic clock.
#[must_use]
#[inline(always)]
pub const fn epoch(now: u64) -> u32 {
    (now >> EPOCH_SHIFT) as u32 & (EPOCHS - 1)
}

#[inline(always)]
fn proof(key: Key, packet: &Packet, told: u32) -> u32 {
    let rest = (told as u64) << 32 | (packet.source_port as u64) << 16 | packet.destination_port as u64;
    let (source, destination) = (packet.source, packet.destination);
    let whole = match packet.family {
        Family::V4 => hash(key, [(source.v4() as u64) << 32 | destination.v4() as u64, rest]),
        Family::V6 => hash(key, [source.high, source.low, destination.high, destination.low, rest]),
    };
    whole as u32 & ((1 << PROOF_BITS) - 1)
}

/// The initial sequence number for the peer that sent `packet` with initial sequence number `peer`.
#[must_use]
#[inline(always)]
pub fn isn(key: Key, packet: &Packet, peer: u32, epoch: u32) -> u32 {
    let told = (epoch & (EPOCHS - 1)) << 2 | peer & PEER_MASK;
    told << PROOF_BITS | proof(key, packet, told)
}

/// Is this initial sequence number ours, for this peer?
#[inline(always)]
fn is_ours(key: Key, packet: &Packet, isn: u32) -> bool {
    isn & ((1 << PROOF_BITS) - 1) == proof(key, packet, isn >> PROOF_BITS)
}

/// What to do about a segment at `now`, nanoseconds of the monotonic clock.
#[must_use]
#[inline(always)]
pub fn hold(key: Key, greeting: Greeting, packet: &Packet, segment: &Segment, now: u64) -> Move {
    const KIND: u8 = flags::SYN | flags::RST | flags::ACK;
    let epoch = epoch(now);
    match segment.flags & KIND {
        flags::SYN => {
            return Move::Offer(Reply {
                sequence: isn(key, packet, segment.sequence, epoch),
                acknowledgment: segment.sequence.wrapping_add(1),
                flags: flags::SYN | flags::ACK,
                window: 0,
            });
        }
        flags::ACK => {}
        set if set & flags::RST != 0 => return Move::GaveUp,
        _ => return Move::Forged,
    }
    let first = segment.acknowledgment.wrapping_sub(1);
    let (isn, greeted) = if is_ours(key, packet, first) {
        (first, false)
    } else {
        let first = first.wrapping_sub(greeting.bytes);
        if greeting.bytes == 0 || !is_ours(key, packet, first) {
            return Move::Forged;
        }
        (first, true)
    };
    // How far the segment is from the peer's initial sequence number: 0 for the probes and keep-alives that repeat the
    // octet before the window, 1 for what stands at its edge, 2 behind a FIN or a probe of one octet.
    let ahead = segment.sequence.wrapping_sub(isn >> PROOF_BITS) & PEER_MASK;
    let asks = ahead != 1 || segment.length() != 0;
    let reply = Reply {
        sequence: segment.acknowledgment,
        acknowledgment: segment.sequence.wrapping_sub(ahead).wrapping_add(1),
        flags: flags::ACK,
        window: 0,
    };
    let age = epoch.wrapping_sub(isn >> (PROOF_BITS + 2)) & (EPOCHS - 1);
    if !greeted && greeting.bytes != 0 && age <= FRESH_EPOCHS {
        return Move::Greet(Reply { flags: flags::ACK | flags::PSH, ..reply });
    }
    if asks { Move::Hold(reply) } else { Move::Quiet }
}
