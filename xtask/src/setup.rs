//! `setup`: what a fresh machine lacks. Idempotent; quick when nothing is missing.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::{shell, toolchain};

/// Debian packages that tests and the lab use: clients and peers that we did not write.
const PACKAGES: &[(&str, &str)] = &[
    ("bird2", "BGP feeder of the lab"),
    ("curl", "reads mail over IMAP"),
    ("exabgp", "third BGP feeder"),
    ("frr", "fourth BGP feeder"),
    ("gobgpd", "second BGP feeder"),
    ("ipset", "peer in the measurements"),
    ("iproute2", "network namespaces"),
    ("iptables", "peer in the measurements"),
    ("isync", "mbsync, reads mail over IMAP"),
    ("libnet-dns-perl", "swaks looks up MX records"),
    ("libnet-ssleay-perl", "swaks speaks TLS"),
    ("mutt", "reads mail over IMAP"),
    ("nftables", "peer in the measurements"),
    ("offlineimap3", "reads mail over IMAP"),
    ("openssl", "TLS client"),
    ("postfix", "MTA with its own retry, and the MX at the other end"),
    ("python3", "runs the independent verifiers"),
    ("python3-dkim", "independent DKIM verifier"),
    ("python3-dnspython", "looks up the keys for it"),
    ("qemu-system-x86", "other kernels for the tests of the kernel filter"),
    ("signify-openbsd", "signs lists and checks ours"),
    ("sqlite3", "looks into the databases"),
    ("swaks", "SMTP client"),
    ("tshark", "reads what `mailgate trace` writes"),
    ("util-linux", "setpriv: children that end with their parent"),
];

/// Packages whose unit would start at the next boot; we install them as programs, not as services.
const UNITS: &[&str] = &["bird", "exabgp", "frr", "gobgpd", "postfix"];

/// Installs what is missing and says in one sentence each what could not be had.
pub(crate) fn run() -> Result<()> {
    let sentences: Vec<String> = [packages(), toolchain()].into_iter().flatten().collect();
    if sentences.is_empty() {
        println!("setup: nothing is missing");
    }
    for sentence in sentences {
        println!("setup: {sentence}");
    }
    Ok(())
}

/// Makes the BPF toolchain ready; `Some` sentence when it cannot be had.
pub(crate) fn toolchain() -> Option<String> {
    toolchain::ensure().err()
}

/// Installs missing packages; `Some` sentence when something stays missing.
pub(crate) fn packages() -> Option<String> {
    if !shell::has("dpkg-query") || !shell::has("apt-get") {
        return Some("this is not a Debian system; tests whose programs are missing will be skipped".into());
    }
    let missing = absent();
    if missing.is_empty() {
        return None;
    }
    if !shell::is_root() {
        return Some(format!("not root, so these packages stay missing: {}", missing.join(" ")));
    }
    println!("setup: installing {}", missing.join(" "));
    if let Err(error) = install(&missing) {
        println!("setup: {error:#}");
    }
    let still = absent();
    (!still.is_empty()).then(|| {
        format!("these packages could not be had, tests that need them will be skipped: {}", still.join(" "))
    })
}

/// The packages that are not installed.
fn absent() -> Vec<&'static str> {
    let mut arguments = vec!["-W", "-f=${Package} ${db:Status-Status}\\n"];
    arguments.extend(PACKAGES.iter().map(|(name, _)| *name));
    // dpkg-query fails when it knows one of the names not at all, and prints the others all the same.
    let printed = Command::new("dpkg-query")
        .args(&arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map(|done| String::from_utf8_lossy(&done.stdout).into_owned())
        .unwrap_or_default();
    let installed: HashSet<&str> =
        printed.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    PACKAGES.iter().map(|(name, _)| *name).filter(|name| !installed.contains(name)).collect()
}

fn install(missing: &[&str]) -> Result<()> {
    let _no_daemons = NoDaemons::declare()?;
    apt(&["update"])
        .context("apt-get could not refresh its index; trying with the one there is")
        .unwrap_or_else(|error| println!("setup: {error:#}"));
    if missing.contains(&"postfix") {
        answer("postfix postfix/main_mailer_type select No configuration\n");
    }
    let mut all = vec!["install"];
    all.extend(missing);
    if apt(&all).is_err() {
        // One package that cannot be had must not keep the others away.
        for name in missing {
            if apt(&["install", name]).is_err() {
                println!("setup: {name} could not be installed");
            }
        }
    }
    if Path::new("/run/systemd/system").exists() {
        for unit in UNITS.iter().filter(|unit| missing.iter().any(|name| name.starts_with(**unit))) {
            let _ = Command::new("systemctl").args(["disable", "--quiet", unit]).status();
        }
    }
    Ok(())
}

/// `apt-get` without questions, without recommended packages, never removing anything (another MTA, say).
fn apt(arguments: &[&str]) -> Result<()> {
    shell::succeed(
        Command::new("apt-get")
            .args(["-qq", "-y", "--no-install-recommends", "--no-remove"])
            .args(["-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=20", "-o", "Dpkg::Use-Pty=0"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null()),
    )
}

/// Answers one question of a package before it is asked.
fn answer(line: &str) {
    let child = Command::new("debconf-set-selections").stdin(Stdio::piped()).spawn();
    if let Ok(mut child) = child {
        if let Some(mut input) = child.stdin.take() {
            let _ = input.write_all(line.as_bytes());
        }
        let _ = child.wait();
    }
}

/// While it lives, installed packages start no daemon (policy-rc.d, Debian policy §9.3.3).
struct NoDaemons {
    ours: bool,
}

impl NoDaemons {
    const FILE: &str = "/usr/sbin/policy-rc.d";

    fn declare() -> Result<NoDaemons> {
        if Path::new(Self::FILE).exists() {
            return Ok(NoDaemons { ours: false });
        }
        fs::write(Self::FILE, "#!/bin/sh\nexit 101\n").context("cannot write policy-rc.d")?;
        fs::set_permissions(Self::FILE, fs::Permissions::from_mode(0o755))?;
        Ok(NoDaemons { ours: true })
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(Self::FILE);
        }
    }
}
