//! Puts the compiled kernel filter where the crate embeds it from, when the feature `ebpf` asks for it.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-env-changed=MAILGATE_EBPF_OBJECT");
    if std::env::var_os("CARGO_FEATURE_EBPF").is_none() {
        return;
    }
    if let Err(sentence) = place() {
        eprintln!("{sentence}");
        std::process::exit(1);
    }
}

fn place() -> Result<(), String> {
    let object = std::env::var_os("MAILGATE_EBPF_OBJECT").map(PathBuf::from).ok_or(
        "the feature `ebpf` needs MAILGATE_EBPF_OBJECT, the path of the compiled kernel filter: \
         build with `cargo xtask build`, or without the feature",
    )?;
    println!("cargo:rerun-if-changed={}", object.display());
    let folder = std::env::var_os("OUT_DIR").ok_or("cargo sets no OUT_DIR")?;
    let place = Path::new(&folder).join("filter.o");
    // A file of its own: where build folders are copies made of hard links, the old one belongs to all of them.
    let _ = std::fs::remove_file(&place);
    std::fs::copy(&object, place)
        .map(|_| ())
        .map_err(|error| format!("cannot read MAILGATE_EBPF_OBJECT ({}): {error}", object.display()))
}
