//! The listener of a new connection: reception for bypassed sources, the edge for everybody else.

use aya_ebpf::bindings::bpf_sk_lookup;
use aya_ebpf::bindings::sk_action::SK_PASS;
use aya_ebpf::programs::SkLookupContext;
use mailgate_common::{
    Counter, Destination, LISTENER_EDGE, LISTENER_RECEPTION, Policy, SETTING_STEER_LOOPBACK, Verdict, decide,
    lookup4, lookup6, policy4, policy6,
};

use crate::maps::{LISTENERS, Memory4, Memory6, SETTINGS, count};
use crate::verdict::destination;

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const TCP: u32 = 6;
/// The loopback interface has this number in every network namespace.
const LOOPBACK: u32 = 1;

/// Always passes; assigns a socket when the port is one of reception and the socket is there.
#[inline(always)]
pub fn choose(ctx: &SkLookupContext) -> u32 {
    // SAFETY: the kernel gives a valid context.
    let asked = unsafe { &*ctx.lookup };
    if asked.protocol != TCP || !matches!(destination(Some(asked.local_port as u16)), Destination::Reception)
    {
        return SK_PASS;
    }
    if is_local(asked) && SETTINGS.get(SETTING_STEER_LOOPBACK).is_none_or(|word| *word == 0) {
        return SK_PASS;
    }
    let (family, (set, policy)) = match asked.family {
        AF_INET => (0, held4(u32::from_be(asked.remote_ip4))),
        AF_INET6 => {
            let [a, b, c, d] = asked.remote_ip6.map(|word| u32::from_be(word) as u64);
            (1, held6(a << 32 | b, c << 32 | d))
        }
        _ => return SK_PASS,
    };
    let (listener, counter) = match decide(set, &policy, Destination::Reception) {
        Verdict::Bypass => (LISTENER_RECEPTION, Counter::SteeredReception),
        Verdict::Drop | Verdict::Reject | Verdict::Tarpit | Verdict::Unknown => {
            (LISTENER_EDGE, Counter::SteeredEdge)
        }
    };
    match LISTENERS.redirect_sk_lookup(ctx, listener + family, 0) {
        Ok(()) => count(counter),
        // Whoever is bound to the port is reception.
        Err(_) if listener == LISTENER_RECEPTION => count(counter),
        Err(_) => count(Counter::SteeredNowhere),
    }
    SK_PASS
}

/// Does a program of this host connect? To one of its own addresses the kernel names the interface of that address,
/// not loopback, and takes the address itself as the source.
#[inline(always)]
fn is_local(asked: &bpf_sk_lookup) -> bool {
    asked.ingress_ifindex == LOOPBACK
        || match asked.family {
            AF_INET => asked.remote_ip4 == asked.local_ip4 || u32::from_be(asked.remote_ip4) >> 24 == 127,
            _ => asked.remote_ip6 == asked.local_ip6,
        }
}

#[inline(always)]
fn held4(address: u32) -> (u64, Policy) {
    match Memory4::current() {
        Some(memory) => (lookup4(&memory, address), policy4(&memory)),
        None => (0, Policy { bypass: 0, drop: 0, reject: 0, tarpit: 0 }),
    }
}

#[inline(always)]
fn held6(high: u64, low: u64) -> (u64, Policy) {
    match Memory6::current() {
        Some(memory) => (lookup6(&memory, high, low), policy6(&memory)),
        None => (0, Policy { bypass: 0, drop: 0, reject: 0, tarpit: 0 }),
    }
}
