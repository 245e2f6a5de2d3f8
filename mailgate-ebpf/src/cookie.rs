//! `cookie`: answers the SYNs of a flood with the kernel's own SYN cookies, before a socket buffer is made for them.
//!
//! The kernel computes the cookie for the very listener that would take the connection, and takes the acknowledgment by
//! itself. It says no while it wants no cookies (net.ipv4.tcp_syncookies is not 2 and the queue not full) or its queue of
//! connections is full: then the SYN goes on.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{self, bpf_sock, bpf_sock_tuple};
use aya_ebpf::helpers::{bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_gen_syncookie, bpf_xdp_load_bytes};
use aya_ebpf::programs::XdpContext;
use mailgate_common::answer::{Answered, Body, Reply, mss_option};
use mailgate_common::packet::flags;
use mailgate_common::{Address, Family, Packet};

use crate::answer::{is_ours, leave, segment, sent, write};

/// Octets that a peer may send before the kernel tells it more; what Linux offers in its first segment or less.
const WINDOW: u16 = 29_200;
/// The largest segment we ask for: Ethernet's.
const MSS_V4: u16 = 1460;
const MSS_V6: u16 = 1440;

/// A listening socket (include/net/tcp_states.h).
const LISTEN: u32 = 10;
/// Octets of the shortest and of the longest TCP header (RFC 9293 §3.1).
const TCP_LEAST: u32 = 20;
const TCP_LIMIT: u32 = 60;
/// What a header may be longer than the shortest, as a mask; and room for as much.
const TCP_MASK: u32 = 63;
const TCP_ROOM: usize = (TCP_LEAST + TCP_MASK + 1) as usize;

/// Answers a SYN, or leaves it to the stack.
#[inline(always)]
pub fn answer(ctx: &XdpContext) -> u32 {
    let Some((packet, asked)) = segment(ctx) else { return leave(Answered::NotOurs) };
    if !packet.opens() || packet.payload != 0 || !is_ours(&packet) {
        return leave(Answered::NotOurs);
    }
    let Some(cookie) = kernel_cookie(ctx, &packet) else { return leave(Answered::Declined) };
    let reply = Reply {
        sequence: cookie as u32,
        acknowledgment: asked.sequence.wrapping_add(1),
        flags: flags::SYN | flags::ACK,
        window: WINDOW,
    };
    let mss = ((cookie >> 32) as u16).min(if matches!(packet.family, Family::V4) { MSS_V4 } else { MSS_V6 });
    // No window scaling, SACK or timestamps: the kernel reads them from a timestamp that only it can make. And no reply
    // is longer than what asked for it.
    // Read back, so that the compiler makes it on every way here: before 6.8 the verifier does not see that a second look at
    // the length of the header comes out as the first one did, and would find something else in its place.
    let segment_size = mss_option(mss);
    // SAFETY: a variable of ours.
    let segment_size = unsafe { (&raw const segment_size).read_volatile() };
    let option = if packet.header >= 24 { Some(segment_size) } else { None };
    sent(write(ctx, &packet, &reply, &Body { option, bytes: 0, sum: 0 }), Answered::Cookie)
}

/// The cookie of the listener that would take this SYN, and behind 32 bits the segment size that it stands for.
#[inline(always)]
fn kernel_cookie(ctx: &XdpContext, packet: &Packet) -> Option<i64> {
    let mut tcp = [0_u8; TCP_ROOM];
    let length = packet.header as u32;
    if !(TCP_LEAST..=TCP_LIMIT).contains(&length) {
        return None;
    }
    // Before 6.8 the verifier learns nothing from that comparison. Read back, so that the compiler does not know the range
    // and leaves the mask, which bounds the length.
    // SAFETY: a variable of ours.
    let more = unsafe { (&raw const length).read_volatile() }.wrapping_sub(TCP_LEAST) & TCP_MASK;
    let length = TCP_LEAST + more;
    // SAFETY: the buffer is at least that long.
    if unsafe {
        bpf_xdp_load_bytes(ctx.as_ptr().cast(), packet.transport as u32, tcp.as_mut_ptr().cast(), length)
    } != 0
    {
        return None;
    }
    let listener = socket(ctx, packet);
    if listener.is_null() {
        return None;
    }
    // The kernel reads version and addresses only.
    // SAFETY: the socket is held until the release; the headers are as long as said.
    let cookie = unsafe {
        let cookie = if (*listener).state != LISTEN {
            -1
        } else if matches!(packet.family, Family::V4) {
            let mut ip = [0_u32; 5];
            ip[0] = (4_u32 << 28 | 5 << 24).to_be();
            ip[3] = packet.source.v4().to_be();
            ip[4] = packet.destination.v4().to_be();
            bpf_tcp_gen_syncookie(
                listener.cast(),
                ip.as_mut_ptr().cast(),
                20,
                tcp.as_mut_ptr().cast(),
                length,
            )
        } else {
            let [a, b, c, d] = words(packet.source);
            let [e, f, g, h] = words(packet.destination);
            let mut ip = [(6_u32 << 28).to_be(), 0, a, b, c, d, e, f, g, h];
            bpf_tcp_gen_syncookie(
                listener.cast(),
                ip.as_mut_ptr().cast(),
                40,
                tcp.as_mut_ptr().cast(),
                length,
            )
        };
        bpf_sk_release(listener.cast());
        cookie
    };
    if cookie < 0 { None } else { Some(cookie) }
}

/// The socket that would take this segment; to be released.
#[inline(always)]
fn socket(ctx: &XdpContext, packet: &Packet) -> *mut bpf_sock {
    // SAFETY: a tuple is plain numbers.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let (sport, dport) = (packet.source_port.to_be(), packet.destination_port.to_be());
    let size = match packet.family {
        Family::V4 => {
            let (saddr, daddr) = (packet.source.v4().to_be(), packet.destination.v4().to_be());
            tuple.__bindgen_anon_1.ipv4 =
                bindings::bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 { saddr, daddr, sport, dport };
            12
        }
        Family::V6 => {
            let (saddr, daddr) = (words(packet.source), words(packet.destination));
            tuple.__bindgen_anon_1.ipv6 =
                bindings::bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 { saddr, daddr, sport, dport };
            36
        }
    };
    // SAFETY: the tuple is as long as said. -1 stands for the network namespace of the interface.
    unsafe { bpf_skc_lookup_tcp(ctx.as_ptr(), &raw mut tuple, size, u64::MAX, 0) }
}

/// An IPv6 address as the kernel's four words.
#[inline(always)]
fn words(Address { high, low }: Address) -> [u32; 4] {
    [(high >> 32) as u32, high as u32, (low >> 32) as u32, low as u32].map(u32::to_be)
}
