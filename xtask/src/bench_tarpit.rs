//! `bench tarpit` and `bench tarpit-kernel`: clients held by the daemon or by the tarpit in the kernel, and a forged flood;
//! `bench greylist-store`: the greylist with millions of tuples.

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

/// Clients held by the daemon, then by postscreen. Arguments: their number, and how many postscreen gets.
///
/// # Errors
/// When it cannot run here, or a claim does not hold.
pub(crate) fn daemon(arguments: &[String]) -> Result<()> {
    if !shell::is_root() {
        bail!("network namespaces need root");
    }
    // What is measured is built as it is shipped; the clients need not be.
    shell::succeed(shell::cargo().args(["build", "--release", "--package", "mailgate"]))?;
    let clients =
        ["build", "--package", "mailgate-tests", "--bin", "mailgate-pit", "--bin", "mailgate-crowd"];
    shell::succeed(shell::cargo().args(clients))?;
    let arguments = arguments.iter().map(|word| if word == "--quick" { "2000" } else { word });
    shell::succeed(
        Command::new(shell::target().join("debug/mailgate-pit"))
            .args(arguments)
            .env("MAILGATE_BIN", shell::target().join("release/mailgate")),
    )
}

/// The greylist with so many tuples, ten million when nothing is said.
///
/// # Errors
/// When it cannot be built or does not end well.
pub(crate) fn greylist_store(arguments: &[String]) -> Result<()> {
    let mut cargo = shell::cargo();
    cargo.args(["bench", "--package", "mailgate-store", "--bench", "greylist", "--"]);
    match arguments.first().map(String::as_str) {
        None => cargo.arg("10000000"),
        Some("--quick") => cargo.arg("100000"),
        Some(count) => cargo.arg(count),
    };
    shell::succeed(&mut cargo)
}
