//! `bench`: measurements, one module each.

use anyhow::{Result, bail};

use crate::{bench_bgp, bench_greylist, bench_kernel, bench_tarpit};

/// One measurement.
struct Bench {
    name: &'static str,
    /// What it measures, in a line.
    line: &'static str,
    measure: fn(&[String]) -> Result<()>,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "bgp",
        line: "a million prefixes (or the number given) from BIRD into the kernel, beside BIRD and GoBGP; a feed that flaps",
        measure: bench_bgp::run,
    },
    Bench {
        name: "kernel",
        line: "the kernel filter beside LPM_TRIE, nftables and ipset: lookups, whole packets, loading, memory",
        measure: bench_kernel::kernel,
    },
    Bench {
        name: "flood",
        line: "SMTP of a bypassed client while listed sources flood, behind each filter",
        measure: bench_kernel::flood,
    },
    Bench {
        name: "tarpit",
        line: "100,000 clients (or the number given) held by the daemon, then by postscreen: memory, processor",
        measure: bench_tarpit::daemon,
    },
    Bench {
        name: "greylist-store",
        line: "10 million tuples (or the number given): lookups, start, memory, disk",
        measure: bench_tarpit::greylist_store,
    },
    Bench {
        name: "tarpit-kernel",
        line: "100,000 clients (or the number given) held by the tarpit in the kernel, and a forged flood",
        measure: bench_tarpit::run,
    },
    Bench {
        name: "greylist",
        line: "a month of synthetic senders and bots, judged by mailgate and by models of other greylisters (--seed N)",
        measure: bench_greylist::run,
    },
];

/// Runs the named bench, or lists them.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some((wanted, rest)) = arguments.split_first() else {
        list();
        return Ok(());
    };
    match BENCHES.iter().find(|bench| bench.name == wanted) {
        Some(bench) => (bench.measure)(rest),
        None => {
            list();
            bail!("there is no bench `{wanted}`")
        }
    }
}

fn list() {
    println!("each takes --quick (a short run on small tables), --sizes N,N (entries) and --json FILE");
    for Bench { name, line, .. } in BENCHES {
        println!("bench {name:14} {line}");
    }
}
