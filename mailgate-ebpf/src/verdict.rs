//! The verdict of `mailgate_common::judge` on a frame in the kernel: counted, traced, carried out.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::{bpf_sock, bpf_sock_tuple};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp};
use aya_ebpf::programs::XdpContext;
use aya_ebpf::{EbpfContext as _, bindings};
use mailgate_common::packet::UDP;
use mailgate_common::{
    Act, Family, NO_RULE, PROGRAM_COOKIE, PROGRAM_REJECT, PROGRAM_TARPIT, Packet, Ruling, WayBack,
    World, judge, read, unread,
};

use crate::frame::Wire;
use crate::maps::{
    HITS, Memory4, Memory6, PROGRAMS, Rules, Scratch, Slot, count, count_rule, forget, scratch,
};
use crate::{routes, trace};

/// A listening socket (include/net/tcp_states.h).
const TCP_LISTEN: u32 = 10;
/// The ports that the kernel gives to sockets that ask for none, as it comes (net.ipv4.ip_local_port_range).
const EPHEMERAL: u16 = 32_768;

/// The kernel as the verdict sees it.
struct Kernel<'a> {
    ctx: &'a XdpContext,
    slot: Slot,
    scratch: *mut Scratch,
}

impl World for Kernel<'_> {
    type Tables4 = Memory4;
    type Tables6 = Memory6;
    type Rules = Rules;

    #[inline(always)]
    fn tables4(&self) -> Option<Memory4> {
        Some(self.slot.tables4())
    }

    #[inline(always)]
    fn tables6(&self) -> Option<Memory6> {
        Some(self.slot.tables6())
    }

    #[inline(always)]
    fn rules(&self) -> Option<Rules> {
        self.slot.rules()
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        interface(self.ctx)
    }

    #[inline(always)]
    fn established(&self, packet: &Packet) -> bool {
        talks(self.ctx, packet)
    }

    #[inline(always)]
    fn way_back(&self, packet: &Packet) -> WayBack {
        routes::way_back(interface(self.ctx), packet)
    }

    #[inline(always)]
    fn forget(&self, value: u64) -> u64 {
        forget(self.scratch, value)
    }
}

/// Number of the interface the frame came in by.
#[inline(always)]
pub fn interface(ctx: &XdpContext) -> u32 {
    // SAFETY: the kernel gives a valid context.
    unsafe { (*ctx.ctx).ingress_ifindex }
}

/// Judges a frame and carries the verdict out.
///
/// Packet and verdict lie in scratch memory: so the verifier looks at reading, judging and carrying out one after the
/// other, not at every way through all three. What an IPv4 packet meets is one function: where the processor does not
/// trust its prediction of returns (SRSO), each costs as much as a dozen instructions.
#[inline(always)]
pub fn verdict(ctx: &XdpContext) -> u32 {
    let Some(scratch) = scratch(0) else { return XDP_PASS };
    // SAFETY: this processor's memory, which nobody else touches while the program runs.
    let (packet, place) = unsafe { (&mut *&raw mut (*scratch).packet, &mut *&raw mut (*scratch).ruling) };
    let done = read(&Wire { ctx, scratch }, packet);
    let world = Kernel { ctx, slot: Slot::current(), scratch };
    *place = match done {
        Ok(()) => judge(&world, packet),
        Err(reason) => unread(&world, reason),
    };
    let (packet, ruling) = (&*packet, &*place);
    let bytes = (ctx.data_end() - ctx.data()) as u64;
    count(ruling.reason, bytes);
    if ruling.rule != NO_RULE {
        count_rule(ruling.rule, bytes);
    }
    if ruling.counted {
        count_source(packet, bytes);
    }
    trace::emit(ctx, ruling);
    carry_out(ctx, ruling)
}

#[inline(always)]
fn carry_out(ctx: &XdpContext, ruling: &Ruling) -> u32 {
    let (program, otherwise) = match ruling.act {
        Act::Pass => return XDP_PASS,
        Act::Drop => return XDP_DROP,
        Act::Reject => (PROGRAM_REJECT, XDP_DROP),
        // Without its program the edge holds the source, and the stack makes its own cookies.
        Act::Tarpit => (PROGRAM_TARPIT, XDP_PASS),
        Act::Cookie => (PROGRAM_COOKIE, XDP_PASS),
    };
    // SAFETY: the programs in this map are XDP programs of ours. A call that succeeds does not return.
    let _ = unsafe { PROGRAMS.tail_call(ctx, program) };
    otherwise
}

/// Counts for the entry of the source; user space knows which entry that is.
#[inline(always)]
fn count_source(packet: &Packet, bytes: u64) {
    let key = [packet.source.high, packet.source.low];
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(hits) = HITS.get_ptr_mut(&key) {
        // SAFETY: a present value; two processors may lose one of two additions, which a counter of hits can bear.
        unsafe {
            (*hits)[0] += 1;
            (*hits)[1] += bytes;
            (*hits)[2] = now;
        }
    } else {
        let _ = HITS.insert(&key, &[1, bytes, now], 0);
    }
}

/// Is there a socket of this host that talks to the sender: connected, or one that asked from a port of its own?
#[inline(never)]
fn talks(ctx: &XdpContext, packet: &Packet) -> bool {
    // SAFETY: a tuple is plain numbers.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let size = match packet.family {
        Family::V4 => {
            tuple.__bindgen_anon_1.ipv4 = bindings::bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
                saddr: packet.source.v4().to_be(),
                daddr: packet.destination.v4().to_be(),
                sport: packet.source_port.to_be(),
                dport: packet.destination_port.to_be(),
            };
            12
        }
        Family::V6 => {
            tuple.__bindgen_anon_1.ipv6 = bindings::bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
                saddr: halves(packet.source.high, packet.source.low),
                daddr: halves(packet.destination.high, packet.destination.low),
                sport: packet.source_port.to_be(),
                dport: packet.destination_port.to_be(),
            };
            36
        }
    };
    let ctx = ctx.as_ptr();
    let tuple = &raw mut tuple;
    let is_udp = packet.protocol == UDP;
    let Some(steers) = scratch(1) else { return false };
    // SAFETY: the place is this processor's; `steer` runs inside the lookup, on the same processor. The tuple is as long
    // as said. -1 stands for the network namespace of the interface.
    let socket: *mut bpf_sock = unsafe {
        let asking = &raw mut (*steers).asking;
        asking.write_volatile(1);
        let socket = if is_udp {
            bpf_sk_lookup_udp(ctx, tuple, size, u64::MAX, 0)
        } else {
            bpf_skc_lookup_tcp(ctx, tuple, size, u64::MAX, 0)
        };
        asking.write_volatile(0);
        socket
    };
    if socket.is_null() {
        return false;
    }
    // SAFETY: the socket is there and held until the release below.
    unsafe {
        let talks = if is_udp {
            (*socket).dst_port == packet.source_port.to_be() || packet.destination_port >= EPHEMERAL
        } else {
            (*socket).state != TCP_LISTEN
        };
        bpf_sk_release(socket.cast());
        talks
    }
}

/// An IPv6 address as the kernel's four words.
#[inline(always)]
fn halves(high: u64, low: u64) -> [u32; 4] {
    [(high >> 32) as u32, high as u32, (low >> 32) as u32, low as u32].map(u32::to_be)
}
