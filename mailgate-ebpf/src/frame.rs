//! The frame in packet memory; every access is checked against its end.

use aya_ebpf::programs::XdpContext;
use mailgate_common::Frame;

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
fn read<T: Copy>(ctx: &XdpContext, at: usize) -> Option<T> {
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
    fn place(&self, at: usize) -> usize {
        // Forgotten first: the compiler knows the bound better than the verifier and would leave out the mask.
        (forget(self.scratch, at as u64) & PLACES) as usize
    }
}
