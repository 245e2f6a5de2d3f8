//! Reading frames; every access is checked against the end of the frame.

use aya_ebpf::programs::XdpContext;

const ETHERNET: usize = 14;
const TAG: usize = 4;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// IEEE 802.1Q, 802.1ad, and the old QinQ number that switches still send.
const TAGS: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const TCP: u8 = 6;
/// Extension headers walked at most; honest packets have one or two (RFC 8200 §4.1 orders seven kinds).
const EXTENSIONS: usize = 6;

/// What a frame carries.
pub enum Network {
    /// An IPv4 header begins at this offset.
    V4(usize),
    /// An IPv6 header begins at this offset.
    V6(usize),
    /// Anything else.
    Other,
    /// Too short for what it announces.
    Truncated,
}

/// `T` at `offset`, as it lies in the frame.
#[inline(always)]
fn read<T: Copy>(ctx: &XdpContext, offset: usize) -> Option<T> {
    let at = ctx.data() + offset;
    if at + size_of::<T>() > ctx.data_end() {
        return None;
    }
    // SAFETY: the line above keeps the access inside the frame; nothing in a frame is aligned.
    Some(unsafe { (at as *const T).read_unaligned() })
}

#[inline(always)]
fn be16(ctx: &XdpContext, offset: usize) -> Option<u16> {
    read::<u16>(ctx, offset).map(u16::from_be)
}

/// Ethernet and up to two tags.
#[inline(always)]
pub fn network(ctx: &XdpContext) -> Network {
    let Some(mut kind) = be16(ctx, ETHERNET - 2) else { return Network::Truncated };
    let mut offset = ETHERNET;
    if TAGS.contains(&kind) {
        let Some(inner) = be16(ctx, offset + TAG - 2) else { return Network::Truncated };
        offset += TAG;
        kind = inner;
        if TAGS.contains(&kind) {
            let Some(inner) = be16(ctx, offset + TAG - 2) else { return Network::Truncated };
            offset += TAG;
            kind = inner;
        }
    }
    match kind {
        IPV4 => Network::V4(offset),
        IPV6 => Network::V6(offset),
        _ => Network::Other,
    }
}

/// Source address of an IPv4 header, in host order.
#[inline(always)]
pub fn source4(ctx: &XdpContext, header: usize) -> Option<u32> {
    // The destination is read too: a header cut off behind the source is none.
    let _: u32 = read(ctx, header + 16)?;
    read::<u32>(ctx, header + 12).map(u32::from_be)
}

/// Source address of an IPv6 header, as two halves in host order.
#[inline(always)]
pub fn source6(ctx: &XdpContext, header: usize) -> Option<(u64, u64)> {
    let _: u64 = read(ctx, header + 32)?;
    let high = read::<u64>(ctx, header + 8)?;
    let low = read::<u64>(ctx, header + 16)?;
    Some((u64::from_be(high), u64::from_be(low)))
}

/// Destination port of a TCP segment in IPv4; none in other protocols and in later fragments (RFC 791 §3.1).
#[inline(always)]
pub fn port4(ctx: &XdpContext, header: usize) -> Option<u16> {
    let length = read::<u8>(ctx, header)? & 15;
    if read::<u8>(ctx, header + 9)? != TCP || be16(ctx, header + 6)? & 0x1fff != 0 || length < 5 {
        return None;
    }
    be16(ctx, header + (length as usize) * 4 + 2)
}

/// Destination port of a TCP segment in IPv6, behind at most [`EXTENSIONS`] extension headers (RFC 8200 §4).
#[inline(always)]
pub fn port6(ctx: &XdpContext, header: usize) -> Option<u16> {
    let mut next = read::<u8>(ctx, header + 6)?;
    let mut offset = header + 40;
    for _ in 0..EXTENSIONS {
        if next == TCP {
            return be16(ctx, offset + 2);
        }
        // Both bytes at once: the verifier learns nothing from a check of a single byte at a variable place.
        let [after, length] = read::<[u8; 2]>(ctx, offset)?;
        let size = match next {
            // Hop-by-hop, routing, destination, mobility, HIP, Shim6: units of eight bytes, the first not counted.
            0 | 43 | 60 | 135 | 139 | 140 => (length as usize + 1) * 8,
            // Authentication: units of four, the first two not counted (RFC 4302 §2.2).
            51 => (length as usize + 2) * 4,
            // Fragment: only the first has a TCP header.
            44 if be16(ctx, offset + 2)? & 0xfff8 == 0 => 8,
            _ => return None,
        };
        next = after;
        offset += size;
    }
    if next == TCP { be16(ctx, offset + 2) } else { None }
}
