//! Events for whoever traces; nothing but one read when nobody does.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns, bpf_xdp_load_bytes};
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::XdpContext;
use mailgate_common::event::{Event, SNAP, trace};
use mailgate_common::{Act, Reason, Ruling, setting};

use crate::maps::{TRACE, count, setting};
use crate::verdict::interface;

/// Window of time (2^30 nanoseconds each) and events in it.
#[map]
static TRACED: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

/// Is this packet one of those that stand for many?
#[inline(always)]
fn is_sampled() -> bool {
    let every = setting(setting::TRACE_SAMPLE) as u32;
    // SAFETY: the helper has no preconditions.
    every < 2 || unsafe { bpf_get_prandom_u32() } % every == 0
}

/// Is there room for one more in this second?
#[inline(always)]
fn is_in_time() -> bool {
    let limit = setting(setting::TRACE_RATE);
    if limit == 0 {
        return true;
    }
    let Some(place) = TRACED.get_ptr_mut(0) else { return false };
    // SAFETY: the value is this processor's; the helper has no preconditions.
    unsafe {
        let window = bpf_ktime_get_ns() >> 30;
        if (*place)[0] != window {
            *place = [window, 0];
        }
        (*place)[1] += 1;
        (*place)[1] <= limit
    }
}

/// Tells about a packet if somebody wants to know.
#[inline(always)]
pub fn emit(ctx: &XdpContext, ruling: &Ruling) {
    let wanted = setting(setting::TRACE);
    if wanted == 0 {
        return;
    }
    let noteworthy = ruling.log || !matches!(ruling.act, Act::Pass);
    if !noteworthy && (wanted & trace::ALL == 0 || !is_sampled()) {
        return;
    }
    if !is_in_time() {
        count(Reason::EventLost, 0);
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
