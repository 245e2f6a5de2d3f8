//! The kernel filter in a real kernel: packets in, verdicts and counters out; real connections over a veth pair.
//!
//! Needs root and the feature `ebpf`; says so and counts as skipped otherwise.
#![cfg_attr(
    feature = "ebpf",
    expect(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used,
        reason = "test code outside of test functions: a failure is a failed test"
    )
)]

#[cfg(not(feature = "ebpf"))]
#[test]
fn kernel_filter() {
    mailgate_tests::skip("built without the kernel filter (feature ebpf)");
}

#[cfg(feature = "ebpf")]
mod answers;
#[cfg(feature = "ebpf")]
mod coming;
#[cfg(feature = "ebpf")]
mod cookies;
#[cfg(feature = "ebpf")]
mod differential;
#[cfg(feature = "ebpf")]
mod flood;
#[cfg(feature = "ebpf")]
mod frames;
#[cfg(feature = "ebpf")]
mod gone;
#[cfg(feature = "ebpf")]
mod held;
#[cfg(feature = "ebpf")]
mod host_mode;
#[cfg(feature = "ebpf")]
mod limits;
#[cfg(feature = "ebpf")]
mod nftables;
#[cfg(feature = "ebpf")]
mod packets;
#[cfg(feature = "ebpf")]
mod paths;
#[cfg(feature = "ebpf")]
mod redirects;
#[cfg(feature = "ebpf")]
mod refusals;
#[cfg(feature = "ebpf")]
mod routes;
#[cfg(feature = "ebpf")]
mod segments;
#[cfg(feature = "ebpf")]
mod station;
#[cfg(feature = "ebpf")]
mod steering;
#[cfg(feature = "ebpf")]
mod survival;
#[cfg(feature = "ebpf")]
mod swaps;
#[cfg(feature = "ebpf")]
mod trace;
#[cfg(feature = "ebpf")]
mod upgrade;
#[cfg(feature = "ebpf")]
mod verbs;
#[cfg(feature = "ebpf")]
mod wire;
