//! What no honest peer sends (pf.conf(5) `scrub`), told from one packet alone.

use crate::packet::{Address, Family, Fragment, Packet, TCP, UDP, flags};
use crate::reason::Reason;

/// Does it say that it comes from where it goes to? On every interface but loopback that is an attack.
#[inline(always)]
#[must_use]
pub(crate) fn is_land(packet: &Packet) -> bool {
    packet.source.low == packet.destination.low && packet.source.high == packet.destination.high
}

/// Why this packet is not honest, if it is not.
#[inline(always)]
#[must_use]
pub fn scrub(packet: &Packet) -> Option<Reason> {
    if let Some(reason) = fragments(packet) {
        return Some(reason);
    }
    if !packet.transport_read {
        return None;
    }
    match packet.protocol {
        TCP => segment(packet),
        // A source port of 0 means "no answer wanted" in UDP (RFC 768); a destination has to be somewhere.
        UDP if packet.destination_port == 0 => Some(Reason::ZeroPort),
        _ => None,
    }
}

#[inline(always)]
fn fragments(packet: &Packet) -> Option<Reason> {
    match packet.fragment {
        Fragment::Whole => None,
        // Such an offset reaches into the header of the first part (RFC 1858 §4).
        Fragment::Later if packet.offset == 1 => Some(Reason::TinyFragment),
        Fragment::First if !packet.transport_read => Some(Reason::TinyFragment),
        Fragment::First | Fragment::Later if packet.protocol == TCP => Some(Reason::Fragment),
        Fragment::First | Fragment::Later => None,
    }
}

#[inline(always)]
fn segment(packet: &Packet) -> Option<Reason> {
    use flags::{ACK, FIN, PSH, RST, SYN, URG};
    if packet.source_port == 0 || packet.destination_port == 0 {
        return Some(Reason::ZeroPort);
    }
    let set = packet.flags;
    let impossible = set & (SYN | FIN) == SYN | FIN
        || set & (SYN | RST) == SYN | RST
        || set & (FIN | RST) == FIN | RST
        // Whatever is neither SYN nor RST acknowledges (RFC 9293 §3.10.7.4): NULL, FIN and XMAS scans do not.
        || set & (SYN | RST | ACK) == 0
        || (set & ACK == 0 && set & (URG | PSH) != 0);
    if impossible {
        return Some(Reason::BadFlags);
    }
    // Only the fast open option may bring data along; it has to be in a header longer than the least.
    if set & (SYN | ACK) == SYN && packet.payload != 0 && packet.header <= 20 {
        return Some(Reason::SynData);
    }
    None
}

/// Can this source not come in from outside, on any interface (RFC 6890: "Source: False", or only for this host)?
#[inline(always)]
#[must_use]
pub fn is_martian(packet: &Packet) -> bool {
    match packet.family {
        Family::V4 => {
            let address = packet.source.v4();
            let first = address >> 24;
            // 0/8 is "this host" (DHCP asks with 0.0.0.0); 127/8 loopback; 224/4 multicast; 240/4 reserved, broadcast.
            (first == 0 && address != 0) || first == 127 || first >= 224
        }
        Family::V6 => {
            let Address { high, low } = packet.source;
            // Loopback, IPv4-mapped, multicast. The unspecified address asks for its own duplicates (RFC 4862 §5.4.2).
            (high == 0 && (low == 1 || low >> 32 == 0xffff)) || high >> 56 == 0xff
        }
    }
}
