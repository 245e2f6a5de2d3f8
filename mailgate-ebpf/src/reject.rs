//! `reject`: a RST for TCP, silence for everything else (pf.conf(5) `block return` without its ICMP).

use aya_ebpf::bindings::xdp_action::XDP_DROP;
use aya_ebpf::programs::XdpContext;
use mailgate_common::answer::{Answered, Body, reset, setting};

use crate::answer::{RESET_REPLIES, Settings, end, now, segment, sent, within, write};

/// Answers with a RST, or drops.
#[inline(always)]
pub fn refuse(ctx: &XdpContext) -> u32 {
    let Some((packet, asked)) = segment(ctx) else { return XDP_DROP };
    let (Some(reply), Some(settings)) = (reset(&asked), Settings::read()) else { return XDP_DROP };
    let rate = settings.rate::<{ setting::RESET_RATE }, { setting::RESET_RATE + 1 }>();
    if !within(RESET_REPLIES, rate, now()) {
        return end(Answered::Capped);
    }
    sent(write(ctx, &packet, &reply, &Body::default()), Answered::Reset)
}
