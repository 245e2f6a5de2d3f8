//! `bench kernel` and `bench flood`: the kernel filter beside what one would use instead.

use anyhow::{Result, bail};

use crate::ebpf::Programs;
use crate::{ebpf, setup, shell, toolchain};

/// What is measured is compiled with full optimisation; everything else stays as the other commands built it.
const MEASURED: &[&str] =
    &["mailgate-common", "mailgate-model", "mailgate-lists", "mailgate-packet", "ipnet"];

/// Lookups, whole packets, loading, memory.
///
/// # Errors
/// When the toolchain cannot be had, or something does not compile or run.
pub(crate) fn kernel(arguments: &[String]) -> Result<()> {
    run("kernel", arguments)
}

/// What a flood of listed sources leaves of the mail service.
///
/// # Errors
/// As [`kernel`].
pub(crate) fn flood(arguments: &[String]) -> Result<()> {
    run("flood", arguments)
}

/// Builds and runs the measurement.
fn run(name: &str, arguments: &[String]) -> Result<()> {
    let toolchain = match toolchain::ensure() {
        Ok(toolchain) => toolchain,
        Err(sentence) => bail!("{sentence}"),
    };
    if let Some(sentence) = setup::packages() {
        println!("bench: {sentence}");
    }
    let object = ebpf::build_with(&toolchain, Programs::FilterAndBench)?;
    let mut cargo = shell::cargo();
    cargo.args([
        "test",
        "--quiet",
        "--package",
        "mailgate-packet",
        "--features",
        "ebpf",
        "--bench",
        "kernel",
    ]);
    for package in MEASURED {
        for setting in ["opt-level=3", "overflow-checks=false", "debug-assertions=false"] {
            cargo.arg("--config").arg(format!("profile.dev.package.{package}.{setting}"));
        }
    }
    cargo.args(["--", name]).args(arguments);
    shell::succeed(cargo.env("MAILGATE_EBPF_OBJECT", object))
}
