//! `bench`: measurements, one module each.

use anyhow::{Result, bail};

use crate::bench_kernel;

/// What there is to measure: name, one line, entry.
const BENCHES: &[(&str, &str, fn() -> Result<()>)] =
    &[("kernel", "lookups in the kernel, and a million prefixes from a file", bench_kernel::run)];

/// Runs the named bench, or lists them.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let Some(wanted) = arguments.first() else {
        list();
        return Ok(());
    };
    match BENCHES.iter().find(|(name, ..)| name == wanted) {
        Some((_, _, measure)) => measure(),
        None => {
            list();
            bail!("there is no bench `{wanted}`")
        }
    }
}

fn list() {
    for (name, line, _) in BENCHES {
        println!("bench {name:10} {line}");
    }
}
