//! The BPF toolchain: a linker that matches the compiler's LLVM, and the source of the standard library.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::shell;

/// The last linker that loads the LLVM of the compiler itself; 0.11 wants an installed one (docs/contributing.md).
const LINKER: &str = "0.10.3";
/// The suite that carries the source of several compilers.
const SUITE: &str = "stable-backports";
/// The mirror's answer and the package are not larger than this; anything else is not what we asked for.
const PACKAGES_LIMIT: u64 = 64 << 20;

/// What is needed to compile the kernel filter.
pub(crate) struct Toolchain {
    /// Folder with `bpf-linker`, to be put first into `PATH`.
    pub(crate) linker: PathBuf,
}

/// Installs what is missing; quick when nothing is.
///
/// # Errors
/// One plain sentence: what cannot be had, and why.
pub(crate) fn ensure() -> Result<Toolchain, String> {
    source().map_err(|error| format!("no source of the standard library for the BPF target: {error:#}"))?;
    let linker = linker().map_err(|error| format!("no bpf-linker {LINKER}: {error:#}"))?;
    Ok(Toolchain { linker })
}

fn linker() -> Result<PathBuf> {
    let ours = shell::target().join("tools");
    let folder = ours.join("bin");
    if is_ours(&folder.join("bpf-linker")) {
        return Ok(folder);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(folder) = std::env::split_paths(&path).find(|folder| is_ours(&folder.join("bpf-linker"))) {
        return Ok(folder);
    }
    println!("setup: compiling bpf-linker {LINKER} (some minutes, once)");
    let mut cargo = shell::cargo();
    cargo.args(["install", "--quiet", "--locked", "bpf-linker", "--version", LINKER, "--root"]).arg(&ours);
    shell::succeed(&mut cargo)?;
    ensure!(is_ours(&folder.join("bpf-linker")), "it was installed and does not run");
    Ok(folder)
}

fn is_ours(program: &Path) -> bool {
    program.is_file()
        && program.to_str().is_some_and(|program| {
            shell::output(program, &["--version"]).is_some_and(|said| said.trim().ends_with(LINKER))
        })
}

/// The compiler's version and the place where cargo looks for the standard library.
fn compiler() -> Result<(String, PathBuf)> {
    let ask = |argument: &[&str]| -> Result<String> {
        let done =
            Command::new("rustc").args(argument).current_dir(shell::root()).stdin(Stdio::null()).output();
        let done = done.context("cannot start rustc")?;
        ensure!(done.status.success(), "rustc {} ended with {}", argument.join(" "), done.status);
        Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
    };
    let told = ask(&["-vV"])?;
    let version =
        told.lines().find_map(|line| line.strip_prefix("release: ")).context("rustc tells no release")?;
    let place = Path::new(&ask(&["--print", "sysroot"])?).join("lib/rustlib/src/rust/library");
    Ok((version.to_owned(), place))
}

fn source() -> Result<()> {
    let (version, place) = compiler()?;
    if place.join("core/src/lib.rs").is_file() {
        return Ok(());
    }
    println!("setup: the source of the standard library of rustc {version} is missing");
    let by_rustup = shell::has("rustup")
        && Command::new("rustup")
            .args(["component", "add", "rust-src"])
            .current_dir(shell::root())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
    if by_rustup && place.join("core/src/lib.rs").is_file() {
        return Ok(());
    }
    from_debian(&version, &place).context("rustup could not bring it, and neither could Debian's mirror")
}

/// Debian's package of exactly this compiler's source, unpacked to where cargo looks.
fn from_debian(version: &str, place: &Path) -> Result<()> {
    ensure!(shell::has("dpkg") && shell::has("apt-get"), "this is not a Debian system");
    let work = shell::target().join("tools/rust-src");
    fs::create_dir_all(&work)?;
    let mirrors = mirrors();
    ensure!(!mirrors.is_empty(), "the apt configuration names no mirror");
    let mut last = anyhow::anyhow!("no mirror has the suite {SUITE}");
    for mirror in &mirrors {
        match fetch(mirror, version, &work) {
            Ok(package) => {
                unpack(&package, version, place, &work)?;
                return fs::remove_dir_all(&work).context("cleaning up");
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The addresses of the machine's own apt configuration, in both of its forms (sources.list(5)).
fn mirrors() -> Vec<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let folder = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    files.extend(folder.map(|file| file.path()));
    let mut found = Vec::new();
    for text in files.iter().filter_map(|file| fs::read_to_string(file).ok()) {
        addresses(&text, &mut found);
    }
    found
}

fn addresses(text: &str, found: &mut Vec<String>) {
    for line in text.lines().map(str::trim) {
        let words = match line.split_once(char::is_whitespace) {
            Some(("URIs:", rest)) => rest,
            Some(("deb", rest)) => rest.trim_start(),
            _ => continue,
        };
        // One-line form: `deb [options] address suite component`; deb822: addresses only.
        let words =
            words.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(words, |(_, rest)| rest);
        for word in words.split_whitespace().filter(|word| word.contains("://")) {
            let address = word.trim_end_matches('/').to_owned();
            if !found.contains(&address) {
                found.push(address);
            }
        }
    }
}

/// The package from one mirror.
fn fetch(mirror: &str, version: &str, work: &Path) -> Result<PathBuf> {
    let architecture =
        shell::output("dpkg", &["--print-architecture"]).context("dpkg names no architecture")?;
    let index = work.join("Packages.xz");
    let address = format!("{mirror}/dists/{SUITE}/main/binary-{}/Packages.xz", architecture.trim());
    download(&address, &index, None)?;
    let Entry { file, sha256 } = find(&unxz(&index)?, version)
        .with_context(|| format!("{mirror} has no rust-src {version} in {SUITE}"))?;
    let package = work.join("rust-src.deb");
    download(&format!("{mirror}/{file}"), &package, Some(&sha256))?;
    Ok(package)
}

/// Where a package lies on the mirror, and its sum.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    file: String,
    sha256: String,
}

/// The paragraph of `rust-src` of this version, in any revision of Debian's.
fn find(packages: &str, version: &str) -> Option<Entry> {
    packages.split("\n\n").find_map(|paragraph| {
        let field =
            |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let upstream = field("Version")?.strip_prefix(version)?;
        let exact = upstream.starts_with(['+', '-', '~']);
        (field("Package")? == "rust-src" && exact)
            .then(|| Some(Entry { file: field("Filename")?.to_owned(), sha256: field("SHA256")?.to_owned() }))
            .flatten()
    })
}

/// Through apt's own downloader, so that its proxies and certificates count; the sum is checked here.
fn download(address: &str, to: &Path, sha256: Option<&str>) -> Result<()> {
    let _ = fs::remove_file(to);
    let done = Command::new("/usr/lib/apt/apt-helper")
        .args(["-o", "Acquire::http::Timeout=20", "-o", "Acquire::Retries=2", "download-file", address])
        .arg(to)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("cannot start apt-helper")?;
    ensure!(done.success() && to.is_file(), "{address} could not be downloaded");
    if let Some(want) = sha256 {
        let told = shell::output("sha256sum", &[&to.display().to_string()]).context("no sha256sum")?;
        let found = told.split_whitespace().next().unwrap_or_default();
        ensure!(found == want, "{address} has the SHA256 {found}, expected {want}");
    }
    Ok(())
}

fn unxz(file: &Path) -> Result<String> {
    let mut child = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start xz")?;
    let mut text = String::new();
    let output = child.stdout.take().context("xz has no output")?;
    output.take(PACKAGES_LIMIT).read_to_string(&mut text)?;
    ensure!(child.wait()?.success(), "{} cannot be unpacked", file.display());
    Ok(text)
}

fn unpack(package: &Path, version: &str, place: &Path, work: &Path) -> Result<()> {
    let folder = work.join("unpacked");
    shell::succeed(Command::new("dpkg").arg("-x").arg(package).arg(&folder))?;
    let library = folder.join(format!("usr/src/rustc-{version}/library"));
    if !library.join("core/src/lib.rs").is_file() {
        bail!("the package has no {}", library.display());
    }
    let parent = place.parent().context("the sysroot has no parent")?;
    fs::create_dir_all(parent).with_context(|| format!("{} cannot be written", parent.display()))?;
    let _ = fs::remove_dir_all(place);
    let _ = fs::remove_file(place);
    if fs::rename(&library, place).is_err() {
        // Another file system.
        shell::succeed(Command::new("cp").arg("-r").arg(&library).arg(place))?;
    }
    println!("setup: put the source of the standard library into {}", place.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_read_from_both_forms_of_sources() {
        let mut found = Vec::new();
        addresses(
            "Types: deb\nURIs: http://a.example/debian/ https://b.example/debian\n# deb http://no.example x",
            &mut found,
        );
        addresses(
            "deb [signed-by=/k arch=amd64] http://c.example/debian stable main\ndeb http://a.example/debian x y",
            &mut found,
        );
        addresses("deb-src http://d.example/debian stable main", &mut found);
        assert_eq!(found, ["http://a.example/debian", "https://b.example/debian", "http://c.example/debian"]);
    }

    #[test]
    fn only_the_compilers_own_version_is_taken() {
        let paragraph = |package: &str, version: &str| {
            format!(
                "Package: {package}\nVersion: {version}\nFilename: pool/{package}_{version}.deb\nSHA256: abc\n"
            )
        };
        let packages = [
            paragraph("rust-src", "1.94.1+dfsg1-1"),
            paragraph("rust-gdb", "1.95.0+dfsg1-2"),
            paragraph("rust-src", "1.95.01-1"),
            paragraph("rust-src", "1.95.0+dfsg1-2~bpo13+1"),
        ]
        .join("\n");
        let found = find(&packages, "1.95.0").unwrap();
        assert_eq!(found.file, "pool/rust-src_1.95.0+dfsg1-2~bpo13+1.deb");
        assert_eq!(find(&packages, "1.96.0"), None);
    }
}
