//! What `cargo xtask bench kernel` measures: one lookup per run, of a random address or of a listed one.
//!
//! `empty` and `empty_listed` do everything but the lookup; their cost is taken off.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie};
use aya_ebpf::programs::XdpContext;
use mailgate_common::lookup4;

use crate::maps::Memory4;

#[map]
static BENCH_TRIE: LpmTrie<u32, u32> = LpmTrie::with_max_entries(1, BPF_F_NO_PREALLOC);

#[map]
static BENCH_HASH: HashMap<u32, u32> = HashMap::with_max_entries(1, 0);

/// Listed addresses in host order; as many as there are entries.
#[map]
static BENCH_KEYS: Array<u32> = Array::with_max_entries(1, 0);

/// Word 0: how many keys there are.
#[map]
static BENCH_COUNT: Array<u32> = Array::with_max_entries(1, 0);

#[inline(always)]
fn random() -> u32 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_prandom_u32() }
}

#[inline(always)]
fn listed() -> u32 {
    let count = BENCH_COUNT.get(0).copied().unwrap_or(1) as u64;
    let at = (random() as u64 * count) >> 32;
    BENCH_KEYS.get(at as u32).copied().unwrap_or(0)
}

#[inline(always)]
fn found(hit: bool) -> u32 {
    if hit { XDP_DROP } else { XDP_PASS }
}

#[inline(always)]
fn ours(address: u32) -> u32 {
    found(Memory4::current().is_some_and(|memory| lookup4(&memory, address) != 0))
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

#[xdp]
pub fn empty(_: XdpContext) -> u32 {
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
