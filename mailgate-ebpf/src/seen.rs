//! Who passed and comes again, behind the back of user space: their standing is renewed by that.

use aya_ebpf::bindings::bpf_sk_lookup;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use mailgate_common::hidden;

/// Last connection (monotonic nanoseconds) of a source, which is in network order and IPv4-mapped; user space sets the
/// size.
#[map]
pub static SEEN: LruHashMap<[u32; 4], u64> = LruHashMap::with_max_entries(1, 0);

const AF_INET: u32 = 2;

/// Notes a new connection of a source in the tables of `set`, if it is one that passed.
#[inline(always)]
pub fn note(asked: &bpf_sk_lookup, set: u64) {
    if set & (1 << hidden::PASSED) == 0 {
        return;
    }
    let source = if asked.family == AF_INET {
        [0, 0, 0xffff_u32.to_be(), asked.remote_ip4]
    } else {
        let word = |at: *const u32| {
            // SAFETY: a field of the context. Volatile: the kernel wants each read at a fixed place, one by one.
            unsafe { at.read_volatile() }
        };
        let [a, b, c, d] = &asked.remote_ip6;
        [word(a), word(b), word(c), word(d)]
    };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    // A full table forgets the oldest; that source is noted with its next connection.
    let _ = SEEN.insert(&source, &now, 0);
}
