//! A generator of real frames, and the receivers that our filter is compared with.

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::XdpContext;

use super::lookup::{Address6, BENCH_TRIE, BENCH_TRIE6};

/// Where an untagged IPv4 frame has its Ethernet type, and what IPv4's is, as it lies in memory.
const ETHERTYPE: usize = 12;
const IPV4: u16 = 0x0800_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();
/// Identification and source of an IPv4 header, and the low half of the sequence number of the TCP segment in it.
const IDENTIFICATION: usize = 14 + 4;
const SOURCE: usize = 14 + 12;
const SEQUENCE_LOW: usize = 14 + 20 + 6;
/// The same of IPv6.
const SOURCE6: usize = 14 + 8;
const SEQUENCE_LOW6: usize = 14 + 40 + 6;

/// Sources that the generator goes through, in network order.
#[map]
static BENCH_SOURCES: Array<u32> = Array::with_max_entries(1, 0);

/// The same for IPv6.
#[map]
static BENCH_SOURCES6: Array<Address6> = Array::with_max_entries(1, 0);

/// Word 0: how many sources there are. Word 1: index of the interface that the frames leave by.
#[map]
static BENCH_GENERATOR: Array<u32> = Array::with_max_entries(2, 0);

/// How far the generator came.
#[map]
static BENCH_CURSOR: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

/// What [`bench_trie`] does with sources. Word 0: unlisted ones. Word 1: listed ones.
#[map]
static BENCH_VERDICTS: Array<u32> = Array::with_max_entries(2, 0);

/// A pointer to `T` at `offset` of the frame.
#[inline(always)]
fn field<T>(ctx: &XdpContext, offset: usize) -> Option<*mut T> {
    let at = ctx.data() + offset;
    if at + size_of::<T>() > ctx.data_end() { None } else { Some(at as *mut T) }
}

/// The place of the next source.
#[inline(always)]
fn next() -> Option<u32> {
    let cursor = BENCH_CURSOR.get_ptr_mut(0)?;
    let count = *BENCH_GENERATOR.get(0)?;
    // SAFETY: the word is this processor's, and nothing interrupts the program on it.
    let at = unsafe { *cursor };
    let after = if at + 1 < count { at + 1 } else { 0 };
    // SAFETY: as above.
    unsafe { *cursor = after };
    Some(at)
}

/// Gives the frame the next source and sends it out.
///
/// The checksums stay right without being touched: what the two halves of the source add to a sum in ones'
/// complement (RFC 1071), the identification takes away from the header's and the sequence number from the segment's.
#[xdp]
pub fn bench_generate(ctx: XdpContext) -> u32 {
    generate(&ctx).unwrap_or(XDP_ABORTED)
}

#[inline(always)]
fn generate(ctx: &XdpContext) -> Option<u32> {
    let source = *BENCH_SOURCES.get(next()?)?;
    let sum = (source >> 16) + (source & 0xffff);
    let balance = !((sum & 0xffff) + (sum >> 16)) as u16;
    let sequence: *mut u16 = field(ctx, SEQUENCE_LOW)?;
    let identification: *mut u16 = field(ctx, IDENTIFICATION)?;
    let address: *mut u32 = field(ctx, SOURCE)?;
    // SAFETY: `field` checked all three against the end of the frame; nothing in a frame is aligned.
    unsafe {
        sequence.write_unaligned(balance);
        identification.write_unaligned(balance);
        address.write_unaligned(source);
    }
    let interface = *BENCH_GENERATOR.get(1)?;
    // SAFETY: the helper has no preconditions.
    Some(unsafe { bpf_redirect(interface, 0) } as u32)
}

/// The same with IPv6, whose header has no checksum.
#[xdp]
pub fn bench_generate6(ctx: XdpContext) -> u32 {
    generate6(&ctx).unwrap_or(XDP_ABORTED)
}

#[inline(always)]
fn generate6(ctx: &XdpContext) -> Option<u32> {
    let [high, low] = *BENCH_SOURCES6.get(next()?)?;
    let halves = |half: u64| (half >> 48) + (half >> 32 & 0xffff) + (half >> 16 & 0xffff) + (half & 0xffff);
    let sum = halves(high) + halves(low);
    let sum = (sum >> 16) + (sum & 0xffff);
    let balance = !((sum & 0xffff) + (sum >> 16)) as u16;
    let sequence: *mut u16 = field(ctx, SEQUENCE_LOW6)?;
    let address: *mut [u64; 2] = field(ctx, SOURCE6)?;
    // SAFETY: as in `generate`.
    unsafe {
        sequence.write_unaligned(balance);
        address.write_unaligned([high, low]);
    }
    let interface = *BENCH_GENERATOR.get(1)?;
    // SAFETY: the helper has no preconditions.
    Some(unsafe { bpf_redirect(interface, 0) } as u32)
}

/// The floor of a drop.
#[xdp]
pub fn bench_drop(_: XdpContext) -> u32 {
    XDP_DROP
}

/// The floor of a pass; also what switches veth's polling on for the filters behind it.
#[xdp]
pub fn bench_pass(_: XdpContext) -> u32 {
    XDP_PASS
}

/// The filter that one would write first: an LPM_TRIE of listed prefixes.
#[xdp]
pub fn bench_trie(ctx: XdpContext) -> u32 {
    trie(&ctx).unwrap_or(XDP_PASS)
}

#[inline(always)]
fn trie(ctx: &XdpContext) -> Option<u32> {
    let kind: *mut u16 = field(ctx, ETHERTYPE)?;
    // SAFETY: `field` checked it against the end of the frame; nothing in a frame is aligned.
    let listed = match unsafe { kind.read_unaligned() } {
        IPV4 => {
            let source: *mut u32 = field(ctx, SOURCE)?;
            // SAFETY: as above.
            BENCH_TRIE.get(&Key::new(32, unsafe { source.read_unaligned() })).is_some()
        }
        IPV6 => {
            let source: *mut Address6 = field(ctx, SOURCE6)?;
            // SAFETY: as above.
            BENCH_TRIE6.get(&Key::new(128, unsafe { source.read_unaligned() })).is_some()
        }
        _ => return None,
    };
    BENCH_VERDICTS.get(listed.into()).copied()
}
