//! Debian's kernels, and the one program that starts them: downloaded and unpacked below `target/kernels`, not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::shell;

/// A series of kernels that Debian has.
pub(crate) struct Series {
    /// What their releases begin with, without the last dot.
    pub(crate) number: &'static str,
    /// Packages that depend on the newest kernel of the series, in one of Debian's releases or another.
    metapackages: &'static [&'static str],
}

/// The oldest kernel on which everything is promised to run, and Debian's next one; the oldest first.
pub(crate) const SERIES: &[Series] = &[
    Series { number: "6.1", metapackages: &["linux-image-cloud-amd64"] },
    Series { number: "6.12", metapackages: &["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"] },
];

/// So many packages are tried, newest first, when the metapackage's cannot be had.
const ATTEMPTS: usize = 3;

/// A kernel, unpacked.
pub(crate) struct Kernel {
    /// As `uname -r` says it.
    pub(crate) release: String,
    /// The compressed kernel.
    pub(crate) image: PathBuf,
    /// Where its modules and what `depmod` says of them are.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// The release without the name of the architecture, for people.
    pub(crate) fn name(&self) -> &str {
        self.release.strip_suffix("-amd64").unwrap_or(&self.release)
    }
}

/// Everything below here.
pub(crate) fn folder() -> PathBuf {
    shell::target().join("kernels")
}

/// The newest kernel of a series that can be had; one that was unpacked before is not fetched again.
///
/// # Errors
/// One sentence: why there is none.
pub(crate) fn kernel(series: &Series, busybox: &Path) -> Result<Kernel> {
    let mut why = None;
    for package in packages(series).into_iter().take(ATTEMPTS) {
        match fetched(&package).and_then(|root| unpacked(&root, series, busybox)) {
            Ok(kernel) => return Ok(kernel),
            Err(error) => why = why.or(Some(error)),
        }
    }
    let before = earlier(series).into_iter().find_map(|root| unpacked(&root, series, busybox).ok());
    match (before, why) {
        (Some(kernel), _) => Ok(kernel),
        (None, Some(error)) => Err(error),
        (None, None) => bail!("apt knows no cloud kernel {} (apt-get update?)", series.number),
    }
}

/// A program that needs no library: the first one in the machine.
///
/// # Errors
/// When it cannot be had.
pub(crate) fn busybox() -> Result<PathBuf> {
    let root = fetched("busybox-static")?;
    let found = ["bin/busybox", "usr/bin/busybox"].map(|place| root.join(place));
    found.into_iter().find(|file| file.is_file()).context("busybox-static has no busybox")
}

/// Packages that hold a kernel of this series, the newest first.
fn packages(series: &Series) -> Vec<String> {
    let belongs = |name: &str| {
        name.strip_prefix("linux-image-").is_some_and(|rest| is_of(rest, series))
            && name.trim_end_matches("-unsigned").ends_with("-cloud-amd64")
    };
    let mut found = Vec::new();
    for metapackage in series.metapackages {
        let told = shell::output("apt-cache", &["depends", metapackage]).unwrap_or_default();
        let needed = told.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        found.extend(needed.filter(|name| belongs(name)).map(str::to_owned));
    }
    let prefix = format!("linux-image-{}.", series.number);
    let told = shell::output("apt-cache", &["pkgnames", &prefix]).unwrap_or_default();
    let mut others: Vec<String> = told.lines().filter(|name| belongs(name)).map(str::to_owned).collect();
    others.sort_by_key(|name| std::cmp::Reverse(numbers(name)));
    for name in others {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// Is this release one of the series?
fn is_of(release: &str, series: &Series) -> bool {
    release.strip_prefix(series.number).is_some_and(|rest| rest.starts_with('.'))
}

/// The numbers in a name, by which newer follows older.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// A package's files, downloaded and unpacked if they are not there yet; the folder.
fn fetched(package: &str) -> Result<PathBuf> {
    let root = folder().join(package);
    if root.is_dir() {
        return Ok(root);
    }
    let passing = folder().join("download");
    let _ = fs::remove_dir_all(&passing);
    fs::create_dir_all(&passing)?;
    let done = download(package, &passing).and_then(|file| {
        let unpacked = passing.join("files");
        shell::succeed(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&unpacked))?;
        fs::rename(&unpacked, &root).with_context(|| root.display().to_string())
    });
    let _ = fs::remove_dir_all(&passing);
    done.map(|()| root)
}

/// Downloads a package as apt would, signatures checked; the file.
fn download(package: &str, into: &Path) -> Result<PathBuf> {
    println!("kernels: fetching {package}");
    let done = Command::new("apt-get")
        .args(["-qq", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=20"])
        .args(["-o", "APT::Sandbox::User=root", "download", package])
        .current_dir(into)
        .stdin(Stdio::null())
        .output()
        .context("cannot start apt-get")?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{package} cannot be had: {}", said.trim().replace('\n', "; "));
    let files = fs::read_dir(into)?.flatten().map(|entry| entry.path());
    let mut packages = files.filter(|file| file.extension().is_some_and(|end| end == "deb"));
    packages.next().with_context(|| format!("{package} was not downloaded"))
}

/// Folders of kernels that were unpacked before, the newest first.
fn earlier(series: &Series) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    let mut found: Vec<(String, PathBuf)> = named
        .filter(|(name, _)| name.strip_prefix("linux-image-").is_some_and(|rest| is_of(rest, series)))
        .collect();
    found.sort_by_key(|(name, _)| std::cmp::Reverse(numbers(name)));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The kernel in a package's files, its modules made ready.
fn unpacked(root: &Path, series: &Series, busybox: &Path) -> Result<Kernel> {
    let below = [root.join("lib/modules"), root.join("usr/lib/modules")];
    let found = below.iter().find_map(|folder| fs::read_dir(folder).ok()?.flatten().next());
    let modules =
        found.map(|entry| entry.path()).with_context(|| format!("no modules in {}", root.display()))?;
    let release = modules.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    ensure!(is_of(&release, series), "{} holds Linux {release}", root.display());
    let image = root.join("boot").join(format!("vmlinuz-{release}"));
    ensure!(image.is_file(), "{} is missing", image.display());
    if !modules.join("modules.alias").is_file() {
        // busybox reads modules as they are only; the kernel's own loader would do with either.
        let expand = "find \"$1\" -name '*.ko.xz' -exec \"$2\" unxz {} +";
        shell::succeed(Command::new("sh").args(["-c", expand, "sh"]).arg(&modules).arg(busybox))?;
        let base = modules.ancestors().nth(3).unwrap_or(root);
        shell::succeed(Command::new(busybox).arg("depmod").arg("-b").arg(base).arg(&release))?;
    }
    Ok(Kernel { release, image, modules })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_kernels_stand_before_older_ones_and_series_are_told_apart() {
        let mut names =
            ["linux-image-6.12.9+deb12", "linux-image-6.12.117+deb12", "linux-image-6.12.20+deb12"];
        names.sort_by_key(|name| std::cmp::Reverse(numbers(name)));
        assert_eq!(names.first(), Some(&"linux-image-6.12.117+deb12"));
        let [old, next] = SERIES else { panic!("two series") };
        assert!(is_of("6.1.0-50-cloud-amd64", old) && !is_of("6.12.117-cloud-amd64", old));
        assert!(is_of("6.12.117+deb12-cloud-amd64", next) && !is_of("6.1.0-50-cloud-amd64", next));
    }
}
