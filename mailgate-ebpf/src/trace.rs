//! Events for whoever traces; nothing but one read when nobody does.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_xdp_load_bytes};
use aya_ebpf::programs::XdpContext;
use mailgate_common::event::{Event, SNAP, trace};
use mailgate_common::{Act, Reason, Ruling, setting};

use crate::maps::{TRACE, count, setting};
use crate::verdict::interface;

/// Tells about a packet if somebody wants to know.
#[inline(always)]
pub fn emit(ctx: &XdpContext, ruling: &Ruling) {
    let wanted = setting(setting::TRACE);
    if wanted == 0 {
        return;
    }
    let noteworthy = ruling.log || !matches!(ruling.act, Act::Pass);
    if wanted & trace::ALL == 0 && !noteworthy {
        return;
    }
    let Some(mut place) = TRACE.reserve::<Event>(0) else {
        count(Reason::EventLost, 0);
        return;
    };
    let length = (ctx.data_end() - ctx.data()) as u32;
    let snapped = if length < SNAP as u32 { length } else { SNAP as u32 };
    let event = place.as_mut_ptr();
    // SAFETY: the place is as large as an event and ours until it is submitted; the copy stays inside `snap`.
    unsafe {
        (*event).time = bpf_ktime_get_ns();
        (*event).set = ruling.set;
        (*event).interface = interface(ctx);
        (*event).act = ruling.act as u32;
        (*event).reason = ruling.reason as u32;
        (*event).rule = ruling.rule;
        (*event).length = length;
        (*event).snapped = snapped;
        (*event).snap = [0; SNAP];
        // Read back, so that the compiler cannot know the range and leave out the mask that shows it to the verifier.
        let last = (&raw const (*event).snapped).read_volatile().wrapping_sub(1) & (SNAP as u32 - 1);
        let _ = bpf_xdp_load_bytes(ctx.as_ptr().cast(), 0, (&raw mut (*event).snap).cast(), last + 1);
    }
    place.submit(0);
}
