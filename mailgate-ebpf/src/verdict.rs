//! Look up, decide, count, drop or pass.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::programs::XdpContext;
use mailgate_common::{
    Counter, Destination, Policy, Verdict, decide, lookup4, lookup6, policy4, policy6, port_place,
};

use crate::maps::{Memory4, Memory6, PORTS, count};
use crate::packet::{Network, network, port4, port6, source4, source6};

/// Drops packets of sources whose tables say so, passes everything else.
///
/// Refusing and holding happen at accept; their packets pass and are counted here.
#[inline(always)]
pub fn judge(ctx: &XdpContext) -> u32 {
    match network(ctx) {
        Network::V4(header) => v4(ctx, header),
        Network::V6(header) => v6(ctx, header),
        Network::Other => pass(Counter::NotIp),
        Network::Truncated => pass(Counter::Truncated),
    }
}

#[inline(always)]
fn v4(ctx: &XdpContext, header: usize) -> u32 {
    let Some(source) = source4(ctx, header) else { return pass(Counter::Truncated) };
    count(Counter::Seen);
    let Some(memory) = Memory4::current() else { return pass(Counter::Unlisted) };
    let set = lookup4(&memory, source);
    if set == 0 {
        return pass(Counter::Unlisted);
    }
    act(set, &policy4(&memory), port4(ctx, header))
}

#[inline(always)]
fn v6(ctx: &XdpContext, header: usize) -> u32 {
    let Some((high, low)) = source6(ctx, header) else { return pass(Counter::Truncated) };
    count(Counter::Seen);
    let Some(memory) = Memory6::current() else { return pass(Counter::Unlisted) };
    let set = lookup6(&memory, high, low);
    if set == 0 {
        return pass(Counter::Unlisted);
    }
    act(set, &policy6(&memory), port6(ctx, header))
}

#[inline(always)]
fn act(set: u64, policy: &Policy, port: Option<u16>) -> u32 {
    match decide(set, policy, destination(port)) {
        Verdict::Drop => {
            count(Counter::Dropped);
            XDP_DROP
        }
        Verdict::Bypass => pass(Counter::Bypassed),
        Verdict::Reject => pass(Counter::Rejected),
        Verdict::Tarpit => pass(Counter::Tarpitted),
        Verdict::Unknown => pass(Counter::OutOfScope),
    }
}

/// Is this a port where mail is received?
#[inline(always)]
pub fn destination(port: Option<u16>) -> Destination {
    let Some(port) = port else { return Destination::Elsewhere };
    let (word, bit) = port_place(port);
    match PORTS.get(word) {
        Some(word) if *word & bit != 0 => Destination::Reception,
        _ => Destination::Elsewhere,
    }
}

#[inline(always)]
fn pass(counter: Counter) -> u32 {
    count(counter);
    XDP_PASS
}
