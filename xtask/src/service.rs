//! `run`: the whole service on loopback.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{build, setup, shell};

/// Builds, then becomes `mailgate run`; signals and the exit code are the daemon's.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let Some(sentence) = setup::toolchain() {
        println!("setup: {sentence}");
    }
    let daemon = build::daemon()?;
    let mut command = Command::new(&daemon);
    command.arg("run").current_dir(shell::root()).args(arguments);
    Err(command.exec()).with_context(|| format!("cannot start {}", daemon.display()))
}
