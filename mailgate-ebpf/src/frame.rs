//! The frame in packet memory; every access is checked against its end.

use aya_ebpf::programs::XdpContext;
use mailgate_common::{Frame, Packet, Reason, packet};

use crate::maps::{Scratch, forget};

/// A frame that came in.
pub struct Wire<'a> {
    /// Where it is.
    pub ctx: &'a XdpContext,
    /// See [`forget`].
    pub scratch: *mut Scratch,
}

/// The largest place in a frame that is looked at, a power of two less one: six extension headers of 2 KiB are less.
const PLACES: u64 = 0x3fff;

/// `T` at `at`, as it lies in the frame.
#[inline(always)]
pub fn read<T: Copy>(ctx: &XdpContext, at: usize) -> Option<T> {
    // SAFETY: the kernel gives a valid context. Volatile: the compiler would conclude from an earlier, longer access that
    // this one is inside the frame, and leave out the check that the verifier wants to see before it.
    let (data, end) = unsafe {
        (
            (&raw const (*ctx.ctx).data).read_volatile() as usize,
            (&raw const (*ctx.ctx).data_end).read_volatile() as usize,
        )
    };
    let from = data + at;
    if from + size_of::<T>() > end {
        return None;
    }
    // SAFETY: the lines above keep the access inside the frame. Nothing in a frame is aligned, which the kernel's programs
    // may ignore where the machine does (`read_unaligned` would become one load per byte).
    Some(unsafe { (from as *const T).read_volatile() })
}

impl Frame for Wire<'_> {
    #[inline(always)]
    fn byte(&self, at: usize) -> Option<u8> {
        read(self.ctx, at)
    }

    #[inline(always)]
    fn be16(&self, at: usize) -> Option<u16> {
        read(self.ctx, at).map(u16::from_be)
    }

    #[inline(always)]
    fn be32(&self, at: usize) -> Option<u32> {
        read(self.ctx, at).map(u32::from_be)
    }

    #[inline(always)]
    fn be64(&self, at: usize) -> Option<u64> {
        read(self.ctx, at).map(u64::from_be)
    }

    #[inline(always)]
    fn pair(&self, at: usize) -> Option<[u8; 2]> {
        read(self.ctx, at)
    }

    #[inline(always)]
    fn ipv6(&self, _: &mut Packet, network: usize) -> Result<(), Reason> {
        let why = ipv6(self.ctx, self.scratch, network as u32);
        if why == READ { Ok(()) } else { Err(unread_reason(why)) }
    }

    #[inline(always)]
    fn place(&self, at: usize) -> usize {
        // Forgotten first: the compiler knows the bound better than the verifier and would leave out the mask.
        (forget(self.scratch, at as u64) & PLACES) as usize
    }
}

/// No reason: nothing was wrong.
const READ: u32 = u32::MAX;

/// A function of its own, which returns a number: its loop and what it keeps on the stack are spared who comes by IPv4.
#[inline(never)]
fn ipv6(ctx: &XdpContext, scratch: *mut Scratch, network: u32) -> u32 {
    // SAFETY: this processor's memory, which nobody else touches while the program runs.
    let packet = unsafe { &mut *&raw mut (*scratch).packet };
    match packet::ipv6(&Wire { ctx, scratch }, packet, network as usize) {
        Ok(()) => READ,
        Err(reason) => reason as u32,
    }
}

/// The reasons of `read`, back from their numbers.
#[inline(always)]
fn unread_reason(why: u32) -> Reason {
    const BAD_HEADER: u32 = Reason::BadHeader as u32;
    const EXTENSIONS: u32 = Reason::Extensions as u32;
    match why {
        BAD_HEADER => Reason::BadHeader,
        EXTENSIONS => Reason::Extensions,
        _ => Reason::Short,
    }
}
