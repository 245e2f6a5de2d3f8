//! Compiles the kernel filter.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::shell;
use crate::toolchain::Toolchain;

/// Which programs the object holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Programs {
    /// Those of the daemon.
    Filter,
    /// Those that `bench kernel` measures, besides.
    FilterAndBench,
}

/// Compiles the kernel filter; the object's path. An unchanged object keeps its time, so nothing is built anew.
///
/// # Errors
/// When it does not compile.
pub(crate) fn build(toolchain: &Toolchain) -> Result<PathBuf> {
    build_with(toolchain, Programs::Filter)
}

/// As [`build`], with a choice of programs.
///
/// # Errors
/// When it does not compile.
pub(crate) fn build_with(toolchain: &Toolchain, programs: Programs) -> Result<PathBuf> {
    let folder = shell::target().join("bpf");
    let mut path = vec![toolchain.linker.clone()];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let mut cargo = shell::cargo();
    cargo
        .current_dir(shell::root().join("mailgate-ebpf"))
        .args([
            "build",
            "--quiet",
            "--release",
            "--locked",
            "--target",
            "bpfel-unknown-none",
            "-Zbuild-std=core",
        ])
        .env("CARGO_TARGET_DIR", folder.join("build"))
        .env("PATH", std::env::join_paths(path).context("PATH")?)
        // The pinned compiler is a stable one; building `core` for the target is its only unstable step.
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "RUSTFLAGS",
            format!("--cfg=bpf_target_arch=\"{}\" -Cdebuginfo=2 -Clink-arg=--btf", std::env::consts::ARCH),
        );
    let name = match programs {
        Programs::Filter => "filter.o",
        Programs::FilterAndBench => {
            cargo.args(["--features", "bench"]);
            "bench.o"
        }
    };
    shell::succeed(&mut cargo).context("the kernel filter does not compile")?;
    let built = folder.join("build/bpfel-unknown-none/release/mailgate-ebpf");
    let object = folder.join(name);
    let bytes = fs::read(&built).with_context(|| format!("{} is missing", built.display()))?;
    if fs::read(&object).ok().as_ref() != Some(&bytes) {
        fs::write(&object, bytes).with_context(|| format!("{} cannot be written", object.display()))?;
    }
    Ok(object)
}
