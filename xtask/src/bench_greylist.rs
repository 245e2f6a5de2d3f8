//! `bench greylist`: greylisting policies beside each other, simulated.

use anyhow::Result;

use crate::shell;

/// What judges is compiled with full optimisation; everything else stays as the other commands built it.
const MEASURED: &[&str] = &["mailgate-edge", "mailgate-model"];

/// Builds and runs the simulation.
///
/// # Errors
/// When something does not compile or run.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut cargo = shell::cargo();
    cargo.args(["test", "--quiet", "--package", "mailgate-edge", "--bench", "greylist"]);
    for package in MEASURED {
        cargo.arg("--config").arg(format!("profile.dev.package.{package}.opt-level=3"));
    }
    shell::succeed(cargo.arg("--").args(arguments))
}
