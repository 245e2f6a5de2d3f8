//! `tarpit`: holds the connections of listed sources without a socket; what answers what is in
//! `mailgate_common::answer`.
//!
//! `ingress` calls it for listed sources only, and for segments that no kernel socket waits for.

use aya_ebpf::programs::XdpContext;
use mailgate_common::Packet;
use mailgate_common::answer::{Answered, Body, Key, Move, Reply, Segment, hold, setting};

use crate::answer::{
    Settings, TARPIT_REPLIES, TARPITTED, end, is_ours, leave, now, put_banner, segment, sent, source_within,
    within, write,
};

/// Answers, drops, or leaves to the stack what is not ours.
#[inline(always)]
pub fn answer(ctx: &XdpContext) -> u32 {
    let (Some((packet, asked)), Some(settings)) = (segment(ctx), Settings::read()) else {
        return leave(Answered::NotOurs);
    };
    if !is_ours(&packet) {
        return leave(Answered::NotOurs);
    }
    let key = Key([settings.word::<{ setting::KEY }>(), settings.word::<{ setting::KEY + 1 }>()]);
    let greeting = settings.greeting();
    let now = now();
    let source = || {
        let rate = settings.rate::<{ setting::SOURCE_RATE }, { setting::SOURCE_RATE + 1 }>();
        source_within(&packet, rate, key.0[0], now)
    };
    let all = || {
        within(TARPIT_REPLIES, settings.rate::<{ setting::TARPIT_RATE }, { setting::TARPIT_RATE + 1 }>(), now)
    };
    let (reply, what, body) = match hold(key, greeting, &packet, &asked, now) {
        Move::Offer(reply) if source() => (reply, Answered::Offered, Body::default()),
        Move::Greet(reply) if source() => {
            (reply, Answered::Greeted, Body { option: None, bytes: greeting.bytes, sum: greeting.sum })
        }
        Move::Hold(reply) => (reply, Answered::Held, Body::default()),
        Move::Offer(_) | Move::Greet(_) => return end(Answered::Capped),
        Move::Quiet => return end(Answered::Quiet),
        Move::GaveUp => return end(Answered::GaveUp),
        Move::Forged => return end(Answered::Forged),
    };
    if !all() {
        return end(Answered::Capped);
    }
    if !matches!(what, Answered::Offered) && settings.word::<{ setting::RECORD }>() != 0 {
        record(&packet, &asked, now);
    }
    sent(say(ctx, &packet, &reply, &body, settings), what)
}

#[inline(always)]
fn say(ctx: &XdpContext, packet: &Packet, reply: &Reply, body: &Body, settings: Settings) -> bool {
    write(ctx, packet, reply, body) && (body.bytes == 0 || put_banner(ctx, packet, settings, body.bytes))
}

/// Writes down a peer that proved itself: since when, until when, how often it was answered, how much it sent.
#[inline(always)]
fn record(packet: &Packet, asked: &Segment, now: u64) {
    let ports = (packet.source_port as u64) << 16 | packet.destination_port as u64;
    let (from, to) = (packet.source, packet.destination);
    let connection = [from.high, from.low, to.high, to.low, ports];
    match TARPITTED.get_ptr_mut(connection) {
        // SAFETY: a present value; two processors at once lose a count, no more.
        Some(known) => unsafe {
            (*known)[1] = now;
            (*known)[2] += 1;
            (*known)[3] += asked.payload as u64;
        },
        None => {
            // Full or not, the oldest makes room; on failure nothing is written down.
            let _ = TARPITTED.insert(connection, [now, now, 1, asked.payload as u64], 0);
        }
    }
}
