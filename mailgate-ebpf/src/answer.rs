//! Turning a frame into the reply to it, in place, and what the answer programs share.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_xdp_store_bytes};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use mailgate_common::answer::{
    Answered, Body, Greeting, Rate, Reply, Segment, ipv4, ipv6, may_answer, setting, take, tcp,
};
use mailgate_common::packet::{TCP, read};
use mailgate_common::{Address, Family, Frame, Packet};

use crate::frame::{self, Wire};
use crate::maps::scratch;

/// One value: [`setting`].
#[btf_map]
pub static ANSWER: Array<setting::Words, 1> = Array::new();

/// What was done, by [`Answered`].
#[btf_map]
pub static ANSWERED: PerCpuArray<u64, { Answered::ROOM as usize }> = PerCpuArray::new();

/// Places of [`REPLIES`].
pub const TARPIT_REPLIES: u32 = 0;
pub const RESET_REPLIES: u32 = 1;

/// Buckets of each kind of reply, per processor.
#[btf_map]
static REPLIES: PerCpuArray<u64, 2> = PerCpuArray::new();

/// Buckets of sources; two processors that write one at once lose a reply from its count, no more.
#[btf_map]
static SOURCES: Array<u64, { setting::SOURCE_BUCKETS as usize }> = Array::new();

/// The addresses of this host.
#[btf_map]
static LOCAL: HashMap<[u64; 2], u32, { setting::LOCAL_ADDRESSES as usize }> = HashMap::new();

/// Connections that the tarpit holds, for people to see; the tarpit itself does not read it.
#[btf_map]
pub static TARPITTED: LruHashMap<[u64; 5], [u64; 4], { setting::RECORDS as usize }> = LruHashMap::new();

/// Counts one.
#[inline(always)]
pub fn count(what: Answered) {
    if let Some(word) = ANSWERED.get_ptr_mut(what as u32) {
        // SAFETY: the word is this processor's, and an XDP program is not interrupted by another one on it.
        unsafe { *word += 1 }
    }
}

/// Counts, and the frame ends here.
#[inline(always)]
pub fn end(what: Answered) -> u32 {
    count(what);
    XDP_DROP
}

/// Counts, and the frame is left to the stack.
#[inline(always)]
pub fn leave(what: Answered) -> u32 {
    count(what);
    XDP_PASS
}

/// Nanoseconds of the monotonic clock.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// The settings, read word by word.
#[derive(Clone, Copy)]
pub struct Settings(*const u64);

impl Settings {
    #[inline(always)]
    pub fn read() -> Option<Self> {
        ANSWER.get_ptr(0).map(|words| Self(words.cast()))
    }

    /// A word; `N` is one of [`setting`].
    #[inline(always)]
    pub fn word<const N: u32>(self) -> u64 {
        const { assert!(N < setting::WORDS) };
        // SAFETY: the pointer is a present value of that many words. Volatile: user space writes.
        unsafe { self.0.add(N as usize).read_volatile() }
    }

    #[inline(always)]
    pub fn rate<const N: u32, const AHEAD: u32>(self) -> Rate {
        const { assert!(AHEAD == N + 1) };
        Rate { interval: self.word::<N>(), ahead: self.word::<AHEAD>() }
    }

    /// What peers are greeted with.
    #[inline(always)]
    pub fn greeting(self) -> Greeting {
        // The mask is for the verifier, here at the source: behind a comparison it loses track.
        let bytes = self.word::<{ setting::BANNER_BYTES }>() & setting::BANNER_LIMIT as u64;
        Greeting { bytes: bytes as u32, sum: self.word::<{ setting::BANNER_SUM }>() as u32 }
    }

    /// Where the banner is: [`setting::BANNER_LIMIT`] bytes.
    #[inline(always)]
    fn banner(self) -> *const u64 {
        // SAFETY: inside the value.
        unsafe { self.0.add(setting::BANNER as usize) }
    }
}

/// The TCP segment in a frame that may be answered; none for everything else.
#[inline(always)]
pub fn segment(ctx: &XdpContext) -> Option<(Packet, Segment)> {
    let scratch = scratch(0)?;
    let wire = Wire { ctx, scratch };
    // In scratch memory, as `ingress` reads it: the verifier does not follow every way through reading any further.
    // SAFETY: this processor's memory, which nobody else touches while the program runs.
    let place = unsafe { &mut *&raw mut (*scratch).packet };
    read(&wire, place).ok()?;
    let mut packet = *place;
    // Both octets at once: the verifier learns nothing from a check of a single byte.
    let [station, _] = wire.pair(0)?;
    // A frame to a group of stations (lowest bit of the first octet) is not to us alone.
    if packet.protocol != TCP || !packet.transport_read || station & 1 != 0 || !may_answer(&packet) {
        return None;
    }
    packet.transport = wire.place(packet.transport as usize) as u16;
    let segment = Segment::of(&wire, &packet)?;
    Some((packet, segment))
}

/// Is the packet to an address of this host? A filter that sees what others get must not answer for them.
#[inline(always)]
pub fn is_ours(packet: &Packet) -> bool {
    let Address { high, low } = packet.destination;
    LOCAL.get_ptr([high, low]).is_some()
}

/// May another reply of this kind go out by this processor?
#[inline(always)]
pub fn within(place: u32, rate: Rate, now: u64) -> bool {
    match REPLIES.get_ptr_mut(place) {
        // SAFETY: the word is this processor's.
        Some(word) => match take(unsafe { *word }, now, rate) {
            Some(after) => {
                unsafe { *word = after };
                true
            }
            None => false,
        },
        None => false,
    }
}

/// May another reply go to this source (IPv6: to its /64)?
#[inline(always)]
pub fn source_within(packet: &Packet, rate: Rate, salt: u64, now: u64) -> bool {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let source = match packet.family {
        Family::V4 => packet.source.v4() as u64,
        Family::V6 => packet.source.high,
    };
    let mixed = (source ^ salt).wrapping_mul(SPREAD);
    let place = (mixed ^ mixed >> 29).wrapping_mul(SPREAD) >> (64 - setting::SOURCE_BUCKETS.trailing_zeros());
    match SOURCES.get_ptr_mut(place as u32) {
        // SAFETY: a present value; see `SOURCES` for writers at once.
        Some(word) => match take(unsafe { *word }, now, rate) {
            Some(after) => {
                unsafe { *word = after };
                true
            }
            None => false,
        },
        None => false,
    }
}

/// A word of a header. Headers begin at even places only.
#[repr(C, packed(2))]
#[derive(Clone, Copy)]
struct Half(u32);

/// What precedes the IP header at most: stations, two tags, a type; as words of 16 bits.
const LINK: usize = 11;

/// Rewrites the frame into the reply to it: same tags, stations swapped, headers new. False when the driver gives no
/// room; the frame is of no use then.
#[inline(always)]
pub fn write(ctx: &XdpContext, packet: &Packet, reply: &Reply, body: &Body) -> bool {
    let behind = body.segment_bytes();
    let network = packet.network as usize & 31;
    let header = match packet.family {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    let Some(link) = frame::read::<[u16; LINK]>(ctx, 0) else { return false };
    if !resize(ctx, network as i64 + header as i64 + behind as i64) || !put_link(ctx, link) {
        return false;
    }
    let tcp = tcp(packet, reply, body);
    let done = match packet.family {
        Family::V4 => put(ctx, network, ipv4(packet, behind)) && put(ctx, network + 20, tcp),
        Family::V6 => put(ctx, network, ipv6(packet, behind)) && put(ctx, network + 40, tcp),
    };
    match body.option {
        Some(option) => done && put(ctx, network + header + 20, [option]),
        None => done,
    }
}

/// Makes the frame as long as said; what it holds is undefined then. It grows at its beginning, where every driver leaves
/// room (XDP_PACKET_HEADROOM), and at its end, where some do, only when that is not enough.
#[inline(always)]
fn resize(ctx: &XdpContext, wanted: i64) -> bool {
    let more = wanted - (ctx.data_end() - ctx.data()) as i64;
    // SAFETY: the context is valid; all that was read of the frame is a copy.
    unsafe { more == 0 || (more > 0 && adjust(ADJUST_HEAD, ctx, -more)) || adjust(ADJUST_TAIL, ctx, more) }
}

/// Numbers of `bpf_xdp_adjust_head` and `bpf_xdp_adjust_tail` (linux/bpf.h).
const ADJUST_HEAD: usize = 44;
const ADJUST_TAIL: usize = 65;

/// Calls one of the two. Declared with 64 bits: at an `int` the compiler would subtract the ends of the frame in 32 bits,
/// which the verifier forbids.
///
/// # Safety
/// The context is valid; nothing read from the frame before is used as a pointer after.
#[inline(always)]
unsafe fn adjust(helper: usize, ctx: &XdpContext, by: i64) -> bool {
    type Adjust = unsafe extern "C" fn(*mut core::ffi::c_void, i64) -> i64;
    // SAFETY: the number is that of a helper with these parameters.
    unsafe { core::mem::transmute::<usize, Adjust>(helper)(ctx.as_ptr(), by) == 0 }
}

/// Puts stations (swapped), tags and type to the beginning; and a few bytes more, which the IP header covers.
#[inline(always)]
fn put_link(ctx: &XdpContext, [a, b, c, d, e, f, rest @ ..]: [u16; LINK]) -> bool {
    let at = ctx.data();
    if at + size_of::<[u16; LINK]>() > ctx.data_end() {
        return false;
    }
    let place = at as *mut u16;
    let [g, h, i, j, k] = rest;
    let swapped = [d, e, f, a, b, c, g, h, i, j, k];
    let mut n = 0;
    while n < LINK {
        // SAFETY: inside the frame, by the comparison above; frames begin at even addresses.
        unsafe { place.add(n).write(swapped[n]) };
        n += 1;
    }
    true
}

/// Puts the banner behind the headers of a reply that [`write`] made room in.
#[inline(always)]
pub fn put_banner(ctx: &XdpContext, packet: &Packet, settings: Settings, bytes: u32) -> bool {
    let header = match packet.family {
        Family::V4 => 40,
        Family::V6 => 60,
    };
    let at = (packet.network as u32 & 31) + header;
    if bytes == 0 {
        return false;
    }
    // Before 6.8 the verifier learns nothing from that comparison. Read back, so that the compiler does not know the range
    // and leaves the mask, which says that the length is 1 at least.
    // SAFETY: a variable of ours.
    let last = unsafe { (&raw const bytes).read_volatile() }.wrapping_sub(1) & setting::BANNER_LIMIT;
    let bytes = last + 1;
    // SAFETY: the settings hold that many bytes of banner.
    unsafe { bpf_xdp_store_bytes(ctx.as_ptr().cast(), at, settings.banner().cast_mut().cast(), bytes) == 0 }
}

#[inline(always)]
fn put<const N: usize>(ctx: &XdpContext, offset: usize, words: [u32; N]) -> bool {
    let at = ctx.data() + offset;
    if at + size_of::<[Half; N]>() > ctx.data_end() {
        return false;
    }
    let place = at as *mut Half;
    let mut n = 0;
    while n < N {
        // SAFETY: inside the frame, by the comparison above; the type asks for no more alignment than an even place.
        unsafe { place.add(n).write(Half(words[n].to_be())) };
        n += 1;
    }
    true
}

/// The reply goes out, or the frame ends.
#[inline(always)]
pub fn sent(done: bool, what: Answered) -> u32 {
    if done {
        count(what);
        XDP_TX
    } else {
        end(Answered::Unsent)
    }
}
