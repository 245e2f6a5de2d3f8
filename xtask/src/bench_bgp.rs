//! `bench bgp`: a feed of a million prefixes, beside BIRD and GoBGP as receivers, and a feed that flaps.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{build, shell};

/// Builds and runs the measurement; `--debug` measures a build in which only our own hot crates are optimised.
///
/// # Errors
/// When it cannot run here.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !shell::is_root() {
        bail!("network namespaces and BPF programs need root");
    }
    let kernel = build::kernel()?;
    if let build::Kernel::Without(reason) = &kernel {
        bail!("there is no kernel filter to measure: {reason}");
    }
    let is_debug = arguments.iter().any(|word| word == "--debug");
    let mut cargo = shell::cargo();
    cargo.args([
        "build",
        "--package",
        "mailgate-tests",
        "--bin",
        "mailgate-bgp",
        "--package",
        "mailgate",
        "--bin",
        "mailgate",
    ]);
    if is_debug {
        cargo.args(["--config", "profile.dev.package.mailgate-proto.opt-level=3"]);
    } else {
        cargo.arg("--release");
    }
    shell::succeed(kernel.apply(&mut cargo, "mailgate-tests"))?;
    let folder = shell::target().join(if is_debug { "debug" } else { "release" });
    let words = arguments.iter().filter(|word| *word != "--debug");
    shell::succeed(
        Command::new(folder.join("mailgate-bgp")).args(words).env("MAILGATE_BIN", folder.join("mailgate")),
    )
}
