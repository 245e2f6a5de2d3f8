//! The way back to a source, from the routes that user space mirrors: `bpf_fib_lookup` says nothing on a host that does
//! not forward.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::LpmTrie;
use aya_ebpf::maps::lpm_trie::Key;
use mailgate_common::route::{ANYWHERE, NOWHERE, OWN, ROUTES as LIMIT, leads_by};
use mailgate_common::{Family, Packet, WayBack};

/// Prefixes, IPv4 mapped into IPv6; see `mailgate_common::route` for the values.
#[map]
static ROUTES: LpmTrie<[u8; 16], u64> = LpmTrie::with_max_entries(LIMIT, BPF_F_NO_PREALLOC);

/// What the routes say of the source of a packet.
#[inline(never)]
pub fn way_back(interface: u32, packet: &Packet) -> WayBack {
    let is_unspecified = match packet.family {
        Family::V4 => packet.source.v4() == 0,
        Family::V6 => packet.source.high == 0 && packet.source.low == 0,
    };
    // Who has no address yet asks for one (DHCP, RFC 4862 §5.4.2).
    if is_unspecified {
        return WayBack::Here;
    }
    let source = (packet.source.high as u128) << 64 | packet.source.low as u128;
    match ROUTES.get(&Key::new(128, source.to_be_bytes())) {
        // Not mirrored yet.
        None => WayBack::Here,
        Some(value) => match *value {
            OWN => WayBack::Own,
            ANYWHERE => WayBack::Here,
            NOWHERE => WayBack::Nowhere,
            value if leads_by(value, interface) => WayBack::Here,
            _ => WayBack::Elsewhere,
        },
    }
}
