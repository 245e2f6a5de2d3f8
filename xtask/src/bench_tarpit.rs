//! `bench tarpit-kernel`: clients held by the tarpit in the kernel, and a forged flood.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{build, shell};

/// Builds and runs the measurement.
///
/// # Errors
/// When it cannot run here, or a claim does not hold.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !shell::is_root() {
        bail!("network namespaces and BPF programs need root");
    }
    let kernel = build::kernel()?;
    if let build::Kernel::Without(reason) = &kernel {
        bail!("there is no kernel filter to measure: {reason}");
    }
    let mut cargo = shell::cargo();
    cargo.args([
        "build",
        "--package",
        "mailgate-tests",
        "--bin",
        "mailgate-held",
        "--bin",
        "mailgate-clients",
    ]);
    shell::succeed(kernel.apply(&mut cargo, "mailgate-tests"))?;
    // `--quick` as the other benches have it; else the number of clients.
    let arguments = arguments.iter().map(|word| if word == "--quick" { "2000" } else { word });
    shell::succeed(Command::new(shell::target().join("debug/mailgate-held")).args(arguments))
}
