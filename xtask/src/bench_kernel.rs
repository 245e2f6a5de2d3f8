//! `bench kernel`: lookups in the kernel, and a million prefixes from a file.

use anyhow::{Result, bail};

use crate::ebpf::Programs;
use crate::{ebpf, shell, toolchain};

/// What is measured is compiled with full optimisation; everything else stays as the other commands built it.
const MEASURED: &[&str] = &["mailgate-common", "mailgate-model", "mailgate-lists", "mailgate-edge", "ipnet"];

/// Builds and runs the measurement.
///
/// # Errors
/// When the toolchain cannot be had, or something does not compile or run.
pub(crate) fn run() -> Result<()> {
    let toolchain = match toolchain::ensure() {
        Ok(toolchain) => toolchain,
        Err(sentence) => bail!("{sentence}"),
    };
    let object = ebpf::build_with(&toolchain, Programs::FilterAndBench)?;
    let mut cargo = shell::cargo();
    cargo.args(["test", "--quiet", "--package", "mailgate-edge", "--features", "ebpf", "--bench", "kernel"]);
    for package in MEASURED {
        for setting in ["opt-level=3", "overflow-checks=false", "debug-assertions=false"] {
            cargo.arg("--config").arg(format!("profile.dev.package.{package}.{setting}"));
        }
    }
    shell::succeed(cargo.env("MAILGATE_EBPF_OBJECT", object))
}
