//! One lookup per run, of a random address or of a listed one, in our tables and in the kernel's own structures.
//!
//! Programs named `empty…` do everything but the lookup; their cost is taken off.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie};
use aya_ebpf::programs::XdpContext;
use mailgate_common::{lookup4, lookup6};

use crate::maps::Slot;

/// An IPv6 address: two halves, each with its bytes in network order.
pub type Address6 = [u64; 2];

#[map]
pub static BENCH_TRIE: LpmTrie<u32, u32> = LpmTrie::with_max_entries(1, BPF_F_NO_PREALLOC);

#[map]
static BENCH_HASH: HashMap<u32, u32> = HashMap::with_max_entries(1, 0);

#[map]
pub static BENCH_TRIE6: LpmTrie<Address6, u32> = LpmTrie::with_max_entries(1, BPF_F_NO_PREALLOC);

#[map]
static BENCH_HASH6: HashMap<Address6, u32> = HashMap::with_max_entries(1, 0);

/// Listed addresses, in host order; as many as there are entries.
#[map]
static BENCH_KEYS: Array<u32> = Array::with_max_entries(1, 0);

/// The same for IPv6.
#[map]
static BENCH_KEYS6: Array<Address6> = Array::with_max_entries(1, 0);

/// Word 0: how many keys there are; word 1: the next one.
#[map]
static BENCH_COUNT: Array<u32> = Array::with_max_entries(2, 0);

#[inline(always)]
fn random() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_prandom_u32() }
}

/// The next place among the keys. These are shuffled; read in their order they come from the nearest cache, as the
/// address of a packet does, instead of contending with the structure that is measured.
#[inline(always)]
fn place() -> u32 {
    let count = BENCH_COUNT.get(0).copied().unwrap_or(1);
    let Some(next) = BENCH_COUNT.get_ptr_mut(1) else { return 0 };
    // SAFETY: a present word; only the one measuring program runs.
    let at = unsafe { *next };
    let after = if at + 1 < count { at + 1 } else { 0 };
    // SAFETY: as above.
    unsafe { *next = after };
    at
}

#[inline(always)]
fn listed() -> u32 {
    BENCH_KEYS.get(place()).copied().unwrap_or(0)
}

/// Somewhere in 2000::/3.
#[inline(always)]
fn random6() -> Address6 {
    let half = || (random() as u64) << 32 | random() as u64;
    [(half() >> 3 | 1 << 61).to_be(), half()]
}

#[inline(always)]
fn listed6() -> Address6 {
    BENCH_KEYS6.get(place()).copied().unwrap_or([0; 2])
}

#[inline(always)]
fn found(hit: bool) -> u32 {
    if hit { XDP_DROP } else { XDP_PASS }
}

#[inline(always)]
fn ours(address: u32) -> u32 {
    found(lookup4(&Slot::current().tables4(), address) != 0)
}

#[inline(always)]
fn trie(address: u32) -> u32 {
    found(BENCH_TRIE.get(&Key::new(32, address.to_be())).is_some())
}

#[inline(always)]
fn hash(address: u32) -> u32 {
    // SAFETY: the reference is not kept.
    found(unsafe { BENCH_HASH.get(&address.to_be()) }.is_some())
}

#[inline(always)]
fn ours6([high, low]: Address6) -> u32 {
    let (high, low) = (u64::from_be(high), u64::from_be(low));
    found(lookup6(&Slot::current().tables6(), high, low) != 0)
}

#[inline(always)]
fn trie6(address: Address6) -> u32 {
    found(BENCH_TRIE6.get(&Key::new(128, address)).is_some())
}

#[inline(always)]
fn hash6(address: Address6) -> u32 {
    // SAFETY: the reference is not kept.
    found(unsafe { BENCH_HASH6.get(&address) }.is_some())
}

#[xdp]
pub fn empty_random(_: XdpContext) -> u32 {
    found(random() == 0x1234_5678)
}

#[xdp]
pub fn empty_listed(_: XdpContext) -> u32 {
    found(listed() == 0x1234_5678)
}

#[xdp]
pub fn ours_random(_: XdpContext) -> u32 {
    ours(random())
}

#[xdp]
pub fn ours_listed(_: XdpContext) -> u32 {
    ours(listed())
}

#[xdp]
pub fn trie_random(_: XdpContext) -> u32 {
    trie(random())
}

#[xdp]
pub fn trie_listed(_: XdpContext) -> u32 {
    trie(listed())
}

#[xdp]
pub fn hash_random(_: XdpContext) -> u32 {
    hash(random())
}

#[xdp]
pub fn hash_listed(_: XdpContext) -> u32 {
    hash(listed())
}

#[xdp]
pub fn empty6_random(_: XdpContext) -> u32 {
    let [high, low] = random6();
    found(high ^ low == 0x1234_5678)
}

#[xdp]
pub fn empty6_listed(_: XdpContext) -> u32 {
    let [high, low] = listed6();
    found(high ^ low == 0x1234_5678)
}

#[xdp]
pub fn ours6_random(_: XdpContext) -> u32 {
    ours6(random6())
}

#[xdp]
pub fn ours6_listed(_: XdpContext) -> u32 {
    ours6(listed6())
}

#[xdp]
pub fn trie6_random(_: XdpContext) -> u32 {
    trie6(random6())
}

#[xdp]
pub fn trie6_listed(_: XdpContext) -> u32 {
    trie6(listed6())
}

#[xdp]
pub fn hash6_random(_: XdpContext) -> u32 {
    hash6(random6())
}

#[xdp]
pub fn hash6_listed(_: XdpContext) -> u32 {
    hash6(listed6())
}
