//! `bench`: measurements, one module each.

use anyhow::{Result, bail};

use crate::bench_kernel;

/// One measurement.
struct Bench {
    name: &'static str,
    /// What it measures, in a line.
    line: &'static str,
    measure: fn() -> Result<()>,
}

const BENCHES: &[Bench] = &[Bench {
    name: "kernel",
    line: "lookups in the kernel, and a million prefixes from a file",
    measure: bench_kernel::run,
}];

/// Runs the named bench, or lists them.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some(wanted) = arguments.first() else {
        list();
        return Ok(());
    };
    match BENCHES.iter().find(|bench| bench.name == wanted) {
        Some(bench) => (bench.measure)(),
        None => {
            list();
            bail!("there is no bench `{wanted}`")
        }
    }
}

fn list() {
    for Bench { name, line, .. } in BENCHES {
        println!("bench {name:10} {line}");
    }
}
