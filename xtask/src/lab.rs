//! `lab`: plays the whole path between network namespaces.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{build, setup, shell};

/// Sets up, builds, plays. Its own time (without setup and build) is below 90 seconds.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !shell::is_root() {
        bail!("network namespaces need root");
    }
    setup::run()?;
    let kernel = build::kernel()?;
    if let build::Kernel::Without(reason) = &kernel {
        bail!("the lab plays with the real kernel filter, and there is none: {reason}");
    }
    let mut cargo = shell::cargo();
    cargo.args(["build", "--package", "mailgate", "--package", "mailgate-tests", "--bins"]);
    shell::succeed(kernel.apply(&mut cargo, "mailgate-tests"))?;
    shell::succeed(
        Command::new(shell::target().join("debug/mailgate-lab"))
            .args(arguments)
            .current_dir(shell::root())
            .env("MAILGATE_BIN", shell::target().join("debug/mailgate")),
    )
}
