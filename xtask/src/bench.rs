//! `bench`: measurements, one module each.

use anyhow::{Result, bail};

/// What there is to measure: name, one line, entry.
const BENCHES: &[(&str, &str, fn() -> Result<()>)] = &[];

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
