//! `build`: the kernel filter where the BPF toolchain is there, then the daemon.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{ebpf, shell, toolchain};

/// What the daemon is compiled with.
pub(crate) enum Kernel {
    /// The compiled kernel filter, to be embedded.
    Object(PathBuf),
    /// One sentence: why there is none.
    Without(String),
}

impl Kernel {
    /// Adds the feature and the object to a cargo command; `package` names the crate that carries the feature.
    pub(crate) fn apply<'c>(&self, cargo: &'c mut Command, package: &str) -> &'c mut Command {
        match self {
            Kernel::Object(object) => {
                cargo.arg("--features").arg(format!("{package}/ebpf")).env("MAILGATE_EBPF_OBJECT", object)
            }
            Kernel::Without(_) => cargo,
        }
    }
}

/// Builds both and says what came out.
pub(crate) fn run() -> Result<()> {
    let daemon = daemon()?;
    println!("build: {}", daemon.display());
    Ok(())
}

/// The kernel filter's object, compiled anew if its sources changed.
///
/// # Errors
/// When the toolchain is there and the filter does not compile.
pub(crate) fn kernel() -> Result<Kernel> {
    let kernel = match toolchain::ensure() {
        Ok(toolchain) => Kernel::Object(ebpf::build(&toolchain)?),
        Err(sentence) => Kernel::Without(sentence),
    };
    match &kernel {
        Kernel::Object(object) => println!("build: kernel filter {}", object.display()),
        Kernel::Without(reason) => println!("build: without the kernel filter: {reason}"),
    }
    Ok(kernel)
}

/// The object that an earlier build left, whatever its age: enough for checks that must be quick.
pub(crate) fn existing_kernel() -> Kernel {
    let object = shell::target().join("bpf/filter.o");
    if object.is_file() { Kernel::Object(object) } else { Kernel::Without("it was not built yet".into()) }
}

/// Builds the daemon, with the kernel filter if possible; its path.
pub(crate) fn daemon() -> Result<PathBuf> {
    let kernel = kernel()?;
    let mut cargo = shell::cargo();
    cargo.args(["build", "--package", "mailgate", "--bin", "mailgate"]);
    shell::succeed(kernel.apply(&mut cargo, "mailgate"))?;
    Ok(shell::target().join("debug/mailgate"))
}
