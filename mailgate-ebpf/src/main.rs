//! The kernel filter: `ingress` (XDP), `steer` (sk_lookup) and `track` (sock_ops).
//!
//! **Purpose**: drop what the tables say before the stack sees it; choose the listener of new connections; count them.
//! **In**: frames, lookups of listening sockets, connections that begin and end. **Out**: drop or pass; a socket; counts.
//! **Trust**: every byte of a frame is a stranger's; each access is checked against the end of the frame.
//! **Standards**: IEEE 802.1Q, RFC 791, RFC 8200 (extension headers), RFC 9293 (ports).
//! **Failure**: whatever cannot be read or looked up passes.
//! **Start reading at**: the programs below, then `verdict.rs`, then `judge.rs` of `mailgate-common`.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// The target's `core` has no atomic types, the kernel has atomic instructions (5.12).
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics), allow(internal_features))]

#[cfg(target_arch = "bpf")]
mod answer;
#[cfg(all(target_arch = "bpf", feature = "bench"))]
mod bench;
#[cfg(target_arch = "bpf")]
mod cookie;
#[cfg(target_arch = "bpf")]
mod frame;
#[cfg(target_arch = "bpf")]
mod limits;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod reject;
#[cfg(target_arch = "bpf")]
mod routes;
#[cfg(target_arch = "bpf")]
mod seen;
#[cfg(target_arch = "bpf")]
mod steer;
#[cfg(target_arch = "bpf")]
mod tarpit;
#[cfg(target_arch = "bpf")]
mod trace;
#[cfg(target_arch = "bpf")]
mod verdict;

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::macros::{sk_lookup, sock_ops, xdp};
    use aya_ebpf::programs::{SkLookupContext, SockOpsContext, XdpContext};

    #[xdp]
    pub fn ingress(ctx: XdpContext) -> u32 {
        crate::verdict::verdict(&ctx)
    }

    #[xdp]
    pub fn reject(ctx: XdpContext) -> u32 {
        crate::reject::refuse(&ctx)
    }

    #[xdp]
    pub fn tarpit(ctx: XdpContext) -> u32 {
        crate::tarpit::answer(&ctx)
    }

    #[xdp]
    pub fn cookie(ctx: XdpContext) -> u32 {
        crate::cookie::answer(&ctx)
    }

    #[sk_lookup]
    pub fn steer(ctx: SkLookupContext) -> u32 {
        crate::steer::choose(&ctx)
    }

    #[sock_ops]
    pub fn track(ctx: SockOpsContext) -> u32 {
        crate::limits::track(&ctx);
        1
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        // No code path panics; the linker removes this.
        loop {}
    }

    #[unsafe(no_mangle)]
    #[unsafe(link_section = "license")]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
