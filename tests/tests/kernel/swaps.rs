//! Traffic races against swaps of whole tables: every packet meets the old tables or the new ones, never a part.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use ipnet::IpNet;
use mailgate_lists::{Action, Change, Entry, Snapshot, Table};
use mailgate_packet::PacketFilter as _;
use mailgate_packet::xdp::{Xdp, sys};

use crate::frames::Frame;
use crate::station::{config, missing, name, namespace, open};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// Swaps at most, and the time after which no further one is begun.
const SWAPS: usize = 40;
const ENOUGH: Duration = Duration::from_secs(8);
/// Swaps at least, on however slow a machine.
const SWAPS_LEAST: usize = 6;
/// IPv4 entries that are in both sets, and as many that are in one of them.
const BOTH: u32 = 50_000;
/// The same for IPv6.
const BOTH6: u32 = 5_000;
/// Packets of each kind that the traffic repeats.
const SAMPLE: u32 = 1_000;

/// Which addresses an entry is made of; each kind has a /8 (IPv4) and a /32 (IPv6) of its own.
#[derive(Clone, Copy)]
enum Kind {
    Both = 20,
    OnlyFirst = 21,
    OnlySecond = 22,
    Never = 23,
}

/// The `n`th address of a kind; spread over its /8, so that no two share a place in memory.
fn v4(kind: Kind, n: u32) -> Ipv4Addr {
    let spread = n.wrapping_mul(0x9e_3779) & 0xff_ffff; // odd, hence different for every n below 2^24
    Ipv4Addr::from((kind as u32) << 24 | spread)
}

fn v6(kind: Kind, n: u32) -> Ipv6Addr {
    let spread = u128::from(n.wrapping_mul(0x9e37_79b9));
    Ipv6Addr::from(0x2a00_u128 << 112 | (kind as u128) << 96 | spread << 48 | 1)
}

fn set(kinds: [Kind; 2]) -> Change {
    let addresses = kinds.into_iter().flat_map(|kind| {
        let first = (0..BOTH).map(move |n| IpNet::from(std::net::IpAddr::V4(v4(kind, n))));
        first.chain((0..BOTH6).map(move |n| IpNet::from(std::net::IpAddr::V6(v6(kind, n)))))
    });
    let mut entries: Vec<Entry> =
        addresses.map(|prefix| Entry { prefix, negated: false, expires: None }).collect();
    entries.sort_unstable_by_key(|entry| entry.prefix);
    let table = Table { name: name("drop"), action: Action::Drop, entries: Arc::new(entries.into()) };
    Change::Reload(Snapshot { tables: vec![table] })
}

fn syn(address: impl std::fmt::Display) -> Vec<u8> {
    Frame::tcp(25).ip(&address.to_string()).ethernet()
}

/// Packets of both families from addresses of a kind, spread over the whole set.
fn packets(kind: Kind) -> Vec<(String, Vec<u8>)> {
    let first = (0..SAMPLE).map(|n| v4(kind, n * (BOTH / SAMPLE)).to_string());
    let second = (0..SAMPLE).map(|n| v6(kind, n * (BOTH6 / SAMPLE)).to_string());
    first.chain(second).map(|address| (address.clone(), syn(address))).collect()
}

/// What the traffic saw.
#[derive(Default)]
struct Seen {
    /// Rounds through all packets that ended.
    rounds: AtomicU64,
    packets: AtomicU64,
    /// How often the verdict on the addresses of one set only turned.
    turns: AtomicU64,
    done: AtomicBool,
}

/// Sends packets until told to stop; the first one with a wrong verdict.
fn traffic(filter: &Xdp, seen: &Seen) -> Result<Option<String>> {
    let ingress = filter.program("ingress")?;
    let verdict =
        |packet: &[u8]| sys::test_run(ingress.as_fd(), packet, &mut [], 1).map(|(verdict, _)| verdict);
    let (listed, strangers) = (packets(Kind::Both), packets(Kind::Never));
    let sometimes = syn(v4(Kind::OnlyFirst, 7));
    let mut last = XDP_DROP;
    while !seen.done.load(Ordering::Relaxed) {
        for ((address, packet), (stranger, harmless)) in listed.iter().zip(&strangers) {
            if verdict(packet)? != XDP_DROP {
                return Ok(Some(format!("{address} is in both sets and passed")));
            }
            if verdict(harmless)? != XDP_PASS {
                return Ok(Some(format!("{stranger} is in neither set and was dropped")));
            }
            let now = verdict(&sometimes)?;
            seen.turns.fetch_add(u64::from(now != last), Ordering::Relaxed);
            last = now;
            seen.packets.fetch_add(3, Ordering::Relaxed);
        }
        seen.rounds.fetch_add(1, Ordering::Relaxed);
    }
    Ok(None)
}

/// Swaps the sets back and forth: how many swaps, and how many packets were sent while one was under way.
fn swap(filter: &Xdp, sets: &[Change; 2], seen: &Seen) -> Result<(u64, u64)> {
    let begun = Instant::now();
    let (mut swaps, mut raced) = (0, 0);
    for (n, next) in (0..SWAPS).zip(sets.iter().rev().cycle()) {
        if n >= SWAPS_LEAST && begun.elapsed() > ENOUGH {
            break;
        }
        let before = seen.packets.load(Ordering::Relaxed);
        filter.apply(vec![next.clone()])?;
        raced += seen.packets.load(Ordering::Relaxed) - before;
        swaps += 1;
        // Every set is in force for a whole round at least, so each turn is seen.
        let round = seen.rounds.load(Ordering::Relaxed);
        mailgate_tests::until("a round of traffic", Duration::from_secs(20), || {
            (seen.rounds.load(Ordering::Relaxed) >= round + 2 || seen.done.load(Ordering::Relaxed))
                .then_some(())
        })?;
        if seen.done.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok((swaps, raced))
}

#[test]
fn no_packet_meets_half_a_table_while_whole_tables_are_swapped() {
    if let Some(reason) = missing() {
        return mailgate_tests::skip(reason);
    }
    namespace("swaps")
        .within(|| {
            let filter = open(&config())?;
            let sets = [set([Kind::Both, Kind::OnlyFirst]), set([Kind::Both, Kind::OnlySecond])];
            filter.apply(vec![sets[0].clone()])?;
            let seen = Seen::default();
            let (wrong, swapped) = std::thread::scope(|scope| {
                let sender = scope.spawn(|| {
                    let wrong = traffic(&filter, &seen);
                    seen.done.store(true, Ordering::Relaxed);
                    wrong
                });
                let swapped = swap(&filter, &sets, &seen);
                seen.done.store(true, Ordering::Relaxed);
                (sender.join().unwrap(), swapped)
            });
            assert_eq!(wrong?, None, "a packet met a half-loaded table");
            let (swaps, raced) = swapped?;
            assert_eq!(seen.turns.into_inner(), swaps, "each swap is seen by the traffic, once");
            assert!(swaps as usize >= SWAPS_LEAST, "{swaps} swaps");
            assert!(raced > 100 * swaps, "{raced} packets were sent during {swaps} swaps: no race");
            filter.detach()?;
            Ok(())
        })
        .unwrap();
}
