//! The listener of a new connection: reception for sources that may pass, the edge for those it is to judge or hold.

use aya_ebpf::bindings::bpf_sk_lookup;
use aya_ebpf::bindings::sk_action::{SK_DROP, SK_PASS};
use aya_ebpf::programs::SkLookupContext;
use mailgate_common::ruleset::{Words as _, head, is_reception, option};
use mailgate_common::{
    Action, Address, Facts, LISTENER_EDGE, LISTENER_RECEPTION, Reason, decide, lookup4, lookup6, setting,
};

use crate::limits::refuses;
use crate::maps::{LISTENERS, Slot, count, forget, scratch, setting};

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const TCP: u32 = 6;
/// The loopback interface has this number in every network namespace.
const LOOPBACK: u32 = 1;

/// Assigns a socket when a rule sends the connection to reception or to the edge and the socket is there.
#[inline(always)]
pub fn choose(ctx: &SkLookupContext) -> u32 {
    // SAFETY: the kernel gives a valid context.
    let asked = unsafe { &*ctx.lookup };
    if asked.protocol != TCP || (is_local(asked) && setting(setting::STEER_LOOPBACK) == 0) {
        return SK_PASS;
    }
    let Some(scratch) = scratch(1) else { return SK_PASS };
    // SAFETY: a present value of this processor.
    if unsafe { (&raw const (*scratch).asking).read_volatile() } != 0 {
        return SK_PASS;
    }
    let slot = Slot::current();
    let Some(rules) = slot.rules() else { return SK_PASS };
    let (family, source, set) = match asked.family {
        AF_INET => {
            let source = Address::from_v4(u32::from_be(asked.remote_ip4));
            (0, source, lookup4(&slot.tables4(), source.v4()))
        }
        AF_INET6 => {
            let [a, b, c, d] = asked.remote_ip6.map(|word| u32::from_be(word) as u64);
            let source = Address { high: a << 32 | b, low: c << 32 | d };
            (1, source, lookup6(&slot.tables6(), source.high, source.low))
        }
        _ => return SK_PASS,
    };
    let facts = Facts::connection(asked.local_port as u16, asked.ingress_ifindex);
    let set = forget(scratch, set);
    if refuses(&rules, set, &facts, source) {
        count(Reason::Limited, 0);
        return SK_DROP;
    }
    match decide(&rules, set, &facts, |matched| forget(scratch, matched)).action {
        Some(Action::Pass) => {
            crate::seen::note(asked, set);
            if is_reception(&rules, facts.port) {
                // Whoever is bound to the port is reception when we have no listener for it.
                let _ = LISTENERS.redirect_sk_lookup(ctx, LISTENER_RECEPTION + family, 0);
                count(Reason::SteeredReception, 0);
            }
            SK_PASS
        }
        Some(Action::Tarpit | Action::Greylist) => {
            if LISTENERS.redirect_sk_lookup(ctx, LISTENER_EDGE + family, 0).is_ok() {
                count(Reason::SteeredEdge, 0);
                return SK_PASS;
            }
            let down_drops = rules.word(head::OPTIONS) & option::DOWN_DROPS != 0;
            // Without the edge, who is listed stays out, and who is unknown meets whoever is bound.
            if set != 0 || down_drops {
                count(Reason::SteerRefused, 0);
                return SK_DROP;
            }
            count(Reason::SteeredNowhere, 0);
            SK_PASS
        }
        // The packets of these never come here, except by an interface without the filter.
        Some(Action::Drop | Action::Reject) => {
            count(Reason::SteerRefused, 0);
            SK_DROP
        }
        Some(Action::Limit) | None => SK_PASS,
    }
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
